"""The in-place copy of values into tensors, one at a time or a whole state by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from .op import Update
from .tensor import Tensor


def _assign(target: np.ndarray, value: np.ndarray) -> None:
    # numpy is wrong where the memory of both overlaps and strides differ, as in x[::2] = x[:3].
    target[...] = value.copy() if np.may_share_memory(target, value) else value


assign = Update("assign", _assign)


def load_tensors(targets: dict[str, Tensor], values: dict[str, Any], name: str) -> None:
    """Copy arrays into tensors in place, by name. Everything is checked before anything changes.

    Args:
        targets: the tensors to change.
        values: numpy arrays, one for each name in `targets`.
        name: of the object that the state belongs to, for error messages.

    Raises:
        ValueError: names are missing or unknown, or a shape or dtype differs.
    """
    missing = sorted(targets.keys() - values.keys())
    unknown = sorted(values.keys() - targets.keys())
    if missing or unknown:
        raise ValueError(f"{name}: missing {missing}, unknown {unknown} in the state to load")
    restored = {}
    for key, x in targets.items():
        try:
            restored[key] = _restored(x, np.asarray(values[key]))
        except ValueError as error:
            raise ValueError(f"{name}: {key}: {error}") from None
    for key, target in targets.items():
        value = restored[key]
        if (value.shape, value.dtype) != (target.shape, target.dtype):
            raise ValueError(
                f"{name}: {key} is {value.dtype}{value.shape} in the state to load,"
                f" but {target.dtype}{target.shape} here"
            )
    for key, target in targets.items():
        assign(target, restored[key])


def _restored(like: Tensor, values: np.ndarray) -> Tensor:
    """What `numpy()` of a tensor of the same device gave, as a tensor again."""
    return Tensor(like.device.adopt(values, like.device), like.device)
