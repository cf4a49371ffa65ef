"""Launch sum pooling and its gradient on a GPU: one thread per element of the result."""

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


KERNELS = {"sum_pool": sum_pool, "sum_pool_grad": sum_pool_grad}
