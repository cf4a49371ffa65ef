"""Convert what users pass as values (numbers, nested lists, arrays of any library) to arrays."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .dtypes import DTYPES, check_dtype, check_int64_range, check_not_masked


def to_array(values: Any, dtype: Any = None) -> np.ndarray:
    """Return numbers, nested lists or an array as a numpy array of a dtype that tensors can have.

    See `tensor` for the dtypes and errors.
    """
    check_not_masked("tensor", values)
    try:
        array = np.asarray(values)
    except ValueError as error:  # numpy's message says where a nested list is ragged
        raise ValueError(f"tensor: the values form no array: {error}") from None
    if not isinstance(values, (np.ndarray, np.generic)):
        _refuse_large_integers(values, array)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"tensor: values of type {array.dtype} are not numbers of {', '.join(map(str, DTYPES))}"
        )
    if dtype is None:
        is_double = hasattr(values, "dtype") and array.dtype.itemsize >= 8
        floats = "float64" if is_double else "float32"
        dtype = {"f": floats, "b": "bool"}.get(array.dtype.kind, "int64")
    dtype = check_dtype(dtype)
    if dtype.kind == "i":
        check_int64_range("tensor", array)
    return array.astype(dtype, copy=False)


def _refuse_large_integers(values: Any, array: np.ndarray) -> None:
    """Raise ValueError for integers outside int64, which numpy converts to floats or objects."""
    if array.dtype.kind == "O" or (array.dtype.kind == "f" and (np.abs(array) >= 2.0**63).any()):
        objects = np.asarray(values, object).ravel().tolist()
        if objects and all(isinstance(x, int) for x in objects):
            largest = max(objects, key=abs)
            raise ValueError(f"tensor: the value {largest} does not fit into int64")


def to_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return a shape, or the one size of one, as a tuple of ints."""
    try:
        sizes = tuple(operator.index(n) for n in (shape if np.iterable(shape) else (shape,)))
    except TypeError:
        raise TypeError(f"shape {shape!r} is neither an integer nor a tuple of them") from None
    for n in sizes:
        if n < 0:
            raise ValueError(f"shape {shape!r}: size {n} is negative")
    return sizes


def type_name(x: Any) -> str:
    """Return the name of the type of x for an error message: "list", "torch.Tensor"."""
    cls = type(x)
    is_foreign = cls.__name__ == "Tensor"  # not minigan's, or it would have been accepted
    return f"{cls.__module__.partition('.')[0]}.Tensor" if is_foreign else cls.__name__
