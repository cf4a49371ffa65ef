"""The loops of a matrix product on the CPU, compiled by numba: C = A @ B + bias, block by block.

They are those of GotoBLAS (Goto and van de Geijn 2008) and BLIS:

    for each block of C, m x n                        in parallel
        for p in 0 .. k step kc                       K-blocks (`k_blocks.py`)
            pack A[:, p:p+kc]                         only where its rows are not contiguous
            for j in 0 .. n step a group of panels
                pack B[p:p+kc, j:]                    into panels, kc x NR
                for i in 0 .. m step BLOCK_ROWS       a block of A, kc wide, stays in L2
                    for each panel                    it comes from L2
                        for each MR rows of A         2 KiB each, they stay in L1
                            C += A @ panel            the micro-kernel (`micro.py`), in registers

Optimizations:
- register blocking: MR x NR sums stay in registers, MR = ROWS and NR = VECTORS registers
- vectorized access: the micro-kernel loads whole vectors of B, and broadcasts elements of A
- cache blocking: by kc, so that the rows of A stay in L1
- packing: B becomes panels, and A contiguous rows, where `Packing` says that it pays; several
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
    ROWS,
    VECTORS,
    copy_rows,
    panel_width,
    tile,
    tile_transposed_b,
    transpose_block,
)

BLOCK_ROWS = 512  # of A in a block, whose K-blocks are at most 1 MiB
COPIED_ROWS = 8  # of a row-major B: as many rows of each panel of a group are copied in turn
# The bytes of a way of a first-level cache, of which there are 8 to 12: lines at this distance are
# in one set. Where the rows of A (or its columns) lie so, a tile's elements displace each other.
CACHE_WAY = 4096


# ------------------------------------------------------------------------------------- packing
@jit(inline="always")
def _pack_panel(like, b, k, width, panel, panel_row):
    """Pack `width` columns of B: panel[p, q] = B[p, q], padded with zeros to whole vectors.

    `panel_row` is the bytes of a row of the panel. Contiguous rows are copied, and where the
    columns of B are contiguous, whole square blocks are transposed in registers.
    """
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    vectors = -(-width // lanes)
    start, b_step, b_column = b
    block_rows, block_columns = 0, 0  # the part that is copied as a whole
    if b_column == size:
        block_rows, block_columns = k, width
        if width < vectors * lanes or vectors > VECTORS:
            for p in range(k):
                copy_bytes(start + p * b_step, panel + p * panel_row, width * size)
        elif vectors == 3:
            copy_rows(3, like, start, b_step, panel, k)
        elif vectors == 2:
            copy_rows(2, like, start, b_step, panel, k)
        else:
            copy_rows(1, like, start, b_step, panel, k)
    elif b_step == size:
        block_rows, block_columns = k // lanes * lanes, width // lanes * lanes
        for q in range(0, block_columns, lanes):
            for p in range(0, block_rows, lanes):
                source = start + p * b_step + q * b_column
                target = panel + p * panel_row + q * size
                transpose_block(like, source, b_column, target, panel_row)
    for p in range(k):
        row = pointer(like, panel + p * panel_row)
        for q in range(block_columns if p < block_rows else 0, width):
            row[q] = pointer(like, start + p * b_step + q * b_column)[0]
        for q in range(width, vectors * lanes):
            row[q] = 0


@jit
def pack_panels(like, b, b_step, b_column, k, columns, panels, panel_row):
    """Pack `columns` columns of B into panels, one after the other.

    Where `panel_row` is not 0, they are one panel, whose rows take so many bytes.
    """
    lanes = VECTOR_BYTES // like.itemsize
    rows = COPIED_ROWS if b_column == like.itemsize else k
    for p in range(0, k, rows):
        j, panel = 0, panels
        while j < columns:
            width = columns if panel_row else panel_width(columns - j, lanes)
            row = panel_row if panel_row else -(-width // lanes) * VECTOR_BYTES
            corner = (b + p * b_step + j * b_column, b_step, b_column)
            _pack_panel(like, corner, min(rows, k - p), width, panel + p * row, row)
            j, panel = j + width, panel + k * row


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
def _packs_a(m, n, a_row, a_step, size, least_columns):
    """Return whether the rows of A are packed in a block of m rows and n columns."""
    if (a_row if a_step == size else a_step) % CACHE_WAY == 0:
        return m > ROWS and n * size > VECTORS * VECTOR_BYTES
    return a_step != size and n >= least_columns


@jit
def multiply_block(
    c_like,
    pack,
    panel_product,
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
    pack_b_rows,
    pack_a_columns,
    group_panels,
):
    """Compute one block of C: the loops over K-blocks, blocks of A and panels of B, by one thread.

    `pack` and `panel_product` are the addresses of `pack_panels` and `multiply_panel`; the last
    three arguments are `cpu.Packing`. A bias of address 0 is none.
    """
    size = c_like.itemsize
    lanes = VECTOR_BYTES // size
    kc = block_length(k, MAX_BLOCK_BYTES // size)
    group = (group_panels if b_column == size else 1) * VECTORS * lanes  # columns
    longest = min(k, kc)
    pack_b = m >= pack_b_rows
    pack_a = _packs_a(m, n, a_row, a_step, size, pack_a_columns)
    # The memory of a scratch tile, after it of packed panels, and of packed rows of A, in vectors.
    # Packed rows are a vector longer than necessary: so they begin in different sets of a cache.
    panel_vectors = longest * -(-min(n, group) // lanes)
    a_row_vectors = -(-longest // lanes) + 1
    vectors = ROWS * VECTORS + 1 + panel_vectors + (m * a_row_vectors if pack_a else 0)
    scratch = np.empty(vectors * lanes, c_like.dtype)
    # Aligned panels: a vector that lies in two cache lines takes two loads.
    panels = (address(scratch) // VECTOR_BYTES + ROWS * VECTORS + 1) * VECTOR_BYTES
    packed_a = panels + panel_vectors * VECTOR_BYTES
    for p in range(0, k, kc):
        length = min(kc, k - p)
        transpose_in_registers = m <= 2 and b_step == size and length % lanes == 0
        pack_group = pack_b or (b_column != size and not transpose_in_registers)
        rows = (a + p * a_step, a_row, a_step)
        if pack_a:
            packed_row = a_row_vectors * VECTOR_BYTES
            arguments = (rows[0], a_row, a_step, m, length, packed_a, packed_row)
            call_function(pack, scratch, arguments)
            rows = (packed_a, packed_row, size)
        for first in range(0, n, group):
            columns = min(group, n - first)
            corner = b + p * b_step + first * b_column
            if pack_group:
                arguments = (corner, b_step, b_column, length, columns, panels, 0)
                call_function(pack, scratch, arguments)
            for i in range(0, m, BLOCK_ROWS):
                height = min(BLOCK_ROWS, m - i)
                j, panel = 0, panels
                while j < columns:
                    width = panel_width(columns - j, lanes)
                    panel_row = -(-width // lanes) * VECTOR_BYTES
                    source = (corner + j * b_column, b_step, b_column)
                    # The panel of a row-major B to fetch: the next one to read, or to pack.
                    distance = group if pack_group else width
                    fetch = b_column == size and first + j + distance < n
                    next_panel = (source[0] + distance * size if fetch else 0, b_step)
                    if not pack_group and width % lanes:
                        arguments = (source[0], b_step, b_column, length, width, panel, panel_row)
                        call_function(pack, scratch, arguments)
                    if pack_group or width % lanes:
                        source = (panel, panel_row, size)
                    block = (rows[0] + i * rows[1], rows[1], rows[2], height)
                    target = (c + i * c_row + (first + j) * c_column, c_row, c_column)
                    # Not one tuple display: numba takes no two of them with stars in a block.
                    words = block + source + (width, length) + target + (p,) + next_panel
                    call_function(panel_product, scratch, words)
                    if bias and p + length == k:
                        start = bias + i * bias_row + (first + j) * bias_column
                        _add_bias(scratch, (start, bias_row, bias_column), height, width, target)
                    j, panel = j + width, panel + length * panel_row


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

    `functions` has the addresses of `multiply_block`, `pack_panels` and `multiply_panel`, and
    `packing` the last two arguments of `multiply_block`.
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
        arguments = (
            *(functions[1], functions[2], left, a_row, a_step, right, b_step, b_column),
            *(first_bias, bias_row, bias_column, first_c, c_row, c_column),
            *(i_end - i, k, j_end - j, packing[0], packing[1], packing[2]),
        )
        call_function(functions[0], c, arguments)
