"""Launch ops that move elements on a GPU; views need no launch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..elementwise.cuda import copy, copy_to
from ..matmul.split_k import TARGET_BLOCKS
from ..runtime.cuda.launcher import MAX_GRID_DIM, Launcher, ceil_div
from ..runtime.strides import elements, merge, span

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS_PER_BLOCK = 256
# The edges of the tiles of the transpositions in cuda.cu. The large one has more loads in flight.
# It is used where there are enough tiles to fill a GPU.
TILE_EDGE, LARGE_TILE_EDGE = 32, 64
# scatter_add divides the rows into bands, so that there are enough threads to fill a large GPU.
SCATTER_THREADS_PER_BLOCK, MIN_SCATTER_THREADS = 128, 264 * 128


# --------------------------------------------------------------------------------------- views
def reshape(gpu: Launcher, x: Any, shape: tuple[int, ...]) -> Any:
    """Return a view of that shape, of x if it is contiguous, else of a contiguous copy."""
    return contiguous(gpu, x).reshape(shape)


def _transpose(gpu: Launcher, x: Any, axes: tuple[int, ...]) -> Any:
    return x.transpose(axes)


def broadcast_to(gpu: Launcher, x: Any, shape: tuple[int, ...]) -> Any:
    return gpu.broadcast_to(x, shape)


def _view(gpu: Launcher, x: Any, index: tuple[Any, ...]) -> Any:
    """Return the view x[index]; also for one element, which numpy would copy into a scalar."""
    return x[index if ... in index else (*index, ...)]


# -------------------------------------------------------------------------------------- copies
def contiguous(gpu: Launcher, x: Any) -> Any:
    """Return x if it is contiguous, else a contiguous copy."""
    return x if x.flags.c_contiguous else contiguous_copy(gpu, x)


def contiguous_copy(gpu: Launcher, x: Any) -> Any:
    """Return a contiguous copy of x; transposed matrices are copied by tiles."""
    axes = merge(x.shape, (elements(x),))
    if len(axes) in (2, 3) and axes[-2][1] == 1 and min(axes[-1][0], axes[-2][0]) > 1:
        batch, batch_stride = axes[0] if len(axes) == 3 else (1, 0)
        (rows, _), (columns, stride) = axes[-2:]
        edge = TILE_EDGE
        if x.dtype.itemsize <= 4:
            large_tiles = ceil_div(columns, LARGE_TILE_EDGE) * ceil_div(rows, LARGE_TILE_EDGE)
            edge = LARGE_TILE_EDGE if large_tiles * batch >= TARGET_BLOCKS else edge
        tile_rows = ceil_div(rows, edge)
        if tile_rows <= MAX_GRID_DIM[1] and batch <= MAX_GRID_DIM[2]:
            y = gpu.empty(x.shape, x.dtype)
            grid, block = (ceil_div(columns, edge), tile_rows, batch), (edge, 256 // edge)
            arguments = (y, x, rows, columns, batch_stride, stride)
            gpu.launch(SOURCE, f"transpose_{edge}", x.dtype, grid, block, arguments)
            return y
    return copy(gpu, x)


def slice_scatter(gpu: Launcher, x: Any, shape: tuple[int, ...], index: Any, value: float) -> Any:
    """Return an array full of `value` but for x at `index`."""
    y = gpu.empty(shape, x.dtype)
    if x.size < y.size:
        copy_to(gpu, y, value)
    copy_to(gpu, _view(gpu, y, index), x)
    return y


def concatenate(gpu: Launcher, *xs: Any, axis: int) -> Any:
    """Join the arrays along `axis`."""
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    y = gpu.empty(tuple(shape), xs[0].dtype)
    start = 0
    for x in xs:
        stop = start + x.shape[axis]
        copy_to(gpu, y[(slice(None),) * axis + (slice(start, stop),)], x)
        start = stop
    return y


# ------------------------------------------------------------------------------------ by index
def _index_layout(
    gpu: Launcher, x: Any, i: Any, axis: int
) -> tuple[Any, Any, list[int], list[int]]:
    """Return contiguous x, the indices, and three sizes and strides of the indices.

    These are those of the axes before `axis`, of `axis`, and of the axes after it.
    """
    x = contiguous(gpu, x)
    strides = elements(i)
    groups = (slice(axis), slice(axis, axis + 1), slice(axis + 1, None))
    merged = [merge(i.shape[group], (strides[group],)) for group in groups]
    if any(len(m) > 1 for m in merged):  # the axes before or after `axis` do not merge into one
        return _index_layout(gpu, x, contiguous_copy(gpu, i), axis)
    sizes = [math.prod(i.shape[group]) for group in groups]
    index_strides = [0 if n == 1 else m[0][1] for n, m in zip(sizes, merged, strict=True)]
    return x, i, sizes, index_strides


def gather(gpu: Launcher, x: Any, i: Any, axis: int) -> Any:
    """Compute y[.., j, ..] = x[.., i[.., j, ..], ..] along `axis`."""
    y = gpu.empty(i.shape, x.dtype)
    x, i, sizes, index_strides = _index_layout(gpu, x, i, axis)
    arguments = (y, x, i, *sizes, x.shape[axis], *index_strides)
    gpu.launch(
        SOURCE,
        "gather",
        x.dtype,
        (ceil_div(y.size, THREADS_PER_BLOCK),),
        (THREADS_PER_BLOCK,),
        arguments,
    )
    return y


def scatter_add(gpu: Launcher, x: Any, i: Any, axis: int, size: int) -> Any:
    """Add each x to zeros of `size` along `axis`, at the position of its index, in order."""
    y = gpu.empty((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
    if not y.size:
        return y
    x, i, sizes, index_strides = _index_layout(gpu, x, i, axis)
    columns = sizes[0] * sizes[2]
    num_bands = min(size, max(1, ceil_div(MIN_SCATTER_THREADS, columns)), MAX_GRID_DIM[1])
    band_rows = ceil_div(size, num_bands)
    grid = (ceil_div(columns, SCATTER_THREADS_PER_BLOCK), ceil_div(size, band_rows))
    arguments = (y, x, i, *sizes, size, *index_strides, band_rows)
    gpu.launch(SOURCE, "scatter_add", x.dtype, grid, (SCATTER_THREADS_PER_BLOCK,), arguments)
    return y


def assign(gpu: Launcher, target: Any, value: Any) -> None:
    """Compute target[...] = value, also where the two overlap in memory."""
    value = gpu.broadcast_to(value, target.shape)
    (first, end), (value_first, value_end) = (span(x, gpu.address(x)) for x in (target, value))
    overlap = first < value_end and value_first < end
    copy_to(gpu, target, contiguous_copy(gpu, value) if overlap else value)


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
