"""The loops of a matrix product on the CPU, compiled by numba: C = A @ B + bias, block by block.

They are those of GotoBLAS (Goto and van de Geijn 2008) and BLIS:

    for each block of C, m x n                        in parallel
        for p in 0 .. k step kc                       K-blocks (`k_blocks.py`)
            pack A[:, p:p+kc]                         where `_packs_a` says that it pays
            for j in 0 .. n step a group of panels
                pack B[p:p+kc, j:]                    into panels, kc x NR
                for i in 0 .. m step BLOCK_ROWS       a block of A, kc wide, stays in L2 or L3
                    for each panel                    it comes from L2
                        for each MR rows of A         2 KiB each, they stay in L1
                            C += A @ panel            the micro-kernel (`micro.py`), in registers

Optimizations:
- register blocking: MR x NR sums stay in registers, MR = ROWS and NR = VECTORS registers
- vectorized access: the micro-kernel loads whole vectors of B, and broadcasts elements of A
- cache blocking: by kc, so that the rows of A stay in L1
- packing: B becomes panels, and A contiguous rows, where `cpu.Packing` says that it pays; several
  panels are packed at a time, so that whole cache lines of a row-major B are read
- prefetch: while a tile is summed, the next panels of B and the next rows of A are fetched
- multithreading: threads take whole blocks of C, and share no scratch memory

Addresses are integers and strides are in bytes. Matrices are tuples: a = (address, row stride, k
stride), b = (address, k stride, column stride), c and bias = (address, row stride, column stride).
"""

from __future__ import annotations

import numpy as np

from ..runtime.cpu.call import call_function
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.simd import VECTOR_BYTES, address, copy_bytes, pointer
from .k_blocks import MAX_BLOCK_BYTES, block_length
from .micro import (
    COPIED_ROWS,
    ROWS,
    VECTORS,
    copy_rows,
    panel_width,
    tile,
    tile_transposed_b,
    transpose_block,
)

BLOCK_ROWS = 512  # of A in a block, whose K-blocks are at most 1 MiB
# The bytes of one way of a first-level cache, which has 8 to 12 ways: lines at this distance are in
# one set. Where the rows of A, or its columns, are a multiple of it apart, a tile's elements
# displace each other.
CACHE_WAY = 4096


# ------------------------------------------------------------------------------------- packing
@jit(inline="always")
def _copy_whole_rows(like, x, x_row, rows, columns, target, target_row):
    """Copy rows whose elements are contiguous."""
    vectors, rest = divmod(columns * like.itemsize, VECTOR_BYTES)
    if rest or vectors > VECTORS:
        for p in range(rows):
            copy_bytes(x + p * x_row, target + p * target_row, columns * like.itemsize)
    elif vectors == 3:
        copy_rows(3, like, x, x_row, target, target_row, rows)
    elif vectors == 2:
        copy_rows(2, like, x, x_row, target, target_row, rows)
    else:
        copy_rows(1, like, x, x_row, target, target_row, rows)


@jit(inline="always")
def _copy_matrix(like, x, x_row, x_column, rows, columns, target, target_row):
    """Copy a matrix of any strides to rows that are contiguous, and add zeros to whole vectors.

    Contiguous rows are copied, and where columns are contiguous, whole square blocks are transposed
    in registers.
    """
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    block_rows, block_columns = 0, 0  # the part that is not copied element by element
    if x_column == size:
        block_rows, block_columns = rows, columns
        _copy_whole_rows(like, x, x_row, rows, columns, target, target_row)
    elif x_row == size:
        block_rows, block_columns = rows // lanes * lanes, columns // lanes * lanes
        for q in range(0, block_columns, lanes):
            for p in range(0, block_rows, lanes):
                corner = target + p * target_row + q * size
                transpose_block(like, x + p * x_row + q * x_column, x_column, corner, target_row)
    for p in range(rows):
        row = pointer(like, target + p * target_row)
        for q in range(block_columns if p < block_rows else 0, columns):
            row[q] = pointer(like, x + p * x_row + q * x_column)[0]
        for q in range(columns, -(-columns // lanes) * lanes):
            row[q] = 0


@jit
def pack(like, x, x_row, x_column, rows, columns, target, target_row):
    """Copy a matrix, a part of A or of B, to where the micro-kernel can read it faster.

    Where `target_row` is 0, it becomes panels of `panel_width` columns, one after the other;
    otherwise its rows follow each other at that distance.
    """
    lanes = VECTOR_BYTES // like.itemsize
    rows_in_turn = COPIED_ROWS if x_column == like.itemsize else rows
    for p in range(0, rows, rows_in_turn):
        j, panel = 0, target
        while j < columns:
            width = columns if target_row else panel_width(columns - j, lanes)
            row = target_row if target_row else -(-width // lanes) * VECTOR_BYTES
            corner, height = x + p * x_row + j * x_column, min(rows_in_turn, rows - p)
            _copy_matrix(like, corner, x_row, x_column, height, width, panel + p * row, row)
            j, panel = j + width, panel + rows * row


# ------------------------------------------------------------------------------------ products
@jit(inline="always")
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
def multiply_panel(
    scratch,
    a,
    a_row,
    a_step,
    m,
    b,
    b_step,
    b_column,
    width,
    k,
    c,
    c_row,
    c_column,
    add,
    next_panel,
    next_step,
):
    """Multiply m rows of A by one panel of B, tile by tile.

    A tile that reaches beyond C, or whose columns are not contiguous in C, is computed into
    `scratch`, and its part of C is copied.

    Each p of a tile prefetches one cache line: the first VECTORS tiles those of a later panel,
    whose row p is at next_panel + p*next_step, the others the next rows of A.
    """
    size = scratch.itemsize
    lanes = VECTOR_BYTES // size
    vectors = -(-width // lanes)
    is_packed = a_step == size and b_column == size and b_step == vectors * VECTOR_BYTES
    for i in range(0, m, ROWS):
        height = min(ROWS, m - i)
        rows, below = a + i * a_row, a + (i + ROWS) * a_row
        target = c + i * c_row
        whole = c_column == size and width == vectors * lanes and height in (1, 2, ROWS)
        out, stride = (target, c_row) if whole else (address(scratch), vectors * VECTOR_BYTES)
        if b_column != size:
            columns = (b, b_step, b_column)
            _tiles_transposed_b(
                vectors,
                scratch,
                (rows, a_row, a_step),
                height,
                columns,
                k,
                out,
                stride,
                add * whole,
            )
        else:
            tile_rows = height if height <= 2 else ROWS
            line, line_step = below, ROWS * size
            if next_panel and i < VECTORS * ROWS:
                line, line_step = next_panel + i // ROWS * VECTOR_BYTES, next_step
            tile(
                scratch,
                tile_rows,
                vectors,
                is_packed and tile_rows == ROWS,
                rows,
                a_row,
                a_step,
                height,
                b,
                b_step,
                k,
                out,
                stride,
                add * whole,
                line,
                line_step,
            )
        for r in range(0 if whole else height):
            for q in range(width):
                element = pointer(scratch, target + r * c_row + q * c_column)
                x = scratch[r * vectors * lanes + q]
                element[0] = element[0] + x if add else x


@jit(inline="always")
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


@jit(inline="always")
def _packs_a(m, n, a_row, a_step, size, columns_for_a):
    """Return whether the rows of A are packed in a block of m rows and n columns of C."""
    if a_step != size and n >= columns_for_a:
        return True
    distance = a_row if a_step == size else a_step
    in_one_set = distance != 0 and distance % CACHE_WAY == 0
    return in_one_set and m > ROWS and n * size > VECTORS * VECTOR_BYTES


@jit(inline="always")
def _panel_to_fetch(panel, size, distance, columns_left):
    """Return the address of the panel of a row-major B to read or to pack next; 0 for none."""
    if panel[2] != size or distance >= columns_left:
        return 0
    return panel[0] + distance * size


@jit
def multiply_block(
    c_like,
    pack_function,
    panel_function,
    a,
    a_row,
    a_step,
    b,
    b_step,
    b_column,
    bias,
    bias_row,
    bias_column,
    c,
    c_row,
    c_column,
    m,
    k,
    n,
    rows_for_b,
    columns_for_a,
    group_panels,
):
    """Compute one block of C: the loops over K-blocks, panels of B and blocks of A, by one thread.

    `pack_function` and `panel_function` are the addresses of `pack` and `multiply_panel`; the last
    three arguments are those of `cpu.Packing`. A bias of address 0 is none.
    """
    size = c_like.itemsize
    lanes = VECTOR_BYTES // size
    kc = block_length(k, MAX_BLOCK_BYTES // size)
    longest = min(k, kc)
    group = (group_panels if b_column == size else 1) * VECTORS * lanes  # columns
    longest_group = group + 2 * lanes - 1
    pack_a = _packs_a(m, n, a_row, a_step, size, columns_for_a)
    # The memory of a scratch tile, after it of packed panels, and of packed rows of A, in vectors.
    # Packed rows are a vector longer than necessary: so they begin in different sets of a cache.
    panel_vectors = longest * -(-min(n, longest_group) // lanes)
    a_row_vectors = -(-longest // lanes) + 1
    vectors = ROWS * VECTORS + 1 + panel_vectors + (m * a_row_vectors if pack_a else 0)
    scratch = np.empty(vectors * lanes, c_like.dtype)
    # Aligned panels: a vector that lies in two cache lines takes two loads.
    panels = (address(scratch) // VECTOR_BYTES + ROWS * VECTORS + 1) * VECTOR_BYTES
    packed_a = panels + panel_vectors * VECTOR_BYTES
    for p in range(0, k, kc):
        length = min(kc, k - p)
        transpose_in_registers = m <= 2 and b_step == size and length % lanes == 0
        pack_group = m >= rows_for_b or (b_column != size and not transpose_in_registers)
        rows = (a + p * a_step, a_row, a_step)
        if pack_a:
            row = a_row_vectors * VECTOR_BYTES
            call_function(
                pack_function, scratch, (rows[0], a_row, a_step, m, length, packed_a, row)
            )
            rows = (packed_a, row, size)
        first = 0
        while first < n:
            # The last group takes a vector that would be left alone after it.
            columns = n - first if n - first <= longest_group else group
            corner = b + p * b_step + first * b_column
            if pack_group:
                call_function(
                    pack_function, scratch, (corner, b_step, b_column, length, columns, panels, 0)
                )
            for i in range(0, m, BLOCK_ROWS):
                height = min(BLOCK_ROWS, m - i)
                j, panel = 0, panels
                while j < columns:
                    width = panel_width(columns - j, lanes)
                    row = -(-width // lanes) * VECTOR_BYTES
                    source = (corner + j * b_column, b_step, b_column)
                    distance = columns if pack_group else width
                    fetched = _panel_to_fetch(source, size, distance, n - first - j)
                    if not pack_group and width % lanes:
                        part = (source[0], b_step, b_column, length, width, panel, row)
                        call_function(pack_function, scratch, part)
                    if pack_group or width % lanes:
                        source = (panel, row, size)
                    block = (rows[0] + i * rows[1], rows[1], rows[2], height)
                    target = (c + i * c_row + (first + j) * c_column, c_row, c_column)
                    words = (block, source, width, length, target, p, fetched, b_step)
                    call_function(panel_function, scratch, words)
                    if bias and p + length == k:
                        start = bias + i * bias_row + (first + j) * bias_column
                        _add_bias(scratch, (start, bias_row, bias_column), height, width, target)
                    j, panel = j + width, panel + length * row
            first += columns


@jit
def multiply_blocks(
    functions,
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
    packing,
    begin,
    end,
):
    """Compute blocks begin..end of C = A @ B + bias, for the pairs of matrices in `starts`.

    Each product has `across` x `down` blocks, which begin at whole tiles and whole vectors. Their
    number may depend on the number of threads, because it does not affect the sums over k. Where
    `transposed`, the transpose of A @ B is stored, so that C's columns are contiguous and there is
    a number of the bias for each row.

    `functions` has the addresses of `multiply_block`, `pack` and `multiply_panel`, and `packing`
    the last three arguments of `multiply_block`.

    Raises:
        MemoryError: there is not enough for packed operands.
    """
    size = c.itemsize
    lanes = VECTOR_BYTES // size
    bias_row, bias_column = (bias_step, 0) if transposed else (0, bias_step)
    c_row, c_column = (size, m * size) if transposed else (n * size, size)
    vectors, tiles = -(-n // lanes), -(-m // ROWS)
    for t in range(begin, end):
        item, y, x = t // (across * down), t // across % down, t % across
        i, i_end = tiles * y // down * ROWS, min(m, tiles * (y + 1) // down * ROWS)
        j, j_end = vectors * x // across * lanes, min(n, vectors * (x + 1) // across * lanes)
        left = address(a) + starts[item, 0] + i * a_row
        right = address(b) + starts[item, 1] + j * b_column
        first_bias = address(bias) + i * bias_row + j * bias_column if bias.size else 0
        first_c = address(c) + item * m * n * size + i * c_row + j * c_column
        operands = left, a_row, a_step, right, b_step, b_column
        biases, results = (first_bias, bias_row, bias_column), (first_c, c_row, c_column)
        shape = i_end - i, k, j_end - j
        arguments = (functions[1], functions[2], operands, biases, results, shape, packing)
        if call_function(functions[0], c, arguments) != 0:
            raise MemoryError
