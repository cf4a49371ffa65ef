"""Sum and maximum over axes on a GPU: passes over one run of axes at a time."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..elementwise.cuda import cast
from ..runtime.cuda.launcher import MAX_GRID, Launcher, blocks
from ..runtime.strides import runs
from ..shape.cuda import contiguous

SOURCE = Path(__file__).with_name("cuda.cu")
# As in cuda.cu.
THREADS, CHUNK, BAND = 256, 4096, 256
SHORT = 256  # elements of a row that a single warp reduces
MOST_OUTER = MAX_GRID[2]  # blocks along `outer` in a launch; a block walks on from there
BOOL, INT64 = np.dtype("bool"), np.dtype("int64")


def reduce(gpu: Launcher, x: Any, axis: tuple[int, ...], keepdims: bool, kind: str) -> Any:
    """The sum, or the largest element, over the axes (sorted, counted from the front)."""
    if x.dtype == BOOL:  # numpy counts True's, and keeps the dtype of a maximum
        y = reduce(gpu, cast(gpu, x, INT64), axis, keepdims, kind)
        return y if kind == "sum" else cast(gpu, y, BOOL)
    kept = tuple(1 if i in axis else n for i, n in enumerate(x.shape))
    shape = kept if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axis)
    if not axis or not x.flags.c_contiguous:
        x = contiguous(gpu, x)
    for outer, size, width in runs(x.shape, axis):
        if width == 1:
            x = _reduce_rows(gpu, x, outer, size, kind)
        else:
            x = _reduce_columns(gpu, x, outer, size, width, kind)
    return x.reshape(shape)


def _reduce_rows(gpu: Launcher, x: Any, outer: int, size: int, kind: str) -> Any:
    """(outer, size) -> (outer,), in passes that each leave one number per chunk."""
    while True:
        chunks = max(1, blocks(size, CHUNK))
        y = gpu.empty((outer, chunks), x.dtype)
        if size <= SHORT:
            grid: tuple[int, ...] = (blocks(outer, THREADS // 32),)
            kernel = f"{kind}_short_rows"
        else:
            grid = (chunks, min(outer, MAX_GRID[1]), blocks(outer, MAX_GRID[1]))
            kernel = f"{kind}_rows"
        gpu.launch(SOURCE, kernel, x.dtype, grid, (THREADS,), (x, y, outer, size))
        x, size = y, chunks
        if size == 1:
            return x


def _reduce_columns(gpu: Launcher, x: Any, outer: int, size: int, width: int, kind: str) -> Any:
    """(outer, size, width) -> (outer, width), in passes that each leave one row per band."""
    while True:
        bands = max(1, blocks(size, BAND))
        if bands > MAX_GRID[1]:
            raise ValueError(f"{kind}: an axis of {size} elements; at most {MAX_GRID[1] * BAND}")
        y = gpu.empty((outer, bands, width), x.dtype)
        grid = (blocks(width, 32), bands, min(outer, MOST_OUTER))
        gpu.launch(SOURCE, f"{kind}_columns", x.dtype, grid, (THREADS,), (x, y, outer, size, width))
        x, size = y, bands
        if size == 1:
            return x


KERNELS = {"sum": partial(reduce, kind="sum"), "max": partial(reduce, kind="max")}
