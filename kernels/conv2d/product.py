"""The product behind every convolution: C = A @ B, A being read through tables from padded images.

Addresses are integers; strides and tables are in bytes.
"""

from __future__ import annotations

import numpy as np

from ..matmul.cpu import _panel_width
from ..matmul.micro import ROWS, VECTORS, transpose_block
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.simd import REGISTERS, VECTOR_BYTES, address, copy_bytes, pointer, zero_bytes
from .micro import flat_tile, store_turned, tile

DEPTH = 512  # elements of a sum that are one chain of multiply-adds
# Columns that are too few for vectors of columns, and how many vectors of places a tile then has.
FEW, WIDE = 4, 6 if REGISTERS == 32 else 3


# ---------------------------------------------------------------------------------- the operands
@jit
def _pad(like, x, strides, size, padded, before, into):
    """One plane x of (height, width) into a larger one, `before` (rows, columns), zeros around."""
    width = like.itemsize
    zero_bytes(into, padded[0] * padded[1] * width)
    into += (before[0] * padded[1] + before[1]) * width
    for _ in range(size[0]):
        if strides[1] == width:
            copy_bytes(x, into, size[1] * width)
        else:
            row = pointer(like, into)
            for j in range(size[1]):
                row[j] = pointer(like, x + j * strides[1])[0]
        x += strides[0]
        into += padded[1] * width


@jit
def pad_images(x, strides, images, channels, size, padded, before, workspace, steps):
    """Planes (image, channel) of x, for ranges of both, padded: at their steps in the workspace."""
    for image in range(images[0], images[1]):
        for channel in range(channels[0], channels[1]):
            source = address(x) + image * strides[0] + channel * strides[1]
            into = address(workspace) + image * steps[0] + channel * steps[1]
            _pad(workspace, source, (strides[2], strides[3]), size, padded, before, into)


@jit
def _pack_panel(like, x, steps, width, column, into):
    """Row p of the panel has B[p, q] = x[steps[p] + q*column] for q < width, then zeros.

    By square blocks: those whose steps are neighbours in memory are turned in registers.
    """
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    stride = -(-width // lanes) * VECTOR_BYTES
    if width * size < stride:
        zero_bytes(into, steps.size * stride)
    for p in range(0, steps.size, lanes):
        deep = min(lanes, steps.size - p)
        together = deep == lanes
        for i in range(1, deep):
            together = together and steps[p + i] - steps[p] == i * size
        for q in range(0, width, lanes):
            wide = min(lanes, width - q)
            source, target = x + q * column, into + p * stride + q * size
            if together and wide == lanes:
                transpose_block(like, source + steps[p], column, target, stride)
            else:
                for j in range(wide):
                    for i in range(deep):
                        from_place = pointer(like, source + steps[p + i] + j * column)
                        pointer(like, target + i * stride + j * size)[0] = from_place[0]


@jit
def pack(x, tables, column, panels, begin, end):
    """Panels begin..end of B; the tables are those of `tables.panels`."""
    for t in range(begin, end):
        source, k, at, width, into = tables[5 * t : 5 * t + 5]
        steps = tables[at : at + k]
        _pack_panel(panels, address(x) + source, steps, width, column, address(panels) + into)


# ----------------------------------------------------------------------------------- the product
@jit
def scratch(like, tiles):
    """The memory of some tiles, and two rows of addresses."""
    lanes = VECTOR_BYTES // like.itemsize
    return np.empty(tiles * ROWS * VECTORS * lanes, like.dtype), np.empty(2 * ROWS, np.int64)


@jit
def tiles_of(rows, n, lanes):
    """How many tiles a product has."""
    count, j = 0, 0
    while j < n:
        count, j = count + 1, j + _panel_width(n - j, lanes)
    return count * -(-rows // ROWS)


@jit
def _tile(vectors, like, starts, height, steps, b, k, add):
    """`tile` of a width that is known only here, into the memory of `like`."""
    b_step, c = vectors * VECTOR_BYTES, address(like)
    if vectors == 3:
        tile(ROWS, 3, like, starts, height, steps, b, b_step, k, c, add)
    elif vectors == 2:
        tile(ROWS, 2, like, starts, height, steps, b, b_step, k, c, add)
    else:
        tile(ROWS, 1, like, starts, height, steps, b, b_step, k, c, add)


@jit
def _addresses(starts, targets, a, c, size, places, item, place, height):
    """Where `height` rows begin in A and in C, item after item."""
    for r in range(height):
        starts[r] = a[0] + item * a[1] + places[place]
        targets[r] = c[0] + item * c[1] + place * size
        place += 1
        if place == places.size:
            item, place = item + 1, 0


@jit
def _store(tile, stride, targets, height, width, column):
    """The tile to its rows' targets, whose columns lie `column` apart."""
    size = tile.itemsize
    lanes = VECTOR_BYTES // size
    whole = 0
    if height == ROWS and targets[ROWS - 1] - targets[0] == (ROWS - 1) * size:
        whole = width // lanes * lanes
        for q in range(0, whole, lanes):
            source, into = address(tile) + q * size, targets[0] + q * column
            store_turned(ROWS, tile, source, stride * size, into, column)
    for q in range(whole, width):
        for r in range(height):
            pointer(tile, targets[r] + q * column)[0] = tile[r * stride + q]


@jit
def _depth(k):
    """The length of a K-block: it follows from k alone, as all that touches the bits."""
    return -(-k // (max(1, -(-k // DEPTH)) * 16)) * 16


@jit
def product(memory, a, items, places, steps, b, n, c, column, turn=0, turns=1):
    """C = A @ B for rows (item, place), one panel of B after the other.

    A row begins at a[0] + item*a[1] + places[place], and its element p is steps[p] further on. In
    C, element q of the row is at c[0] + item*c[1] + place*size + q*column.

    Where A and B come in several turns, C is the sum of their products. Its tiles wait in memory,
    which has room for all of them then, until the last turn.
    """
    tiles, numbers = memory
    starts, targets = numbers[:ROWS], numbers[ROWS:]
    size, k, count = tiles.itemsize, steps.size, places.size
    lanes = VECTOR_BYTES // size
    depth = max(16, _depth(k))
    if k == 0:  # no weight reaches these places
        tiles[:] = 0
    each, at_tile = ROWS * VECTORS * lanes, 0
    j = 0
    while j < n:
        width = _panel_width(n - j, lanes)
        vectors = -(-width // lanes)
        for row in range(0, items * count, ROWS):
            height = min(ROWS, items * count - row)
            item, place = row // count, row % count
            target = c[0] + j * column, c[1]
            _addresses(starts, targets, a, target, size, places, item, place, height)
            tile = tiles[at_tile : at_tile + each]
            at_tile = 0 if turns == 1 else at_tile + each
            for p in range(0, k, depth):
                at, from_row = address(steps) + 8 * p, b + p * vectors * VECTOR_BYTES
                deep = min(depth, k - p)
                _tile(vectors, tile, address(starts), height, at, from_row, deep, p + turn)
            if turn + 1 == turns:
                _store(tile, vectors * lanes, targets, height, width, column)
        b += k * vectors * VECTOR_BYTES
        j += width


@jit
def product_of_few(line, a, items, places, steps, b, n, c, column):
    """The same where B has at most FEW columns, and the places are pixels of neighbouring rows.

    Turned around: the columns are the rows of the tile, and its lanes are neighbours in the padded
    plane, those between two rows of places included; what comes out there is dropped.
    """
    size, k = line.itemsize, steps.size
    depth = max(16, _depth(k))
    if k == 0:
        line[:] = 0
    stretch = places[places.size - 1] - places[0] + size
    row = line.size // FEW * size
    for item in range(items):
        start = a[0] + item * a[1] + places[0]
        for p in range(0, k, depth):
            deep, at = min(depth, k - p), address(steps) + 8 * p
            for q in range(0, stretch, WIDE * VECTOR_BYTES):
                r = 0
                while r < n:
                    w, into = b + p * VECTOR_BYTES + r * size, address(line) + q + r * row
                    if n - r >= 3:
                        flat_tile(3, WIDE, line, w, VECTOR_BYTES, at, start + q, deep, into, row, p)
                        r += 3
                    else:
                        flat_tile(1, WIDE, line, w, VECTOR_BYTES, at, start + q, deep, into, row, p)
                        r += 1
        for r in range(n):
            out = pointer(line, c[0] + item * c[1] + r * column)
            for i in range(places.size):
                out[i] = pointer(line, address(line) + r * row + places[i] - places[0])[0]
