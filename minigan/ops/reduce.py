"""Reductions (sum, mean, max, softmax) and broadcasting, which is the adjoint of a sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..engine.op import Op, require_floats
from ..engine.tensor import Axes, Tensor, require_tensors
from ..utils.pytorch_names import with_axis
from .elementwise import cast, equal, exp, log, not_equal, where
from .samples import distinct, uniform
from .shape import check_axis, check_sizes, integers, reshape

__all__ = ["broadcast_to", "log_softmax", "max", "mean", "softmax", "sum", "sum_to"]


def sorted_axes(name: str, axis: Axes, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes to reduce, sorted, counted from the front; all for None."""
    if axis is None:
        return tuple(range(len(shape)))
    listed = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(sorted(check_axis(name, i, shape) for i in listed))
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: axis {axis} names an axis of shape {shape} twice")
    return axes


def _keepdims_shape(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the result with its reduced axes kept, at size 1."""
    return tuple(1 if i in axis else n for i, n in enumerate(shape))


def _check_axes(name: str, x: Tensor, axis: Any, keepdims: Any) -> None:
    """Raise ValueError unless the axes are a sorted tuple without repeats or negative ones."""
    if not isinstance(axis, tuple) or [*axis] != [i for i in range(x.ndim) if i in axis]:
        raise ValueError(
            f"{name}: axis {axis!r} of shape {x.shape}; a sorted tuple of axes >= 0 is needed"
        )
    if not isinstance(keepdims, bool):
        raise ValueError(f"{name}: keepdims = {keepdims!r} is not a bool")


def _check_max(x: Tensor, axis: Any, keepdims: Any) -> None:
    _check_axes("max", x, axis, keepdims)
    if 0 in (x.shape[i] for i in axis):
        raise ValueError(f"max: shape {x.shape} has no element along axis {axis}")


# ------------------------------------------------------------------------------------- the ops
def _check_broadcast_to(x: Tensor, shape: Any) -> None:
    """Raise ValueError unless x broadcasts to the shape."""
    check_sizes("broadcast_to", shape)
    try:
        fits = np.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"broadcast_to: shape {x.shape} does not broadcast to {shape}")


_broadcast_to = Op(
    "broadcast_to",
    np.broadcast_to,
    (lambda g, y, x, shape: sum_to(g, x.shape),),
    [(uniform(1, 4), {"shape": (3, 4)}), (uniform(4), {"shape": (2, 3, 4)})],
    dtypes="x",
    view=True,
    check=_check_broadcast_to,
)


def _sum_vjp(g: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return broadcast_to(reshape(g, _keepdims_shape(x.shape, axis)), x.shape)


def _max_vjp(g: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    """Return g at the largest element, in equal parts for several that tie or are NaN."""
    kept = _keepdims_shape(x.shape, axis)
    is_largest = equal(x, reshape(y, kept)) + not_equal(x, x)  # a sum of bools is their `or`
    ones = cast(is_largest, dtype=x.dtype)
    share = ones / _sum(ones, axis=axis, keepdims=True)
    return where(is_largest, reshape(g, kept) * share, 0.0)


_AXES = [
    {"axis": (0, 1), "keepdims": False},
    {"axis": (0,), "keepdims": False},
    {"axis": (1,), "keepdims": True},
]
_sum = Op(
    "sum",
    np.sum,
    (_sum_vjp,),
    [
        *((uniform(3, 4), attributes) for attributes in _AXES),
        (uniform(2, 3, 4), {"axis": (0, 2), "keepdims": False}),
        (uniform(3, 4), {"axis": (), "keepdims": False}),
    ],
    dtypes="x",
    check=partial(_check_axes, "sum"),
)
_max = Op(
    "max",
    np.max,
    (_max_vjp,),
    [
        *((distinct(3, 4), attributes) for attributes in _AXES),
        (distinct(2, 3, 4), {"axis": (0, 2), "keepdims": False}),
    ],
    dtypes="x",
    check=_check_max,
)


# ------------------------------------------------------------------------------- the functions
def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a view of x repeated along new axes and axes of size 1.

    Raises:
        ValueError: x does not broadcast to the shape.
    """
    require_tensors("broadcast_to", x)
    return _broadcast_to(x, shape=integers("broadcast_to", "shape", shape))


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return g summed over the axes that broadcasting from `shape` repeated: its adjoint."""
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    repeated = [lead + i for i, n in enumerate(shape) if n == 1 and g.shape[lead + i] != 1]
    return reshape(sum(g, axis=(*range(lead), *repeated)), shape)


@with_axis
def sum(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the sum over an axis, several or (None) all."""
    require_tensors("sum", x)
    return _sum(x, axis=sorted_axes("sum", axis, x.shape), keepdims=bool(keepdims))


@with_axis
def max(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the largest element over an axis, several or (None) all; NaN if one is NaN.

    The gradient goes in equal parts to the elements that are largest.

    Raises:
        ValueError: there is no element to take the largest of.
    """
    require_tensors("max", x)
    return _max(x, axis=sorted_axes("max", axis, x.shape), keepdims=bool(keepdims))


@with_axis
def mean(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Return the mean over an axis, several or (None) all; NaN if there is no element."""
    require_floats("mean", x)
    axes = sorted_axes("mean", axis, x.shape)
    count = math.prod(x.shape[i] for i in axes)
    return _sum(x, axis=axes, keepdims=bool(keepdims)) / float(count)


@with_axis
def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return x - log sum exp x along an axis, computed from x - max x so that nothing overflows.

    The maximum cancels exactly, in the value and in every derivative, so it is held constant.
    """
    require_floats("log_softmax", x)
    shifted = x - max(x, axis=axis, keepdims=True).detach()
    return shifted - log(sum(exp(shifted), axis=axis, keepdims=True))


@with_axis
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return exp x / sum exp x along an axis, computed from x - max x so that nothing overflows."""
    require_floats("softmax", x)
    e = exp(x - max(x, axis=axis, keepdims=True).detach())
    return e / sum(e, axis=axis, keepdims=True)
