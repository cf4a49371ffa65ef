"""From a thread per element to `cuda.conv2d`, one idea a rung: RUNGS hold
`rung(gpu, x, w, stride, padding) -> y`.

Every rung takes contiguous x (n, c, height, width) and w (o, c, kh, kw) of one dtype, float32 or
float64. `optimization_steps.cu` tells what each changes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..matmul.cuda import multiply
from ..runtime.cuda.launcher import Launcher, blocks
from .cuda import TILES, Pair, conv2d, output_size

SOURCE = Path(__file__).with_name("optimization_steps.cu")
THREADS, TILE = 256, 16  # of a block; the edge of the tile that implicit_tiles makes
Rung = Callable[[Launcher, Any, Any, Pair, Pair], Any]


class Sizes(ctypes.Structure):
    """`Sizes` of optimization_steps.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("images", "channels", "height", "width"),
            *("outputs", "kernel_height", "kernel_width", "rows", "columns"),
            *("down", "across", "padding_down", "padding_across"),
        )
    )


def _sizes(x: Any, w: Any, stride: Pair, padding: Pair) -> tuple[Sizes, tuple[int, ...]]:
    """For a kernel, and y's shape."""
    size = output_size(x.shape[2:], w.shape[2:], stride, padding)
    outputs, _, *kernel = w.shape
    sizes = Sizes(*x.shape, outputs, *kernel, *size, *stride, *padding)
    return sizes, (len(x), outputs, *size)


def direct(gpu: Launcher, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    """A thread per element of y."""
    sizes, shape = _sizes(x, w, stride, padding)
    y = gpu.empty(shape, x.dtype)
    grid = (blocks(y.size, THREADS),)
    gpu.launch(SOURCE, "direct", x.dtype, grid, (THREADS,), (x, w, y, sizes))
    return y


def im2col(gpu: Launcher, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    """The matrix of what lies under each tap; a product per image: w (o, k) @ (n, k, places)."""
    sizes, shape = _sizes(x, w, stride, padding)
    taps = math.prod(w.shape[1:])
    columns = gpu.empty((len(x), taps, shape[2] * shape[3]), x.dtype)
    grid = (blocks(columns.size, THREADS),)
    gpu.launch(SOURCE, "im2col", x.dtype, grid, (THREADS,), (x, columns, sizes))
    in_one_piece = ("product_64", 64, 256, max(16, taps))
    y = multiply(gpu, w.reshape(len(w), taps), columns, None, (len(x),), in_one_piece)
    return y.reshape(shape)


def implicit_tiles(gpu: Launcher, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    """The product without the matrix."""
    sizes, shape = _sizes(x, w, stride, padding)
    y = gpu.empty(shape, x.dtype)
    grid = (blocks(shape[0] * shape[2] * shape[3], TILE), blocks(len(w), TILE))
    gpu.launch(SOURCE, "implicit_tiles", x.dtype, grid, (TILE, TILE), (x, w, y, sizes))
    return y


def additive(gpu: Launcher, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    """`cuda.conv2d` with its middle tile and the taps in one piece, whatever the size."""
    taps = math.prod(w.shape[1:])
    return conv2d(gpu, x, w, stride, padding, chosen=(TILES[1], max(16, taps)))


RUNGS: dict[str, Rung] = {
    "direct": direct,
    "im2col": im2col,
    "implicit tiles": implicit_tiles,
    "additive, register tiles, double-buffered": additive,
}
