"""Minimum, position of the maximum, variance and norms over axes: made of other reductions."""

from __future__ import annotations

import builtins
import math

import numpy as np

from ..engine.op import require_floats
from ..engine.tensor import Axes, Tensor, require_tensors
from ..utils.pytorch_names import with_axis
from .elementwise import abs, check_number, equal, greater, negative, not_equal, sqrt, where
from .reduce import max, mean, sorted_axes, sum
from .shape import check_axis, reshape

__all__ = ["all", "any", "argmax", "min", "norm", "std", "var"]


def _elements(name: str, x: Tensor, axis: Axes) -> int:
    """Return the number of elements over these axes."""
    return math.prod(x.shape[i] for i in sorted_axes(name, axis, x.shape))


@with_axis
def min(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the smallest element over an axis, several or (None) all; NaN if one is NaN.

    The gradient goes in equal parts to the elements that are smallest.

    Raises:
        ValueError: there is no element to take the smallest of.
    """
    require_tensors("min", x)
    if not _elements("min", x, axis):
        raise ValueError(f"min: shape {x.shape} has no element along axis {axis}")
    if x.dtype.kind == "f":
        return negative(max(negative(x), axis, keepdims))
    if x.dtype.kind == "b":
        return equal(max(equal(x, False), axis, keepdims), False)
    return -1 - max(-1 - x, axis, keepdims)  # -1 - x reverses the order, and -x would overflow


@with_axis
def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the position of the largest element along an axis, int64; the first of equal ones.

    A NaN counts as the largest. None means the position in x flattened. Positions are integers, so
    they have no gradient.

    Raises:
        ValueError: there is no element to take the largest of.
    """
    require_tensors("argmax", x)
    if axis is None:
        position = argmax(reshape(x, -1), 0)
        return reshape(position, (1,) * x.ndim) if keepdims else position
    axis = check_axis("argmax", axis, x.shape)
    n = x.shape[axis]
    if not n:
        raise ValueError(f"argmax: shape {x.shape} has no element along axis {axis}")
    x = x.detach()
    is_largest = equal(x, max(x, axis, keepdims=True)) + not_equal(x, x)  # bools add up to `or`
    # The first of several has the highest number, counted from the end.
    numbers = np.arange(n - 1, -1, -1).reshape(-1, *(1,) * (x.ndim - axis - 1))
    from_end = Tensor(x.device.from_numpy(numbers), x.device)
    return n - 1 - max(where(is_largest, from_end, -1), axis, keepdims)


@with_axis
def any(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return whether any element over an axis, several or (None) all is not 0, as a bool tensor."""
    require_tensors("any", x)
    return greater(sum(not_equal(x, 0), axis, keepdims), 0)


@with_axis
def all(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return whether no element over an axis, several or (None) all is 0, as a bool tensor."""
    require_tensors("all", x)
    return equal(sum(equal(x, 0), axis, keepdims), 0)


@with_axis
def var(x: Tensor, axis: Axes = None, keepdims: bool = False, *, correction: float = 0) -> Tensor:
    """Return the variance over an axis, several or (None) all: sum (x - mean)^2 / (n - correction).

    The default is that of numpy, JAX and Keras. PyTorch's is correction=1, the unbiased estimate of
    the variance of the distribution that n samples are from. NaN for a single element then.
    """
    require_floats("var", x)
    n = _elements("var", x, axis) - check_number("var", "correction", correction)
    distance = x - mean(x, axis, keepdims=True)
    return sum(distance * distance, axis, keepdims) / builtins.max(n, 0.0)


@with_axis
def std(x: Tensor, axis: Axes = None, keepdims: bool = False, *, correction: float = 0) -> Tensor:
    """Return the standard deviation, the square root of the variance (see `var`).

    Its derivative where all elements are equal is 0, as in PyTorch.
    """
    require_floats("std", x)
    return _root(var(x, axis, keepdims, correction=correction))


@with_axis
def norm(x: Tensor, p: float = 2, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the p-norm of the elements over an axis, several or (None) all.

    p = 2 is the Euclidean norm sqrt(sum x^2), whose derivative at 0 is 0, as in PyTorch; p = 1 the
    sum of |x|; p = math.inf the largest |x|.

        gradients.norm(2, axis=1)

    Raises:
        ValueError: p is another number.
    """
    require_floats("norm", x)
    if p not in (1, 2, math.inf):
        raise ValueError(f"norm: p = {p} is not 1, 2 or math.inf")
    if p == 2:
        return _root(sum(x * x, axis, keepdims))
    return (sum if p == 1 else max)(abs(x), axis, keepdims)


def _root(x: Tensor) -> Tensor:
    """Return sqrt(x), whose derivative at 0 is 0 here, not infinite."""
    is_zero = equal(x, 0.0)
    return where(is_zero, 0.0, sqrt(where(is_zero, 1.0, x)))
