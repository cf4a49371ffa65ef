"""Ops that move elements: views are free, copies and look-ups are walked in memory order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..elementwise.cpu import elementwise
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, flat, launch, layout, parts
from ..runtime.strides import scalar

GRAIN = 1048576  # elements that are worth a second thread


# --------------------------------------------------------------------------------------- views
def reshape(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A view of contiguous memory, else of a contiguous copy."""
    return (x if x.flags.c_contiguous else elementwise("copy", x)).reshape(shape)


def _view(x: np.ndarray, index: tuple[Any, ...]) -> np.ndarray:
    """x[index], a view of one element too, which numpy would copy into a number."""
    return x[index if ... in index else (*index, ...)]


# -------------------------------------------------------------------------------------- copies
@jit
def _copy(y, x):
    # A loop becomes a memcpy; numba's own `y[..] = x[..]` takes three times as long.
    for i in range(y.size):
        y[i] = x[i]


@jit
def move(y, y_start, x, x_start, merged, begin, end):
    """y[..] = x[..] for elements begin..end of the merged shape (see `layout`)."""
    last = merged.shape[1] - 1
    width, y_step, x_step = merged[0, last], merged[1, last], merged[2, last]
    line = begin // width
    column = begin - line * width
    y_at, x_at = y_start, x_start
    position = np.empty(last, np.int64)
    for axis in range(last - 1, -1, -1):
        position[axis] = line % merged[0, axis]
        line //= merged[0, axis]
        y_at += position[axis] * merged[1, axis]
        x_at += position[axis] * merged[2, axis]
    while begin < end:
        stop = min(width, column + end - begin)
        if y_step == 1 and x_step == 1:
            _copy(y[y_at + column : y_at + stop], x[x_at + column : x_at + stop])
        else:
            for i in range(column, stop):
                y[y_at + i * y_step] = x[x_at + i * x_step]
        begin += stop - column
        column = 0
        for axis in range(last - 1, -1, -1):  # one line on, with a carry: no division
            position[axis] += 1
            y_at += merged[1, axis]
            x_at += merged[2, axis]
            if position[axis] < merged[0, axis]:
                break
            position[axis] = 0
            y_at -= merged[0, axis] * merged[1, axis]
            x_at -= merged[0, axis] * merged[2, axis]


@jit
def fill(y, value):
    for i in range(y.size):
        y[i] = value


def assign(y: np.ndarray, x: np.ndarray) -> None:
    """y[...] = x, which share no memory."""
    if not x.size:
        return
    y_memory, y_start, y_strides = flat(y)
    x_memory, x_start, x_strides = flat(x)
    merged = layout(x.shape, (y_strides, x_strides))
    many = parts(x.size, GRAIN)
    launch(move, y_memory, y_start, x_memory, x_start, merged, over=x.size, parts=many)


def slice_scatter(x: np.ndarray, shape: tuple[int, ...], index: Any, value: float) -> np.ndarray:
    """x at `index` of an array full of `value`."""
    y = empty(shape, x.dtype)
    if x.size < y.size:
        launch(fill, y.reshape(-1), scalar(value, x.dtype))
    assign(_view(y, index), x)
    return y


def concatenate(*xs: np.ndarray, axis: int) -> np.ndarray:
    """The arrays one after the other along `axis`."""
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    y = empty(tuple(shape), xs[0].dtype)
    at = 0
    for x in xs:
        assign(y[(slice(None),) * axis + (slice(at, at + x.shape[axis]),)], x)
        at += x.shape[axis]
    return y


# ------------------------------------------------------------------------------------ by index
@jit
def _inside(index, size):
    """A captured step cannot look at its indices before it uses them, so the kernel does."""
    if index < 0 or index >= size:
        raise IndexError("an index is outside the axis")
    return index


@jit
def take(y, x, i, start, steps, shape, size):
    """y[o, j, c] = x[o, i[o, j, c], c]; y is (outer, count, inner), x (outer, size, inner)."""
    outer, count, inner = shape
    for o in range(outer):
        for j in range(count):
            at = start + o * steps[0] + j * steps[1]
            out = (o * count + j) * inner
            if steps[2] == 0:
                row = (o * size + _inside(i[at], size)) * inner
                _copy(y[out : out + inner], x[row : row + inner])
            else:
                for c in range(inner):
                    row = (o * size + _inside(i[at + c * steps[2]], size)) * inner
                    y[out + c] = x[row + c]


@jit
def add_at(y, x, i, start, steps, shape, size):
    """y[o, i[o, j, c], c] += x[o, j, c], in this order."""
    outer, count, inner = shape
    for o in range(outer):
        for j in range(count):
            at = start + o * steps[0] + j * steps[1]
            for c in range(inner):
                row = (o * size + _inside(i[at + c * steps[2]], size)) * inner
                y[row + c] += x[(o * count + j) * inner + c]


def _by_index(x: np.ndarray, i: np.ndarray, axis: int) -> tuple[Any, ...]:
    """x contiguous, and the indices as memory, start, three steps and three sizes."""
    x = x if x.flags.c_contiguous else elementwise("copy", x)
    groups = (slice(axis), slice(axis, axis + 1), slice(axis + 1, None))
    sizes = tuple(math.prod(i.shape[group]) for group in groups)
    memory, start, strides = flat(i)
    merged = [layout(i.shape[group], (strides[group],)) for group in groups]
    if any(m.shape[1] > 1 for m in merged):  # a view whose axes do not merge
        return _by_index(x, elementwise("copy", i), axis)
    steps = tuple(0 if n == 1 else int(m[1, 0]) for n, m in zip(sizes, merged, strict=True))
    return x.reshape(-1), memory, start, steps, sizes


def gather(x: np.ndarray, i: np.ndarray, axis: int) -> np.ndarray:
    """y[.., j, ..] = x[.., i[.., j, ..], ..] along `axis`."""
    y = empty(i.shape, x.dtype)
    if y.size:
        memory, *indices = _by_index(x, i, axis)
        launch(take, y.reshape(-1), memory, *indices, x.shape[axis])
    return y


def scatter_add(x: np.ndarray, i: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Zeros of `size` along `axis`, each x added at the place its index says."""
    y = empty((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
    launch(fill, y.reshape(-1), x.dtype.type(0))
    if x.size:
        memory, *indices = _by_index(x, i, axis)
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
