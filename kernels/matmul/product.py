"""The loops of a matrix product on the CPU, compiled by numba: C = A @ B + bias, block by block.

They are those of GotoBLAS (Goto and van de Geijn 2008) and BLIS, without the loops over MC and NC,
because each thread computes blocks of C.

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
- packing: B is transposed into panels where necessary; A never, as its elements are read singly
- prefetch: while a tile is summed, the next panel of B and the next rows of A are fetched
- multithreading: threads take whole blocks of C, and share no scratch memory

Addresses are integers and strides are in bytes. Matrices are tuples: a = (address, row stride, k
stride), b = (address, k stride, column stride), c and bias = (address, row stride, column stride).
"""

from __future__ import annotations

import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.simd import VECTOR_BYTES, address, pointer
from .k_blocks import MAX_BLOCK_BYTES, block_length
from .micro import ROWS, VECTORS, panel_width, tile, tile_transposed_b, transpose_block


@jit
def _pack_panel(like, b, k, width, panel):
    """Pack `width` columns of B: panel[p, q] = B[p, q], padded with zeros to whole vectors.

    Where the columns of B are contiguous, whole square blocks are transposed in registers.
    """
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    stride = -(-width // lanes) * lanes
    start, b_step, b_column = b
    block_rows, block_columns = 0, 0  # the part that square blocks cover
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
    x, a_row, a_step = a
    y, b_step = b[0], b[1]
    fetch, fetch_step = prefetch
    if height == 1:
        if vectors == 3:
            tile(1, 3, like, x, a_row, a_step, 1, y, b_step, k, c, c_row, add, fetch, fetch_step)
        elif vectors == 2:
            tile(1, 2, like, x, a_row, a_step, 1, y, b_step, k, c, c_row, add, fetch, fetch_step)
        else:
            tile(1, 1, like, x, a_row, a_step, 1, y, b_step, k, c, c_row, add, fetch, fetch_step)
    elif height == 2:
        if vectors == 3:
            tile(2, 3, like, x, a_row, a_step, 2, y, b_step, k, c, c_row, add, fetch, fetch_step)
        elif vectors == 2:
            tile(2, 2, like, x, a_row, a_step, 2, y, b_step, k, c, c_row, add, fetch, fetch_step)
        else:
            tile(2, 1, like, x, a_row, a_step, 2, y, b_step, k, c, c_row, add, fetch, fetch_step)
    elif vectors == 3:
        tile(
            ROWS, 3, like, x, a_row, a_step, height, y, b_step, k, c, c_row, add, fetch, fetch_step
        )
    elif vectors == 2:
        tile(
            ROWS, 2, like, x, a_row, a_step, height, y, b_step, k, c, c_row, add, fetch, fetch_step
        )
    else:
        tile(
            ROWS, 1, like, x, a_row, a_step, height, y, b_step, k, c, c_row, add, fetch, fetch_step
        )


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
    # The memory of a scratch tile, and after it of a packed panel.
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

    Blocks begin at whole tiles and whole vectors. Their number may depend on the number of threads,
    because it does not affect the sums over k.
    """
    m, k, n = shape
    size = c.itemsize
    lanes = VECTOR_BYTES // size
    across, down = grid
    vectors, tiles = -(-n // lanes), -(-m // ROWS)
    item, y, x = t // (across * down), t // across % down, t % across
    i, i_end = tiles * y // down * ROWS, min(m, tiles * (y + 1) // down * ROWS)
    j, j_end = vectors * x // across * lanes, min(n, vectors * (x + 1) // across * lanes)
    first_bias = bias[0] + i * bias[1] + j * bias[2]
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
def multiply_blocks(
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

    Each product has `across` x `down` blocks. Where `transposed`, the transpose of A @ B is stored,
    so that C's columns are contiguous and there is a number of the bias for each row.
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
