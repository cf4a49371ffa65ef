"""Indexing with integer tensors: gather, and its adjoint scatter_add."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor, require_tensors
from ..kernels.runtime.recording import active
from .reduce import broadcast_to
from .samples import indices, uniform
from .shape import check_axis

__all__ = ["gather", "scatter_add"]


def _scatter_add_reference(g: np.ndarray, i: np.ndarray, axis: int, size: int) -> np.ndarray:
    shape = (*g.shape[:axis], size, *g.shape[axis + 1 :])
    y = np.zeros(shape, g.dtype)
    targets: list[np.ndarray] = list(np.indices(g.shape, sparse=True))
    targets[axis] = np.broadcast_to(i, g.shape)
    np.add.at(y, tuple(targets), g)
    return y


def _check_indices(name: str, i: Any, size: int) -> None:
    """Raise TypeError or IndexError unless i is an integer tensor with elements in [0, size).

    In a captured step on a GPU the range is not checked.
    """
    if not isinstance(i, Tensor) or i.dtype.kind != "i":
        kind = i.dtype if isinstance(i, Tensor) else type(i).__name__
        raise TypeError(f"{name}: the indices are {kind}, not an integer tensor")
    if active() is not None and not isinstance(i.array, np.ndarray):
        return  # In a captured step the host cannot wait for a GPU, whose kernel does not check.
    values = i.array if isinstance(i.array, np.ndarray) else i.numpy()
    if values.size and not (values.min() >= 0 and values.max() < size):
        outside = values.max() if values.max() >= size else values.min()
        raise IndexError(f"{name}: index {outside} is outside an axis of size {size}")


_gather = Op(
    "gather",
    np.take_along_axis,
    (lambda g, y, x, i, axis: _scatter_add(g, i, axis=axis, size=x.shape[axis]), None),
    [
        (uniform(4, 3), indices(6, 3, below=4), {"axis": 0}),
        (uniform(2, 4, 3), indices(2, 2, 3, below=4), {"axis": 1}),
    ],
    dtypes="xi",
)
_scatter_add: Op = Op(
    "scatter_add",
    _scatter_add_reference,
    (lambda g, y, x, i, axis, size: _gather(g, i, axis=axis), None),
    [(uniform(6, 3), indices(6, 3, below=4), {"axis": 0, "size": 4})],
    dtypes="xi",
)


def gather(x: Tensor, i: Tensor, axis: int = 0) -> Tensor:
    """Return y[.., j, ..] = x[.., i[.., j, ..], ..] along `axis`.

    The indices broadcast to x on the other axes: with i of shape (n, 1) and x of shape (rows, d)
    this takes n rows of a table.

    Raises:
        IndexError: an index is outside the axis.
    """
    require_tensors("gather", x, i)
    axis = check_axis("gather", axis, x.shape)
    if i.ndim != x.ndim:
        raise ValueError(f"gather: indices of shape {i.shape} need the {x.ndim} axes of {x.shape}")
    _check_indices("gather", i, x.shape[axis])
    shape = (*x.shape[:axis], i.shape[axis], *x.shape[axis + 1 :])
    return _gather(x, broadcast_to(i, shape), axis=axis)


def scatter_add(x: Tensor, i: Tensor, size: int, axis: int = 0) -> Tensor:
    """Return zeros, `size` along `axis`, with each x added at its index: the adjoint of gather.

    Raises:
        IndexError: an index is outside the axis.
    """
    require_tensors("scatter_add", x, i)
    axis = check_axis("scatter_add", axis, x.shape)
    _check_indices("scatter_add", i, size)
    return _scatter_add(x, broadcast_to(i, x.shape), axis=axis, size=size)
