"""State dicts of PyTorch: what to leave out, and weights of another layout."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..utils.notices import Notice
from .parameters import DenseWeight

_COUNT = "num_batches_tracked"


def without_batch_counts(
    state: Mapping[str, Any], tensors: Mapping[str, Tensor], owner: str
) -> dict[str, Any]:
    """Return the state without the counters of PyTorch's batch norm, and say so in a Notice."""
    counts = [
        key
        for key in state
        if key.rpartition(".")[2] == _COUNT
        and key not in tensors
        and key.removesuffix(_COUNT) + "running_mean" in tensors
    ]
    if counts:
        warnings.warn(
            f"{owner}: {', '.join(counts)} in the state to load: left out, as batch norm has no"
            " such counter here",
            Notice,
            stacklevel=3,
        )
    return {key: value for key, value in state.items() if key not in counts}


def refuse_transposed(state: Mapping[str, Any], tensors: Mapping[str, Tensor], owner: str) -> None:
    """Raise ValueError for the weight of a PyTorch Linear, (out, in), in the place of a Dense's.

    It is known by its shape, or, as a square shape says nothing, by being a tensor of PyTorch.
    """
    for key, x in tensors.items():
        value = state.get(key)
        if not isinstance(x, DenseWeight) or value is None:
            continue
        shape = tuple(np.shape(value))
        is_torchs = type(value).__module__.partition(".")[0] == "torch"
        if shape == x.shape[::-1] and (shape != x.shape or is_torchs):
            dtype = str(value.dtype).removeprefix("torch.") if hasattr(value, "dtype") else ""
            raise ValueError(
                f"{owner}: {key} is {dtype}{shape} in the state to load, but {x.dtype}{x.shape}"
                " here; nn.Dense has the transpose of PyTorch's layout: use nn.Linear, or load"
                " weight.T"
            )
