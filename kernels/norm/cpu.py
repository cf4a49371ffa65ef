"""Normalisers: moments, and what follows from them, while a block of x is still in the cache.

x is (a, m, b), C-contiguous; each m has statistics of its own. A task takes some neighbouring m's,
whose numbers are a segment, `width` long, of each of the a rows. It walks the rows two to five
times: for the mean, the squared distances from it, the sums that a gradient needs, and the result.
What is one number for each m is first written out to the width of a segment, so that each walk is
one plain loop, whatever a, m and b are.

    BatchNorm2d       a rows of   | m0: b pixels | m1: b pixels | m2 ..        some m's: a task
    LayerNorm         one row of  | m0: b numbers | m1 ..

A sum has one chain for each place of the segment and ROWS rows; the places of an m are then joined
as in `reduce`. So its bits follow from the shape alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..elementwise.cpu import elementwise
from ..matmul.cpu import matmul
from ..reduce.cpu import LANES, ROWS, _reduce_block
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts

# Of a task, so that it finds in the second-level cache what it has just read.
TASK_BYTES, LEAST_WIDTH = 262144, 64
GRAIN = 1048576  # elements that are worth a second thread


# ------------------------------------------------------------------------------ in numba
@jit
def _join_places(total, b, factor, out):
    """out[j] = factor * the sum of total over the b places of j's m."""
    lanes = np.empty(LANES, total.dtype)
    for first in range(0, total.size, b):
        out[first : first + b] = factor * _reduce_block(
            total[first : first + b], lanes, total.dtype.type(0), False
        )


@jit
def _mean(x, at, step, a, b, block, total, out):
    """The mean of each m, at each of its places."""
    total[:] = 0
    for first in range(0, a, ROWS):
        block[:] = 0
        for i in range(first, min(first + ROWS, a)):
            row = x[at + i * step : at + i * step + block.size]
            for j in range(block.size):
                block[j] += row[j]
        for j in range(block.size):
            total[j] += block[j]
    _join_places(total, b, x.dtype.type(1) / x.dtype.type(a * b), out)


@jit
def _variance(x, at, step, a, b, mean, block, total, out):
    total[:] = 0
    for first in range(0, a, ROWS):
        block[:] = 0
        for i in range(first, min(first + ROWS, a)):
            row = x[at + i * step : at + i * step + block.size]
            for j in range(block.size):
                block[j] += (row[j] - mean[j]) * (row[j] - mean[j])
        for j in range(block.size):
            total[j] += block[j]
    _join_places(total, b, x.dtype.type(1) / x.dtype.type(a * b), out)


@jit
def _dot(g, x, at, step, a, b, mean, r, block, total, out):
    """The sum of g h of each m, h = (x - mean) r."""
    total[:] = 0
    for first in range(0, a, ROWS):
        block[:] = 0
        for i in range(first, min(first + ROWS, a)):
            row = x[at + i * step : at + i * step + block.size]
            other = g[at + i * step : at + i * step + block.size]
            for j in range(block.size):
                block[j] += other[j] * ((row[j] - mean[j]) * r[j])
        for j in range(block.size):
            total[j] += block[j]
    _join_places(total, b, x.dtype.type(1), out)


@jit
def _inverse_root(variance, eps, out):
    one = out.dtype.type(1)
    for j in range(out.size):
        out[j] = one / np.sqrt(variance[j] + eps)


MEAN, R, FIRST, SECOND, TOTAL, BLOCK = range(6)  # rows of a task's memory


@jit
def _segment(task, many, shape, memory):
    """Where a task's segment begins, its rows' distance, its m's and its part of the memory."""
    m, b = shape[1], shape[2]
    first = task * many
    count = min(many, m - first)
    rows = memory[: 6 * count * b].reshape((6, count * b))  # contiguous, and LLVM knows it
    return first * b, m * b, first, count, rows


@jit
def _standardize(x, at, step, shape, eps, rows):
    """Mean and r of each m into `rows`."""
    a, b = shape[0], shape[2]
    _mean(x, at, step, a, b, rows[BLOCK], rows[TOTAL], rows[MEAN])
    _variance(x, at, step, a, b, rows[MEAN], rows[BLOCK], rows[TOTAL], rows[R])
    _inverse_root(rows[R], eps, rows[R])


@jit
def _spread(values, by, first, count, b, out):
    """out[j] = the number of j's m; `by` is 0 where one number serves all."""
    for i in range(count):
        out[i * b : (i + 1) * b] = values[(first + i) * by]


@jit
def normalize_tasks(y, x, shape, many, scale, scale_by, shift, shift_by, eps, begin, end):
    """y = scale (x - mean) r + shift"""
    memory = np.empty(6 * min(many, shape[1]) * shape[2], x.dtype)
    for task in range(begin, end):
        at, step, first, count, rows = _segment(task, many, shape, memory)
        _standardize(x, at, step, shape, eps, rows)
        mean, r, k, t = rows[MEAN], rows[R], rows[FIRST], rows[SECOND]
        _spread(scale, scale_by, first, count, shape[2], k)
        _spread(shift, shift_by, first, count, shape[2], t)
        for i in range(shape[0]):
            row = x[at + i * step : at + i * step + k.size]
            out = y[at + i * step : at + i * step + k.size]
            for j in range(k.size):
                out[j] = k[j] * ((row[j] - mean[j]) * r[j]) + t[j]


@jit
def sums_tasks(s, g, x, shape, many, eps, begin, end):
    """s[0, m] = sum g, s[1, m] = sum g h"""
    memory = np.empty(6 * min(many, shape[1]) * shape[2], x.dtype)
    a, m, b = shape
    one = x.dtype.type(a * b)
    for task in range(begin, end):
        at, step, first, count, rows = _segment(task, many, shape, memory)
        _standardize(x, at, step, shape, eps, rows)
        total, block = rows[TOTAL], rows[BLOCK]
        _dot(g, x, at, step, a, b, rows[MEAN], rows[R], block, total, rows[SECOND])
        _mean(g, at, step, a, b, block, total, rows[FIRST])
        for i in range(count):
            s[first + i] = rows[FIRST, i * b] * one
            s[m + first + i] = rows[SECOND, i * b]


@jit
def grad_tasks(y, g, x, shape, many, scale, scale_by, eps, begin, end):
    """y = scale r (g - mean g - h mean g h)"""
    memory = np.empty(6 * min(many, shape[1]) * shape[2], x.dtype)
    a, _, b = shape
    part = x.dtype.type(1) / x.dtype.type(a * b)
    for task in range(begin, end):
        at, step, first, count, rows = _segment(task, many, shape, memory)
        _standardize(x, at, step, shape, eps, rows)
        mean, r, of_g, of_both, k = rows[MEAN], rows[R], rows[FIRST], rows[SECOND], rows[TOTAL]
        _mean(g, at, step, a, b, rows[BLOCK], k, of_g)
        _dot(g, x, at, step, a, b, mean, r, rows[BLOCK], k, of_both)
        _spread(scale, scale_by, first, count, b, k)
        for j in range(k.size):
            k[j] = k[j] * r[j]
            of_both[j] = of_both[j] * part
        for i in range(a):
            row = x[at + i * step : at + i * step + k.size]
            other = g[at + i * step : at + i * step + k.size]
            out = y[at + i * step : at + i * step + k.size]
            for j in range(k.size):
                out[j] = k[j] * (other[j] - of_g[j] - ((row[j] - mean[j]) * r[j]) * of_both[j])


@jit
def inverse_std_tasks(y, x, shape, many, eps, begin, end):
    memory = np.empty(6 * min(many, shape[1]) * shape[2], x.dtype)
    for task in range(begin, end):
        at, step, first, count, rows = _segment(task, many, shape, memory)
        _standardize(x, at, step, shape, eps, rows)
        for i in range(count):
            y[first + i] = rows[R, i * shape[2]]


@jit
def running_tasks(means, variances, x, shape, many, momentum, begin, end):
    memory = np.empty(6 * min(many, shape[1]) * shape[2], x.dtype)
    a, _, b = shape
    unbiased = x.dtype.type(a * b / (a * b - 1))
    for task in range(begin, end):
        at, step, first, count, rows = _segment(task, many, shape, memory)
        _mean(x, at, step, a, b, rows[BLOCK], rows[TOTAL], rows[MEAN])
        _variance(x, at, step, a, b, rows[MEAN], rows[BLOCK], rows[TOTAL], rows[R])
        for i in range(count):
            k, j = first + i, i * b
            means[k] += momentum * (rows[MEAN, j] - means[k])
            variances[k] += momentum * (rows[R, j] * unbiased - variances[k])


@jit
def unit(x, y, eps):
    """y = x / max(|x|, eps); |x|^2 is summed by blocks."""
    total = x.dtype.type(0)
    for first in range(0, x.size, ROWS):
        block = x.dtype.type(0)
        for i in range(first, min(first + ROWS, x.size)):
            block += x[i] * x[i]
        total += block
    length = max(np.sqrt(total), eps)
    if total != total:
        length = total
    for i in range(x.size):
        y[i] = x[i] / length


# ------------------------------------------------------------------------------ in Python
def _dense(x: np.ndarray) -> np.ndarray:
    return x if x.flags.c_contiguous and x.flags.writeable else elementwise("copy", x)


def _run(kernel: Any, x: np.ndarray, before: tuple[Any, ...], *after: Any) -> None:
    """Launch a kernel over tasks of some m's each."""
    a, m, b = x.shape
    wide = max(LEAST_WIDTH, TASK_BYTES // (max(a, 1) * x.itemsize))
    many = max(1, min(m, wide // max(b, 1)))
    tasks = -(-m // many)
    given = *before, x.reshape(-1), x.shape, many, *after
    launch(kernel, *given, over=tasks, parts=min(tasks, parts(x.size, GRAIN)))


def _row(values: Any, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Numbers for each m, and 1; or one for all, and 0."""
    if isinstance(values, np.ndarray):
        return _dense(values), 1
    return np.array([values], dtype), 0


def normalize(x: np.ndarray, scale: Any, shift: Any, eps: float) -> np.ndarray:
    """scale (x - mean) / sqrt(variance + eps) + shift, for x (a, m, b) by m."""
    y = empty(x.shape, x.dtype)
    rows = *_row(scale, x.dtype), *_row(shift, x.dtype)
    _run(normalize_tasks, _dense(x), (y.reshape(-1),), *rows, x.dtype.type(eps))
    return y


def normalize_sums(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """(2, m): sum g and sum g h."""
    s = empty((2, x.shape[1]), x.dtype)
    _run(sums_tasks, _dense(x), (s.reshape(-1), _dense(g).reshape(-1)), x.dtype.type(eps))
    return s


def normalize_grad(g: np.ndarray, x: np.ndarray, scale: Any, eps: float) -> np.ndarray:
    """scale r (g - mean g - h mean g h)"""
    y = empty(x.shape, x.dtype)
    before = y.reshape(-1), _dense(g).reshape(-1)
    _run(grad_tasks, _dense(x), before, *_row(scale, x.dtype), x.dtype.type(eps))
    return y


def inverse_std(x: np.ndarray, eps: float) -> np.ndarray:
    """(m,): 1 / sqrt(variance + eps)"""
    y = empty((x.shape[1],), x.dtype)
    _run(inverse_std_tasks, _dense(x), (y,), x.dtype.type(eps))
    return y


def running_moments(
    means: np.ndarray, variances: np.ndarray, x: np.ndarray, momentum: float
) -> None:
    """means += momentum (mean - means), the same with the unbiased variance."""
    _run(running_tasks, _dense(x), (means, variances), x.dtype.type(momentum))


def power_iteration(u: np.ndarray, v: np.ndarray, w: np.ndarray, steps: int, eps: float) -> None:
    """v = unit(u W), u = unit(W v), so many times."""
    least = w.dtype.type(eps)
    for _ in range(steps):
        launch(unit, matmul(u[None, :], w).reshape(-1), v, least)
        launch(unit, matmul(w, v[:, None]).reshape(-1), u, least)


FLOATS_ONLY = True
KERNELS = {
    "normalize": normalize,
    "normalize_sums": normalize_sums,
    "normalize_grad": normalize_grad,
    "inverse_std": inverse_std,
    "running_moments": running_moments,
    "power_iteration": power_iteration,
}
