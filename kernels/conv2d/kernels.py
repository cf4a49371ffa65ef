"""The kernels of the convolutions, compiled by numba: the loops of a range of tasks.

    forward_or_input_grad                      weight_grad
    ---------------------                      -----------
    for each group of images                   for each split, block of channels
        pad them                                   for each step, some images
        for each phase                                 pad them
            multiply                                   multiply, add to the tiles

A forward convolution has one phase. `product.py` pads and multiplies; its functions are called by
their addresses, so that each is compiled once.
"""

from __future__ import annotations

import numpy as np

from ..matmul.micro import ROWS, VECTORS, panel_width
from ..runtime.cpu.call import call_function
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.simd import VECTOR_BYTES, address, pointer
from .plan import PHASE_WORDS
from .product import NARROW_COLUMNS


@jit(inline="always")
def _panels_are_finite(panels, packed):
    """Return whether all panels are finite, by the flags behind the `packed` elements."""
    others = 0
    for i in range(packed, panels.size):
        others += panels[i] != 0
    return others == 0


@jit(inline="always")
def _store_phase(results, c, c_item, items, n, column, rows, columns, row_stride, column_stride):
    """Store a phase's results[item, q, position] at their pixels in c."""
    size = results.itemsize
    for item in range(items):
        for q in range(n):
            source = pointer(results, address(results) + (item * n + q) * rows * columns * size)
            for i in range(rows):
                start = c + item * c_item + q * column + i * row_stride
                row, first = pointer(results, start), i * columns
                if column_stride == 2 * size:  # a constant stride: LLVM unrolls the loop
                    for j in range(columns):
                        row[2 * j] = source[first + j]
                else:
                    for j in range(columns):
                        pointer(results, start + j * column_stride)[0] = source[first + j]


@jit
def forward_or_input_grad(
    functions,
    x,
    strides,
    size,
    padded,
    before,
    workspace,
    panels,
    packed,
    table,
    phases,
    c,
    shape,
    group,
    narrow,
    begin,
    end,
):
    """Pad and multiply groups begin..end of images, `group` images each.

    c is (images, n, pixels), of a shape (images, channels of x, n, pixels of c); the table is that
    of `plan.ProductTables`, and the flags of the panels lie behind `packed` elements. `narrow` is
    the number of elements that `multiply_narrow` may read behind a plane, or 0 for `multiply`.
    Where the workspace is empty, x is contiguous, and is read where it lies. `functions` has the
    addresses of `pad_images`, `multiply` and `multiply_narrow`.

    Raises:
        MemoryError: there is not enough for the tiles.
    """
    images, channels, n, pixels = shape
    item_size = c.itemsize
    plane, column = padded[0] * padded[1] * item_size, pixels * item_size
    a_item, c_item = channels * plane, n * column
    tile_size = ROWS * VECTORS * VECTOR_BYTES // item_size
    narrow_size = NARROW_COLUMNS * (padded[0] * padded[1] + narrow) if narrow else 0
    memory = np.empty(max(narrow_size, tile_size), c.dtype)
    phase_results = np.empty(group * n * pixels if phases > 1 else 0, c.dtype)
    finite = _panels_are_finite(panels, packed)
    for t in range(begin, end):
        start, stop = t * group, min(images, (t + 1) * group)
        items, failed = stop - start, 0
        a, target = address(x) + start * strides[0], address(c) + start * c_item
        if workspace.size:
            copy, planes = address(workspace) + start * a_item, (items, channels)
            words = (a, strides, planes, size, padded, before, copy, a_item, plane)
            failed += call_function(functions[0], memory, words)
            a = copy
        for f in range(phases):
            phase = table[PHASE_WORDS * f : PHASE_WORDS * (f + 1)]
            first, classes, whole, panel, k = phase[0], phase[1], phase[2], phase[3], phase[4]
            out = target, c_item, column
            if phases > 1:  # A phase is computed contiguously, and then stored to its pixels.
                count = phase[6] * phase[7] * item_size
                out = address(phase_results), n * count, count
            operands = a, a_item, items, address(panels) + panel, n
            if narrow:
                words = (address(table), whole, channels, operands, out)
                failed += call_function(functions[2], memory[:narrow_size], words)
            else:
                records = (first, classes) if finite else (whole, 1)
                words = (address(table), records, channels, k, operands, out, (0, 1))
                failed += call_function(functions[1], memory, words)
            if phases > 1:
                _store_phase(
                    phase_results, target + phase[5], c_item, items, n, column,
                    phase[6], phase[7], phase[8], phase[9],
                )  # fmt: skip
        if failed:
            raise MemoryError


@jit
def weight_grad(
    functions,
    x,
    strides,
    size,
    padded,
    before,
    workspace,
    panels,
    packed,
    table,
    c,
    shape,
    blocks,
    begin,
    end,
):
    """Compute tasks (split, block of channels): sums over the images of a split.

    c is (splits, n, channels, weights), of a shape (images, channels, n, weights, positions).
    `blocks` is (images of a step, steps of a split, channels of a block, tiles of a block for each
    panel). The other arguments are those of `forward_or_input_grad`.

    Raises:
        MemoryError: there is not enough for the tiles.
    """
    images, channels, n, weights, positions = shape
    step_images, split_steps, block_channels, tiles = blocks
    item_size = c.itemsize
    lanes = VECTOR_BYTES // item_size
    # The images of the workspace follow each other within a channel, those of x within a batch.
    plane = padded[0] * padded[1] * item_size
    image_step, channel_step = plane, images * plane
    channel_blocks = -(-channels // block_channels)
    panel_count, j = 0, 0
    while j < n:
        panel_count, j = panel_count + 1, j + panel_width(n - j, lanes)
    memory = np.empty(panel_count * tiles * ROWS * VECTORS * lanes, c.dtype)
    b_row = -(-n // lanes) * VECTOR_BYTES  # of all panels
    c_item, column = weights * item_size, channels * weights * item_size
    first, classes = table[0], table[1]
    if not _panels_are_finite(panels, packed):
        first, classes = table[2], 1
    for t in range(begin, end):
        split, channel = t // channel_blocks, t % channel_blocks * block_channels
        count, failed = min(block_channels, channels - channel), 0
        target = address(c) + split * n * column + channel * c_item
        first_image = split * split_steps * step_images
        steps = min(split_steps, -(-(images - first_image) // step_images))
        for step in range(steps):
            start = first_image + step * step_images
            items = min(images - start, step_images)
            a, a_item = address(x) + start * strides[0] + channel * strides[1], strides[1]
            if workspace.size:
                copy = address(workspace) + start * image_step + channel * channel_step
                places = copy, image_step, channel_step
                words = (a, strides, (items, count), size, padded, before, places)
                failed += call_function(functions[0], memory, words)
                a, a_item = copy, channel_step
            b = address(panels) + start * positions * b_row
            operands = items, items * positions, a, a_item, count, b, n
            words = (
                address(table),
                first,
                classes,
                operands,
                (target, c_item, column, step, steps),
            )
            failed += call_function(functions[1], memory, words)
        if failed:
            raise MemoryError
