"""L1 distances of all pairs of columns, and what their derivatives need, for a batch of matrices.

a is (.., c, n), b (.., c, m), a number of every pair (.., n, m). Of what is read or written along
the innermost loop all is contiguous, and LLVM makes vectors of it; the rest is one number there.
Nothing of size (c, n, m) is ever made.

    l1_distances, _jvp    a row of pairs stays in the first-level cache while c terms join it
    _grad                 y[:, strip] stays there while m rows of g join it; where g's rows lie
                          along m, blocks of it are turned first

Each result is one chain of additions, in order. So its bits follow from the shape alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..elementwise.cpu import elementwise
from ..matmul.micro import transpose_block
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts
from ..runtime.cpu.simd import VECTOR_BYTES, address

STRIP, DEPTH = 128, 32  # of a block of g that is turned
GRAIN = 1048576  # terms that are worth a second thread


# ------------------------------------------------------------------------------ in numba
@jit
def _sign(d):
    """1, -1 or 0, and NaN for NaN."""
    one = np.copysign(type(d)(1), d)
    return one if (d < 0) | (d > 0) else d


@jit
def _add_four(out, a0, a1, a2, a3, b0, b1, b2, b3):
    for j in range(out.size):
        near = out[j] + abs(a0 - b0[j]) + abs(a1 - b1[j])
        out[j] = near + abs(a2 - b2[j]) + abs(a3 - b3[j])


@jit
def _add_one(out, a, b):
    for j in range(out.size):
        out[j] += abs(a - b[j])


@jit
def distance_rows(y, a, b, n, begin, end):
    """y[i] = sum over p of |a[p, i] - b[p]|, for the rows begin..end of all matrices."""
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
    """y[i] = sum over p of v[p, i] sign(a[p, i] - b[p])"""
    for row in range(begin, end):
        k = row // n
        i = row - k * n
        out = y[row]
        out[:] = 0
        for p in range(b.shape[1]):
            _add_signs(out, v[k, p, i], a[k, p, i], b[k, p])


@jit
def _add_four_rows(out, a, g0, g1, g2, g3, b0, b1, b2, b3):
    for i in range(out.size):
        x = a[i]
        near = out[i] + g0[i] * _sign(x - b0) + g1[i] * _sign(x - b1)
        out[i] = near + g2[i] * _sign(x - b2) + g3[i] * _sign(x - b3)


@jit
def _add_row(out, a, g, b):
    for i in range(out.size):
        out[i] += g[i] * _sign(a[i] - b)


@jit
def _add_block(y, a, b, g, at, step, first, last, begin, end):
    """y[p, i] += sum over j of G[j, i] sign(a[p, i] - b[p, j]) for first <= i < last.

    G[j, first:last] lies at at + (j - begin) * step of g, for the rows begin..end.
    """
    width = last - first
    whole = begin + (end - begin) // 4 * 4
    for j in range(begin, whole, 4):
        g0, g1 = g[at : at + width], g[at + step : at + step + width]
        at += 2 * step
        g2, g3 = g[at : at + width], g[at + step : at + step + width]
        at += 2 * step
        for p in range(b.shape[0]):
            out, x, z = y[p, first:last], a[p, first:last], b[p]
            _add_four_rows(out, x, g0, g1, g2, g3, z[j], z[j + 1], z[j + 2], z[j + 3])
    for j in range(whole, end):
        row = g[at : at + width]
        at += step
        for p in range(b.shape[0]):
            _add_row(y[p, first:last], a[p, first:last], row, b[p, j])


@jit
def _turn(block, g, at, step, width, depth):
    """block[j, i] = g[at + i*step + j] for i < width, j < depth; a row of it is STRIP long."""
    lanes = VECTOR_BYTES // g.itemsize
    row = STRIP * g.itemsize
    across, down = width // lanes * lanes, depth // lanes * lanes
    for i in range(0, across, lanes):
        for j in range(0, down, lanes):
            source = address(g) + (at + i * step + j) * g.itemsize
            transpose_block(
                g, source, step * g.itemsize, address(block) + j * row + i * g.itemsize, row
            )
    for i in range(width):
        for j in range(down if i < across else 0, depth):
            block[j * STRIP + i] = g[at + i * step + j]


@jit
def grad_strips(y, g, a, b, strips, turned, begin, end):
    """y[p, i] = sum over j of g[i, j] sign(a[p, i] - b[p, j]), for strips of the columns i.

    g is (k, n, m) in flat memory where it is to be turned, else (k, m, n).
    """
    n, m = a.shape[2], b.shape[2]
    block = np.empty(STRIP * DEPTH, g.dtype)
    for task in range(begin, end):
        k = task // strips
        first = (task - k * strips) * STRIP
        last = min(first + STRIP, n)
        y[k, :, first:last] = 0
        if not turned:
            _add_block(y[k], a[k], b[k], g, k * m * n + first, n, first, last, 0, m)
            continue
        for j in range(0, m, DEPTH):
            until = min(j + DEPTH, m)
            _turn(block, g, (k * n + first) * m + j, m, last - first, until - j)
            _add_block(y[k], a[k], b[k], block, 0, STRIP, first, last, j, until)


# ------------------------------------------------------------------------------ in Python
def _dense(x: np.ndarray) -> np.ndarray:
    return x if x.flags.c_contiguous and x.flags.writeable else elementwise("copy", x)


def _matrices(x: np.ndarray) -> np.ndarray:
    """(.., c, n) as (k, c, n), dense."""
    return _dense(x).reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def _run(kernel: Any, given: tuple[Any, ...], terms: int, over: int) -> None:
    if over:
        launch(kernel, *given, over=over, parts=min(over, parts(terms, GRAIN)))


def _rows(kernel: Any, *arrays: np.ndarray) -> np.ndarray:
    """A kernel over the rows (.., n, m) of all pairs of the last two arrays' columns."""
    *_, a, b = arrays
    n, m = a.shape[-1], b.shape[-1]
    y = empty((*a.shape[:-2], n, m), a.dtype)
    rows = math.prod(y.shape[:-1])
    _run(kernel, (y.reshape(rows, m), *map(_matrices, arrays), n), a.size * m, rows)
    return y


def l1_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(.., c, n) and (.., c, m) to (.., n, m): sum over c of |a[c, i] - b[c, j]|."""
    return _rows(distance_rows, a, b)


def l1_distances_jvp(v: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(.., n, m): sum over c of v[c, i] sign(a[c, i] - b[c, j])."""
    return _rows(jvp_rows, v, a, b)


def l1_distances_grad(g: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(.., c, n): sum over j of g[i, j] sign(a[c, i] - b[c, j])."""
    y = empty(a.shape, a.dtype)
    left, right = _matrices(a), _matrices(b)
    turned = not g.swapaxes(-1, -2).flags.c_contiguous
    memory = _dense(g if turned else g.swapaxes(-1, -2)).reshape(-1)
    strips = -(-a.shape[-1] // STRIP)
    given = y.reshape(left.shape), memory, left, right, strips, turned
    _run(grad_strips, given, a.size * b.shape[-1], len(left) * strips)
    return y


FLOATS_ONLY = True
KERNELS = {
    "l1_distances": l1_distances,
    "l1_distances_grad": l1_distances_grad,
    "l1_distances_jvp": l1_distances_jvp,
}
