"""Sums and maxima over the windows of images, and the adjoints, plane by plane (one channel each).

    sum_pool                                           sum_pool_grad
    for each plane:                                    threads share out the planes
        for each output row i, kernel row h:
            for v in the kernel columns:
                for j in the output columns:           vectorized by LLVM where the stride is 1
                    y[i, j] += x[i s + h, j s + v]     x[i s + h, j s + v] += g[i, j]

`max_pool` and `max_pool_grad` find the maxima of a row of windows by the same loops, then read, or
add to, the pixels that hold them.

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


# -------------------------------------------------------------------------------------- maxima
@jit(inline="always")
def _take_larger(best, which, line, step, v, distance):
    """Set best[j], which[j] = line[j step + v], distance where that is larger or NaN; for all j."""
    for j in range(best.size):
        value = line[j * step + v]
        is_better = (value > best[j]) | (value != value)
        best[j] = value if is_better else best[j]
        which[j] = distance if is_better else which[j]


@jit
def find_maxima(best, which, line, by, plane, i, image, kernel, stride, padding):
    """Find the maxima of row i of the windows of a plane of `by`: first of equals, last NaN.

    which[j] is the distance of the maximum of window j from its pixel (0, 0), in flat memory.
    `best` is memory for a row of values, and `line` for a row of the image, full of -inf.
    """
    top = i * stride[0] - padding[0]
    for j in range(best.size):
        best[j] = -np.inf
        # The first pixel of the window that is in the image; it stays if all are -inf.
        which[j] = max(0, -top) * image[1] + max(0, padding[1] - j * stride[1])
    for h in range(max(0, -top), min(kernel[0], image[0] - top)):
        row_start = (plane * image[0] + top + h) * image[1]
        for c in range(min(image[1], line.size - padding[1])):
            line[padding[1] + c] = by[row_start + c]
        for v in range(kernel[1]):
            distance = np.int32(h * image[1] + v)
            # LLVM vectorizes a loop whose step is a constant.
            if stride[1] == 1:
                _take_larger(best, which, line, 1, v, distance)
            elif stride[1] == 2:
                _take_larger(best, which, line, 2, v, distance)
            else:
                _take_larger(best, which, line, stride[1], v, distance)


@jit
def _row_memory(pooled, kernel, stride, dtype):
    """Return `best`, `which` and `line` of `find_maxima`."""
    line = np.full((pooled[1] - 1) * stride[1] + kernel[1], -np.inf, dtype)
    return np.empty(pooled[1], dtype), np.empty(pooled[1], np.int32), line


@jit
def take_maxima(y, x, by, pooled, image, kernel, stride, padding, begin, end):
    """Compute y[i, j], the x at which `by` is largest in the window, for the planes begin..end."""
    best, which, line = _row_memory(pooled, kernel, stride, by.dtype)
    for plane in range(begin, end):
        for i in range(pooled[0]):
            find_maxima(best, which, line, by, plane, i, image, kernel, stride, padding)
            y_start = (plane * pooled[0] + i) * pooled[1]
            x_start = (plane * image[0] + i * stride[0] - padding[0]) * image[1] - padding[1]
            for j in range(pooled[1]):
                y[y_start + j] = x[x_start + j * stride[1] + which[j]]


@jit
def add_at_maxima(x, g, by, pooled, image, kernel, stride, padding, begin, end):
    """Set x = 0, then add each g[i, j] to the x at which `by` is largest: see `take_maxima`."""
    best, which, line = _row_memory(pooled, kernel, stride, by.dtype)
    for plane in range(begin, end):
        x[plane * image[0] * image[1] : (plane + 1) * image[0] * image[1]] = 0
        for i in range(pooled[0]):
            find_maxima(best, which, line, by, plane, i, image, kernel, stride, padding)
            g_start = (plane * pooled[0] + i) * pooled[1]
            x_start = (plane * image[0] + i * stride[0] - padding[0]) * image[1] - padding[1]
            for j in range(pooled[1]):
                x[x_start + j * stride[1] + which[j]] += g[g_start + j]


# ------------------------------------------------------------------------------------ launches
def _run(
    kernel: object,
    y: np.ndarray,
    inputs: tuple[np.ndarray, ...],
    sizes: tuple[Pair, Pair],
    *window: Pair,
) -> np.ndarray:
    """Launch kernel(y, *inputs, *sizes, *window) over the planes; return y."""
    planes = math.prod(y.shape[:2])
    flat = [contiguous(x).reshape(-1) for x in inputs]
    arguments = y.reshape(-1), *flat, *sizes, *window
    part_count = parts(planes * math.prod(sizes[1]), MIN_PARALLEL_PIXELS)
    launch(kernel, *arguments, over=planes, parts=min(max(planes, 1), part_count))
    return y


def sum_pool(x: np.ndarray, kernel: Pair, stride: Pair) -> np.ndarray:
    """Return the sum of each window of x (n, c, h, w), at steps of `stride` pixels."""
    pooled = tuple((n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True))
    y = empty((*x.shape[:2], *pooled), x.dtype)
    return _run(gather, y, (x,), (pooled, x.shape[2:]), kernel, stride)


def sum_pool_grad(g: np.ndarray, kernel: Pair, stride: Pair, size: Pair) -> np.ndarray:
    """Return (n, c, *size): for each pixel, the sum of g over the windows that contain it."""
    x = empty((*g.shape[:2], *size), g.dtype)
    return _run(scatter, x, (g,), (g.shape[2:], size), kernel, stride)


def max_pool(
    x: np.ndarray, by: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, pooled: Pair
) -> np.ndarray:
    """Return (n, c, *pooled): the x at which `by`, of x's shape, is largest in each window."""
    y = empty((*x.shape[:2], *pooled), x.dtype)
    return _run(take_maxima, y, (x, by), (pooled, x.shape[2:]), kernel, stride, padding)


def max_pool_grad(
    g: np.ndarray, by: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, pooled: Pair
) -> np.ndarray:
    """Return zeros of by's shape, and each g added at the maximum of `by` in its window."""
    x = empty(by.shape, g.dtype)
    return _run(add_at_maxima, x, (g, by), (pooled, by.shape[2:]), kernel, stride, padding)


FLOATS_ONLY = True  # integers and bools are computed by the numpy reference
KERNELS = {
    "sum_pool": sum_pool,
    "sum_pool_grad": sum_pool_grad,
    "max_pool": max_pool,
    "max_pool_grad": max_pool_grad,
}
