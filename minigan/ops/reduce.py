"""Ops that reduce axes to one value: sum, mean, max, log_softmax."""

from __future__ import annotations

import math

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor, require_tensors
from . import elementwise as ew
from .samples import distinct, uniform
from .shape import broadcast_to, check_axis, reshape

Axes = int | tuple[int, ...] | None


def _axes(name: str, axis: Axes, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes to reduce, sorted, counted from the front."""
    if axis is None:
        return tuple(range(len(shape)))
    listed = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    found = tuple(sorted(check_axis(name, i, shape) for i in listed))
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: axis {axis} names an axis of shape {shape} twice")
    return found


def _kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the result with its reduced axes kept, at size 1."""
    return tuple(1 if i in axis else n for i, n in enumerate(shape))


def _sum_vjp(g: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return broadcast_to(reshape(g, _kept(x.shape, axis)), x.shape)


def _max_vjp(g: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    """The gradient goes to the largest element, in equal parts where several tie."""
    kept = _kept(x.shape, axis)
    largest = ew.cast(ew.equal(x, reshape(y, kept)), dtype=x.dtype)
    share = ew.divide(largest, _sum(largest, axis=axis, keepdims=True))
    return ew.multiply(reshape(g, kept), share)


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
)


def sum(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The sum over some axes, all of them if none is named."""
    require_tensors("sum", x)
    return _sum(x, axis=_axes("sum", axis, x.shape), keepdims=bool(keepdims))


def max(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The largest element over some axes; NaN if one is NaN. Ties share the gradient."""
    require_tensors("max", x)
    axes = _axes("max", axis, x.shape)
    if 0 in (x.shape[i] for i in axes):
        raise ValueError(f"max: shape {x.shape} has no element along axis {axis}")
    return _max(x, axis=axes, keepdims=bool(keepdims))


def mean(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The mean over some axes, all of them if none is named."""
    require_tensors("mean", x)
    axes = _axes("mean", axis, x.shape)
    count = math.prod(x.shape[i] for i in axes)
    return ew.divide(_sum(x, axis=axes, keepdims=bool(keepdims)), float(count))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """x - log sum exp x along an axis, shifted by its maximum so that nothing overflows.

    The shift cancels exactly, in the value and in every derivative, so it is held constant.
    """
    require_tensors("log_softmax", x)
    shifted = ew.subtract(x, max(x, axis=axis, keepdims=True).detach())
    return ew.subtract(shifted, ew.log(sum(ew.exp(shifted), axis=axis, keepdims=True)))
