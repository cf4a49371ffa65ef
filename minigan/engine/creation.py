"""Tensors of one value and of equal steps; `tensor` in `tensor.py` makes them of given values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .dtypes import REALS
from .tensor import Tensor, tensor
from .values import to_array, to_shape


def full(
    shape: int | Sequence[int],
    value: float,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor of this shape full of one number.

        mg.full((2, 3), 0.5)

    Args:
        shape: a size or a tuple of sizes.
        value: a number.
        dtype: by default that of the number: float32, int64 or bool.
        device, requires_grad: as of `tensor`.
    """
    if not isinstance(value, (*REALS, np.bool_)):
        raise TypeError(f"full: the value is {type(value).__name__}, not a number")
    values = np.full(to_shape(shape), to_array(value, dtype))
    return tensor(values, device=device, requires_grad=requires_grad)


def zeros(
    shape: int | Sequence[int],
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor of zeros, by default float32: mg.zeros((2, 3))."""
    return full(shape, 0.0, dtype, device, requires_grad)


def ones(
    shape: int | Sequence[int],
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor of ones, by default float32: mg.ones((2, 3))."""
    return full(shape, 1.0, dtype, device, requires_grad)


def zeros_like(x: Tensor, dtype: Any = None, device: Any = None) -> Tensor:
    """Return zeros of the shape, dtype and device of x, unless another is given."""
    return zeros(x.shape, x.dtype if dtype is None else dtype, device or x.device)


def ones_like(x: Tensor, dtype: Any = None, device: Any = None) -> Tensor:
    """Return ones of the shape, dtype and device of x, unless another is given."""
    return ones(x.shape, x.dtype if dtype is None else dtype, device or x.device)


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Return the numbers start, start + step, ... below stop, as numpy's `arange`.

        mg.arange(5), mg.arange(2, 5), mg.arange(1.0, 0.0, -0.25)

    Args:
        start, stop, step: numbers; with one number, from 0 to below it.
        dtype: by default int64 if all numbers are integers, else float32.
        device: as of `tensor`.

    Raises:
        ValueError: the step is 0, or a number is not finite.
    """
    numbers = (0, start, step) if stop is None else (start, stop, step)
    for number in numbers:
        if not isinstance(number, REALS) or isinstance(number, bool):
            raise TypeError(f"arange: {number!r} is {type(number).__name__}, not a number")
    if not numbers[2] or not np.isfinite(numbers).all():
        raise ValueError(f"arange: start, stop, step = {numbers}; finite numbers, step != 0")
    values = np.arange(*numbers)
    if dtype is None:
        dtype = "int64" if values.dtype.kind in "iu" else "float32"
    return tensor(values, dtype, device)
