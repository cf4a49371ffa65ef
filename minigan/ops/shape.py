"""Ops that move elements: reshape, transpose, slices, padding and concatenation.

The VJP of each is its adjoint, which is another of them.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor, require_tensors
from .samples import uniform

__all__ = ["concatenate", "pad", "reshape", "slice", "transpose"]

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


def _unpack(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of f(a, b), and those of f((a, b)), as (a, b)."""
    is_sequence = len(arguments) == 1 and np.iterable(arguments[0])
    return tuple(arguments[0]) if is_sequence else arguments


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """Return the elements, in C order, in another shape; a view where it can be.

        x.reshape(2, 3), x.reshape((2, 3)), x.reshape(-1)

    One size may be -1: it is computed from the number of elements and the other sizes.

    Raises:
        ValueError: the number of elements differs.
    """
    require_tensors("reshape", x)
    sizes = _unpack(shape)
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
    """Return a view with the axes in another order, by default reversed.

        x.transpose(1, 0, 2), x.transpose((1, 0, 2)), x.transpose()

    Raises:
        ValueError: the axes are not a permutation of those of x.
    """
    require_tensors("transpose", x)
    order = _unpack(axes) or tuple(reversed(range(x.ndim)))
    positive = tuple(i + x.ndim if i < 0 else i for i in order)
    if sorted(positive) != list(range(x.ndim)):
        raise ValueError(f"transpose: {order} is no order of the {x.ndim} axes of shape {x.shape}")
    return _transpose(x, axes=positive)


_slice = Op(
    "slice",
    # With `...` the result is a view even of a single element, where numpy returns a number.
    lambda x, index: x[index if ... in index else (*index, ...)],
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
    """Return x[index], a view: basic indexing with integers, slices, None and `...`.

    See `gather` for tensors of indices.

    Raises:
        TypeError: the index is not basic.
        IndexError: an integer is outside its axis.
    """
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
    axis_parts = [p for p in parts if p is not None and p is not ...]  # each takes one axis of x
    if len(axis_parts) > x.ndim or parts.count(...) > 1:
        raise ValueError(f"slice: {len(axis_parts)} indices for shape {x.shape}")
    for part in parts:
        if part is ...:
            axis += x.ndim - len(axis_parts)
        elif part is not None:
            if not isinstance(part, builtins.slice) and not -x.shape[axis] <= part < x.shape[axis]:
                raise IndexError(f"slice: index {part} is outside axis {axis} of shape {x.shape}")
            axis += 1
    return _slice(x, index=tuple(int(p) if isinstance(p, np.integer) else p for p in parts))


# ------------------------------------------------------------------------------------- copies
def _slice_scatter_reference(
    x: np.ndarray, shape: Shape, index: tuple[Any, ...], value: float
) -> np.ndarray:
    y = np.full(shape, value, x.dtype)
    y[index] = x
    return y


slice_scatter: Op = Op(
    "slice_scatter",  # an array of `value` with x at `index`: the adjoint of slice, and padding
    _slice_scatter_reference,
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
    """Return x with `widths[axis] = (before, after)` elements of `value` added on each axis.

    Raises:
        ValueError: there is not one pair for each axis, or a width is negative.
    """
    require_tensors("pad", x)
    is_negative = any(w < 0 for pair in widths for w in pair)
    if len(widths) != x.ndim or is_negative:
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
    """Return the tensors joined along `axis`; their other sizes are equal.

    Raises:
        ValueError: there is no tensor, or the shapes differ outside `axis`.
    """
    if not tensors:
        raise ValueError("concatenate: there is no tensor to join")
    require_tensors("concatenate", *tensors)
    shapes = [x.shape for x in tensors]
    ndim = len(shapes[0])
    along = check_axis("concatenate", axis, shapes[0])
    other_sizes = {shape[:along] + shape[along + 1 :] for shape in shapes}
    if len(other_sizes) > 1 or any(len(shape) != ndim for shape in shapes):
        listed = ", ".join(map(str, shapes))
        raise ValueError(f"concatenate: shapes {listed} differ outside axis {axis}")
    return _concatenate(*tensors, axis=along)


def check_axis(name: str, axis: int, shape: Shape) -> int:
    """Return the axis counted from the front; ValueError if the shape has no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{name}: axis {axis} is outside shape {shape}")
    return axis % len(shape)
