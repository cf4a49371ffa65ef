"""Sums of windows, and their adjoint, plane by plane."""

from __future__ import annotations

import math

import numpy as np

from ..elementwise.cpu import elementwise
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts

Pair = tuple[int, int]
GRAIN = 262144  # pixels that are worth a second thread


@jit
def gather(y, x, small, large, kernel, stride, begin, end):
    """y[i, j] = sum of x[i s + h, j s + v] over the window, for planes begin..end."""
    for plane in range(begin, end):
        for i in range(small[0]):
            at = (plane * small[0] + i) * small[1]
            out = y[at : at + small[1]]
            out[:] = 0
            for h in range(kernel[0]):
                start = (plane * large[0] + i * stride[0] + h) * large[1]
                row = x[start : start + large[1]]
                for v in range(kernel[1]):
                    for j in range(small[1]):
                        out[j] += row[j * stride[1] + v]


@jit
def scatter(x, g, small, large, kernel, stride, begin, end):
    """x[i s + h, j s + v] += g[i, j] for each window that covers it, for planes begin..end."""
    for plane in range(begin, end):
        x[plane * large[0] * large[1] : (plane + 1) * large[0] * large[1]] = 0
        for i in range(small[0]):
            at = (plane * small[0] + i) * small[1]
            row = g[at : at + small[1]]
            for h in range(kernel[0]):
                start = (plane * large[0] + i * stride[0] + h) * large[1]
                out = x[start : start + large[1]]
                for v in range(kernel[1]):
                    for j in range(small[1]):
                        out[j * stride[1] + v] += row[j]


def _run(
    kernel: object, y: np.ndarray, x: np.ndarray, sizes: tuple[Pair, Pair], *window: Pair
) -> np.ndarray:
    x = x if x.flags.c_contiguous and x.flags.writeable else elementwise("copy", x)
    planes, work = math.prod(x.shape[:2]), math.prod(x.shape[:2]) * math.prod(sizes[1])
    given = y.reshape(-1), x.reshape(-1), *sizes, *window
    launch(kernel, *given, over=planes, parts=min(max(planes, 1), parts(work, GRAIN)))
    return y


def sum_pool(x: np.ndarray, kernel: Pair, stride: Pair) -> np.ndarray:
    """(n, c, h, w) -> the sum of each window, `stride` apart."""
    small = tuple((n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True))
    y = empty((*x.shape[:2], *small), x.dtype)
    return _run(gather, y, x, (small, x.shape[2:]), kernel, stride)


def sum_pool_grad(g: np.ndarray, kernel: Pair, stride: Pair, size: Pair) -> np.ndarray:
    """The adjoint: each pixel of (n, c, *size) gets the sum of the windows' g that cover it."""
    x = empty((*g.shape[:2], *size), g.dtype)
    return _run(scatter, x, g, (g.shape[2:], size), kernel, stride)


FLOATS_ONLY = True
KERNELS = {"sum_pool": sum_pool, "sum_pool_grad": sum_pool_grad}
