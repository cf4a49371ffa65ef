"""The matrix product behind every convolution: an implicit GEMM, with A read through two tables.

    C = A @ B        A[row, p] at address row_address(row) + offsets[p], in a padded image
                     row_address(item, position) = a[0] + item*a[1] + positions[position]

    for j in 0 .. n step NR                           a packed panel of B
        for row in 0 .. items*positions step MR       a tile of C
            for p in 0 .. k step kc                   K-blocks (`matmul/k_blocks.py`)
                tile (+)= A[row:row+MR, p:p+kc] @ B[p:p+kc, j:j+NR]     `micro.tile`
            store the tile, transposed: its rows are positions, which are contiguous in C

This module has the product and the preparation of its operands: padded images, and panels of B.

Optimizations:
- implicit GEMM: im2col's matrix is not written; images are copied once, padded with zeros
- register blocking, vectorized access, cache blocking and packing as in `matmul/cpu.py`
- stores by columns: a tile is transposed in registers, so that C is written contiguously
- narrow products: for few columns, vectors are of positions instead (`multiply_narrow`)

Addresses are integers; strides and tables are in bytes.
"""

from __future__ import annotations

import numpy as np

from ..matmul.k_blocks import block_length
from ..matmul.micro import ROWS, VECTORS, panel_width, transpose_block
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.simd import REGISTERS, VECTOR_BYTES, address, copy_bytes, pointer, zero_bytes
from .micro import narrow_tile, store_transposed, tile

MAX_BLOCK_ELEMENTS = 512  # the length of the longest K-block
# The most columns of a narrow product, and the number of vectors of positions in its tiles.
NARROW_COLUMNS, NARROW_VECTORS = 4, 6 if REGISTERS == 32 else 3


# ---------------------------------------------------------------------------------- the operands
@jit
def _pad_plane(like, x, strides, size, padded, before, target):
    """Copy a plane (height, width) into a larger one of zeros, at `before` (row, column)."""
    item = like.itemsize
    zero_bytes(target, padded[0] * padded[1] * item)
    target += (before[0] * padded[1] + before[1]) * item
    for _ in range(size[0]):
        if strides[1] == item:
            copy_bytes(x, target, size[1] * item)
        else:
            row = pointer(like, target)
            for j in range(size[1]):
                row[j] = pointer(like, x + j * strides[1])[0]
        x += strides[0]
        target += padded[1] * item


@jit
def pad_images(x, strides, images, channels, size, padded, before, workspace, plane_strides):
    """Copy the planes of ranges of images and channels of x, padded, into the workspace.

    Plane (image, channel) goes to image*plane_strides[0] + channel*plane_strides[1].
    """
    for image in range(images[0], images[1]):
        for channel in range(channels[0], channels[1]):
            source = address(x) + image * strides[0] + channel * strides[1]
            target = address(workspace) + image * plane_strides[0] + channel * plane_strides[1]
            _pad_plane(workspace, source, (strides[2], strides[3]), size, padded, before, target)


@jit
def _pack_panel(like, x, offsets, width, column, target):
    """Pack a panel: B[p, q] = x[offsets[p] + q*column] for q < width, then zeros.

    Square blocks whose offsets are consecutive elements are transposed in registers.
    """
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    stride = -(-width // lanes) * VECTOR_BYTES
    if width * size < stride:
        zero_bytes(target, offsets.size * stride)
    for p in range(0, offsets.size, lanes):
        height = min(lanes, offsets.size - p)
        consecutive = height == lanes
        for i in range(1, height):
            consecutive = consecutive and offsets[p + i] - offsets[p] == i * size
        for q in range(0, width, lanes):
            block_width = min(lanes, width - q)
            source, block = x + q * column, target + p * stride + q * size
            if consecutive and block_width == lanes:
                transpose_block(like, source + offsets[p], column, block, stride)
            else:
                for j in range(block_width):
                    for i in range(height):
                        element = pointer(like, source + offsets[p + i] + j * column)
                        pointer(like, block + i * stride + j * size)[0] = element[0]


@jit
def pack_panels(x, table, column, panels, begin, end):
    """Pack panels begin..end of B; the table is that of `tables.Packing`."""
    for t in range(begin, end):
        source, k, start, width, target = table[5 * t : 5 * t + 5]
        offsets = table[start : start + k]
        _pack_panel(panels, address(x) + source, offsets, width, column, address(panels) + target)


# ----------------------------------------------------------------------------------- the product
@jit
def allocate_scratch(like, tiles):
    """Return memory for `tiles` tiles, and for two rows of addresses."""
    lanes = VECTOR_BYTES // like.itemsize
    return np.empty(tiles * ROWS * VECTORS * lanes, like.dtype), np.empty(2 * ROWS, np.int64)


@jit
def count_tiles(rows, n, lanes):
    """Return the number of tiles of a product with `rows` rows and n columns."""
    panels, j = 0, 0
    while j < n:
        panels, j = panels + 1, j + panel_width(n - j, lanes)
    return panels * -(-rows // ROWS)


@jit
def _tile_of_width(vectors, like, a_rows, height, offsets, b, k, add):
    """Call `tile` with its width as a literal; the tile is the memory of `like`."""
    b_step, c = vectors * VECTOR_BYTES, address(like)
    if vectors == 3:
        tile(ROWS, 3, like, a_rows, height, offsets, b, b_step, k, c, add)
    elif vectors == 2:
        tile(ROWS, 2, like, a_rows, height, offsets, b, b_step, k, c, add)
    else:
        tile(ROWS, 1, like, a_rows, height, offsets, b, b_step, k, c, add)


@jit
def _row_addresses(a_rows, c_rows, a, c, size, positions, item, position, height):
    """Write the start addresses of `height` rows in A and in C, by position and then by item."""
    for r in range(height):
        a_rows[r] = a[0] + item * a[1] + positions[position]
        c_rows[r] = c[0] + item * c[1] + position * size
        position += 1
        if position == positions.size:
            item, position = item + 1, 0


@jit
def _store_tile(tile, stride, c_rows, height, width, column):
    """Store a tile into the rows of C, with `column` bytes between columns."""
    size = tile.itemsize
    lanes = VECTOR_BYTES // size
    transposed = 0  # columns that are stored as vectors
    if height == ROWS and c_rows[ROWS - 1] - c_rows[0] == (ROWS - 1) * size:
        transposed = width // lanes * lanes
        for q in range(0, transposed, lanes):
            source, target = address(tile) + q * size, c_rows[0] + q * column
            store_transposed(ROWS, tile, source, stride * size, target, column)
    for q in range(transposed, width):
        for r in range(height):
            pointer(tile, c_rows[r] + q * column)[0] = tile[r * stride + q]


@jit
def multiply(scratch, a, items, positions, offsets, b, n, c, column, step=0, steps=1):
    """Compute C = A @ B for rows (item, position).

    Element p of a row of A is at a[0] + item*a[1] + positions[position] + offsets[p]; element q of
    a row of C at c[0] + item*c[1] + position*size + q*column. B is packed, at address b.

    A sum may have several steps, each with its part of A and B. The tiles then stay in `scratch`,
    which holds all of them, from step 0 to the last step, which stores them.
    """
    tiles, addresses = scratch
    a_rows, c_rows = addresses[:ROWS], addresses[ROWS:]
    size, k, count = tiles.itemsize, offsets.size, positions.size
    lanes = VECTOR_BYTES // size
    kc = block_length(k, MAX_BLOCK_ELEMENTS)
    if k == 0:  # no weight reaches these positions
        tiles[:] = 0
    tile_size, tile_start = ROWS * VECTORS * lanes, 0
    j = 0
    while j < n:
        width = panel_width(n - j, lanes)
        vectors = -(-width // lanes)
        for row in range(0, items * count, ROWS):
            height = min(ROWS, items * count - row)
            item, position = row // count, row % count
            target = c[0] + j * column, c[1]
            _row_addresses(a_rows, c_rows, a, target, size, positions, item, position, height)
            tile = tiles[tile_start : tile_start + tile_size]
            tile_start = 0 if steps == 1 else tile_start + tile_size
            for p in range(0, k, kc):
                block_offsets, b_rows = address(offsets) + 8 * p, b + p * vectors * VECTOR_BYTES
                length = min(kc, k - p)
                _tile_of_width(
                    vectors, tile, address(a_rows), height, block_offsets, b_rows, length, p + step
                )
            if step + 1 == steps:
                _store_tile(tile, vectors * lanes, c_rows, height, width, column)
        b += k * vectors * VECTOR_BYTES
        j += width


@jit
def multiply_narrow(memory, a, items, positions, offsets, b, n, c, column):
    """Compute `multiply` for at most NARROW_COLUMNS columns, with vectors of positions.

    The operands are exchanged: columns of B are rows of the tile, and its lanes are consecutive
    pixels of the padded plane, with all rows of positions one after the other. Neighbouring
    positions must be neighbouring pixels. Results for pixels between two rows are dropped.
    """
    size, k = memory.itemsize, offsets.size
    kc = block_length(k, MAX_BLOCK_ELEMENTS)
    if k == 0:
        memory[:] = 0
    extent = positions[positions.size - 1] - positions[0] + size
    row = memory.size // NARROW_COLUMNS * size
    step = NARROW_VECTORS * VECTOR_BYTES
    for item in range(items):
        start = a[0] + item * a[1] + positions[0]
        for p in range(0, k, kc):
            length, block_offsets = min(kc, k - p), address(offsets) + 8 * p
            for q in range(0, extent, step):
                r = 0
                while r < n:
                    w = b + p * VECTOR_BYTES + r * size
                    pixels, target = start + q, address(memory) + q + r * row
                    if n - r >= 3:
                        narrow_tile(
                            3, NARROW_VECTORS, memory,
                            w, VECTOR_BYTES, block_offsets, pixels, length, target, row, p,
                        )  # fmt: skip
                        r += 3
                    else:
                        narrow_tile(
                            1, NARROW_VECTORS, memory,
                            w, VECTOR_BYTES, block_offsets, pixels, length, target, row, p,
                        )  # fmt: skip
                        r += 1
        for r in range(n):
            out = pointer(memory, c[0] + item * c[1] + r * column)
            for i in range(positions.size):
                source = address(memory) + r * row + positions[i] - positions[0]
                out[i] = pointer(memory, source)[0]
