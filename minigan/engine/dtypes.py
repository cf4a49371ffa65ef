"""The dtypes that tensors can have."""

from __future__ import annotations

from typing import Any

import numpy as np

FLOATS = (np.dtype("float32"), np.dtype("float64"))
DTYPES = (*FLOATS, np.dtype("int64"), np.dtype("bool"))
# The types of numbers that arguments may have. (The classes of `numbers` would do, but mypy takes
# no int for one of them.)
INTEGERS: tuple[Any, ...] = (int, np.integer)
REALS: tuple[Any, ...] = (int, float, np.integer, np.floating)


def check_dtype(dtype: Any) -> np.dtype:
    """Return the numpy dtype of a name or dtype; TypeError unless tensors can have it."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        result = None
    # None is tested first, because in numpy np.dtype("float64") == None is True.
    if result is None or result not in DTYPES:
        fix = "; a shape is one argument: (2, 3), not 2, 3" if isinstance(dtype, int) else ""
        raise TypeError(f"unknown dtype {dtype!r}; accepted: {', '.join(map(str, DTYPES))}{fix}")
    return result


def check_int64_range(name: str, array: np.ndarray) -> None:
    """Raise ValueError if a number is NaN or outside int64, as a cast would change it."""
    if array.dtype.kind not in "fu" or not array.size:
        return
    low, high = array.min().item(), array.max().item()  # NaN if any number is NaN
    if not (low >= -(2**63) and high < 2**63):
        bad = high if low >= -(2**63) else low
        raise ValueError(f"{name}: the value {bad} does not fit into int64")


def check_not_masked(name: str, values: Any) -> None:
    """Raise ValueError for a masked array, of which a conversion would ignore the mask."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name}: elements are masked; values.filled(x) puts a number there")


def is_dtype(x: Any) -> bool:
    """Return whether numpy accepts x as a dtype, including dtypes that tensors cannot have."""
    if not isinstance(x, (str, type, np.dtype)):  # as numpy accepts all that has a dtype
        return False
    try:
        np.dtype(x)
    except TypeError:
        return False
    return True
