"""Ops that move elements and compute nothing. Each one's VJP is its adjoint, another of them."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor, require_tensors
from ..kernels.runtime.recording import active
from .samples import indices, uniform

Shape = tuple[int, ...]


# -------------------------------------------------------------------------- views of the input
_reshape: Op = Op(
    "reshape",
    lambda x, shape: x.reshape(shape),
    (lambda g, y, x, shape: _reshape(g, shape=x.shape),),
    [(uniform(3, 4), {"shape": (2, 6)}), (uniform(1), {"shape": ()})],
    dtypes="x",
    view=True,
)


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in C order in another shape; one size may be -1. A view where it can be."""
    require_tensors("reshape", x)
    sizes = tuple(shape[0]) if len(shape) == 1 and np.iterable(shape[0]) else shape
    known = math.prod(n for n in sizes if n != -1)
    missing = sizes.count(-1)
    if missing == 1 and known and x.size % known == 0:
        sizes = tuple(x.size // known if n == -1 else n for n in sizes)
    if math.prod(sizes) != x.size or min(sizes, default=0) < 0:
        raise ValueError(f"reshape: shape {x.shape} ({x.size} elements) does not fit into {sizes}")
    return _reshape(x, shape=tuple(int(n) for n in sizes))


_transpose: Op = Op(
    "transpose",
    lambda x, axes: x.transpose(axes),
    (lambda g, y, x, axes: _transpose(g, axes=tuple(int(i) for i in np.argsort(axes))),),
    [(uniform(2, 3, 4), {"axes": (2, 0, 1)}), (uniform(3, 4), {"axes": (1, 0)})],
    dtypes="x",
    view=True,
)


def transpose(x: Tensor, *axes: Any) -> Tensor:
    """Axes in another order, reversed if none is given; a view."""
    require_tensors("transpose", x)
    order = tuple(axes[0]) if len(axes) == 1 and np.iterable(axes[0]) else axes
    order = order or tuple(reversed(range(x.ndim)))
    found = tuple(i + x.ndim if i < 0 else i for i in order)
    if sorted(found) != list(range(x.ndim)):
        raise ValueError(f"transpose: {order} is no order of the {x.ndim} axes of shape {x.shape}")
    return _transpose(x, axes=found)


_broadcast_to = Op(
    "broadcast_to",
    np.broadcast_to,
    (lambda g, y, x, shape: sum_to(g, x.shape),),
    [(uniform(1, 4), {"shape": (3, 4)}), (uniform(4), {"shape": (2, 3, 4)})],
    dtypes="x",
    view=True,
)


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x repeated along new axes and axes of size 1; a view."""
    require_tensors("broadcast_to", x)
    try:
        fits = np.broadcast_shapes(x.shape, tuple(shape)) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"broadcast_to: shape {x.shape} does not broadcast to {tuple(shape)}")
    return _broadcast_to(x, shape=tuple(shape))


def sum_to(g: Tensor, shape: Shape) -> Tensor:
    """The adjoint of broadcasting from `shape`: sum over the axes that were repeated."""
    from .reduce import sum as sum_op

    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    repeated = [lead + i for i, n in enumerate(shape) if n == 1 and g.shape[lead + i] != 1]
    return reshape(sum_op(g, axis=(*range(lead), *repeated)), shape)


_slice = Op(
    "slice",
    lambda x, index: x[index if ... in index else (*index, ...)],  # a view, of one element too
    (lambda g, y, x, index: slice_scatter(g, shape=x.shape, index=index, value=0.0),),
    [
        (uniform(4, 5), {"index": (builtins.slice(1, 3), builtins.slice(None, None, 2))}),
        (uniform(4, 5), {"index": (2, builtins.slice(None, None, -1))}),
        (uniform(4), {"index": (None, 1)}),
        (uniform(4, 5), {"index": (2, 3)}),
    ],
    dtypes="x",
    view=True,
)


def slice(x: Tensor, index: Any) -> Tensor:
    """Basic indexing: integers, slices, None and `...`; a view. For index arrays see `gather`."""
    require_tensors("slice", x)
    parts = index if isinstance(index, tuple) else (index,)
    for part in parts:
        basic = part is None or part is ... or isinstance(part, (builtins.slice, int, np.integer))
        if not basic or isinstance(part, bool):
            raise TypeError(
                f"slice: an index of type {type(part).__name__} is not basic; integers, slices,"
                " None and ... are (gather takes a tensor of indices)"
            )
    axis = 0
    counted = [p for p in parts if p is not None and p is not ...]
    if len(counted) > x.ndim or parts.count(...) > 1:
        raise ValueError(f"slice: {len(counted)} indices for shape {x.shape}")
    for part in parts:
        if part is ...:
            axis += x.ndim - len(counted)
        elif part is not None:
            if not isinstance(part, builtins.slice) and not -x.shape[axis] <= part < x.shape[axis]:
                raise IndexError(f"slice: index {part} is outside axis {axis} of shape {x.shape}")
            axis += 1
    return _slice(x, index=tuple(int(p) if isinstance(p, np.integer) else p for p in parts))


# ------------------------------------------------------------------------------------- copies
def _slice_scatter(x: np.ndarray, shape: Shape, index: tuple[Any, ...], value: float) -> np.ndarray:
    y = np.full(shape, value, x.dtype)
    y[index] = x
    return y


slice_scatter: Op = Op(
    "slice_scatter",  # the adjoint of slice, and padding: x at `index` of an array full of `value`
    _slice_scatter,
    (lambda g, y, x, shape, index, value: _slice(g, index=index),),
    [
        (
            uniform(2, 3),
            {
                "shape": (4, 5),
                "index": (builtins.slice(1, 3), builtins.slice(None, None, 2)),
                "value": 0.0,
            },
        ),
        (uniform(2), {"shape": (4,), "index": (builtins.slice(1, 3),), "value": 1.5}),
        (uniform(), {"shape": (4, 5), "index": (2, 3), "value": 0.0}),
    ],
    dtypes="x",
)


def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """x with `widths[axis] = (before, after)` elements of `value` around it on each axis."""
    require_tensors("pad", x)
    bad = [w for pair in widths for w in pair if w < 0]
    if len(widths) != x.ndim or bad:
        raise ValueError(
            f"pad: widths {list(widths)} do not fit shape {x.shape}:"
            " one pair of sizes >= 0 per axis"
        )
    shape = tuple(before + n + after for n, (before, after) in zip(x.shape, widths, strict=True))
    index = tuple(builtins.slice(b, b + n) for n, (b, _) in zip(x.shape, widths, strict=True))
    return slice_scatter(x, shape=shape, index=index, value=float(value))


def _concatenate_vjp(i: int, g: Tensor, y: Tensor, *xs: Tensor, axis: int) -> Tensor:
    start = sum(x.shape[axis] for x in xs[:i])
    inner = builtins.slice(start, start + xs[i].shape[axis])
    return _slice(g, index=(builtins.slice(None),) * axis + (inner,))


_concatenate = Op(
    "concatenate",
    lambda *xs, axis: np.concatenate(xs, axis),
    _concatenate_vjp,
    [
        (uniform(2, 3), uniform(1, 3), uniform(2, 3), {"axis": 0}),
        (uniform(2, 3), uniform(2, 1), {"axis": 1}),
    ],
    dtypes="x",
)


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one after the other along `axis`; all other sizes are equal."""
    if not tensors:
        raise ValueError("concatenate: there is no tensor to join")
    require_tensors("concatenate", *tensors)
    shapes = [x.shape for x in tensors]
    ndim = len(shapes[0])
    where = check_axis("concatenate", axis, shapes[0])
    rests = {shape[:where] + shape[where + 1 :] for shape in shapes}
    if len(rests) > 1 or any(len(shape) != ndim for shape in shapes):
        listed = ", ".join(map(str, shapes))
        raise ValueError(f"concatenate: shapes {listed} differ outside axis {axis}")
    return _concatenate(*tensors, axis=where)


# -------------------------------------------------------------------------------- by index
def _scatter_add(g: np.ndarray, i: np.ndarray, axis: int, size: int) -> np.ndarray:
    shape = (*g.shape[:axis], size, *g.shape[axis + 1 :])
    y = np.zeros(shape, g.dtype)
    where: list[np.ndarray] = list(np.indices(g.shape, sparse=True))
    where[axis] = np.broadcast_to(i, g.shape)
    np.add.at(y, tuple(where), g)
    return y


def _check_indices(name: str, i: Any, size: int) -> None:
    if not isinstance(i, Tensor) or i.dtype.kind != "i":
        given = i.dtype if isinstance(i, Tensor) else type(i).__name__
        raise TypeError(f"{name}: the indices are {given}, not an integer tensor")
    if active() is not None and not isinstance(i.array, np.ndarray):
        return  # in a captured step, nobody may wait for a GPU
    values = i.array if isinstance(i.array, np.ndarray) else i.numpy()
    if values.size and not (values.min() >= 0 and values.max() < size):
        bad = values.max() if values.max() >= size else values.min()
        raise IndexError(f"{name}: index {bad} is outside an axis of size {size}")


_gather = Op(
    "gather",
    np.take_along_axis,
    (lambda g, y, x, i, axis: _scatter(g, i, axis=axis, size=x.shape[axis]), None),
    [
        (uniform(4, 3), indices(6, 3, below=4), {"axis": 0}),
        (uniform(2, 4, 3), indices(2, 2, 3, below=4), {"axis": 1}),
    ],
    dtypes="xi",
)
_scatter: Op = Op(
    "scatter_add",
    _scatter_add,
    (lambda g, y, x, i, axis, size: _gather(g, i, axis=axis), None),
    [(uniform(6, 3), indices(6, 3, below=4), {"axis": 0, "size": 4})],
    dtypes="xi",
)


def gather(x: Tensor, i: Tensor, axis: int = 0) -> Tensor:
    """y[.., j, ..] = x[.., i[.., j, ..], ..] along `axis`; i broadcasts to x on the other axes.

    With `i` of shape (n, 1) and x of shape (rows, d) this takes n rows of a table.
    """
    require_tensors("gather", x, i)
    where = check_axis("gather", axis, x.shape)
    if i.ndim != x.ndim:
        raise ValueError(f"gather: indices of shape {i.shape} need the {x.ndim} axes of {x.shape}")
    _check_indices("gather", i, x.shape[where])
    shape = tuple(i.shape[where] if axis_ == where else n for axis_, n in enumerate(x.shape))
    return _gather(x, broadcast_to(i, shape), axis=where)


def scatter_add(x: Tensor, i: Tensor, size: int, axis: int = 0) -> Tensor:
    """The adjoint of `gather`: zeros of `size` along `axis`, each x added at the place i says."""
    require_tensors("scatter_add", x, i)
    where = check_axis("scatter_add", axis, x.shape)
    _check_indices("scatter_add", i, size)
    return _scatter(x, broadcast_to(i, x.shape), axis=where, size=size)


def check_axis(name: str, axis: int, shape: Shape) -> int:
    """The axis counted from the front; ValueError if the shape has no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{name}: axis {axis} is outside shape {shape}")
    return axis % len(shape)
