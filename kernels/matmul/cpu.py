"""C = A @ B on the CPU: register tiles of fused multiply-adds, any strides, any threads."""

from __future__ import annotations

import numpy as np

from ..elementwise.cpu import elementwise
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, first, launch, parts
from ..runtime.cpu.simd import VECTOR_BYTES, address, pointer
from .micro import ROWS, VECTORS, tile, transpose_block, transposed_tile

# One row of A in a K-block: ROWS of them stay in the first-level cache.
BLOCK_BYTES = 2048
# A second thread pays from about this much work on (`_multiply` counts it).
PARALLEL_WORK = 6_400_000


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
def _turned(vectors, like, a, height, b, k, c, c_row, add):
    """A tile one or two rows high, of a B whose columns are contiguous: turned in registers."""
    v = 0
    while v < vectors:
        first, into = b[0] + v * VECTOR_BYTES // like.itemsize * b[2], c + v * VECTOR_BYTES
        if height == 2:
            transposed_tile(2, 1, like, a[0], a[1], a[2], first, b[2], k, into, c_row, add)
        elif v + 1 < vectors:
            transposed_tile(1, 2, like, a[0], a[1], a[2], first, b[2], k, into, c_row, add)
        else:
            transposed_tile(1, 1, like, a[0], a[1], a[2], first, b[2], k, into, c_row, add)
        v += 1 if height == 2 else 2


@jit
def _tile(vectors, like, a, height, b, k, c, c_row, add, far):
    """`tile` of a size that is known only here: 1, 2 or ROWS rows high, 1 to 3 vectors wide."""
    x, row, step = a
    y, down = b[0], b[1]
    line, by = far
    if height == 1:
        if vectors == 3:
            tile(1, 3, like, x, row, step, 1, y, down, k, c, c_row, add, line, by)
        elif vectors == 2:
            tile(1, 2, like, x, row, step, 1, y, down, k, c, c_row, add, line, by)
        else:
            tile(1, 1, like, x, row, step, 1, y, down, k, c, c_row, add, line, by)
    elif height == 2:
        if vectors == 3:
            tile(2, 3, like, x, row, step, 2, y, down, k, c, c_row, add, line, by)
        elif vectors == 2:
            tile(2, 2, like, x, row, step, 2, y, down, k, c, c_row, add, line, by)
        else:
            tile(2, 1, like, x, row, step, 2, y, down, k, c, c_row, add, line, by)
    elif vectors == 3:
        tile(ROWS, 3, like, x, row, step, height, y, down, k, c, c_row, add, line, by)
    elif vectors == 2:
        tile(ROWS, 2, like, x, row, step, height, y, down, k, c, c_row, add, line, by)
    else:
        tile(ROWS, 1, like, x, row, step, height, y, down, k, c, c_row, add, line, by)


@jit
def _sweep(scratch, a, m, b, width, k, c, add, ahead):
    """One panel of B against m rows of A. A tile that C cannot take goes through `scratch`.

    Each tile calls for memory on the way, a cache line for each p: the first VECTORS ones for the
    panel after this one, which has its rows at ahead[0] + p*ahead[1], the others for A's next rows.
    """
    size = scratch.itemsize
    lanes = VECTOR_BYTES // size
    vectors = -(-width // lanes)
    for i in range(0, m, ROWS):
        height = min(ROWS, m - i)
        rows = (a[0] + i * a[1], a[1], a[2])
        target = c[0] + i * c[1]
        whole = c[2] == size and width == vectors * lanes and height in (1, 2, ROWS)
        into, stride = (target, c[1]) if whole else (address(scratch), vectors * VECTOR_BYTES)
        if b[2] != size:
            _turned(vectors, scratch, rows, height, b, k, into, stride, add * whole)
        else:
            far = (rows[0] + ROWS * a[1], ROWS * size)
            if ahead[0] and i < VECTORS * ROWS:
                far = (ahead[0] + i // ROWS * VECTOR_BYTES, ahead[1])
            _tile(vectors, scratch, rows, height, b, k, into, stride, add * whole, far)
        for r in range(0 if whole else height):
            for q in range(width):
                to = pointer(scratch, target + r * c[1] + q * c[2])
                x = scratch[r * vectors * lanes + q]
                to[0] = to[0] + x if add else x


@jit
def _add_bias(like, bias, m, width, c):
    """C[i, q] += bias[i, q], which changes along the rows of C, or its columns, that lie close."""
    if c[2] != like.itemsize:
        m, width = width, m
        c, bias = (c[0], c[2], c[1]), (bias[0], bias[2], bias[1])
    row = np.empty(width, like.dtype)
    for q in range(width):
        row[q] = pointer(like, bias[0] + q * bias[2])[0]
    for i in range(m):
        into = pointer(like, c[0] + i * c[1])
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
def _block(like, a, b, bias, c, shape, depth):
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
            target = (c[0] + j * c[2], c[1], c[2])
            whole = width % lanes == 0
            turned = m <= 2 and b[1] == size and b[2] != size and whole and kc % lanes == 0
            ahead = (0, 0)
            if b[2] == size:
                ahead = (columns[0] + width * size, b[1])
            if not turned and (b[2] != size or not whole):
                _pack(like, columns, kc, width, panel)
                columns = (panel, -(-width // lanes) * VECTOR_BYTES, size)
            _sweep(scratch, rows, m, columns, width, kc, target, p, ahead)
            if bias[0] and p + kc == k:
                _add_bias(like, (bias[0] + j * bias[2], bias[1], bias[2]), m, width, target)
            j += width


@jit
def _task(t, a, b, bias, c, steps, starts, shape, cut):
    """Task t: of the product `item`, the block in column x and row y of those it is cut into.

    `depth`, a K-block's length, follows from k and dtype alone: nothing else may touch the bits.
    """
    m, k, n = shape
    size = c.itemsize
    lanes = VECTOR_BYTES // size
    blocks = -(-k * size // BLOCK_BYTES)
    depth = -(-k // (16 * blocks)) * 16
    across, down = cut
    wide, tall = -(-n // lanes), -(-m // ROWS)
    item, y, x = t // (across * down), t // across % down, t % across
    i, i_end = tall * y // down * ROWS, min(m, tall * (y + 1) // down * ROWS)
    j, j_end = wide * x // across * lanes, min(n, wide * (x + 1) // across * lanes)
    first_bias = bias[0] + i * bias[1] + j * bias[2]
    _block(
        c,
        (a[0] + starts[item, 0] + i * a[1], a[1], a[2]),
        (b[0] + starts[item, 1] + j * b[2], b[1], b[2]),
        (first_bias * (bias[0] != 0), bias[1], bias[2]),
        (address(c) + item * m * n * size + i * steps[0] + j * steps[1], steps[0], steps[1]),
        (i_end - i, k, j_end - j),
        depth,
    )


@jit
def _product(
    a, a_row, a_step, b, b_step, b_col, bias, bias_by, c, starts, m, k, n, turned, x, y, begin, end
):
    """The blocks begin..end of C = A @ B + bias for the pairs of matrices in `starts`.

    Each product has x by y blocks, across and down. Where `turned`, C is stored as its transposed,
    and the bias goes by its rows.
    """
    size = c.itemsize
    left, right = (address(a), a_row, a_step), (address(b), b_step, b_col)
    bias_start = address(bias) if bias.size else 0
    z = (bias_start, bias_by, 0) if turned else (bias_start, 0, bias_by)
    steps = (size, m * size) if turned else (n * size, size)
    for t in range(begin, end):
        _task(t, left, right, z, c, steps, starts, (m, k, n), (x, y))


# ------------------------------------------------------------------------------ in Python
_NO_BIAS = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
_ONE_PRODUCT = np.zeros((1, 2), np.int64)


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
    """The products at a + starts[:, 0] and b + starts[:, 1], plus the bias, by rows."""
    m, k = a.shape
    n = b.shape[1]
    c = empty((len(starts) * m, n), a.dtype)
    x, y = first(a), first(b)
    z, z_step = (first(bias), bias.strides[0]) if bias.size else (bias, 0)
    operands = x, *a.strides, y, *b.strides
    turned = _thin(m, n, a.itemsize)
    if turned:  # few columns: as few rows of the transposed product, whose rows are long
        operands = y, *b.strides[::-1], x, *a.strides[::-1]
        m, n = n, m
    work = len(starts) * k * (m * n + 8 * (m + n))
    workers = parts(work, PARALLEL_WORK)
    across, down = _cut(m, n, len(starts), workers, a.itemsize)
    tasks = len(starts) * across * down
    given = *operands, z, z_step, c, starts, m, k, n, turned, across, down
    launch(_product, *given, over=tasks, parts=min(workers, tasks))
    return c


def _cut(m: int, n: int, matrices: int, workers: int, size: int) -> tuple[int, int]:
    """Into how many blocks (across, down) each product is cut, for so many threads.

    The longer side of C is: each thread then reads its share of the larger operand, and finds in
    its cache what it wrote there as the product before. Many products are shared out whole.
    """
    if matrices >= 4 * workers or matrices % workers == 0:
        return 1, 1
    wide, tall = -(-n * size // VECTOR_BYTES), -(-m // ROWS)
    if m > n:
        down = min(workers, tall)
        return min(workers // down, max(1, wide // 2)), down
    across = min(workers, max(1, wide // 2))
    return across, min(workers // across, tall)


def _thin(m: int, n: int, size: int) -> bool:
    """Whether the transposed product fills more of the vector registers."""
    lanes = VECTOR_BYTES // size
    return n == 1 or n < lanes // 2 < m


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
        return _products((), a, b, none)
    try:
        if min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-2]:
            raise ValueError
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise _wrong_shapes("matmul", a, b) from None
    return _products(batch, a, b, none)


def _products(batch: tuple[int, ...], a: np.ndarray, b: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A @ B + bias for each pair of matrices; a bias (n,), or an empty one for none."""
    shape = (*batch, a.shape[-2], b.shape[-1])
    if 0 in shape:
        return empty(shape, a.dtype)
    if not a.shape[-1]:
        sums = bias if bias.size else np.zeros(1, a.dtype)
        return elementwise("copy", np.broadcast_to(sums, shape))
    if not batch:
        return _multiply(a, b, bias)
    starts = [_starts(a, batch), _starts(b, batch)]
    if _thin(a.shape[-2], b.shape[-1], a.itemsize):  # `_multiply` will exchange the operands
        starts.reverse()
    first_a, first_b = (x[(0,) * (x.ndim - 2)] for x in (a, b))
    return _multiply(first_a, first_b, bias, np.stack(starts, axis=1)).reshape(shape)


def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y = x @ w + b for (n, k), (k, m) and (m,).

    The bits of `matmul`, then one addition. float32 or float64, any strides. Raises TypeError or
    ValueError as `matmul` does.
    """
    if x.dtype not in _NO_BIAS or not x.dtype == w.dtype == b.dtype:
        raise _wrong_dtypes("dense", x, w, b)
    if not (x.ndim == w.ndim == 2 and x.shape[1] == w.shape[0] and b.shape == w.shape[1:]):
        raise _wrong_shapes("dense", x, w, b)
    return _products((), x, w, b)


KERNELS = {"matmul": matmul, "dense": dense}
