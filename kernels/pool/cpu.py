"""Sums over the windows of images, and the adjoint, plane by plane (a plane is one channel).

    sum_pool                                           sum_pool_grad
    for each plane:                                    threads share out the planes
        for each output row i, kernel row h:
            for v in the kernel columns:
                for j in the output columns:           vectorized by LLVM where the stride is 1
                    y[i, j] += x[i s + h, j s + v]     x[i s + h, j s + v] += g[i, j]

Optimizations:
    - Loop order: the innermost loop is along a row, in memory order.
    - Multithreading over planes from MIN_PARALLEL_PIXELS on.
"""

from __future__ import annotations

import math

import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts
from ..shape.cpu import contiguous

Pair = tuple[int, int]
MIN_PARALLEL_PIXELS = 262144  # with fewer, a second thread costs more than it saves


@jit
def gather(y, x, pooled, image, kernel, stride, begin, end):
    """Compute y[i, j] = sum of x[i s + h, j s + v] over the window, for the planes begin..end.

    y is (planes, *pooled) and x is (planes, *image), both flat; kernel and stride are
    (height, width).
    """
    for plane in range(begin, end):
        for i in range(pooled[0]):
            y_start = (plane * pooled[0] + i) * pooled[1]
            out = y[y_start : y_start + pooled[1]]
            out[:] = 0
            for h in range(kernel[0]):
                x_start = (plane * image[0] + i * stride[0] + h) * image[1]
                row = x[x_start : x_start + image[1]]
                for v in range(kernel[1]):
                    for j in range(pooled[1]):
                        out[j] += row[j * stride[1] + v]


@jit
def scatter(x, g, pooled, image, kernel, stride, begin, end):
    """Set x = 0, then compute x[i s + h, j s + v] += g[i, j] for all windows: see `gather`."""
    for plane in range(begin, end):
        x[plane * image[0] * image[1] : (plane + 1) * image[0] * image[1]] = 0
        for i in range(pooled[0]):
            g_start = (plane * pooled[0] + i) * pooled[1]
            row = g[g_start : g_start + pooled[1]]
            for h in range(kernel[0]):
                x_start = (plane * image[0] + i * stride[0] + h) * image[1]
                out = x[x_start : x_start + image[1]]
                for v in range(kernel[1]):
                    for j in range(pooled[1]):
                        out[j * stride[1] + v] += row[j]


def _run(
    kernel: object, y: np.ndarray, x: np.ndarray, sizes: tuple[Pair, Pair], *window: Pair
) -> np.ndarray:
    """Launch kernel(y, x, *sizes, *window) over the planes; return y."""
    planes = math.prod(x.shape[:2])
    arguments = y.reshape(-1), contiguous(x).reshape(-1), *sizes, *window
    part_count = parts(planes * math.prod(sizes[1]), MIN_PARALLEL_PIXELS)
    launch(kernel, *arguments, over=planes, parts=min(max(planes, 1), part_count))
    return y


def sum_pool(x: np.ndarray, kernel: Pair, stride: Pair) -> np.ndarray:
    """Return the sum of each window of x (n, c, h, w), at steps of `stride` pixels."""
    pooled = tuple((n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True))
    y = empty((*x.shape[:2], *pooled), x.dtype)
    return _run(gather, y, x, (pooled, x.shape[2:]), kernel, stride)


def sum_pool_grad(g: np.ndarray, kernel: Pair, stride: Pair, size: Pair) -> np.ndarray:
    """Return (n, c, *size): for each pixel, the sum of g over the windows that contain it."""
    x = empty((*g.shape[:2], *size), g.dtype)
    return _run(scatter, x, g, (g.shape[2:], size), kernel, stride)


FLOATS_ONLY = True  # integers and bools are computed by the numpy reference
KERNELS = {"sum_pool": sum_pool, "sum_pool_grad": sum_pool_grad}
