"""Sum and maximum over any axes, in an order that depends on the shape alone.

    row kernel, x (n, size):
        for each row:                          threads share out the blocks
            for each block of BLOCK_ELEMENTS:
                for i in the block:            LANES accumulators, vectorized by LLVM
                    lanes[i % LANES] += x[i]
                blocks[row, block] = tree of additions over the lanes
        the blocks are reduced in the same way, until one number per row is left

    column kernel, x (outer, size, width):
        for each o, block of BLOCK_ROWS rows:  threads share out the columns
            for each row of the block:
                for j in the columns:          vectorized by LLVM
                    block[j] += x[o, row, j]
            total += block

Optimizations:
    - Multiple accumulators (instruction-level parallelism): an addition does not wait for the one
      before it, and the accumulators fill the vector registers.
    - Blocked summation: partial sums stay small, and so does the rounding error.
    - Loop order: columns are accumulated row by row, so that memory is read in order.
    - Multithreading from MIN_PARALLEL_ELEMENTS on. Threads share out whole blocks or whole
      results, so that any number of threads gives the same bits.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from ..elementwise.cpu import elementwise
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts
from ..runtime.strides import runs

LANES = 64  # accumulators: enough to fill the vector registers and the pipeline of the adder
BLOCK_ELEMENTS = 4096  # elements of a row that are reduced to one number
BLOCK_ROWS = 256  # rows that are accumulated before their sum is added to the total
MIN_PARALLEL_ELEMENTS = 1048576  # with fewer, a second thread costs more than it saves


@jit
def _combine(a, b, is_max):
    """Return a + b, or max(a, b), which is NaN if either is."""
    if is_max:
        return b if b > a or b != b else a
    return a + b


@jit
def reduce_block(x, lanes, start, is_max):
    """Return the sum or maximum of x, at most BLOCK_ELEMENTS elements.

    Accumulator i of the LANES takes the elements i, i + LANES, ...; a tree joins the accumulators.
    `lanes` is memory for them, `start` their initial value.
    """
    lanes[:] = start
    whole = x.size // LANES * LANES
    for i in range(0, whole, LANES):
        chunk = x[i : i + LANES]
        for lane in range(LANES):
            lanes[lane] = _combine(lanes[lane], chunk[lane], is_max)
    for lane in range(x.size - whole):
        lanes[lane] = _combine(lanes[lane], x[whole + lane], is_max)
    width = LANES // 2
    while width:
        for lane in range(width):
            lanes[lane] = _combine(lanes[lane], lanes[lane + width], is_max)
        width //= 2
    return lanes[0]


@jit
def reduce_row_blocks(blocks, x, size, start, is_max, begin, end):
    """Reduce the blocks begin..end of all rows of x, flat memory of shape (n, size).

    blocks[row, k] is the result of block k of row `row`; begin and end are flat positions in it.
    """
    lanes = np.empty(LANES, x.dtype)
    blocks_per_row = blocks.shape[1]
    for position in range(begin, end):
        row = position // blocks_per_row
        k = position - row * blocks_per_row
        first = row * size + k * BLOCK_ELEMENTS
        last = min(first + BLOCK_ELEMENTS, (row + 1) * size)
        blocks[row, k] = reduce_block(x[first:last], lanes, start, is_max)


@jit
def _combine_rows(total, x, is_max):
    for i in range(total.size):
        total[i] = _combine(total[i], x[i], is_max)


@jit
def reduce_columns(out, x, size, start, is_max, begin, end):
    """Reduce x, flat memory of shape (outer, size, width), over its middle axis.

    out[o, j] is the result of x[o, :, j]; this call computes the flat positions begin..end of out.
    """
    width = out.shape[1]
    memory = np.empty(width, x.dtype)
    while begin < end:
        o = begin // width
        left = begin - o * width
        right = min(width, left + end - begin)
        total, block = out[o, left:right], memory[: right - left]
        total[:] = start
        for first in range(0, size, BLOCK_ROWS):
            block[:] = start
            for row in range(first, min(first + BLOCK_ROWS, size)):
                row_start = (o * size + row) * width
                _combine_rows(block, x[row_start + left : row_start + right], is_max)
            _combine_rows(total, block, is_max)
        begin += right - left


def _start(dtype: np.dtype, is_max: bool) -> np.generic:
    """Return the neutral element, with which an accumulator starts."""
    return dtype.type(-math.inf if is_max else 0)


def _reduce_rows(x: np.ndarray, outer: int, size: int, is_max: bool) -> np.ndarray:
    """Reduce (outer, size) to (outer,), in passes that each leave one number per block."""
    start = _start(x.dtype, is_max)
    while True:
        blocks = empty((outer, max(1, -(-size // BLOCK_ELEMENTS))), x.dtype)
        arguments = blocks, x.reshape(-1), size, start, is_max
        part_count = parts(outer * size, MIN_PARALLEL_ELEMENTS)
        launch(reduce_row_blocks, *arguments, over=blocks.size, parts=part_count)
        x, size = blocks, blocks.shape[1]
        if size == 1:
            return blocks.reshape(outer)


def _reduce_columns(x: np.ndarray, outer: int, size: int, width: int, is_max: bool) -> np.ndarray:
    """Reduce (outer, size, width) to (outer, width)."""
    out = empty((outer, width), x.dtype)
    arguments = out, x.reshape(-1), size, _start(x.dtype, is_max), is_max
    part_count = parts(x.size, MIN_PARALLEL_ELEMENTS) if out.size >= LANES else 1
    launch(reduce_columns, *arguments, over=out.size, parts=part_count)
    return out


def reduce(
    x: np.ndarray, axis: tuple[int, ...], keepdims: bool, is_max: bool = False
) -> np.ndarray:
    """Return the sum, or the maximum, of x over the axes (sorted, none negative)."""
    kept = tuple(1 if i in axis else n for i, n in enumerate(x.shape))
    shape = kept if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axis)
    if not axis or not x.flags.c_contiguous:
        x = elementwise("copy", x)
    for outer, size, width in runs(x.shape, axis):
        if width == 1:
            x = _reduce_rows(x, outer, size, is_max)
        else:
            x = _reduce_columns(x, outer, size, width, is_max)
    return x.reshape(shape)


FLOATS_ONLY = True  # integers and bools are computed by the numpy reference
KERNELS = {"sum": reduce, "max": partial(reduce, is_max=True)}
