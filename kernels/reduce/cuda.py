"""Launch sums and maxima over axes on a GPU, one run of adjacent axes at a time."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..elementwise.cuda import cast
from ..matmul.split_k import TARGET_BLOCKS
from ..runtime.cuda.launcher import MAX_GRID_DIM, Launcher, ceil_div
from ..runtime.strides import runs
from ..shape.cuda import contiguous_copy

SOURCE = Path(__file__).with_name("cuda.cu")
# As in cuda.cu: the elements of a row that a block reduces at a time, or the rows.
THREADS_PER_BLOCK, BLOCK_ELEMENTS, BLOCK_ROWS = 256, 4096, 256
MAX_WARP_ELEMENTS = 256  # of a row that one warp reduces
# A long row is divided into at most as many parts, about as many blocks as a large GPU runs at
# once. The second launch reduces their results by one block.
MAX_PARTS = 1024
MAX_BLOCKS_OUTER = MAX_GRID_DIM[2]  # blocks along `outer`; each goes on in a grid-stride loop
BOOL, INT64 = np.dtype("bool"), np.dtype("int64")


def reduce(gpu: Launcher, x: Any, axis: tuple[int, ...], keepdims: bool, kind: str) -> Any:
    """Compute the sum or the maximum (`kind`) over the axes, which are sorted and nonnegative."""
    if x.dtype == BOOL:  # as in numpy, a sum of bools is an int64, a maximum is a bool
        y = reduce(gpu, cast(gpu, x, INT64), axis, keepdims, kind)
        return y if kind == "sum" else cast(gpu, y, BOOL)
    kept = tuple(1 if i in axis else n for i, n in enumerate(x.shape))
    shape = kept if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axis)
    if not axis or not x.flags.c_contiguous:
        x = contiguous_copy(gpu, x)
    for outer, size, width in runs(x.shape, axis):
        if width == 1:
            x = _reduce_rows(gpu, x, outer, size, kind)
        else:
            x = _reduce_columns(gpu, x, outer, size, width, kind)
    return x.reshape(shape)


def _reduce_rows(gpu: Launcher, x: Any, outer: int, size: int, kind: str) -> Any:
    """Reduce (outer, size) to (outer,), in passes that leave one number per block."""
    while True:
        blocks = max(1, ceil_div(size, BLOCK_ELEMENTS))
        part = ceil_div(blocks, MAX_PARTS) * BLOCK_ELEMENTS
        parts = max(1, ceil_div(size, part))
        y = gpu.empty((outer, parts), x.dtype)
        aligned = gpu.address(x) % 16 == 0
        if size <= MAX_WARP_ELEMENTS:
            grid: tuple[int, ...] = (ceil_div(outer, THREADS_PER_BLOCK // 32),)
            kernel, arguments = f"{kind}_short_rows", [x, y, outer, size, aligned]
        else:
            grid = (parts, min(outer, MAX_GRID_DIM[1]), ceil_div(outer, MAX_GRID_DIM[1]))
            kernel, arguments = f"{kind}_rows", [x, y, outer, size, part, aligned]
        gpu.launch(SOURCE, kernel, x.dtype, grid, (THREADS_PER_BLOCK,), arguments)
        x, size = y, parts
        if size == 1:
            return x


def _reduce_columns(gpu: Launcher, x: Any, outer: int, size: int, width: int, kind: str) -> Any:
    """Reduce (outer, size, width) to (outer, width), in passes that leave one row per block."""
    while True:
        row_blocks = max(1, ceil_div(size, BLOCK_ROWS))
        if row_blocks > MAX_GRID_DIM[1]:
            raise ValueError(
                f"{kind}: an axis of {size} elements; at most {MAX_GRID_DIM[1] * BLOCK_ROWS} are"
                " accepted"
            )
        y = gpu.empty((outer, row_blocks, width), x.dtype)
        others = row_blocks * min(outer, MAX_BLOCKS_OUTER)
        pack = 16 // x.dtype.itemsize
        # Packs of columns need fewer blocks: they are used where these still fill a GPU.
        packs = width % pack == 0 and gpu.address(x) % 16 == gpu.address(y) % 16 == 0
        packs = packs and ceil_div(width, 32 * pack) * others >= TARGET_BLOCKS
        columns = 32 * pack if packs else 32
        grid = (ceil_div(width, columns), row_blocks, min(outer, MAX_BLOCKS_OUTER))
        kernel = f"{kind}_pack_columns" if packs else f"{kind}_columns"
        arguments = (x, y, outer, size, width)
        gpu.launch(SOURCE, kernel, x.dtype, grid, (THREADS_PER_BLOCK,), arguments)
        x, size = y, row_blocks
        if size == 1:
            return x


KERNELS = {"sum": partial(reduce, kind="sum"), "max": partial(reduce, kind="max")}
