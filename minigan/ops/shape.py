"""Ops that move elements: reshape, transpose, slices and padding.

The VJP of each is its adjoint, which is another of them.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Axes, Tensor, require_tensors
from ..utils.pytorch_names import with_axis
from .elementwise import check_number
from .samples import uniform

__all__ = ["flatten", "pad", "reshape", "slice", "squeeze", "transpose"]

Shape = tuple[int, ...]


# ------------------------------------------------------------------------- checks of attributes
def is_integer(value: Any, least: int, below: int = 2**63) -> bool:
    """Return whether the value is a Python integer, not a bool, in [least, below)."""
    return type(value) is int and least <= value < below


def check_sizes(name: str, shape: Any) -> None:
    """Raise ValueError unless the shape is a tuple of integers, none of them negative."""
    fits = type(shape) is tuple
    if fits:
        for n in shape:  # a loop, as `all` of a generator takes three times as long
            if type(n) is not int or n < 0:
                fits = False
    if not fits:
        raise ValueError(f"{name}: shape {shape!r} is not a tuple of integers >= 0")


def integers(name: str, what: str, values: Any) -> tuple[int, ...]:
    """Return the values as a tuple of Python integers; TypeError if one is not an integer."""
    try:
        return tuple(map(operator.index, values))
    except TypeError:
        raise TypeError(f"{name}: {what} {values!r}; integers are needed") from None


def check_axis(name: str, axis: int, shape: Shape) -> int:
    """Return the axis counted from the front; ValueError if the shape has no such axis."""
    (axis,) = integers(name, "axis", (axis,))
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{name}: axis {axis} is outside shape {shape}")
    return axis % len(shape)


def check_normalized_axis(name: str, axis: Any, shape: Shape) -> None:
    """Raise ValueError unless the axis is an integer in [0, number of axes)."""
    if not is_integer(axis, 0, len(shape)):
        raise ValueError(f"{name}: axis {axis!r} is not an integer in [0, {len(shape)})")


def _indexed_shape(name: str, shape: Shape, index: Any) -> Shape:
    """Return the shape of x[index] for x of a shape: basic indexing.

    Raises:
        TypeError: a part of the index is of another type.
        ValueError: there are more indices than axes.
        IndexError: an integer is outside its axis.
    """
    if not isinstance(index, tuple):
        raise TypeError(f"{name}: the index is {type(index).__name__}, not a tuple")
    indexed = 0  # the number of axes that integers and slices index
    for part in index:
        if part is None or part is ...:
            continue
        indexed += 1
        if not isinstance(part, (builtins.slice, int, np.integer)) or isinstance(part, bool):
            raise TypeError(
                f"{name}: an index of type {type(part).__name__}; integers, slices, None, ..., and"
                " arrays of integers or bools are accepted"
            )
    if indexed > len(shape) or sum(part is ... for part in index) > 1:
        raise ValueError(f"{name}: {indexed} indices for shape {shape}")
    sizes: list[int] = []
    axis = 0
    for part in index:
        if part is None:
            sizes.append(1)
        elif part is ...:
            rest = len(shape) - indexed
            sizes += shape[axis : axis + rest]
            axis += rest
        else:
            if isinstance(part, builtins.slice):
                sizes.append(len(range(*part.indices(shape[axis]))))
            elif not -shape[axis] <= part < shape[axis]:
                raise IndexError(f"{name}: index {part} is outside axis {axis} of shape {shape}")
            axis += 1
    return (*sizes, *shape[axis:])


# -------------------------------------------------------------------------- views of the input
def _check_reshape(x: Tensor, shape: Any) -> None:
    check_sizes("reshape", shape)
    if math.prod(shape) != x.size:
        raise ValueError(f"reshape: shape {x.shape} ({x.size} elements) does not fit into {shape}")


_reshape: Op = Op(
    "reshape",
    lambda x, shape: x.reshape(shape),
    (lambda g, y, x, shape: _reshape(g, shape=x.shape),),
    [(uniform(3, 4), {"shape": (2, 6)}), (uniform(1), {"shape": ()})],
    dtypes="x",
    view=True,
    check=_check_reshape,
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
    sizes = integers("reshape", "shape", _unpack(shape))
    known = math.prod(n for n in sizes if n != -1)
    missing = sizes.count(-1)
    if missing == 1 and known and x.size % known == 0:
        sizes = tuple(x.size // known if n == -1 else n for n in sizes)
    if math.prod(sizes) != x.size or min(sizes, default=0) < 0:
        raise ValueError(f"reshape: shape {x.shape} ({x.size} elements) does not fit into {sizes}")
    return _reshape(x, shape=sizes)


def flatten(x: Tensor, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """Return x with the axes from start_axis to end_axis, both included, as one.

    Raises:
        ValueError: there is no such axis, or end_axis is before start_axis.
    """
    require_tensors("flatten", x)
    if not x.ndim:
        return reshape(x, 1)
    start, end = (check_axis("flatten", axis, x.shape) for axis in (start_axis, end_axis))
    if end < start:
        raise ValueError(
            f"flatten: end_axis {end_axis} of shape {x.shape} is before start_axis {start_axis}"
        )
    return reshape(x, *x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


@with_axis
def squeeze(x: Tensor, axis: Axes = None) -> Tensor:
    """Return x without an axis of size 1, several or (None) all of them.

    Raises:
        ValueError: an axis has another size, as in numpy (PyTorch leaves it as it is).
    """
    require_tensors("squeeze", x)
    if axis is None:
        axis = tuple(i for i, n in enumerate(x.shape) if n == 1)
    axes = [check_axis("squeeze", i, x.shape) for i in (axis if np.iterable(axis) else (axis,))]
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"squeeze: axis {axis} of shape {x.shape} is not of size 1")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def _check_transpose(x: Tensor, axes: Any) -> None:
    if not isinstance(axes, tuple) or sorted(axes) != list(range(x.ndim)):
        raise ValueError(f"transpose: {axes} is not a permutation of the axes of {x.shape}")


_transpose: Op = Op(
    "transpose",
    lambda x, axes: x.transpose(axes),
    (lambda g, y, x, axes: _transpose(g, axes=tuple(int(i) for i in np.argsort(axes))),),
    [(uniform(2, 3, 4), {"axes": (2, 0, 1)}), (uniform(3, 4), {"axes": (1, 0)})],
    dtypes="x",
    view=True,
    check=_check_transpose,
)


def transpose(x: Tensor, *axes: Any) -> Tensor:
    """Return a view with the axes in another order, by default reversed.

        x.transpose(1, 0, 2), x.transpose((1, 0, 2)), x.transpose()

    Raises:
        ValueError: the axes are not a permutation of those of x.
    """
    require_tensors("transpose", x)
    order = integers("transpose", "axes", _unpack(axes)) or tuple(reversed(range(x.ndim)))
    return _transpose(x, axes=tuple(i + x.ndim if i < 0 else i for i in order))


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
    check=lambda x, index: _indexed_shape("slice", x.shape, index),
)


def slice(x: Tensor, index: Any) -> Tensor:
    """Return x[index], a view: basic indexing with integers, slices, None and `...`.

    See `index` for arrays of indices.

    Raises:
        TypeError: a part of the index is of another type.
        IndexError: an integer is outside its axis.
    """
    require_tensors("slice", x)
    parts = index if isinstance(index, tuple) else (index,)
    return _slice(x, index=tuple(int(p) if isinstance(p, np.integer) else p for p in parts))


# ------------------------------------------------------------------------------------- copies
def _slice_scatter_reference(
    x: np.ndarray, shape: Shape, index: tuple[Any, ...], value: float
) -> np.ndarray:
    y = np.full(shape, value, x.dtype)
    y[index] = x
    return y


def _check_slice_scatter(x: Tensor, shape: Any, index: Any, value: Any) -> None:
    check_sizes("slice_scatter", shape)
    expected = _indexed_shape("slice_scatter", shape, index)
    if expected != x.shape or not isinstance(value, (int, float)):
        raise ValueError(
            f"slice_scatter: input {x.shape} and value {value!r}; the index selects {expected}"
            f" of shape {shape}, and the value must be a number"
        )


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
    check=_check_slice_scatter,
)


def pad(x: Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Return x with `widths[axis] = (before, after)` elements of `value` added on each axis.

    Raises:
        ValueError: there is not one pair for each axis, or a width is negative.
    """
    require_tensors("pad", x)
    pairs = [integers("pad", "widths", pair) for pair in widths]
    if len(pairs) != x.ndim or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ValueError(
            f"pad: widths {list(widths)} do not fit shape {x.shape}:"
            " one pair of sizes >= 0 per axis"
        )
    shape = tuple(before + n + after for n, (before, after) in zip(x.shape, pairs, strict=True))
    index = tuple(builtins.slice(b, b + n) for n, (b, _) in zip(x.shape, pairs, strict=True))
    return slice_scatter(x, shape=shape, index=index, value=check_number("pad", "value", value))
