"""Convolutions on the CPU: products of matrices that are never written down.

A convolution is a product A @ B where A, `im2col`, has a row for each place of the kernel and a
column for each of its weights. A holds every pixel many times, but it is additive: where images are
padded, element (r, p) lies at rows[r] + steps[p]. So the tile of `micro.py` reads A through two
small tables, and nothing is copied. All three faces of the convolution are such products:

    face          rows of A                     summed over                  columns
    forward       places (n, a, b) of x         weights (c, h, v)            out channels
    input_grad    places (n, i, j) of g         weights (o, h, v), by phase  in channels
    weight_grad   weights (c, h, v) under x     places (n, a, b)             out channels

What is copied, once: the images, with zeros around them, and B, into panels. Each element of a
result is a sum of K-blocks in order, each block one chain of fused multiply-adds, and where
`weight_grad` cuts its sum into splits follows from the shapes: its bits do not depend on threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ..matmul.micro import ROWS
from ..reduce.cpu import reduce
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, first, launch, parts
from ..runtime.cpu.simd import VECTOR_BYTES, address, pointer
from ..shape.cpu import fill
from . import tables
from .geometry import Pair, output_size
from .product import DEPTH, FEW, WIDE, pack, pad_images, product, product_of_few, scratch, tiles_of
from .tables import RECORD, Faces, Packing

# Rows of A that a task has at least, and rows of the weight's gradient that need no splits.
LEAST_ROWS, MANY_ROWS = 64, 512
# A second thread pays from about so many multiply-adds on.
PARALLEL_WORK = 6_400_000


# ------------------------------------------------------------------------------ in numba
@jit
def _put(line, count, record, c, items, n, column):
    """line[item, q, place] to the places of a phase in c."""
    start, rows, columns, row_step, column_step = record
    for item in range(items):
        for q in range(n):
            at = (item * n + q) * count
            for i in range(rows):
                into = c[0] + item * c[1] + q * column + start + i * row_step
                for j in range(columns):
                    pointer(line, into + j * column_step)[0] = line[at + i * columns + j]


@jit
def by_places(
    x,
    strides,
    size,
    padded,
    before,
    workspace,
    panels,
    tables,
    phases,
    c,
    shape,
    group,
    few,
    begin,
    end,
):
    """Forward and input_grad: groups begin..end of images, each padded and then multiplied.

    c (images, n, pixels) of a shape (images, channels of x, n, pixels of c); the tables are those
    of `tables.py`. `few`: the numbers that a tile of `product_of_few` covers, 0 without it.
    """
    images, channels, n, pixels = shape
    plane, column = padded[0] * padded[1] * c.itemsize, pixels * c.itemsize
    memory = scratch(c, 1)
    line = np.empty(FEW * (padded[0] * padded[1] + few) if few else 0, c.dtype)
    apart = np.empty(group * n * pixels if phases > 1 else 0, c.dtype)
    for t in range(begin, end):
        start, stop = t * group, min(images, (t + 1) * group)
        chosen, steps = (start, stop), (channels * plane, plane)
        pad_images(x, strides, chosen, (0, channels), size, padded, before, workspace, steps)
        a = address(workspace) + start * channels * plane, channels * plane
        target = address(c) + start * n * column, n * column
        for f in range(phases):
            k, at, place, panel = tables[RECORD * f : RECORD * f + 4]
            where = (
                tables[RECORD * f + 4],
                tables[RECORD * f + 5],
                tables[RECORD * f + 6],
                tables[RECORD * f + 7],
                tables[RECORD * f + 8],
            )
            count, items = where[1] * where[2], stop - start
            places, along = tables[place : place + count], tables[at : at + k]
            b = address(panels) + panel
            into, by = target, column
            if phases > 1:  # a phase's places side by side, to be put where they belong
                into, by = (address(apart), n * count * c.itemsize), count * c.itemsize
            if few:
                product_of_few(line, a, items, places, along, b, n, into, by)
            else:
                product(memory, a, items, places, along, b, n, into, by)
            if phases > 1:
                _put(apart, count, where, target, items, n, column)


@jit
def by_weights(
    x, strides, size, padded, before, workspace, panels, tables, c, shape, blocks, begin, end
):
    """weight_grad: for task (split, block of channels), the sum over the split's images.

    c (splits, n, channels, weights) of a shape (images, channels, n, weights, places). Images are
    taken blocks[0] at a time, blocks[1] of these times to a split; channels blocks[2] at a time.
    """
    images, channels, n, weights, places = shape
    few, times, wide = blocks
    plane = padded[0] * padded[1] * c.itemsize
    across = -(-channels // wide)
    lanes = VECTOR_BYTES // c.itemsize
    memory = scratch(c, tiles_of(min(wide, channels) * weights, n, lanes))
    row = -(-n // lanes) * VECTOR_BYTES  # of all panels
    column, by = channels * weights * c.itemsize, (plane, images * plane)
    steps = np.empty(few * places, np.int64)
    for image in range(few):
        for place in range(places):
            steps[image * places + place] = tables[weights + place] + image * plane
    for t in range(begin, end):
        split, some = t // across, t % across * wide
        many = min(wide, channels - some)
        target = address(c) + split * n * column + some * weights * c.itemsize
        turns = min(times, -(-(images - split * times * few) // few))
        for turn in range(turns):
            start = (split * times + turn) * few
            stop = min(images, start + few)
            chosen = some, some + many
            pad_images(x, strides, (start, stop), chosen, size, padded, before, workspace, by)
            a = address(workspace) + start * plane + some * by[1], by[1]
            b, along = address(panels) + start * places * row, steps[: (stop - start) * places]
            into = target, weights * c.itemsize
            product(memory, a, many, tables[:weights], along, b, n, into, column, turn, turns)


# ------------------------------------------------------------------------------ in Python
def _check(op: str, *arrays: np.ndarray) -> None:
    if arrays[0].dtype not in (np.float32, np.float64) or arrays[0].dtype != arrays[1].dtype:
        given = ", ".join(str(x.dtype) for x in arrays)
        raise TypeError(f"{op}: takes arrays of one dtype, float32 or float64, not {given}")


def _packed(x: np.ndarray, packing: Packing, column: int) -> np.ndarray:
    panels = empty((packing.size,), x.dtype)
    many = parts(16 * packing.size, PARALLEL_WORK)
    launch(pack, first(x), packing.tables, column, panels, over=packing.panels, parts=many)
    return panels


def _by_places(
    x: np.ndarray,
    padded: Pair,
    before: Pair,
    faces: Faces,
    panels: np.ndarray,
    c: np.ndarray,
    turned: bool,
) -> np.ndarray:
    """c, from the padded x; `turned` where it may go through `product_of_few`."""
    images, channels = x.shape[:2]
    n, pixels = c.shape[1], math.prod(c.shape[2:])
    lanes = VECTOR_BYTES // c.itemsize
    few = WIDE * lanes if turned and n <= min(FEW, lanes) else 0
    workspace = empty((images * channels * math.prod(padded) + few,), c.dtype)
    workers = parts(c.size * faces.packing.size // n, PARALLEL_WORK)
    group = _group(images, -(-pixels // faces.phases), workers)
    tasks = -(-images // group)
    given = first(x), x.strides, x.shape[2:], padded, before, workspace, panels, faces.tables
    shape = images, channels, n, pixels
    after = faces.phases, c.reshape(-1), shape, group, few
    launch(by_places, *given, *after, over=tasks, parts=min(tasks, workers))
    return c


@lru_cache(maxsize=256)
def _group(images: int, places: int, workers: int) -> int:
    """How many images of so many places make a task: the busiest thread has the fewest tiles."""

    def tiles(group: int) -> int:
        tasks = -(-images // group)
        return -(-tasks // workers) * -(-group * places // ROWS)

    least = -(-LEAST_ROWS // places)
    return min(range(least, 8 * least + 1), key=tiles)


def conv2d(x: np.ndarray, w: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    """x (n, c, height, width) under w (o, c, kh, kw), any strides: (n, o, rows, columns).

    The workspace is the padded x, and w in whole vectors. TypeError for dtypes that differ.
    """
    _check("conv2d", x, w)
    size, kernel = (x.shape[2], x.shape[3]), (w.shape[2], w.shape[3])
    out = output_size(size, kernel, stride, padding)
    y = empty((len(x), len(w), *out), x.dtype)
    if not y.size:
        return y
    padded = size[0] + 2 * padding[0], size[1] + 2 * padding[1]
    faces = tables.forward(padded, stride, out, w.shape, w.strides, x.itemsize)
    panels = _packed(w, faces.packing, w.strides[0])
    return _by_places(x, padded, padding, faces, panels, y, stride == (1, 1))


def conv2d_input_grad(
    g: np.ndarray, w: np.ndarray, size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """The adjoint of conv2d by x: g (n, o, rows, columns), w (o, c, kh, kw) to (n, c, *size).

    The workspace is the padded g, and w in whole vectors. TypeError for dtypes that differ.
    """
    _check("conv2d_input_grad", g, w)
    kernel, out = (w.shape[2], w.shape[3]), (g.shape[2], g.shape[3])
    x = empty((len(g), w.shape[1], *size), g.dtype)
    if not x.size:
        return x
    taps = tables.taps(kernel, stride)
    below = (
        max(0, (m - 1 + p) // s - n + 1)
        for m, p, s, n in zip(size, padding, stride, out, strict=True)
    )
    height, width = (n + t - 1 + b for n, t, b in zip(out, taps, below, strict=True))
    padded = height, width
    faces = tables.input_grad(padded, size, stride, padding, w.shape, w.strides, g.itemsize)
    panels = _packed(w, faces.packing, w.strides[1])
    return _by_places(g, padded, (taps[0] - 1, taps[1] - 1), faces, panels, x, True)


def conv2d_weight_grad(
    x: np.ndarray, g: np.ndarray, kernel: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """The adjoint of conv2d by w: x (n, c, height, width), g (n, o, rows, columns): (o, c, kh, kw).

    The workspace is the padded x, g in whole vectors, and a result for each split. TypeError for
    dtypes that differ.
    """
    _check("conv2d_weight_grad", x, g)
    images, channels = x.shape[:2]
    n, places, weights = g.shape[1], math.prod(g.shape[2:]), math.prod(kernel)
    if not images:
        w = empty((n, channels, *kernel), x.dtype)
        launch(fill, w.reshape(-1), w.dtype.type(0))
        return w
    padded = x.shape[2] + 2 * padding[0], x.shape[3] + 2 * padding[1]
    few = min(images, max(1, DEPTH // places))
    turns = -(-images // few)
    times = -(-turns // min(turns, -(-MANY_ROWS // (channels * weights))))
    table, packing = tables.weight_grad(padded, kernel, stride, g.shape, g.strides, few, x.itemsize)
    panels = _packed(g, packing, g.strides[1])
    workspace = empty((images * channels * math.prod(padded),), x.dtype)
    splits, wide = -(-turns // times), -(-LEAST_ROWS // weights)
    c = empty((splits, n, channels, *kernel), x.dtype)
    tasks = splits * -(-channels // wide)
    shape = images, channels, n, weights, places
    workers = min(tasks, parts(channels * weights * g.size, PARALLEL_WORK))
    given = first(x), x.strides, x.shape[2:], padded, padding, workspace, panels, table
    after = c.reshape(-1), shape, (few, times, wide)
    launch(by_weights, *given, *after, over=tasks, parts=workers)
    return reduce(c, (0,), False) if splits > 1 else c[0]


KERNELS: dict[str, Callable[..., np.ndarray]] = {
    "conv2d": conv2d,
    "conv2d_input_grad": conv2d_input_grad,
    "conv2d_weight_grad": conv2d_weight_grad,
}
