"""Ops that join tensors: concatenate along an axis, stack along a new one."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor, require_tensors
from ..utils.pytorch_names import with_axis
from .samples import uniform
from .shape import check_axis, check_normalized_axis, reshape, slice

__all__ = ["concatenate", "stack"]


def _concatenate_vjp(i: int, g: Tensor, y: Tensor, *xs: Tensor, axis: int) -> Tensor:
    start = sum(x.shape[axis] for x in xs[:i])
    inner = builtins.slice(start, start + xs[i].shape[axis])
    return slice(g, (builtins.slice(None),) * axis + (inner,))


def _check_concatenate(*xs: Tensor, axis: int) -> None:
    """Raise ValueError unless the tensors have the axis, and agree in the others."""
    shapes = [x.shape for x in xs]
    check_normalized_axis("concatenate", axis, shapes[0])
    other_sizes = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
    if len(other_sizes) > 1 or any(len(shape) != len(shapes[0]) for shape in shapes):
        listed = ", ".join(map(str, shapes))
        raise ValueError(f"concatenate: shapes {listed} differ outside axis {axis}")


_concatenate = Op(
    "concatenate",
    lambda *xs, axis: np.concatenate(xs, axis),
    _concatenate_vjp,
    [
        (uniform(2, 3), uniform(1, 3), uniform(2, 3), {"axis": 0}),
        (uniform(2, 3), uniform(2, 1), {"axis": 1}),
    ],
    dtypes="x",
    check=_check_concatenate,
)


def _check_sequence(name: str, tensors: Sequence[Tensor]) -> None:
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{name}: {type(tensors).__name__} is not a list or tuple of tensors")
    if not tensors:
        raise ValueError(f"{name}: there is no tensor to join")
    require_tensors(name, *tensors)


@with_axis
def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return the tensors joined along `axis`; their other sizes are equal.

    Raises:
        ValueError: there is no tensor, or the shapes differ outside `axis`.
    """
    _check_sequence("concatenate", tensors)
    return _concatenate(*tensors, axis=check_axis("concatenate", axis, tensors[0].shape))


@with_axis
def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Return the tensors, all of one shape, joined along a new axis.

    Raises:
        ValueError: there is no tensor, or the shapes differ.
    """
    _check_sequence("stack", tensors)
    shape = tensors[0].shape
    if any(x.shape != shape for x in tensors):
        raise ValueError(f"stack: shapes {', '.join(str(x.shape) for x in tensors)} differ")
    axis = check_axis("stack", axis, (*shape, 1))
    joined = [reshape(x, *shape[:axis], 1, *shape[axis:]) for x in tensors]
    return concatenate(joined, axis)
