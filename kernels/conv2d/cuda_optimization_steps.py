"""The optimization steps of a convolution on a GPU.

STEPS = {name: step(gpu, x, w, stride, padding) -> y}. Every step takes contiguous x (n, c, height,
width) and w (o, c, kh, kw) of one dtype, float32 or float64. optimization_steps.cu explains what
each step changes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..matmul.cuda import multiply
from ..runtime.cuda.launcher import Launcher, ceil_div
from .cuda import TILES, conv2d
from .geometry import Pair, output_size

SOURCE = Path(__file__).with_name("optimization_steps.cu")
THREADS_PER_BLOCK, TILE_EDGE = 256, 16  # TILE_EDGE: of a block's tile in implicit_gemm
Step = Callable[[Launcher, Any, Any, Pair, Pair], Any]


class Sizes(ctypes.Structure):
    """`Sizes` of optimization_steps.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("images", "channels", "height", "width"),
            *("outputs", "kernel_height", "kernel_width", "rows", "columns"),
            *("stride_down", "stride_across", "padding_down", "padding_across"),
        )
    )


def _sizes(x: Any, w: Any, stride: Pair, padding: Pair) -> tuple[Sizes, tuple[int, ...]]:
    """Return the kernels' Sizes, and the shape of y."""
    size = output_size(x.shape[2:], w.shape[2:], stride, padding)
    outputs, _, *kernel = w.shape
    sizes = Sizes(*x.shape, outputs, *kernel, *size, *stride, *padding)
    return sizes, (len(x), outputs, *size)


def direct(gpu: Launcher, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    """Compute y with one thread per element."""
    sizes, shape = _sizes(x, w, stride, padding)
    y = gpu.empty(shape, x.dtype)
    grid = (ceil_div(y.size, THREADS_PER_BLOCK),)
    gpu.launch(SOURCE, "direct", x.dtype, grid, (THREADS_PER_BLOCK,), (x, w, y, sizes))
    return y


def im2col(gpu: Launcher, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    """Compute y by im2col and one product per image, w (o, k) @ columns (n, k, positions)."""
    sizes, shape = _sizes(x, w, stride, padding)
    depth = math.prod(w.shape[1:])
    columns = gpu.empty((len(x), depth, shape[2] * shape[3]), x.dtype)
    grid = (ceil_div(columns.size, THREADS_PER_BLOCK),)
    gpu.launch(SOURCE, "im2col", x.dtype, grid, (THREADS_PER_BLOCK,), (x, columns, sizes))
    one_split = ("product_64", 64, 128, max(16, depth))
    y = multiply(gpu, w.reshape(len(w), depth), columns, None, (len(x),), one_split)
    return y.reshape(shape)


def implicit_gemm(gpu: Launcher, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    """Compute y as the same product, without storing the matrix."""
    sizes, shape = _sizes(x, w, stride, padding)
    y = gpu.empty(shape, x.dtype)
    grid = (ceil_div(shape[0] * shape[2] * shape[3], TILE_EDGE), ceil_div(len(w), TILE_EDGE))
    gpu.launch(SOURCE, "implicit_gemm", x.dtype, grid, (TILE_EDGE, TILE_EDGE), (x, w, y, sizes))
    return y


def additive_addressing(gpu: Launcher, x: Any, w: Any, stride: Pair, padding: Pair) -> Any:
    """Compute y by cuda.cu with its 64 x 64 tile and the depth in one split, for any size."""
    depth = math.prod(w.shape[1:])
    return conv2d(gpu, x, w, stride, padding, overriding_plan=(TILES[1], max(16, depth)))


STEPS: dict[str, Step] = {
    "direct": direct,
    "im2col": im2col,
    "implicit GEMM, shared-memory tiling": implicit_gemm,
    "additive addressing, register blocking, double buffering": additive_addressing,
}
