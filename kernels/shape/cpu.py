"""Kernels that move elements: views, copies, gather and scatter-add.

`reshape`, `transpose`, `broadcast_to` and `slice` are views: no element moves. A copy is

    for each row of the elements begin..end:     threads share out the elements
        for i in the row:                        a memcpy, if both strides are 1
            y[i] = x[i]

Optimizations:
    - Adjacent axes that x and y traverse with one stride are merged: rows get longer.
    - Vectorized access: a loop over two slices, which LLVM replaces by a memcpy.
    - Strength reduction: from row to row, a counter per axis with a carry, no division.
    - Multithreading of copies from MIN_PARALLEL_ELEMENTS on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..elementwise.cpu import elementwise
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, flat, launch, layout, parts
from ..runtime.strides import scalar

MIN_PARALLEL_ELEMENTS = 1048576  # with fewer, a second thread costs more than it saves


# --------------------------------------------------------------------------------------- views
def reshape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return x in another shape: a view if x is C-contiguous, else a copy."""
    return (x if x.flags.c_contiguous else elementwise("copy", x)).reshape(shape)


def _view(x: np.ndarray, index: tuple[Any, ...]) -> np.ndarray:
    """Return x[index] as a view, of one element too, which numpy would return as a number."""
    return x[index if ... in index else (*index, ...)]


# -------------------------------------------------------------------------------------- copies
def contiguous(x: np.ndarray) -> np.ndarray:
    """Return x if it is C-contiguous and writable, else a copy that is.

    It is copied if it is read-only, because numba would compile a kernel again for such arrays.
    """
    return x if x.flags.c_contiguous and x.flags.writeable else elementwise("copy", x)


@jit
def _copy(y, x):
    """Copy x to y, which are contiguous.

    LLVM replaces the loop by a memcpy; numba's own `y[..] = x[..]` takes three times as long.
    """
    for i in range(y.size):
        y[i] = x[i]


@jit
def copy_elements(y, y_offset, x, x_offset, merged, begin, end):
    """Copy the elements begin..end of x to y, both flat memory.

    `merged` holds the shape (row 0) and the strides of y and of x (rows 1 and 2): see `layout`.
    """
    last = merged.shape[1] - 1
    row_length, y_stride, x_stride = merged[0, last], merged[1, last], merged[2, last]
    row = begin // row_length
    column = begin - row * row_length
    y_start, x_start = y_offset, x_offset
    index = np.empty(last, np.int64)
    for axis in range(last - 1, -1, -1):
        index[axis] = row % merged[0, axis]
        row //= merged[0, axis]
        y_start += index[axis] * merged[1, axis]
        x_start += index[axis] * merged[2, axis]
    while begin < end:
        stop = min(row_length, column + end - begin)
        if y_stride == 1 and x_stride == 1:
            _copy(y[y_start + column : y_start + stop], x[x_start + column : x_start + stop])
        else:
            for i in range(column, stop):
                y[y_start + i * y_stride] = x[x_start + i * x_stride]
        begin += stop - column
        column = 0
        for axis in range(last - 1, -1, -1):  # the next row: count up, with a carry
            index[axis] += 1
            y_start += merged[1, axis]
            x_start += merged[2, axis]
            if index[axis] < merged[0, axis]:
                break
            index[axis] = 0
            y_start -= merged[0, axis] * merged[1, axis]
            x_start -= merged[0, axis] * merged[2, axis]


@jit
def fill(y, value):
    """Set all elements of y, flat memory, to a value."""
    for i in range(y.size):
        y[i] = value


def assign(y: np.ndarray, x: np.ndarray) -> None:
    """Copy x to y, which have one shape and share no memory."""
    if not x.size:
        return
    y_memory, y_offset, y_strides = flat(y)
    x_memory, x_offset, x_strides = flat(x)
    merged = layout(x.shape, (y_strides, x_strides))
    arguments = y_memory, y_offset, x_memory, x_offset, merged
    launch(copy_elements, *arguments, over=x.size, parts=parts(x.size, MIN_PARALLEL_ELEMENTS))


def slice_scatter(x: np.ndarray, shape: tuple[int, ...], index: Any, value: float) -> np.ndarray:
    """Return an array of `shape` full of `value`, with x at `index`."""
    y = empty(shape, x.dtype)
    if x.size < y.size:
        launch(fill, y.reshape(-1), scalar(value, x.dtype))
    assign(_view(y, index), x)
    return y


def concatenate(*xs: np.ndarray, axis: int) -> np.ndarray:
    """Return the arrays joined along `axis`."""
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    y = empty(tuple(shape), xs[0].dtype)
    start = 0
    for x in xs:
        assign(y[(slice(None),) * axis + (slice(start, start + x.shape[axis]),)], x)
        start += x.shape[axis]
    return y


# ------------------------------------------------------------------------------------ by index
@jit
def _check_index(index, size):
    """Return the index; raise IndexError if it is not in 0..size - 1.

    The kernel checks it, because the indices of a captured step are only known when it runs.
    """
    if index < 0 or index >= size:
        raise IndexError("gather, scatter_add: an index is outside the axis")
    return index


@jit
def take(y, x, i, offset, strides, shape, size):
    """Compute y[o, j, c] = x[o, i[o, j, c], c].

    y is (outer, count, inner) = shape, x is (outer, size, inner). The indices lie in flat memory i
    from `offset` on, with three strides. A last stride of 0 means one index for a whole row, which
    is then copied as a whole.
    """
    outer, count, inner = shape
    for o in range(outer):
        for j in range(count):
            i_start = offset + o * strides[0] + j * strides[1]
            y_start = (o * count + j) * inner
            if strides[2] == 0:
                x_start = (o * size + _check_index(i[i_start], size)) * inner
                _copy(y[y_start : y_start + inner], x[x_start : x_start + inner])
            else:
                for c in range(inner):
                    x_start = (o * size + _check_index(i[i_start + c * strides[2]], size)) * inner
                    y[y_start + c] = x[x_start + c]


@jit
def add_at(y, x, i, offset, strides, shape, size):
    """Compute y[o, i[o, j, c], c] += x[o, j, c] in the order of j: see `take`.

    One thread adds in this order, so that several elements with one index have fixed bits.
    """
    outer, count, inner = shape
    for o in range(outer):
        for j in range(count):
            i_start = offset + o * strides[0] + j * strides[1]
            for c in range(inner):
                y_start = (o * size + _check_index(i[i_start + c * strides[2]], size)) * inner
                y[y_start + c] += x[(o * count + j) * inner + c]


def _index_arguments(x: np.ndarray, i: np.ndarray, axis: int) -> tuple[Any, ...]:
    """Return flat x, and the indices as flat memory, offset, three strides and three sizes."""
    x = x if x.flags.c_contiguous else elementwise("copy", x)
    groups = (slice(axis), slice(axis, axis + 1), slice(axis + 1, None))
    sizes = tuple(math.prod(i.shape[group]) for group in groups)
    memory, offset, own_strides = flat(i)
    merged = [layout(i.shape[group], (own_strides[group],)) for group in groups]
    if any(m.shape[1] > 1 for m in merged):  # a view whose axes do not merge
        return _index_arguments(x, elementwise("copy", i), axis)
    strides = tuple(0 if n == 1 else int(m[1, 0]) for n, m in zip(sizes, merged, strict=True))
    return x.reshape(-1), memory, offset, strides, sizes


def gather(x: np.ndarray, i: np.ndarray, axis: int) -> np.ndarray:
    """Return y[.., j, ..] = x[.., i[.., j, ..], ..] along `axis`."""
    y = empty(i.shape, x.dtype)
    if y.size:
        memory, *indices = _index_arguments(x, i, axis)
        launch(take, y.reshape(-1), memory, *indices, x.shape[axis])
    return y


def scatter_add(x: np.ndarray, i: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Return zeros, `size` of them along `axis`, to which each x is added at its index."""
    y = empty((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
    launch(fill, y.reshape(-1), x.dtype.type(0))
    if x.size:
        memory, *indices = _index_arguments(x, i, axis)
        launch(add_at, y.reshape(-1), memory, *indices, size)
    return y


KERNELS = {
    "reshape": reshape,
    "transpose": lambda x, axes: x.transpose(axes),
    "broadcast_to": np.broadcast_to,
    "slice": _view,
    "slice_scatter": slice_scatter,
    "concatenate": concatenate,
    "gather": gather,
    "scatter_add": scatter_add,
}
