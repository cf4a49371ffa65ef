"""The optimization steps from three loops to `cpu.matmul`: `STEPS[name](a, b) -> c`.

Each step takes contiguous (m, k) and (k, n) of one dtype, float32 or float64:

    naive                a row of A times a column of B
    loop order           i, p, j: B and C are read along their rows
    cache blocking       a block of B stays in cache while all rows of A pass
    register blocking    a tile of C stays in registers (with vectorized access)
    packing              `cpu.matmul` by one thread: K-blocks, packed A and B, prefetch
    multithreading       `cpu.matmul`

The README has the measured speed of each step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty
from ..runtime.cpu.simd import VECTOR_BYTES, address
from ..runtime.cpu.thread_pool import thread_limit
from . import cpu
from .micro import ROWS, VECTORS, tile

KC, NC = 64, 512  # rows and columns of the block of B that stays in cache


@jit
def _naive(a, b, c):
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            total = c.dtype.type(0)
            for p in range(a.shape[1]):
                total += a[i, p] * b[p, j]
            c[i, j] = total


@jit
def _loop_order(a, b, c):
    c[:] = 0
    for i in range(c.shape[0]):
        for p in range(a.shape[1]):
            for j in range(c.shape[1]):
                c[i, j] += a[i, p] * b[p, j]


@jit
def _cache_blocking(a, b, c):
    c[:] = 0
    (m, k), n = a.shape, b.shape[1]
    for p0 in range(0, k, KC):
        for j0 in range(0, n, NC):
            j1 = min(n, j0 + NC)
            for i in range(m):
                c_row = c[i, j0:j1]
                for p in range(p0, min(k, p0 + KC)):
                    x, b_row = a[i, p], b[p, j0:j1]
                    for j in range(j1 - j0):
                        c_row[j] += x * b_row[j]


@jit
def _register_blocking(a, b, c):
    (m, k), n = a.shape, b.shape[1]
    size = c.itemsize
    width = VECTORS * VECTOR_BYTES // size
    rows, columns = m // ROWS * ROWS, n // width * width
    if k == 0:
        rows = columns = 0
    for j in range(0, columns, width):
        for i in range(0, rows, ROWS):
            a_start, b_start = address(a) + i * k * size, address(b) + j * size
            c_start, c_row = address(c) + (i * n + j) * size, n * size
            tile(
                c, ROWS, VECTORS, 0, a_start, k * size, size, ROWS,
                b_start, n * size, k, c_start, c_row, 0, 0, 0,
            )  # fmt: skip
    # The rows and columns that whole tiles do not cover.
    for i in range(m):
        row = c[i, columns if i < rows else 0 :]
        row[:] = 0
        for p in range(k):
            x, b_row = a[i, p], b[p, n - len(row) :]
            for j in range(len(row)):
                row[j] += x * b_row[j]


def _step(kernel: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        c = empty((a.shape[0], b.shape[1]), a.dtype)
        kernel(a, b, c)
        return c

    return run


def one_thread(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return `cpu.matmul(a, b)`, computed by one thread for any size."""
    with thread_limit(1):
        return cpu.matmul(a, b)


STEPS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "naive": _step(_naive),
    "loop order": _step(_loop_order),
    "cache blocking": _step(_cache_blocking),
    "register blocking": _step(_register_blocking),
    "packing": one_thread,
    "multithreading": cpu.matmul,
}
