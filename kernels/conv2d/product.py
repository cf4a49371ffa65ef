"""The matrix product behind every convolution: an implicit GEMM, with A read through two tables.

    C = A @ B        A[row, p] at address row_address(row) + terms[p, 0], in a padded image
                     row_address(item, i) = a + item*a_item + rows[i, 0]

    for j in 0 .. n step NR                           a packed panel of B
        for each class                                rows that skip the same terms (`plan.py`)
            for row in 0 .. items*rows step MR        a tile of C
                for each K-block of terms             (`matmul/k_blocks.py`)
                    tile (+)= A[row:row+MR, block] @ B[block, j:j+NR]     `micro.tile`
                store the tile, transposed: its rows are positions, mostly neighbours in C

This module has the product and the preparation of its operands: padded images, and panels of B.

Optimizations:
- implicit GEMM: im2col's matrix is not written; images are copied once, padded with zeros, or not
  at all where there is no padding
- register blocking, vectorized access, cache blocking and packing as in `matmul/cpu.py`
- skipped padding: terms that read zeros are left out
- stores by columns: a tile is transposed in registers, so that C is written contiguously
- narrow products: for few columns, vectors are of positions instead (`multiply_narrow`)

Addresses are integers; strides and tables are in bytes.
"""

from __future__ import annotations

import numpy as np

from ..matmul.micro import ROWS, VECTORS, panel_width, transpose_block
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.simd import VECTOR_BYTES, address, copy_bytes, pointer, zero_bytes
from .micro import narrow_tile, narrow_width, store_transposed, tile
from .plan import CLASS_WORDS, ROW_WORDS, TERM_WORDS
from .tables import PACKING_WORDS

NARROW_COLUMNS = 4  # the most columns of a narrow product
NARROW_OVERREACH = 3  # vectors: the width of the narrowest tile


# ---------------------------------------------------------------------------------- the operands
@jit(inline="always")
def _pad_plane(like, x, x_row, x_column, height, width, padded_width, before, zeros, target):
    """Copy a plane (height, width) into one of `zeros` bytes, which are zeros, from `before` on."""
    size = like.itemsize
    zero_bytes(target, zeros)
    target += before
    for _ in range(height):
        if x_column == size:
            copy_bytes(x, target, width * size)
        else:
            row = pointer(like, target)
            for j in range(width):
                row[j] = pointer(like, x + j * x_column)[0]
        x += x_row
        target += padded_width * size


@jit
def pad_images(
    like,
    x,
    x_image,
    x_channel,
    x_row,
    x_column,
    images,
    channels,
    height,
    width,
    padded_height,
    padded_width,
    top,
    left,
    target,
    image_step,
    channel_step,
):
    """Copy planes of x, padded with `top` rows and `left` columns before them, to `target`.

    The plane of an image and a channel goes to target + image*image_step + channel*channel_step.
    """
    zeros = padded_height * padded_width * like.itemsize
    before = (top * padded_width + left) * like.itemsize
    for image in range(images):
        for channel in range(channels):
            source = x + image * x_image + channel * x_channel
            plane = target + image * image_step + channel * channel_step
            _pad_plane(
                like, source, x_row, x_column, height, width, padded_width, before, zeros, plane
            )


@jit(inline="always")
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


@jit(inline="always")
def _is_finite(like, x, count):
    """Return whether all of `count` elements at address x are finite."""
    elements, others = pointer(like, x), 0
    for i in range(count):
        others += not abs(elements[i]) < np.inf
    return others == 0


@jit
def pack_panels(x, table, column, panels, begin, end):
    """Pack panels begin..end of B; the table is that of `plan.Packing`.

    Behind the panels there is an element for each: 0, or 1 where the panel is not finite.
    """
    lanes = VECTOR_BYTES // panels.itemsize
    for t in range(begin, end):
        record = PACKING_WORDS * t
        source, k, start = address(x) + table[record], table[record + 1], table[record + 2]
        width, target, flag = table[record + 3], table[record + 4], table[record + 5]
        panel = address(panels) + target
        _pack_panel(panels, source, table[start : start + k], width, column, panel)
        panels[flag] = not _is_finite(panels, panel, k * -(-width // lanes) * lanes)


# ----------------------------------------------------------------------------------- the product
@jit(inline="always")
def _row_addresses(addresses, rows, a, a_item, c, c_item, item, row, count, height):
    """Write the addresses of `height` rows in A, and behind those of ROWS rows, in C."""
    for r in range(height):
        addresses[r] = a + item * a_item + rows[ROW_WORDS * row]
        addresses[ROWS + r] = c + item * c_item + rows[ROW_WORDS * row + 1]
        row += 1
        if row == count:
            item, row = item + 1, 0


@jit(inline="always")
def _store_tile(tiles, first, stride, c_rows, height, width, column):
    """Store the tile that begins at tiles[first] into rows of C, `column` bytes between columns."""
    size = tiles.itemsize
    lanes = VECTOR_BYTES // size
    transposed = 0  # columns that are stored as vectors
    if height == ROWS and c_rows[ROWS - 1] - c_rows[0] == (ROWS - 1) * size:
        transposed = width // lanes * lanes
        for q in range(0, transposed, lanes):
            source, target = address(tiles) + (first + q) * size, c_rows[0] + q * column
            store_transposed(ROWS, tiles, source, stride * size, target, column)
    for q in range(transposed, width):
        for r in range(height):
            pointer(tiles, c_rows[r] + q * column)[0] = tiles[first + r * stride + q]


@jit
def multiply(
    tiles,
    table,
    records,
    classes,
    planes,
    k,
    a,
    a_item,
    items,
    b,
    n,
    c,
    c_item,
    column,
    step,
    steps,
):
    """Compute C = A @ B for some classes of rows of some items.

    `table` is the address of `plan.ProductTables.tables`, `records` the index of the first class
    in it. Element p of a row of A is at a + item*a_item + row + term p; element q of a row of C at
    c + item*c_item + row + q*column. B has k rows and is packed, at address b. The terms of a class
    are `planes` times those in its record.

    A sum may have several steps, each with its part of A and B. The tiles then stay in `tiles`,
    which holds all of them, from step 0 to the last step, which stores them; a product of one step
    uses memory for one tile.
    """
    addresses = np.empty(2 * ROWS, np.int64)
    lanes = VECTOR_BYTES // tiles.itemsize
    first, j = 0, 0
    while j < n:
        width = panel_width(n - j, lanes)
        vectors = -(-width // lanes)
        for i in range(classes):
            record = records + CLASS_WORDS * i
            rows, count, terms, length, ends, blocks = _class(addresses, table, record, planes)
            for row in range(0, items * count, ROWS):
                height = min(ROWS, items * count - row)
                item, row_of_item = row // count, row % count
                _row_addresses(
                    addresses, rows, a, a_item, c, c_item, item, row_of_item, count, height
                )
                if length == 0:  # no term reaches these rows
                    tiles[first : first + ROWS * vectors * lanes] = 0
                start = 0
                for block in range(blocks):
                    end = min(ends[block], length)
                    tile(
                        vectors,
                        tiles,
                        address(addresses),
                        height,
                        terms + 8 * TERM_WORDS * start,
                        b,
                        end - start,
                        address(tiles) + first * tiles.itemsize,
                        block + step,
                    )
                    start = end
                if step + 1 == steps:
                    c_rows = addresses[ROWS:]
                    _store_tile(tiles, first, vectors * lanes, c_rows, height, width, column)
                if steps > 1:
                    first += ROWS * VECTORS * lanes
        b += k * vectors * VECTOR_BYTES
        c += width * column
        j += width


@jit(inline="always")
def _class(words, table, record, planes):
    """Return a class's (rows, their number, terms, their number, ends of K-blocks, their number).

    `record` is its index in the table. Rows and ends are pointers to words, terms an address;
    `words` is an array of their type.
    """
    numbers = pointer(words, table + 8 * record)
    rows, ends = pointer(words, table + 8 * numbers[0]), pointer(words, table + 8 * numbers[4])
    return rows, numbers[1], table + 8 * numbers[2], planes * numbers[3], ends, numbers[5]


@jit
def multiply_narrow(memory, table, record, planes, a, a_item, items, b, n, c, c_item, column):
    """Compute `multiply` for at most NARROW_COLUMNS columns, with vectors of positions.

    The operands are exchanged: columns of B are rows of the tile, and its lanes are consecutive
    pixels of the padded plane, with all rows of positions one after the other. Neighbouring
    positions must be neighbouring pixels. Results for pixels between two rows are dropped.

    `record` is the index of a class that skips nothing. The tiles read up to NARROW_OVERREACH
    vectors beyond the pixels.
    """
    size = memory.itemsize
    words = np.empty(0, np.int64)
    rows, count, terms, length, ends, blocks = _class(words, table, record, planes)
    if length == 0:
        memory[:] = 0
    first = rows[0]
    extent = -(-(rows[ROW_WORDS * (count - 1)] - first + size) // VECTOR_BYTES)  # vectors
    memory_row = memory.size // NARROW_COLUMNS * size
    for item in range(items):
        start = 0
        for block in range(blocks):
            end = ends[block]
            r = 0
            while r < n:
                height = 3 if n - r >= 3 else 1
                v = 0
                while v < extent:
                    vectors = narrow_width(height, extent - v)
                    q = v * VECTOR_BYTES
                    narrow_tile(
                        height,
                        vectors,
                        memory,
                        b + r * size,
                        terms + 8 * TERM_WORDS * start,
                        a + item * a_item + first + q,
                        end - start,
                        address(memory) + q + r * memory_row,
                        memory_row,
                        block,
                    )
                    v += vectors
                r += height
            start = end
        for r in range(n):
            results = address(memory) + r * memory_row - first
            for i in range(count):
                target = c + item * c_item + r * column + rows[ROW_WORDS * i + 1]
                pointer(memory, target)[0] = pointer(memory, results + rows[ROW_WORDS * i])[0]
