"""C = A @ B on the CPU: register tiles of fused multiply-adds, any strides, any threads."""

from __future__ import annotations

import numpy as np
from numba import prange

from ..elementwise.cpu import elementwise
from ..runtime.cpu import empty, jit, launch, threads
from ..runtime.simd import VECTOR_BYTES, address, pointer
from .micro import ROWS, VECTORS, tile, transpose_block, transposed_tile

# One row of A in a K-block: ROWS of them stay in the first-level cache.
BLOCK_BYTES = 2048
# A second thread pays from about this much work on (`_multiply` counts it).
PARALLEL_WORK = 400_000


# ------------------------------------------------------------------------------ in numba
# Addresses are integers and strides are in bytes. Matrices travel as tuples:
# a = (address, row stride, k stride), b = (address, k stride, column stride).
@jit
def _pack(like, b, k, width, panel):
    """panel[p, q] = B[p, q]: `width` columns side by side, then zeros up to a whole vector."""
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    stride = -(-width // lanes) * lanes
    start, b_step, b_column = b
    deep, wide = 0, 0
    if b_step == size:
        deep, wide = k // lanes * lanes, width // lanes * lanes
        for q in range(0, wide, lanes):
            for p in range(0, deep, lanes):
                block = start + p * b_step + q * b_column
                into = panel + (p * stride + q) * size
                transpose_block(like, block, b_column, into, stride * size)
    for p in range(k):
        row = pointer(like, panel + p * stride * size)
        for q in range(wide if p < deep else 0, width):
            row[q] = pointer(like, start + p * b_step + q * b_column)[0]
        for q in range(width, stride):
            row[q] = 0


@jit
def _tile(vectors, like, a, height, b, b_step, k, c, c_row, add):
    """`tile` of a width that is known only here; one row high where there is only one."""
    x, row, step = a
    if height == 1:
        if vectors == 3:
            tile(1, 3, like, x, row, step, 1, b, b_step, k, c, c_row, add)
        elif vectors == 2:
            tile(1, 2, like, x, row, step, 1, b, b_step, k, c, c_row, add)
        else:
            tile(1, 1, like, x, row, step, 1, b, b_step, k, c, c_row, add)
    elif vectors == 3:
        tile(ROWS, 3, like, x, row, step, height, b, b_step, k, c, c_row, add)
    elif vectors == 2:
        tile(ROWS, 2, like, x, row, step, height, b, b_step, k, c, c_row, add)
    else:
        tile(ROWS, 1, like, x, row, step, height, b, b_step, k, c, c_row, add)


@jit
def _sweep(scratch, a, m, b, b_step, width, k, c, c_row, add):
    """One panel of B against m rows of A. A tile that overhangs C goes through `scratch`."""
    lanes = VECTOR_BYTES // scratch.itemsize
    vectors = -(-width // lanes)
    for i in range(0, m, ROWS):
        height = min(ROWS, m - i)
        rows = (a[0] + i * a[1], a[1], a[2])
        target = c + i * c_row
        whole = width == vectors * lanes and height in (1, ROWS)
        into, stride = (target, c_row) if whole else (address(scratch), vectors * VECTOR_BYTES)
        _tile(vectors, scratch, rows, height, b, b_step, k, into, stride, add * whole)
        for r in range(0 if whole else height):
            row = pointer(scratch, target + r * c_row)
            for q in range(width):
                x = scratch[r * vectors * lanes + q]
                row[q] = row[q] + x if add else x


@jit
def _add_bias(like, bias, m, width, c, c_row):
    start, step = bias
    row = np.empty(width, like.dtype)
    for q in range(width):
        row[q] = pointer(like, start + q * step)[0]
    for i in range(m):
        into = pointer(like, c + i * c_row)
        for q in range(width):
            into[q] += row[q]


@jit
def _panel_width(columns, lanes):
    """The next panel: three vectors, two of the last four, or what is left of the last one."""
    vectors = columns // lanes
    if vectors == 0:
        return columns
    return lanes * (VECTORS - 1 if vectors == VECTORS + 1 else min(vectors, VECTORS))


@jit
def _block(like, a, b, bias, c, c_row, shape, depth):
    """A block of C, by one thread. K-blocks outside, panels of B inside, tiles innermost."""
    m, k, n = shape
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    scratch = np.empty((ROWS + min(k, depth)) * VECTORS * lanes, like.dtype)
    panel = address(scratch) + ROWS * VECTORS * VECTOR_BYTES
    for p in range(0, k, depth):
        kc = min(depth, k - p)
        rows = (a[0] + p * a[2], a[1], a[2])
        j = 0
        while j < n:
            width = _panel_width(n - j, lanes)
            columns = (b[0] + p * b[1] + j * b[2], b[1], b[2])
            target = c + j * size
            whole = width % lanes == 0
            if m == 1 and b[1] == size and whole and kc % lanes == 0:
                for q in range(0, width, lanes):
                    first, into = columns[0] + q * b[2], target + q * size
                    transposed_tile(like, rows[0], rows[2], first, b[2], kc, into, p)
            else:
                first, step = columns[0], b[1]
                if b[2] != size or not whole:
                    first, step = panel, -(-width // lanes) * VECTOR_BYTES
                    _pack(like, columns, kc, width, first)
                _sweep(scratch, rows, m, first, step, width, kc, target, c_row, p)
            if bias[0] and p + kc == k:
                _add_bias(like, (bias[0] + j * bias[1], bias[1]), m, width, target, c_row)
            j += width


@jit
def _task(t, a, b, bias, c, starts, shape, across, down):
    """Task t of len(starts) * across * down: the block (x, y) of one product.

    `depth`, a K-block's length, follows from k and dtype alone: nothing else may touch the bits.
    """
    m, k, n = shape
    size = c.itemsize
    lanes = VECTOR_BYTES // size
    blocks = -(-k * size // BLOCK_BYTES)
    depth = -(-k // (16 * blocks)) * 16
    wide, tall = -(-n // lanes), -(-m // ROWS)
    item, y, x = t // (across * down), t // across % down, t % across
    i, i_end = tall * y // down * ROWS, min(m, tall * (y + 1) // down * ROWS)
    j, j_end = wide * x // across * lanes, min(n, wide * (x + 1) // across * lanes)
    _block(
        c,
        (a[0] + starts[item, 0] + i * a[1], a[1], a[2]),
        (b[0] + starts[item, 1] + j * b[2], b[1], b[2]),
        (bias[0] + j * bias[1], bias[1]),
        address(c) + ((item * m + i) * n + j) * size,
        n * size,
        (i_end - i, k, j_end - j),
        depth,
    )


@jit(parallel=True)
def _product(a, a_row, a_step, b, b_step, b_column, bias, bias_step, c, starts, m, k, n, workers):
    """C = A @ B + bias for each pair of matrices in `starts`; returns the number of tasks."""
    wide, tall = -(-n * c.itemsize // VECTOR_BYTES), -(-m // ROWS)
    across = min(workers, max(1, wide // 2))
    down = min(max(1, workers // across), tall)
    tasks = len(starts) * across * down
    shape = (m, k, n)
    x, y = (address(a), a_row, a_step), (address(b), b_step, b_column)
    z = (address(bias) if bias.size else 0, bias_step)
    if workers == 1:
        for t in range(tasks):
            _task(t, x, y, z, c, starts, shape, across, down)
    else:
        for t in prange(tasks):
            _task(np.int64(t), x, y, z, c, starts, shape, across, down)
    return tasks


# ------------------------------------------------------------------------------ in Python
_NO_BIAS = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
_ONE_PRODUCT = np.zeros((1, 2), np.int64)


class _Window:
    """Shows numba the first element of a read-only array as writable: one signature fewer."""

    def __init__(self, x: np.ndarray) -> None:
        self.__array_interface__ = {
            "data": (x.__array_interface__["data"][0], False),
            "shape": (1,),
            "typestr": x.dtype.str,
            "version": 3,
        }
        self.memory = x


def _wrong_dtypes(op: str, *arrays: np.ndarray) -> TypeError:
    given = ", ".join(str(x.dtype) for x in arrays)
    return TypeError(f"{op}: takes arrays of one dtype, float32 or float64, not {given}")


def _wrong_shapes(op: str, *arrays: np.ndarray) -> ValueError:
    given = ", ".join(str(x.shape) for x in arrays)
    accepted = {
        "matmul": "(..., m, k) and (..., k, n) with leading axes that broadcast",
        "dense": "(n, k), (k, m) and (m,)",
    }
    return ValueError(f"{op}: takes shapes {accepted[op]}, not {given}")


def _multiply(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray, starts: np.ndarray = _ONE_PRODUCT
) -> np.ndarray:
    """The products of the matrices at a + starts[:, 0] and b + starts[:, 1], stacked by rows."""
    m, k = a.shape
    n = b.shape[1]
    c = empty((len(starts) * m, n), a.dtype)
    if not c.size:
        return c
    if not k:
        sums = bias if bias.size else np.zeros(1, a.dtype)
        return elementwise("copy", np.broadcast_to(sums, c.shape))
    a_row, a_step = a.strides
    b_step, b_column = b.strides
    x = a[0, :1] if a.flags.writeable else np.asarray(_Window(a))
    y = b[0, :1] if b.flags.writeable else np.asarray(_Window(b))
    z, z_step = bias, 0
    if bias.size:
        z = bias[:1] if bias.flags.writeable else np.asarray(_Window(bias))
        z_step = bias.strides[0] if n > 1 else 0
    if n == 1:  # one column: the transposed product, one row, has its sums side by side
        x, a_row, a_step, y, b_step, b_column = y, b_column, b_step, x, a_step, a_row
        m, n = n, m
    work = len(starts) * k * (m * n + 8 * (m + n))
    workers = threads() if work > PARALLEL_WORK else 1
    steps = (a_row, a_step, y, b_step, b_column, z, z_step)
    launch(_product, x, *steps, c, starts, m, k, n, workers)
    return c


def _starts(x: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
    """Where each matrix of the batch begins, in bytes from the first."""
    strides = np.broadcast_to(x, batch + x.shape[-2:]).strides
    starts = np.zeros((), np.int64)
    for size, stride in zip(batch, strides, strict=False):
        starts = starts[..., None] + np.arange(size) * stride
    return starts.reshape(-1)


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """C = A @ B, as `numpy.matmul` for (..., m, k) and (..., k, n): leading axes broadcast.

    float32 or float64, any strides; neither operand is copied. Each element is a sum of K-blocks
    in order, each block one chain of fused multiply-adds: its bits do not depend on threads,
    strides or other rows and columns. TypeError or ValueError where dtypes or shapes do not fit.
    """
    none = _NO_BIAS.get(a.dtype)
    if none is None or b.dtype != a.dtype:
        raise _wrong_dtypes("matmul", a, b)
    if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
        return _multiply(a, b, none)
    return _batched(a, b, none)


def _batched(a: np.ndarray, b: np.ndarray, none: np.ndarray) -> np.ndarray:
    try:
        if min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-2]:
            raise ValueError
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise _wrong_shapes("matmul", a, b) from None
    shape = (*batch, a.shape[-2], b.shape[-1])
    if 0 in batch:
        return empty(shape, a.dtype)
    pair = [_starts(a, batch), _starts(b, batch)]
    if b.shape[-1] == 1:  # `_multiply` will exchange the operands
        pair.reverse()
    first_a, first_b = (x[(0,) * (x.ndim - 2)] for x in (a, b))
    return _multiply(first_a, first_b, none, np.stack(pair, axis=1)).reshape(shape)


def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y = x @ w + b for (n, k), (k, m) and (m,): the bits of `matmul`, then one addition.

    float32 or float64, any strides. Raises TypeError or ValueError as `matmul` does.
    """
    if x.dtype not in _NO_BIAS or not x.dtype == w.dtype == b.dtype:
        raise _wrong_dtypes("dense", x, w, b)
    if (x.ndim, w.ndim) != (2, 2) or x.shape[1] != w.shape[0] or b.shape != w.shape[1:]:
        raise _wrong_shapes("dense", x, w, b)
    return _multiply(x, w, b)


KERNELS = {"matmul": matmul, "dense": dense}
