"""Matrix products on the CPU: C = A @ B, batched, of any strides, on any number of threads.

The loops are those of GotoBLAS (Goto and van de Geijn 2008) and BLIS, without the loops over MC and
NC: what a thread gets is a block of C.

    for each block of C, m x n                        in parallel
        for p in 0 .. k step kc                       K-blocks (`k_blocks.py`)
            for j in 0 .. n step NR                   a panel of B, kc x NR, stays in the L2 cache
                pack B[p:p+kc, j:j+NR]                only where its rows are not contiguous
                for i in 0 .. m step MR               MR rows of A, 2 KiB each, stay in the L1 cache
                    C[i:i+MR, j:j+NR] += A[i:i+MR, p:p+kc] @ B[p:p+kc, j:j+NR]
                                                      the micro-kernel (`micro.py`), in registers

Optimizations:
- register blocking: MR x NR sums stay in registers, MR = ROWS and NR = VECTORS registers
- vectorized access: the micro-kernel loads whole vectors of B, and broadcasts elements of A
- cache blocking: by kc, so that the rows of A stay in L1
- packing: B is transposed into panels where it must be; A never, since elements are read singly
- prefetch: while a tile is summed, the next panel of B and the next rows of A are fetched
- thin results: few columns become few rows of the transposed product, so that vectors are full
- multithreading: blocks of C, whose longer side is cut

In the compiled functions addresses are integers and strides are in bytes. Matrices are tuples:
a = (address, row stride, k stride), b = (address, k stride, column stride), c and bias = (address,
row stride, column stride).
"""

from __future__ import annotations

import math

import numpy as np

from ..elementwise.cpu import elementwise
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, first, launch, parts
from ..runtime.cpu.simd import VECTOR_BYTES, address, pointer
from .k_blocks import MAX_BLOCK_BYTES, block_length
from .micro import ROWS, VECTORS, panel_width, tile, tile_transposed_b, transpose_block

# The work from which on a launch from Python gains by a second thread: multiply-adds, and what
# `_multiply` counts for the numbers that are moved.
MIN_PARALLEL_WORK = 6_400_000


# ------------------------------------------------------------------------------ in numba
@jit
def _pack_panel(like, b, k, width, panel):
    """Pack `width` columns of B: panel[p, q] = B[p, q], padded with zeros to whole vectors.

    Where the columns of B are contiguous, whole square blocks are transposed in registers.
    """
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    stride = -(-width // lanes) * lanes
    start, b_step, b_column = b
    block_rows, block_columns = 0, 0  # what square blocks cover
    if b_step == size:
        block_rows, block_columns = k // lanes * lanes, width // lanes * lanes
        for q in range(0, block_columns, lanes):
            for p in range(0, block_rows, lanes):
                source = start + p * b_step + q * b_column
                target = panel + (p * stride + q) * size
                transpose_block(like, source, b_column, target, stride * size)
    for p in range(k):
        row = pointer(like, panel + p * stride * size)
        for q in range(block_columns if p < block_rows else 0, width):
            row[q] = pointer(like, start + p * b_step + q * b_column)[0]
        for q in range(width, stride):
            row[q] = 0


@jit
def _tiles_transposed_b(vectors, like, a, height, b, k, c, c_row, add):
    """Compute one or two rows of C for a B whose columns are contiguous, without packing it."""
    v = 0
    while v < vectors:
        columns = b[0] + v * VECTOR_BYTES // like.itemsize * b[2]
        target = c + v * VECTOR_BYTES
        if height == 2:
            tile_transposed_b(2, 1, like, a[0], a[1], a[2], columns, b[2], k, target, c_row, add)
        elif v + 1 < vectors:
            tile_transposed_b(1, 2, like, a[0], a[1], a[2], columns, b[2], k, target, c_row, add)
        else:
            tile_transposed_b(1, 1, like, a[0], a[1], a[2], columns, b[2], k, target, c_row, add)
        v += 1 if height == 2 else 2


@jit
def _tile_of_size(vectors, like, a, height, b, k, c, c_row, add, prefetch):
    """Call `tile` with its size as literals: 1, 2 or ROWS rows, 1 to VECTORS vectors."""
    x, row, step = a
    y, down = b[0], b[1]
    line, by = prefetch
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
def _multiply_panel(scratch, a, m, b, width, k, c, add, next_panel):
    """Multiply m rows of A by one panel of B, tile by tile.

    A tile that reaches beyond C, or whose columns are not contiguous in C, is computed into
    `scratch`, and its part of C is copied.

    Each p of a tile prefetches one cache line: the first VECTORS tiles those of the next panel,
    whose row p is at next_panel[0] + p*next_panel[1], the others the next rows of A.
    """
    size = scratch.itemsize
    lanes = VECTOR_BYTES // size
    vectors = -(-width // lanes)
    for i in range(0, m, ROWS):
        height = min(ROWS, m - i)
        rows = (a[0] + i * a[1], a[1], a[2])
        target = c[0] + i * c[1]
        whole = c[2] == size and width == vectors * lanes and height in (1, 2, ROWS)
        out, stride = (target, c[1]) if whole else (address(scratch), vectors * VECTOR_BYTES)
        if b[2] != size:
            _tiles_transposed_b(vectors, scratch, rows, height, b, k, out, stride, add * whole)
        else:
            prefetch = (rows[0] + ROWS * a[1], ROWS * size)
            if next_panel[0] and i < VECTORS * ROWS:
                prefetch = (next_panel[0] + i // ROWS * VECTOR_BYTES, next_panel[1])
            _tile_of_size(vectors, scratch, rows, height, b, k, out, stride, add * whole, prefetch)
        for r in range(0 if whole else height):
            for q in range(width):
                element = pointer(scratch, target + r * c[1] + q * c[2])
                x = scratch[r * vectors * lanes + q]
                element[0] = element[0] + x if add else x


@jit
def _add_bias(like, bias, m, width, c):
    """Add a bias to C: C[i, q] += bias[i, q], which varies along the contiguous axis of C only."""
    if c[2] != like.itemsize:
        m, width = width, m
        c, bias = (c[0], c[2], c[1]), (bias[0], bias[2], bias[1])
    row = np.empty(width, like.dtype)
    for q in range(width):
        row[q] = pointer(like, bias[0] + q * bias[2])[0]
    for i in range(m):
        c_row = pointer(like, c[0] + i * c[1])
        for q in range(width):
            c_row[q] += row[q]


@jit
def _multiply_block(like, a, b, bias, c, shape, kc):
    """Compute one block of C: the loops over K-blocks, panels of B and tiles, by one thread."""
    m, k, n = shape
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    # A scratch tile, and behind it a packed panel.
    scratch = np.empty((ROWS + min(k, kc)) * VECTORS * lanes, like.dtype)
    panel = address(scratch) + ROWS * VECTORS * VECTOR_BYTES
    for p in range(0, k, kc):
        length = min(kc, k - p)
        rows = (a[0] + p * a[2], a[1], a[2])
        j = 0
        while j < n:
            width = panel_width(n - j, lanes)
            columns = (b[0] + p * b[1] + j * b[2], b[1], b[2])
            target = (c[0] + j * c[2], c[1], c[2])
            whole = width % lanes == 0
            transpose_in_registers = (
                m <= 2 and b[1] == size and b[2] != size and whole and length % lanes == 0
            )
            next_panel = (0, 0)
            if b[2] == size:
                next_panel = (columns[0] + width * size, b[1])
            if not transpose_in_registers and (b[2] != size or not whole):
                _pack_panel(like, columns, length, width, panel)
                columns = (panel, -(-width // lanes) * VECTOR_BYTES, size)
            _multiply_panel(scratch, rows, m, columns, width, length, target, p, next_panel)
            if bias[0] and p + length == k:
                _add_bias(like, (bias[0] + j * bias[2], bias[1], bias[2]), m, width, target)
            j += width


@jit
def _multiply_numbered_block(t, a, b, bias, c, c_strides, starts, shape, grid):
    """Compute block t of all products, each of which has grid[0] x grid[1] blocks.

    Blocks begin at whole tiles and whole vectors. Their number may follow the number of threads,
    because it does not touch the sums over k.
    """
    m, k, n = shape
    size = c.itemsize
    lanes = VECTOR_BYTES // size
    across, down = grid
    vectors, tiles = -(-n // lanes), -(-m // ROWS)
    item, y, x = t // (across * down), t // across % down, t % across
    i, i_end = tiles * y // down * ROWS, min(m, tiles * (y + 1) // down * ROWS)
    j, j_end = vectors * x // across * lanes, min(n, vectors * (x + 1) // across * lanes)
    first_bias = bias[0] + starts[item, 2] + i * bias[1] + j * bias[2]
    first_c = address(c) + item * m * n * size + i * c_strides[0] + j * c_strides[1]
    _multiply_block(
        c,
        (a[0] + starts[item, 0] + i * a[1], a[1], a[2]),
        (b[0] + starts[item, 1] + j * b[2], b[1], b[2]),
        (first_bias * (bias[0] != 0), bias[1], bias[2]),
        (first_c, c_strides[0], c_strides[1]),
        (i_end - i, k, j_end - j),
        block_length(k, MAX_BLOCK_BYTES // size),
    )


@jit
def _product(
    a,
    a_row,
    a_step,
    b,
    b_step,
    b_column,
    bias,
    bias_step,
    c,
    starts,
    m,
    k,
    n,
    transposed,
    across,
    down,
    begin,
    end,
):
    """Compute blocks begin..end of C = A @ B + bias, for the pairs of matrices in `starts`.

    Each product has `across` x `down` blocks. Where `transposed`, A @ B is the transpose of what
    is stored, so that C's columns are contiguous and the bias goes by its rows.
    """
    size = c.itemsize
    left, right = (address(a), a_row, a_step), (address(b), b_step, b_column)
    bias_start = address(bias) if bias.size else 0
    bias_matrix = (bias_start, bias_step, 0) if transposed else (bias_start, 0, bias_step)
    c_strides = (size, m * size) if transposed else (n * size, size)
    for t in range(begin, end):
        _multiply_numbered_block(
            t, left, right, bias_matrix, c, c_strides, starts, (m, k, n), (across, down)
        )


# ------------------------------------------------------------------------------ in Python
_NO_BIAS = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
_ONE_PRODUCT = np.zeros((1, 3), np.int64)


def _dtype_error(op: str, *arrays: np.ndarray) -> TypeError:
    dtypes = ", ".join(str(x.dtype) for x in arrays)
    return TypeError(f"{op}: takes arrays of one dtype, float32 or float64, not {dtypes}")


def _shape_error(op: str, *arrays: np.ndarray) -> ValueError:
    shapes = ", ".join(str(x.shape) for x in arrays)
    accepted = {
        "matmul": "(..., m, k) and (..., k, n) with leading axes that broadcast",
        "dense": "(..., n, k), (..., k, m) and (..., m) of equal leading axes",
    }
    return ValueError(f"{op}: takes shapes {accepted[op]}, not {shapes}")


def _multiply(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray, starts: np.ndarray = _ONE_PRODUCT
) -> np.ndarray:
    """Return the products of a batch, their rows one below the other.

    Row i of `starts` holds the bytes from a, b and bias to the matrices of product i.
    """
    m, k = a.shape
    n = b.shape[1]
    c = empty((len(starts) * m, n), a.dtype)
    x, y = first(a), first(b)
    z, bias_step = (first(bias), bias.strides[0]) if bias.size else (bias, 0)
    operands = x, *a.strides, y, *b.strides
    transposed = _is_thin(m, n, a.itemsize)
    if transposed:  # C^T = B^T A^T
        operands = y, *b.strides[::-1], x, *a.strides[::-1]
        m, n = n, m
    work = len(starts) * k * (m * n + 8 * (m + n))
    workers = parts(work, MIN_PARALLEL_WORK)
    across, down = _block_grid(m, n, len(starts), workers, a.itemsize)
    blocks = len(starts) * across * down
    arguments = *operands, z, bias_step, c, starts, m, k, n, transposed, across, down
    launch(_product, *arguments, over=blocks, parts=min(workers, blocks))
    return c


def _block_grid(m: int, n: int, matrices: int, workers: int, size: int) -> tuple[int, int]:
    """Return into how many blocks (across, down) each product is cut, for so many threads.

    Many products stay whole. Else the longer side of C is cut: each thread then reads only its
    share of the larger operand, and in the next layer finds in its cache what it wrote here.
    """
    if matrices >= 4 * workers or matrices % workers == 0:
        return 1, 1
    vectors, tiles = -(-n * size // VECTOR_BYTES), -(-m // ROWS)
    if m > n:
        down = min(workers, tiles)
        return min(workers // down, max(1, vectors // 2)), down
    across = min(workers, max(1, vectors // 2))
    return across, min(workers // across, tiles)


def _is_thin(m: int, n: int, size: int) -> bool:
    """Return whether C has so few columns that its transpose fills more of a vector register."""
    lanes = VECTOR_BYTES // size
    return n == 1 or n < lanes // 2 < m


def _matrix_starts(x: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
    """Return the bytes from the first matrix to each matrix of a broadcast batch."""
    strides = np.broadcast_to(x, batch + x.shape[-2:]).strides
    starts = np.zeros((), np.int64)
    for size, stride in zip(batch, strides, strict=False):
        starts = starts[..., None] + np.arange(size) * stride
    return starts.reshape(-1)


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return C = A @ B, as `numpy.matmul`, for (..., m, k) and (..., k, n).

    Leading axes broadcast. float32 or float64, any strides; neither operand is copied as a whole.
    Each element is a sum of K-blocks in order, each block one chain of fused multiply-adds: its
    bits do not depend on threads, strides or other rows and columns.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
        ValueError: the shapes do not fit.
    """
    no_bias = _NO_BIAS.get(a.dtype)
    if no_bias is None or b.dtype != a.dtype:
        raise _dtype_error("matmul", a, b)
    if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
        return _multiply_batch((), a, b, no_bias)
    try:
        if min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-2]:
            raise ValueError
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise _shape_error("matmul", a, b) from None
    return _multiply_batch(batch, a, b, no_bias)


def _multiply_batch(
    batch: tuple[int, ...], a: np.ndarray, b: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Return A @ B + bias for each pair of matrices; the bias is (*batch, n), or empty for none."""
    shape = (*batch, a.shape[-2], b.shape[-1])
    if 0 in shape:
        return empty(shape, a.dtype)
    if not a.shape[-1]:  # sums of nothing
        sums = bias[..., None, :] if bias.size else np.zeros(1, a.dtype)
        return elementwise("copy", np.broadcast_to(sums, shape))
    if not batch:
        return _multiply(a, b, bias)
    count = math.prod(batch)
    starts = [_matrix_starts(a, batch), _matrix_starts(b, batch), np.zeros(count, np.int64)]
    if bias.size:
        starts[2] = _matrix_starts(bias[..., None, :], batch)
        bias = bias[(0,) * (bias.ndim - 1)]
    if _is_thin(a.shape[-2], b.shape[-1], a.itemsize):  # `_multiply` will exchange the operands
        starts[:2] = starts[1::-1]
    first_a, first_b = (x[(0,) * (x.ndim - 2)] for x in (a, b))
    return _multiply(first_a, first_b, bias, np.stack(starts, axis=1)).reshape(shape)


def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return y = x @ w + b for (..., n, k), (..., k, m) and (..., m) of equal leading axes.

    The bits are those of `matmul` and one addition. float32 or float64, any strides.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
        ValueError: the shapes do not fit.
    """
    if x.dtype not in _NO_BIAS or not x.dtype == w.dtype == b.dtype:
        raise _dtype_error("dense", x, w, b)
    batch, fits = x.shape[:-2], min(x.ndim, w.ndim) >= 2 and x.shape[-1] == w.shape[-2]
    if not (fits and batch == w.shape[:-2] and b.shape == (*batch, w.shape[-1])):
        raise _shape_error("dense", x, w, b)
    return _multiply_batch(batch, x, w, b)


KERNELS = {"matmul": matmul, "dense": dense}
