"""Copy values into tensors in place: one tensor, or a state dict by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .dtypes import check_not_masked
from .tensor import Tensor
from .update import Update


def _assign(target: np.ndarray, value: np.ndarray) -> None:
    # numpy's result is wrong where both overlap in memory with different strides: x[::2] = x[:3].
    target[...] = value.copy() if np.may_share_memory(target, value) else value


# assign(target, value) copies a value, which broadcasts to the target.
assign = Update("assign", _assign, "x x")


def load_tensors(targets: dict[str, Tensor], values: dict[str, Any], name: str) -> None:
    """Copy arrays into tensors in place, by name. Everything is checked before anything changes.

    Args:
        targets: the tensors to change.
        values: numpy arrays, one for each name in `targets`.
        name: the name of the object that the state belongs to, for error messages.

    Raises:
        TypeError: the values are no dict.
        ValueError: names are missing or unknown, a shape or dtype differs, or a tensor has several
            names with different values.
    """
    if not isinstance(values, Mapping):
        fix = "; mg.load(path) returns (tensors, info)"
        is_path = isinstance(values, (str, os.PathLike, tuple))
        raise TypeError(
            f"{name}: the state to load is {type(values).__name__}, not a dict{fix * is_path}"
        )
    missing = sorted(targets.keys() - values.keys())
    unknown = sorted(values.keys() - targets.keys())
    if missing or unknown:
        raise ValueError(f"{name}: missing {missing}, unknown {unknown} in the state to load")
    for key in targets:
        check_not_masked(f"{name}: {key}", values[key])
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
    _check_shared(targets, restored, name)
    for key, target in targets.items():
        assign(target, restored[key])


def _check_shared(targets: dict[str, Tensor], values: dict[str, Tensor], name: str) -> None:
    """Raise ValueError where two names of one tensor, as of a shared layer, have two values."""
    first: dict[int, str] = {}
    for key, target in targets.items():
        other = first.setdefault(id(target), key)
        if other != key and values[key].numpy().tobytes() != values[other].numpy().tobytes():
            raise ValueError(
                f"{name}: {other} and {key} are one shared tensor here, but have different values"
                " in the state to load"
            )
