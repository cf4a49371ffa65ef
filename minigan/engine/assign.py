"""Copy values into tensors in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from .op import Update
from .tensor import Tensor


def _assign(target: np.ndarray, value: np.ndarray) -> None:
    # x[::2] = x[:3] is one that numpy gets wrong
    target[...] = value.copy() if np.may_share_memory(target, value) else value


# The value broadcasts to the target.
assign = Update("assign", _assign, "x x")


def load_tensors(targets: dict[str, Tensor], values: dict[str, Any], name: str) -> None:
    """Copy arrays into tensors in place, by name; everything is checked before anything changes.

    Raises:
        ValueError: names are missing or unknown, or a shape or dtype differs.
    """
    missing, unknown = (
        sorted(targets.keys() - values.keys()),
        sorted(values.keys() - targets.keys()),
    )
    if missing or unknown:
        raise ValueError(f"{name}: missing {missing}, unknown {unknown} in the state to load")
    restored = {
        key: Tensor(x.device.from_numpy(np.asarray(values[key])), x.device)
        for key, x in targets.items()
    }
    for key, target in targets.items():
        value = restored[key]
        if (value.shape, value.dtype) != (target.shape, target.dtype):
            raise ValueError(
                f"{name}: {key} is {value.dtype}{value.shape} in the state to load,"
                f" but {target.dtype}{target.shape} here"
            )
    for key, target in targets.items():
        assign(target, restored[key])
