"""Indexing with integer tensors: gather, and its adjoint scatter_add.

An index outside [0, size) raises IndexError: negative ones do not count from the end. In a captured
step the indices are known only when a kernel runs. The `cpu` and `reference` devices raise then,
too. A CUDA kernel cannot raise: there `gather` returns NaN for such an index (the least int64, or
True), and `scatter_add` a column of NaN, so that no loss or gradient stays finite. As in JAX, no
memory outside the arrays is read or written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor, require_tensors
from ..kernels.runtime.recording import active
from .reduce import broadcast_to
from .samples import indices, uniform
from .shape import check_axis, check_normalized_axis, is_integer

__all__ = ["gather", "scatter_add"]


# -------------------------------------------------------------------------------- the references
def _refuse_outside(name: str, i: np.ndarray, size: int) -> None:
    """Raise IndexError unless all indices are in [0, size)."""
    if i.size and not (i.min() >= 0 and i.max() < size):
        outside = i.max() if i.max() >= size else i.min()
        raise IndexError(f"{name}: index {outside} is outside an axis of size {size}")


def _gather_reference(x: np.ndarray, i: np.ndarray, axis: int) -> np.ndarray:
    _refuse_outside("gather", i, x.shape[axis])
    return np.take_along_axis(x, i, axis)


def _scatter_add_reference(g: np.ndarray, i: np.ndarray, axis: int, size: int) -> np.ndarray:
    _refuse_outside("scatter_add", i, size)
    shape = (*g.shape[:axis], size, *g.shape[axis + 1 :])
    y = np.zeros(shape, g.dtype)
    targets: list[np.ndarray] = list(np.indices(g.shape, sparse=True))
    targets[axis] = np.broadcast_to(i, g.shape)
    np.add.at(y, tuple(targets), g)
    return y


# ------------------------------------------------------------------------------------- the ops
def check_indices(name: str, i: Tensor, size: int) -> None:
    """Raise TypeError unless i has integers; IndexError for one outside, if the host can read i."""
    if i.dtype.kind != "i":
        raise TypeError(f"{name}: the indices are {i.dtype}, not an integer tensor")
    if isinstance(i.array, np.ndarray):
        _refuse_outside(name, i.array, size)
    elif active() is None:  # In a captured step the host cannot wait for a GPU.
        _refuse_outside(name, i.numpy(), size)


def _check_gather(x: Tensor, i: Tensor, axis: Any) -> None:
    """Raise ValueError unless x has the axis, and the indices fit its other axes."""
    check_normalized_axis("gather", axis, x.shape)
    if i.shape != (*x.shape[:axis], *i.shape[axis : axis + 1], *x.shape[axis + 1 :]):
        raise ValueError(f"gather: indices {i.shape} for {x.shape} differ outside axis {axis}")


def _check_scatter_add(x: Tensor, i: Tensor, axis: Any, size: Any) -> None:
    """Raise ValueError unless x has the axis, and an index for each element."""
    check_normalized_axis("scatter_add", axis, x.shape)
    if i.shape != x.shape or not is_integer(size, 0):
        raise ValueError(
            f"scatter_add: indices {i.shape} for {x.shape} and size {size!r}; equal shapes and an"
            " integer of at least 0 are needed"
        )


_gather = Op(
    "gather",
    _gather_reference,
    (lambda g, y, x, i, axis: _scatter_add(g, i, axis=axis, size=x.shape[axis]), None),
    [
        (uniform(4, 3), indices(6, 3, below=4), {"axis": 0}),
        (uniform(2, 4, 3), indices(2, 2, 3, below=4), {"axis": 1}),
    ],
    dtypes="xi",
    check=_check_gather,
)
_scatter_add: Op = Op(
    "scatter_add",
    _scatter_add_reference,
    (lambda g, y, x, i, axis, size: _gather(g, i, axis=axis), None),
    [(uniform(6, 3), indices(6, 3, below=4), {"axis": 0, "size": 4})],
    dtypes="xi",
    check=_check_scatter_add,
)


# ------------------------------------------------------------------------------- the functions
def gather(x: Tensor, i: Tensor, axis: int = 0) -> Tensor:
    """Return y[.., j, ..] = x[.., i[.., j, ..], ..] along `axis`.

    The indices broadcast to x on the other axes: with i of shape (n, 1) and x of shape (rows, d)
    this takes n rows of a table.

    Raises:
        IndexError: an index is outside the axis (see the module for captured steps).
    """
    require_tensors("gather", x, i)
    axis = check_axis("gather", axis, x.shape)
    if i.ndim != x.ndim:
        raise ValueError(f"gather: indices of shape {i.shape} need the {x.ndim} axes of {x.shape}")
    check_indices("gather", i, x.shape[axis])
    shape = (*x.shape[:axis], i.shape[axis], *x.shape[axis + 1 :])
    return _gather(x, broadcast_to(i, shape), axis=axis)


def scatter_add(x: Tensor, i: Tensor, size: int, axis: int = 0) -> Tensor:
    """Return zeros, `size` along `axis`, with each x added at its index: the adjoint of gather.

    Raises:
        IndexError: an index is outside the axis (see the module for captured steps).
    """
    require_tensors("scatter_add", x, i)
    axis = check_axis("scatter_add", axis, x.shape)
    check_indices("scatter_add", i, size)
    return _scatter_add(x, broadcast_to(i, x.shape), axis=axis, size=size)
