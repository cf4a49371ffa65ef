"""L1 distances of all pairs of columns, and their derivatives, for a batch of matrices.

a is (.., c, n), b is (.., c, m); there is one distance for each pair of columns: (.., n, m).

    l1_distances                                 l1_distances_jvp
    for each matrix, row i of y:                 threads share out the rows
        for p in range(c):
            for j in range(m):                   vectorized by LLVM
                y[i, j] += |a[p, i] - b[p, j]|   y[i, j] += v[p, i] sign(a[p, i] - b[p, j])

    l1_distances_grad
    for each matrix, strip of STRIP columns i:   threads share out the strips
        for j in range(m):
            for p in range(c):
                for i in the strip:              vectorized by LLVM
                    y[p, i] += g[i, j] sign(a[p, i] - b[p, j])

Optimizations:
    - Loop fusion: no array of size (c, n, m) is ever written.
    - Cache blocking: a row of y, or the strip of y, stays in the first-level cache.
    - Loop unrolling: four terms are added for each load and store of y.
    - Vectorized access: the innermost loop is contiguous in every array. Where g is contiguous
      along j, blocks of STRIP x DEPTH of it are transposed first, in registers.
    - Multithreading from MIN_PARALLEL_TERMS on.

Each result is the sum of its terms in order, so the bits depend on the shape alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..matmul.micro import transpose_block
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts
from ..runtime.cpu.simd import VECTOR_BYTES, address
from ..shape.cpu import contiguous

STRIP, DEPTH = 128, 32  # the columns i and rows j of a block of g that is transposed
MIN_PARALLEL_TERMS = 1048576  # With fewer, a second thread costs more than it saves.


@jit
def _sign(d):
    """Return 1, -1 or 0, and NaN for NaN."""
    one = np.copysign(type(d)(1), d)
    return one if (d < 0) | (d > 0) else d


# ------------------------------------------------------------------------- distances and jvp
@jit
def _add_four(out, a0, a1, a2, a3, b0, b1, b2, b3):
    for j in range(out.size):
        total = out[j] + abs(a0 - b0[j]) + abs(a1 - b1[j])
        out[j] = total + abs(a2 - b2[j]) + abs(a3 - b3[j])


@jit
def _add_one(out, a, b):
    for j in range(out.size):
        out[j] += abs(a - b[j])


@jit
def distance_rows(y, a, b, n, begin, end):
    """Compute y[i] = sum over p of |a[p, i] - b[p]|, for the rows begin..end of all matrices."""
    c = b.shape[1]
    for row in range(begin, end):
        k = row // n
        i = row - k * n
        out, left, right = y[row], a[k], b[k]
        out[:] = 0
        whole = c // 4 * 4
        for p in range(0, whole, 4):
            _add_four(
                out,
                left[p, i],
                left[p + 1, i],
                left[p + 2, i],
                left[p + 3, i],
                right[p],
                right[p + 1],
                right[p + 2],
                right[p + 3],
            )
        for p in range(whole, c):
            _add_one(out, left[p, i], right[p])


@jit
def _add_signs(out, v, a, b):
    for j in range(out.size):
        out[j] += v * _sign(a - b[j])


@jit
def jvp_rows(y, v, a, b, n, begin, end):
    """Compute y[i] = sum over p of v[p, i] sign(a[p, i] - b[p]), for the rows begin..end."""
    for row in range(begin, end):
        k = row // n
        i = row - k * n
        out = y[row]
        out[:] = 0
        for p in range(b.shape[1]):
            _add_signs(out, v[k, p, i], a[k, p, i], b[k, p])


# ------------------------------------------------------------------------------------ gradient
@jit
def _add_four_rows(out, a, g0, g1, g2, g3, b0, b1, b2, b3):
    for i in range(out.size):
        x = a[i]
        total = out[i] + g0[i] * _sign(x - b0) + g1[i] * _sign(x - b1)
        out[i] = total + g2[i] * _sign(x - b2) + g3[i] * _sign(x - b3)


@jit
def _add_row(out, a, g, b):
    for i in range(out.size):
        out[i] += g[i] * _sign(a[i] - b)


@jit
def _add_block(y, a, b, g, start, row_stride, first, last, begin, end):
    """Compute y[p, i] += sum over j of G[j, i] sign(a[p, i] - b[p, j]) for first <= i < last.

    The rows j = begin..end of G lie in flat memory g: G[j, first] is
    g[start + (j - begin) * row_stride].
    """
    width = last - first
    whole = begin + (end - begin) // 4 * 4
    for j in range(begin, whole, 4):
        g0 = g[start : start + width]
        g1 = g[start + row_stride : start + row_stride + width]
        start += 2 * row_stride
        g2 = g[start : start + width]
        g3 = g[start + row_stride : start + row_stride + width]
        start += 2 * row_stride
        for p in range(b.shape[0]):
            out, x, z = y[p, first:last], a[p, first:last], b[p]
            _add_four_rows(out, x, g0, g1, g2, g3, z[j], z[j + 1], z[j + 2], z[j + 3])
    for j in range(whole, end):
        row = g[start : start + width]
        start += row_stride
        for p in range(b.shape[0]):
            _add_row(y[p, first:last], a[p, first:last], row, b[p, j])


@jit
def _transpose(block, g, start, row_stride, width, depth):
    """Copy g[start + i * row_stride + j] to block[j, i] for i < width, j < depth.

    A row of the block has STRIP elements. Squares of `lanes` are transposed in registers.
    """
    lanes = VECTOR_BYTES // g.itemsize
    row_bytes = STRIP * g.itemsize
    whole_width, whole_depth = width // lanes * lanes, depth // lanes * lanes
    for i in range(0, whole_width, lanes):
        for j in range(0, whole_depth, lanes):
            source = address(g) + (start + i * row_stride + j) * g.itemsize
            target = address(block) + j * row_bytes + i * g.itemsize
            transpose_block(g, source, row_stride * g.itemsize, target, row_bytes)
    for i in range(width):
        for j in range(whole_depth if i < whole_width else 0, depth):
            block[j * STRIP + i] = g[start + i * row_stride + j]


@jit
def grad_strips(y, g, a, b, strips, along_j, begin, end):
    """Compute y[p, i] = sum over j of g[i, j] sign(a[p, i] - b[p, j]), for the strips begin..end.

    g is flat memory, of shape (k, n, m) if it is contiguous along j, else of shape (k, m, n).
    There are `strips` strips per matrix.
    """
    n, m = a.shape[2], b.shape[2]
    block = np.empty(STRIP * DEPTH, g.dtype)
    for task in range(begin, end):
        k = task // strips
        first = (task - k * strips) * STRIP
        last = min(first + STRIP, n)
        y[k, :, first:last] = 0
        if not along_j:
            _add_block(y[k], a[k], b[k], g, k * m * n + first, n, first, last, 0, m)
            continue
        for j in range(0, m, DEPTH):
            stop = min(j + DEPTH, m)
            _transpose(block, g, (k * n + first) * m + j, m, last - first, stop - j)
            _add_block(y[k], a[k], b[k], block, 0, STRIP, first, last, j, stop)


# ----------------------------------------------------------------------------------- in Python
def _matrices(x: np.ndarray) -> np.ndarray:
    """Return (.., c, n) as (k, c, n), contiguous."""
    return contiguous(x).reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def _run(kernel: Any, arguments: tuple[Any, ...], terms: int, over: int) -> None:
    """Launch a kernel over rows or strips, if there are any."""
    if over:
        part_count = min(over, parts(terms, MIN_PARALLEL_TERMS))
        launch(kernel, *arguments, over=over, parts=part_count)


def _rows(kernel: Any, *arrays: np.ndarray) -> np.ndarray:
    """Run a kernel over the rows of y (.., n, m); the last two arrays are a and b."""
    *_, a, b = arrays
    n, m = a.shape[-1], b.shape[-1]
    y = empty((*a.shape[:-2], n, m), a.dtype)
    rows = math.prod(y.shape[:-1])
    _run(kernel, (y.reshape(rows, m), *map(_matrices, arrays), n), a.size * m, rows)
    return y


def l1_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (.., n, m), sum over c of |a[c, i] - b[c, j]|, for a (.., c, n) and b (.., c, m)."""
    return _rows(distance_rows, a, b)


def l1_distances_jvp(v: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (.., n, m), the sum over c of v[c, i] sign(a[c, i] - b[c, j]), for v like a."""
    return _rows(jvp_rows, v, a, b)


def l1_distances_grad(g: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (.., c, n), the sum over j of g[i, j] sign(a[c, i] - b[c, j]), for g (.., n, m)."""
    y = empty(a.shape, a.dtype)
    left, right = _matrices(a), _matrices(b)
    along_j = not g.swapaxes(-1, -2).flags.c_contiguous
    memory = contiguous(g if along_j else g.swapaxes(-1, -2)).reshape(-1)
    strips = -(-a.shape[-1] // STRIP)
    arguments = y.reshape(left.shape), memory, left, right, strips, along_j
    _run(grad_strips, arguments, a.size * b.shape[-1], len(left) * strips)
    return y


FLOATS_ONLY = True  # integers and bools are computed by the numpy reference
KERNELS = {
    "l1_distances": l1_distances,
    "l1_distances_grad": l1_distances_grad,
    "l1_distances_jvp": l1_distances_jvp,
}
