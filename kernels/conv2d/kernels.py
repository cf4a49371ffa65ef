"""The kernels of the convolutions, compiled by numba: the loops of a range of tasks.

    forward_or_input_grad                      weight_grad
    ---------------------                      -----------
    for each group of images                   for each split, block of channels
        pad them                                   for each step, some images
        for each phase                                 pad them
            multiply                                   multiply, add to the tiles

A forward convolution has one phase. `product.py` pads and multiplies.
"""

from __future__ import annotations

import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.simd import VECTOR_BYTES, address, pointer
from .product import (
    NARROW_COLUMNS,
    allocate_scratch,
    count_tiles,
    multiply,
    multiply_narrow,
    pad_images,
)
from .tables import PHASE_WORDS


@jit
def _store_phase(results, count, target_record, c, items, n, column):
    """Store a phase's results[item, q, position] at their pixels in c."""
    start, rows, columns, row_stride, column_stride = target_record
    for item in range(items):
        for q in range(n):
            index = (item * n + q) * count
            for i in range(rows):
                row = c[0] + item * c[1] + q * column + start + i * row_stride
                for j in range(columns):
                    pointer(results, row + j * column_stride)[0] = results[index + i * columns + j]


@jit
def forward_or_input_grad(
    x,
    strides,
    size,
    padded,
    before,
    workspace,
    panels,
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
    of `tables.ProductTables`. `narrow` is the number of elements that a tile of `multiply_narrow`
    covers, or 0 for `multiply`.
    """
    images, channels, n, pixels = shape
    plane, column = padded[0] * padded[1] * c.itemsize, pixels * c.itemsize
    scratch = allocate_scratch(c, 1)
    narrow_size = NARROW_COLUMNS * (padded[0] * padded[1] + narrow) if narrow else 0
    narrow_memory = np.empty(narrow_size, c.dtype)
    phase_results = np.empty(group * n * pixels if phases > 1 else 0, c.dtype)
    for t in range(begin, end):
        start, stop = t * group, min(images, (t + 1) * group)
        task_images, plane_strides = (start, stop), (channels * plane, plane)
        pad_images(
            x, strides, task_images, (0, channels), size, padded, before, workspace, plane_strides
        )
        a = address(workspace) + start * channels * plane, channels * plane
        target = address(c) + start * n * column, n * column
        for f in range(phases):
            k, k_start, position_start, panel = table[PHASE_WORDS * f : PHASE_WORDS * f + 4]
            target_record = (
                table[PHASE_WORDS * f + 4],
                table[PHASE_WORDS * f + 5],
                table[PHASE_WORDS * f + 6],
                table[PHASE_WORDS * f + 7],
                table[PHASE_WORDS * f + 8],
            )
            count, items = target_record[1] * target_record[2], stop - start
            positions = table[position_start : position_start + count]
            offsets = table[k_start : k_start + k]
            b = address(panels) + panel
            out, out_column = target, column
            if phases > 1:  # A phase is computed contiguously, and then stored to its pixels.
                out = address(phase_results), n * count * c.itemsize
                out_column = count * c.itemsize
            if narrow:
                multiply_narrow(narrow_memory, a, items, positions, offsets, b, n, out, out_column)
            else:
                multiply(scratch, a, items, positions, offsets, b, n, out, out_column)
            if phases > 1:
                _store_phase(phase_results, count, target_record, target, items, n, column)


@jit
def weight_grad(
    x, strides, size, padded, before, workspace, panels, table, c, shape, blocks, begin, end
):
    """Compute tasks (split, block of channels): sums over the images of a split.

    c is (splits, n, channels, weights), of a shape (images, channels, n, weights, positions).
    `blocks` is (images of a step, steps of a split, channels of a block).
    """
    images, channels, n, weights, positions = shape
    step_images, split_steps, block_channels = blocks
    plane = padded[0] * padded[1] * c.itemsize
    channel_blocks = -(-channels // block_channels)
    lanes = VECTOR_BYTES // c.itemsize
    scratch = allocate_scratch(c, count_tiles(min(block_channels, channels) * weights, n, lanes))
    b_row = -(-n // lanes) * VECTOR_BYTES  # of all panels
    column, plane_strides = channels * weights * c.itemsize, (plane, images * plane)
    offsets = np.empty(step_images * positions, np.int64)
    for image in range(step_images):
        for position in range(positions):
            offsets[image * positions + position] = table[weights + position] + image * plane
    for t in range(begin, end):
        split, channel = t // channel_blocks, t % channel_blocks * block_channels
        count = min(block_channels, channels - channel)
        target = address(c) + split * n * column + channel * weights * c.itemsize
        first_image = split * split_steps * step_images
        steps = min(split_steps, -(-(images - first_image) // step_images))
        for step in range(steps):
            start = (split * split_steps + step) * step_images
            stop = min(images, start + step_images)
            pad_images(
                x,
                strides,
                (start, stop),
                (channel, channel + count),
                size,
                padded,
                before,
                workspace,
                plane_strides,
            )
            a = address(workspace) + start * plane + channel * plane_strides[1], plane_strides[1]
            b = address(panels) + start * positions * b_row
            step_offsets = offsets[: (stop - start) * positions]
            out = target, weights * c.itemsize
            multiply(
                scratch, a, count, table[:weights], step_offsets, b, n, out, column, step, steps
            )
