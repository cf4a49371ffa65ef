"""Normalization: mean and variance of each channel, and the ops that use them.

x is (a, m, b), C-contiguous: m channels of a * b numbers, each with its own mean and variance.
BatchNorm2d has x (samples, channels, pixels); LayerNorm has x (1, samples, numbers). A task is some
neighbouring channels, whose numbers are a contiguous segment of each of the a rows:

    BatchNorm2d       a rows of   | channel 0: b pixels  | channel 1: b pixels | ..     a task
    LayerNorm         one row of  | sample 0: b numbers  | sample 1 ..

    for each task:                                  threads share out the tasks
        for each pass:                              mean, variance, sums of a gradient, result
            for each block of BLOCK_ROWS rows:
                for each row of the block:
                    for j in the segment:           vectorized by LLVM
                        accumulate in block[j], or write y[row, j]

A value per channel is first repeated to the length of a segment, so that each pass is one plain
loop for any a, m and b.

Optimizations:
    - Loop order: rows outside, segment inside. Memory is read in order, and each position of the
      segment is an accumulator of its own (instruction-level parallelism).
    - Cache blocking: a task's segments, TASK_BYTES, stay in the second-level cache, where all
      passes but the first find them.
    - Blocked summation as in `reduce`: its order, and so the bits, depend on the shape alone.
    - Multithreading from MIN_PARALLEL_ELEMENTS on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..matmul.cpu import matmul
from ..reduce.cpu import BLOCK_ROWS, LANES, reduce_block
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts
from ..shape.cpu import contiguous

TASK_BYTES = 262144  # bytes of x in one task, which fit the second-level cache
MIN_SEGMENT_ELEMENTS = 64  # the least elements in a row of a task, for any number of rows
MIN_PARALLEL_ELEMENTS = 1048576  # with fewer, a second thread costs more than it saves


# ----------------------------------------------------------------------- statistics of a segment
# `start` is where the segment begins in flat x, `row_stride` the distance of its rows. `block` and
# `total` are memory of the segment's length, as is `out`.
@jit
def _reduce_channels(total, b, factor, out):
    """Write factor * the sum over the channel's b positions in total, to each of its positions."""
    lanes = np.empty(LANES, total.dtype)
    for first in range(0, total.size, b):
        out[first : first + b] = factor * reduce_block(
            total[first : first + b], lanes, total.dtype.type(0), False
        )


@jit
def _mean(x, start, row_stride, a, b, block, total, out):
    """Write the mean of each channel to each of its positions."""
    total[:] = 0
    for first in range(0, a, BLOCK_ROWS):
        block[:] = 0
        for i in range(first, min(first + BLOCK_ROWS, a)):
            row = x[start + i * row_stride : start + i * row_stride + block.size]
            for j in range(block.size):
                block[j] += row[j]
        for j in range(block.size):
            total[j] += block[j]
    _reduce_channels(total, b, x.dtype.type(1) / x.dtype.type(a * b), out)


@jit
def _variance(x, start, row_stride, a, b, mean, block, total, out):
    """Write the biased variance of each channel, mean((x - mean)^2), to each of its positions."""
    total[:] = 0
    for first in range(0, a, BLOCK_ROWS):
        block[:] = 0
        for i in range(first, min(first + BLOCK_ROWS, a)):
            row = x[start + i * row_stride : start + i * row_stride + block.size]
            for j in range(block.size):
                block[j] += (row[j] - mean[j]) * (row[j] - mean[j])
        for j in range(block.size):
            total[j] += block[j]
    _reduce_channels(total, b, x.dtype.type(1) / x.dtype.type(a * b), out)


@jit
def _dot(g, x, start, row_stride, a, b, mean, r, block, total, out):
    """Write sum(g h) of each channel, h = (x - mean) r, to each of its positions."""
    total[:] = 0
    for first in range(0, a, BLOCK_ROWS):
        block[:] = 0
        for i in range(first, min(first + BLOCK_ROWS, a)):
            row = x[start + i * row_stride : start + i * row_stride + block.size]
            g_row = g[start + i * row_stride : start + i * row_stride + block.size]
            for j in range(block.size):
                block[j] += g_row[j] * ((row[j] - mean[j]) * r[j])
        for j in range(block.size):
            total[j] += block[j]
    _reduce_channels(total, b, x.dtype.type(1), out)


@jit
def _inverse_sqrt(variance, eps, out):
    one = out.dtype.type(1)
    for j in range(out.size):
        out[j] = one / np.sqrt(variance[j] + eps)


# ---------------------------------------------------------------------------------------- tasks
MEAN, R, FIRST, SECOND, TOTAL, BLOCK = range(6)  # rows of a task's memory


@jit
def _segment(task, channels_per_task, shape, memory):
    """Return a task's start, row stride, first channel, number of channels, and six rows."""
    m, b = shape[1], shape[2]
    first = task * channels_per_task
    count = min(channels_per_task, m - first)
    # A slice is reshaped, so that LLVM knows that the rows are contiguous.
    rows = memory[: 6 * count * b].reshape((6, count * b))
    return first * b, m * b, first, count, rows


@jit
def _standardize(x, start, row_stride, shape, eps, rows):
    """Write the mean and r = 1 / sqrt(variance + eps) of each channel to rows[MEAN], rows[R]."""
    a, b = shape[0], shape[2]
    _mean(x, start, row_stride, a, b, rows[BLOCK], rows[TOTAL], rows[MEAN])
    _variance(x, start, row_stride, a, b, rows[MEAN], rows[BLOCK], rows[TOTAL], rows[R])
    _inverse_sqrt(rows[R], eps, rows[R])


@jit
def _repeat(values, stride, first, count, b, out):
    """Write the value of each channel to each of its positions; stride 0 is one value for all."""
    for i in range(count):
        out[i * b : (i + 1) * b] = values[(first + i) * stride]


@jit
def normalize_tasks(
    y, x, shape, channels_per_task, scale, scale_stride, shift, shift_stride, eps, begin, end
):
    """Compute y = scale (x - mean) r + shift for the tasks begin..end."""
    memory = np.empty(6 * min(channels_per_task, shape[1]) * shape[2], x.dtype)
    for task in range(begin, end):
        start, row_stride, first, count, rows = _segment(task, channels_per_task, shape, memory)
        _standardize(x, start, row_stride, shape, eps, rows)
        mean, r, k, t = rows[MEAN], rows[R], rows[FIRST], rows[SECOND]
        _repeat(scale, scale_stride, first, count, shape[2], k)
        _repeat(shift, shift_stride, first, count, shape[2], t)
        for i in range(shape[0]):
            row = x[start + i * row_stride : start + i * row_stride + k.size]
            out = y[start + i * row_stride : start + i * row_stride + k.size]
            for j in range(k.size):
                out[j] = k[j] * ((row[j] - mean[j]) * r[j]) + t[j]


@jit
def sums_tasks(s, g, x, shape, channels_per_task, eps, begin, end):
    """Compute s[0, m] = sum(g) and s[1, m] = sum(g h) for the tasks begin..end."""
    memory = np.empty(6 * min(channels_per_task, shape[1]) * shape[2], x.dtype)
    a, m, b = shape
    size = x.dtype.type(a * b)
    for task in range(begin, end):
        start, row_stride, first, count, rows = _segment(task, channels_per_task, shape, memory)
        _standardize(x, start, row_stride, shape, eps, rows)
        total, block = rows[TOTAL], rows[BLOCK]
        _dot(g, x, start, row_stride, a, b, rows[MEAN], rows[R], block, total, rows[SECOND])
        _mean(g, start, row_stride, a, b, block, total, rows[FIRST])
        for i in range(count):
            s[first + i] = rows[FIRST, i * b] * size
            s[m + first + i] = rows[SECOND, i * b]


@jit
def grad_tasks(y, g, x, shape, channels_per_task, scale, scale_stride, eps, begin, end):
    """Compute y = scale r (g - mean(g) - h mean(g h)) for the tasks begin..end."""
    memory = np.empty(6 * min(channels_per_task, shape[1]) * shape[2], x.dtype)
    a, _, b = shape
    inverse_size = x.dtype.type(1) / x.dtype.type(a * b)
    for task in range(begin, end):
        start, row_stride, first, count, rows = _segment(task, channels_per_task, shape, memory)
        _standardize(x, start, row_stride, shape, eps, rows)
        mean, r, k = rows[MEAN], rows[R], rows[TOTAL]
        g_mean, gh_mean = rows[FIRST], rows[SECOND]
        _mean(g, start, row_stride, a, b, rows[BLOCK], k, g_mean)
        _dot(g, x, start, row_stride, a, b, mean, r, rows[BLOCK], k, gh_mean)
        _repeat(scale, scale_stride, first, count, b, k)
        for j in range(k.size):
            k[j] = k[j] * r[j]
            gh_mean[j] = gh_mean[j] * inverse_size
        for i in range(a):
            row = x[start + i * row_stride : start + i * row_stride + k.size]
            g_row = g[start + i * row_stride : start + i * row_stride + k.size]
            out = y[start + i * row_stride : start + i * row_stride + k.size]
            for j in range(k.size):
                out[j] = k[j] * (g_row[j] - g_mean[j] - ((row[j] - mean[j]) * r[j]) * gh_mean[j])


@jit
def inverse_std_tasks(y, x, shape, channels_per_task, eps, begin, end):
    """Compute y[m] = 1 / sqrt(variance + eps) for the tasks begin..end."""
    memory = np.empty(6 * min(channels_per_task, shape[1]) * shape[2], x.dtype)
    for task in range(begin, end):
        start, row_stride, first, count, rows = _segment(task, channels_per_task, shape, memory)
        _standardize(x, start, row_stride, shape, eps, rows)
        for i in range(count):
            y[first + i] = rows[R, i * shape[2]]


@jit
def running_tasks(means, variances, x, shape, channels_per_task, momentum, begin, end):
    """Move the running means and unbiased variances towards x's, for the tasks begin..end."""
    memory = np.empty(6 * min(channels_per_task, shape[1]) * shape[2], x.dtype)
    a, _, b = shape
    unbiased = x.dtype.type(a * b / (a * b - 1))
    for task in range(begin, end):
        start, row_stride, first, count, rows = _segment(task, channels_per_task, shape, memory)
        block, total = rows[BLOCK], rows[TOTAL]
        _mean(x, start, row_stride, a, b, block, total, rows[MEAN])
        _variance(x, start, row_stride, a, b, rows[MEAN], block, total, rows[R])
        for i in range(count):
            k, j = first + i, i * b
            means[k] += momentum * (rows[MEAN, j] - means[k])
            variances[k] += momentum * (rows[R, j] * unbiased - variances[k])


@jit
def normalize_vector(x, y, eps):
    """Compute y = x / max(|x|, eps); |x|^2 is summed in blocks."""
    total = x.dtype.type(0)
    for first in range(0, x.size, BLOCK_ROWS):
        block = x.dtype.type(0)
        for i in range(first, min(first + BLOCK_ROWS, x.size)):
            block += x[i] * x[i]
        total += block
    length = max(np.sqrt(total), eps)
    if total != total:
        length = total  # numba's max() would lose the NaN
    for i in range(x.size):
        y[i] = x[i] / length


# ----------------------------------------------------------------------------------- in Python
def _run(kernel: Any, x: np.ndarray, before: tuple[Any, ...], *after: Any) -> None:
    """Launch kernel(*before, flat x, shape, channels_per_task, *after) over all tasks."""
    a, m, b = x.shape
    segment_elements = max(MIN_SEGMENT_ELEMENTS, TASK_BYTES // (max(a, 1) * x.itemsize))
    channels_per_task = max(1, min(m, segment_elements // max(b, 1)))
    tasks = -(-m // channels_per_task)
    arguments = *before, x.reshape(-1), x.shape, channels_per_task, *after
    part_count = min(tasks, parts(x.size, MIN_PARALLEL_ELEMENTS))
    launch(kernel, *arguments, over=tasks, parts=part_count)


def _per_channel(values: Any, dtype: np.dtype) -> tuple[np.ndarray, int]:
    """Return an array of values and its stride: 1 for a value per channel, 0 for one number."""
    if isinstance(values, np.ndarray):
        return contiguous(values), 1
    return np.array([values], dtype), 0


def normalize(x: np.ndarray, scale: Any, shift: Any, eps: float) -> np.ndarray:
    """Return scale (x - mean) / sqrt(variance + eps) + shift, for x (a, m, b).

    Scale and shift are (m,), or numbers.
    """
    y = empty(x.shape, x.dtype)
    values = *_per_channel(scale, x.dtype), *_per_channel(shift, x.dtype)
    _run(normalize_tasks, contiguous(x), (y.reshape(-1),), *values, x.dtype.type(eps))
    return y


def normalize_sums(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    """Return sum(g) and sum(g h) of each channel, (2, m), for g and x (a, m, b)."""
    s = empty((2, x.shape[1]), x.dtype)
    x = contiguous(x)
    _run(sums_tasks, x, (s.reshape(-1), contiguous(g).reshape(-1)), x.dtype.type(eps))
    return s


def normalize_grad(g: np.ndarray, x: np.ndarray, scale: Any, eps: float) -> np.ndarray:
    """Return scale r (g - mean(g) - h mean(g h)), for g and x (a, m, b)."""
    y = empty(x.shape, x.dtype)
    before = y.reshape(-1), contiguous(g).reshape(-1)
    _run(grad_tasks, contiguous(x), before, *_per_channel(scale, x.dtype), x.dtype.type(eps))
    return y


def inverse_std(x: np.ndarray, eps: float) -> np.ndarray:
    """Return 1 / sqrt(variance + eps) of each channel, (m,), for x (a, m, b)."""
    y = empty((x.shape[1],), x.dtype)
    _run(inverse_std_tasks, contiguous(x), (y,), x.dtype.type(eps))
    return y


def running_moments(
    means: np.ndarray, variances: np.ndarray, x: np.ndarray, momentum: float
) -> None:
    """Update in place means += momentum (mean - means), and likewise the unbiased variances."""
    _run(running_tasks, contiguous(x), (means, variances), x.dtype.type(momentum))


def power_iteration(u: np.ndarray, v: np.ndarray, w: np.ndarray, steps: int, eps: float) -> None:
    """Update in place v = uW / |uW|, u = Wv / |Wv|, `steps` times."""
    min_length = w.dtype.type(eps)
    for _ in range(steps):
        launch(normalize_vector, matmul(u[None, :], w).reshape(-1), v, min_length)
        launch(normalize_vector, matmul(w, v[:, None]).reshape(-1), u, min_length)


FLOATS_ONLY = True  # integers and bools are computed by the numpy reference
KERNELS = {
    "normalize": normalize,
    "normalize_sums": normalize_sums,
    "normalize_grad": normalize_grad,
    "inverse_std": inverse_std,
    "running_moments": running_moments,
    "power_iteration": power_iteration,
}
