"""Launch pooling and its gradients on a GPU: one thread per element of the result."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from ..runtime.cuda.launcher import Launcher, ceil_div
from ..runtime.strides import elements

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS_PER_BLOCK = 256  # as in cuda.cu
Pair = tuple[int, int]


class Windows(ctypes.Structure):
    """`Windows` of cuda.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("size", "channels", "height", "width", "rows", "columns"),
            *("kernel_height", "kernel_width", "stride_down", "stride_across"),
            *("image_stride", "channel_stride", "row_stride", "column_stride"),
        )
    )


def _launch(gpu: Launcher, name: str, x: Any, size: Pair, kernel: Pair, stride: Pair) -> Any:
    y = gpu.empty((*x.shape[:2], *size), x.dtype)
    windows = Windows(y.size, x.shape[1], *size, *x.shape[2:], *kernel, *stride, *elements(x))
    gpu.launch(
        SOURCE,
        name,
        x.dtype,
        (ceil_div(y.size, THREADS_PER_BLOCK),),
        (THREADS_PER_BLOCK,),
        (y, x, windows),
    )
    return y


def sum_pool(gpu: Launcher, x: Any, kernel: Pair, stride: Pair) -> Any:
    """Compute y[n, c, a, b], the sum of the window that begins at x[n, c, a*stride, b*stride]."""
    sides = zip(x.shape[2:], kernel, stride, strict=True)
    height, width = ((n - k) // step + 1 for n, k, step in sides)
    return _launch(gpu, "sum_pool", x, (height, width), kernel, stride)


def sum_pool_grad(gpu: Launcher, g: Any, kernel: Pair, stride: Pair, size: Pair) -> Any:
    """Compute x[n, c, i, j], the sum of g over the windows that cover it: (n, c, *size)."""
    return _launch(gpu, "sum_pool_grad", g, size, kernel, stride)


class MaxWindows(ctypes.Structure):
    """`MaxWindows` of cuda.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("size", "channels", "height", "width", "rows", "columns"),
            *("kernel_height", "kernel_width", "stride_down", "stride_across"),
            *("padding_above", "padding_left"),
            *("x_image", "x_channel", "x_row", "x_column"),
            *("by_image", "by_channel", "by_row", "by_column"),
        )
    )


def _launch_maxima(
    gpu: Launcher,
    name: str,
    x: Any,
    by: Any,
    size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    pooled: Pair,
) -> Any:
    y = gpu.empty((*by.shape[:2], *size), x.dtype)
    sides = (*by.shape[1:], *pooled, *kernel, *stride, *padding)
    windows = MaxWindows(y.size, *sides, *elements(x), *elements(by))
    grid, block = (ceil_div(y.size, THREADS_PER_BLOCK),), (THREADS_PER_BLOCK,)
    gpu.launch(SOURCE, name, x.dtype, grid, block, (y, x, by, windows))
    return y


def max_pool(gpu: Launcher, x: Any, by: Any, **window: Pair) -> Any:
    """Compute (n, c, *pooled): the x at which `by` is largest in each window."""
    return _launch_maxima(gpu, "max_pool", x, by, window["pooled"], **window)


def max_pool_grad(gpu: Launcher, g: Any, by: Any, **window: Pair) -> Any:
    """Compute the sum of g over the windows in which `by` is largest at a pixel, for each pixel."""
    return _launch_maxima(gpu, "max_pool_grad", g, by, by.shape[2:], **window)


KERNELS = {
    "sum_pool": sum_pool,
    "sum_pool_grad": sum_pool_grad,
    "max_pool": max_pool,
    "max_pool_grad": max_pool_grad,
}
