"""Ops that move elements on a GPU: views are free, copies are launches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..elementwise.cuda import copy as plain_copy
from ..runtime.cuda.launcher import MAX_GRID, Launcher, blocks, walk
from ..runtime.strides import elements, merge, scalar, span

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS = 256  # of a block
TILE = 32  # as in `transposed`
# Threads that scatter_add wants at least, so that a large GPU is busy: it makes bands of rows.
SCATTER_THREADS, BUSY = 128, 264 * 128


# --------------------------------------------------------------------------------------- views
def reshape(gpu: Launcher, x: Any, shape: tuple[int, ...]) -> Any:
    """A view of contiguous memory, else of a contiguous copy."""
    return (x if x.flags.c_contiguous else contiguous(gpu, x)).reshape(shape)


def _transpose(gpu: Launcher, x: Any, axes: tuple[int, ...]) -> Any:
    return x.transpose(axes)


def broadcast_to(gpu: Launcher, x: Any, shape: tuple[int, ...]) -> Any:
    return gpu.broadcast_to(x, shape)


def _view(gpu: Launcher, x: Any, index: tuple[Any, ...]) -> Any:
    """x[index], a view of one element too, which numpy would copy into a number."""
    return x[index if ... in index else (*index, ...)]


# -------------------------------------------------------------------------------------- copies
def contiguous(gpu: Launcher, x: Any) -> Any:
    """x in new, contiguous memory; where only the order of two axes differs, by tiles."""
    axes = merge(x.shape, (elements(x),))
    if len(axes) in (2, 3) and axes[-2][1] == 1 and min(axes[-1][0], axes[-2][0]) > 1:
        batch, batch_stride = axes[0] if len(axes) == 3 else (1, 0)
        (rows, _), (columns, stride) = axes[-2:]
        tall = blocks(rows, TILE)
        if tall <= MAX_GRID[1] and batch <= MAX_GRID[2]:
            y = gpu.empty(x.shape, x.dtype)
            grid = (blocks(columns, TILE), tall, batch)
            arguments = (y, x, rows, columns, batch_stride, stride)
            gpu.launch(SOURCE, "transposed", x.dtype, grid, (TILE, 8), arguments)
            return y
    return plain_copy(gpu, x)


def _move(gpu: Launcher, y: Any, x: Any) -> None:
    """y[...] = x for a view y."""
    path = walk(x.shape, (elements(y), elements(x)))
    gpu.launch(SOURCE, "move", x.dtype, (blocks(path.size, THREADS),), (THREADS,), (y, x, path))


def _fill(gpu: Launcher, y: Any, value: float) -> None:
    number = scalar(value, y.dtype)
    gpu.launch(SOURCE, "fill", y.dtype, (blocks(y.size, THREADS),), (THREADS,), (y, y.size, number))


def slice_scatter(gpu: Launcher, x: Any, shape: tuple[int, ...], index: Any, value: float) -> Any:
    """x at `index` of an array full of `value`."""
    y = gpu.empty(shape, x.dtype)
    if x.size < y.size:
        _fill(gpu, y, value)
    _move(gpu, _view(gpu, y, index), x)
    return y


def concatenate(gpu: Launcher, *xs: Any, axis: int) -> Any:
    """The arrays one after the other along `axis`."""
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    y = gpu.empty(tuple(shape), xs[0].dtype)
    at = 0
    for x in xs:
        _move(gpu, y[(slice(None),) * axis + (slice(at, at + x.shape[axis]),)], x)
        at += x.shape[axis]
    return y


# ------------------------------------------------------------------------------------ by index
def _by_index(gpu: Launcher, x: Any, i: Any, axis: int) -> tuple[Any, Any, list[int], list[int]]:
    """x contiguous, the indices, and their three sizes and steps: before, along, after the axis."""
    x = x if x.flags.c_contiguous else contiguous(gpu, x)
    strides = elements(i)
    groups = (slice(axis), slice(axis, axis + 1), slice(axis + 1, None))
    merged = [merge(i.shape[group], (strides[group],)) for group in groups]
    if any(len(m) > 1 for m in merged):  # a view whose axes do not merge
        return _by_index(gpu, x, contiguous(gpu, i), axis)
    sizes = [math.prod(i.shape[group]) for group in groups]
    steps = [0 if n == 1 else m[0][1] for n, m in zip(sizes, merged, strict=True)]
    return x, i, sizes, steps


def gather(gpu: Launcher, x: Any, i: Any, axis: int) -> Any:
    """y[.., j, ..] = x[.., i[.., j, ..], ..] along `axis`."""
    y = gpu.empty(i.shape, x.dtype)
    x, i, sizes, steps = _by_index(gpu, x, i, axis)
    arguments = (y, x, i, *sizes, x.shape[axis], *steps)
    gpu.launch(SOURCE, "gather", x.dtype, (blocks(y.size, THREADS),), (THREADS,), arguments)
    return y


def scatter_add(gpu: Launcher, x: Any, i: Any, axis: int, size: int) -> Any:
    """Zeros of `size` along `axis`, each x added at the place its index says, in order."""
    y = gpu.empty((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
    if not y.size:
        return y
    x, i, sizes, steps = _by_index(gpu, x, i, axis)
    columns = sizes[0] * sizes[2]
    bands = min(size, max(1, blocks(BUSY, columns)), MAX_GRID[1])
    band = blocks(size, bands)
    grid = (blocks(columns, SCATTER_THREADS), blocks(size, band))
    arguments = (y, x, i, *sizes, size, *steps, band)
    gpu.launch(SOURCE, "scatter_add", x.dtype, grid, (SCATTER_THREADS,), arguments)
    return y


def assign(gpu: Launcher, target: Any, value: Any) -> None:
    """target[...] = value, also where the two share memory."""
    value = gpu.broadcast_to(value, target.shape)
    (first, end), (begin, stop) = (span(x, gpu.address(x)) for x in (target, value))
    _move(gpu, target, contiguous(gpu, value) if first < stop and begin < end else value)


KERNELS = {
    "reshape": reshape,
    "transpose": _transpose,
    "broadcast_to": broadcast_to,
    "slice": _view,
    "slice_scatter": slice_scatter,
    "concatenate": concatenate,
    "gather": gather,
    "scatter_add": scatter_add,
    "assign": assign,
}
