"""Sum and maximum over axes, in blocks whose bounds depend on the shape alone.

A sum of floats depends on its order. Here the order is fixed by the shape: blocks of BLOCK
elements (rows) or ROWS rows (columns), each one chain per lane, joined in order. Threads share out
whole blocks or whole results, so that any number of them gives the same bits.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from ..elementwise.cpu import elementwise
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts
from ..runtime.strides import runs

LANES = 64  # independent chains: enough for LLVM to fill and to pipeline the vector registers
BLOCK = 4096  # elements of a row that are reduced by one chain per lane
ROWS = 256  # rows that are added up before their sum joins the total
GRAIN = 1048576  # elements that are worth a second thread


@jit
def _join(a, b, largest):
    """max(a, b), NaN if either is, or a + b."""
    if largest:
        return b if b > a or b != b else a
    return a + b


@jit
def _reduce_block(x, lanes, start, largest):
    """One number from x[0:n]: chain i takes the elements i, i + LANES, ...; then a tree."""
    lanes[:] = start
    whole = x.size // LANES * LANES
    for i in range(0, whole, LANES):
        chunk = x[i : i + LANES]
        for lane in range(LANES):
            lanes[lane] = _join(lanes[lane], chunk[lane], largest)
    for lane in range(x.size - whole):
        lanes[lane] = _join(lanes[lane], x[whole + lane], largest)
    width = LANES // 2
    while width:
        for lane in range(width):
            lanes[lane] = _join(lanes[lane], lanes[lane + width], largest)
        width //= 2
    return lanes[0]


@jit
def rows(blocks, x, size, start, largest, begin, end):
    """blocks[row, k] = block k of row `row` of x (n, size), for the flat positions begin..end."""
    lanes = np.empty(LANES, x.dtype)
    per_row = blocks.shape[1]
    for at in range(begin, end):
        row = at // per_row
        k = at - row * per_row
        first = row * size + k * BLOCK
        last = min(first + BLOCK, (row + 1) * size)
        blocks[row, k] = _reduce_block(x[first:last], lanes, start, largest)


@jit
def _join_row(total, x, largest):
    for i in range(total.size):
        total[i] = _join(total[i], x[i], largest)


@jit
def columns(out, x, size, start, largest, begin, end):
    """out[o, j] = reduction of x[o, :, j], for the flat positions begin..end of out."""
    width = out.shape[1]
    memory = np.empty(width, x.dtype)
    while begin < end:
        o = begin // width
        left = begin - o * width
        right = min(width, left + end - begin)
        total, block = out[o, left:right], memory[: right - left]
        total[:] = start
        for first in range(0, size, ROWS):
            block[:] = start
            for row in range(first, min(first + ROWS, size)):
                at = (o * size + row) * width
                _join_row(block, x[at + left : at + right], largest)
            _join_row(total, block, largest)
        begin += right - left


def _reduce_rows(x: np.ndarray, outer: int, size: int, largest: bool) -> np.ndarray:
    """(outer, size) -> (outer,), in passes that each leave one number per block."""
    start = x.dtype.type(-math.inf if largest else 0)
    while True:
        blocks = empty((outer, max(1, -(-size // BLOCK))), x.dtype)
        many = parts(outer * size, GRAIN)
        given = blocks, x.reshape(-1), size, start, largest
        launch(rows, *given, over=blocks.size, parts=many)
        x, size = blocks, blocks.shape[1]
        if size == 1:
            return blocks.reshape(outer)


def _reduce_columns(x: np.ndarray, outer: int, size: int, width: int, largest: bool) -> np.ndarray:
    """(outer, size, width) -> (outer, width)."""
    start = x.dtype.type(-math.inf if largest else 0)
    out = empty((outer, width), x.dtype)
    many = parts(x.size, GRAIN) if out.size >= LANES else 1
    launch(columns, out, x.reshape(-1), size, start, largest, over=out.size, parts=many)
    return out


def reduce(
    x: np.ndarray, axis: tuple[int, ...], keepdims: bool, largest: bool = False
) -> np.ndarray:
    """The sum, or the largest element, over the axes (sorted, counted from the front)."""
    kept = tuple(1 if i in axis else n for i, n in enumerate(x.shape))
    shape = kept if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axis)
    if not axis or not x.flags.c_contiguous:
        x = elementwise("copy", x)
    for outer, size, width in runs(x.shape, axis):
        if width == 1:
            x = _reduce_rows(x, outer, size, largest)
        else:
            x = _reduce_columns(x, outer, size, width, largest)
    return x.reshape(shape)


FLOATS_ONLY = True  # integers and bools run their numpy reference
KERNELS = {"sum": reduce, "max": partial(reduce, largest=True)}
