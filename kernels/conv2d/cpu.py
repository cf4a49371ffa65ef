"""Convolutions on the CPU: products of matrices that are never written down.

A convolution is a product A @ B where A, `im2col`, has a row for each place of the kernel and a
column for each of its weights. A holds every pixel many times, but it is additive: where images are
padded, element (r, p) lies at rows[r] + steps[p]. So the tile of `micro.py` reads A through two
small tables, and nothing is copied. All three faces of the convolution are such products:

    face          rows of A                     summed over                  columns
    forward       places (n, a, b) of x         weights (c, h, v)            out channels
    input_grad    places (n, i, j) of g         weights (o, h, v), by phase  in channels
    weight_grad   weights (c, h, v) under x     places (n, a, b)             out channels
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ..matmul.cpu import _panel_width
from ..matmul.micro import ROWS, VECTORS, transpose_block
from ..reduce.cpu import reduce
from ..runtime.cpu import empty, first, jit, launch, parts
from ..runtime.simd import REGISTERS, VECTOR_BYTES, address, copy_bytes, pointer, zero_bytes
from .micro import flat_tile, store_turned, tile

Pair = tuple[int, int]

# Elements of a sum that are one chain of multiply-adds.
DEPTH = 512
# Rows of A that a task has at least, and rows of the weight's gradient that need no splits.
LEAST_ROWS, MANY_ROWS = 64, 512
# A second thread pays from about so many multiply-adds on.
PARALLEL_WORK = 6_400_000
# Columns that are too few for vectors of columns, and vectors of places in a tile that then is used.
FEW, WIDE = 4, 6 if REGISTERS == 32 else 3


# ------------------------------------------------------------------------------ in numba
# Addresses are integers, strides and tables are in bytes.
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
def _pack(like, x, steps, width, column, into):
    """One panel: row p has B[p, q] = x[steps[p] + q*column] for q < width, then zeros.

    By square blocks: those whose steps are neighbours in memory are turned in registers.
    """
    size = like.itemsize
    lanes = VECTOR_BYTES // size
    stride = -(-width // lanes) * VECTOR_BYTES
    if width * size < stride:
        zero_bytes(into, steps.size * stride)
    for p in range(0, steps.size, lanes):
        deep = min(lanes, steps.size - p)
        together = deep == lanes and steps[p + lanes - 1] - steps[p] == (lanes - 1) * size
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
def _tile(vectors, like, starts, height, steps, b, b_step, k, c, add):
    """`tile` of a width that is known only here."""
    if vectors == 3:
        tile(ROWS, 3, like, starts, height, steps, b, b_step, k, c, add)
    elif vectors == 2:
        tile(ROWS, 2, like, starts, height, steps, b, b_step, k, c, add)
    else:
        tile(ROWS, 1, like, starts, height, steps, b, b_step, k, c, add)


@jit
def _addresses(out, start, step, table, item, place, height):
    """out[r] = start + item*step + table[place] for `height` places, item after item."""
    if place + height <= table.size:
        for r in range(height):
            out[r] = start + item * step + table[place + r]
        return
    for r in range(height):
        out[r] = start + item * step + table[place]
        place += 1
        if place == table.size:
            item, place = item + 1, 0


@jit
def _store(scratch, stride, targets, height, width, column, add):
    """The tile in scratch to its rows' targets, whose columns lie `column` apart."""
    size = scratch.itemsize
    lanes = VECTOR_BYTES // size
    whole = 0
    if height == ROWS and targets[ROWS - 1] - targets[0] == (ROWS - 1) * size:
        whole = width // lanes * lanes
        for q in range(0, whole, lanes):
            source = address(scratch) + q * size
            into = targets[0] + q * column
            store_turned(ROWS, scratch, source, stride * size, into, column, add)
    for q in range(whole, width):
        for r in range(height):
            into = pointer(scratch, targets[r] + q * column)
            x = scratch[r * stride + q]
            into[0] = into[0] + x if add else x


@jit
def _product(scratch, numbers, a, items, places, steps, k, b, n, c, into, column, add):
    """C (+)= A @ B for rows (item, place), the panels of B in turn.

    A row begins at a[0] + item*a[1] + places[place], and C's at c[0] + item*c[1] + into[place].
    """
    size = scratch.itemsize
    lanes = VECTOR_BYTES // size
    starts, targets = numbers[:ROWS], numbers[ROWS:]
    count = places.size
    depth = -(-k // (max(1, -(-k // DEPTH)) * 16)) * 16
    if k == 0:  # a phase that no weight reaches
        depth, scratch[:] = 16, 0
    j = 0
    while j < n:
        width = _panel_width(n - j, lanes)
        vectors = -(-width // lanes)
        item, place, left = 0, 0, items * count
        while left:
            height = min(ROWS, left)
            _addresses(starts, a[0], a[1], places, item, place, height)
            _addresses(targets, c[0] + j * column, c[1], into, item, place, height)
            place += height
            item, place = item + place // count, place % count
            for p in range(0, k, depth):
                row = b + p * vectors * VECTOR_BYTES
                at, deep = address(steps) + 8 * p, min(depth, k - p)
                _tile(
                    vectors,
                    scratch,
                    address(starts),
                    height,
                    at,
                    row,
                    vectors * VECTOR_BYTES,
                    deep,
                    address(scratch),
                    p,
                )
            _store(scratch, vectors * lanes, targets, height, width, column, add)
            left -= height
        b += k * vectors * VECTOR_BYTES
        j += width


@jit
def _few_columns(line, a, items, places, steps, k, b, n, c, into, column):
    """The same where B has few columns and places lie in rows of neighbours: turned around.

    The columns' weights are the rows of the tile, and the lanes are neighbours in the padded plane,
    those between two rows of places included: what comes out there is not used.
    """
    size = line.itemsize
    lanes = VECTOR_BYTES // size
    depth = -(-k // (max(1, -(-k // DEPTH)) * 16)) * 16
    if k == 0:
        depth, line[:] = 16, 0
    stretch = (places[places.size - 1] - places[0]) // size + 1
    row = line.size // FEW * size
    for item in range(items):
        start = a[0] + item * a[1] + places[0]
        for p in range(0, k, depth):
            deep, at = min(depth, k - p), address(steps) + 8 * p
            weights = b + p * VECTOR_BYTES
            for q in range(0, stretch, WIDE * lanes):
                from_place, target = start + q * size, address(line) + q * size
                r = 0
                while r < n:
                    where, w = target + r * row, weights + r * size
                    if n - r >= 3:
                        flat_tile(3, WIDE, line, w, VECTOR_BYTES, at, from_place, deep, where, row, p)
                        r += 3
                    else:
                        flat_tile(1, WIDE, line, w, VECTOR_BYTES, at, from_place, deep, where, row, p)
                        r += 1
        for r in range(n):
            out = pointer(line, c[0] + item * c[1] + r * column)
            for i in range(places.size):
                q = (places[i] - places[0]) // size
                out[into[i] // size] = line[r * (row // size) + q]


@jit
def _scratch(like):
    """A tile's memory, and two rows of addresses."""
    lanes = VECTOR_BYTES // like.itemsize
    return np.empty(ROWS * VECTORS * lanes, like.dtype), np.empty(2 * ROWS, np.int64)


@jit
def pack(x, tables, column, n, panels, begin, end):
    """Panels begin..end of n columns; a record: first byte of x, k, where steps begin, width, target."""
    for t in range(begin, end):
        source, k, at, width, into = tables[5 * t : 5 * t + 5]
        steps = tables[at : at + k]
        _pack(panels, address(x) + source, steps, width, column, address(panels) + into)


@jit
def _pad_images(x, strides, images, channels, size, padded, before, workspace, steps):
    """Planes (image, channel) of x, for ranges of both, padded: at their steps in the workspace."""
    for image in range(images[0], images[1]):
        for channel in range(channels[0], channels[1]):
            source = address(x) + image * strides[0] + channel * strides[1]
            into = address(workspace) + image * steps[0] + channel * steps[1]
            _pad(workspace, source, (strides[2], strides[3]), size, padded, before, into)


@jit
def by_places(
    x, strides, size, padded, before, workspace, panels, tables, phases, c, shape, group, few,
    begin, end
):
    """Forward and input_grad: groups begin..end of images, each padded and then multiplied.

    c (images, n, pixels) of a shape (images, channels of x, n, pixels of c); a record of a phase is
    k, where its steps begin, its places, where they and their targets begin, its panels. `few`:
    0, or how many numbers a tile of `_few_columns` covers.
    """
    scratch, numbers = _scratch(c)
    images, channels, n, pixels = shape
    plane = padded[0] * padded[1] * c.itemsize
    column = pixels * c.itemsize
    line = np.empty(FEW * (padded[0] * padded[1] + few) if few else 0, c.dtype)
    for t in range(begin, end):
        first, last = t * group, min(images, (t + 1) * group)
        chosen, steps = (first, last), (channels * plane, plane)
        _pad_images(x, strides, chosen, (0, channels), size, padded, before, workspace, steps)
        a = address(workspace) + first * channels * plane, channels * plane
        target = address(c) + first * n * column, n * column
        for f in range(phases):
            k, at, count, place, into, panel = tables[6 * f : 6 * f + 6]
            places, targets = tables[place : place + count], tables[into : into + count]
            along = tables[at : at + k]
            b = address(panels) + panel
            if few:
                many = last - first
                _few_columns(line, a, many, places, along, k, b, n, target, targets, column)
                continue
            _product(
                scratch, numbers, a, last - first, places, along, k, b, n, target, targets, column, 0
            )


@jit
def by_weights(
    x, strides, size, padded, before, workspace, panels, tables, c, shape, blocks, begin, end
):
    """weight_grad: for task (split, block of channels), the sum over the split's images.

    c (splits, n, channels, weights) of a shape (images, channels, n, weights, places). The tables:
    the weights' places in a plane, their targets, the places' steps. Images are taken `blocks[0]`
    at a time, blocks[1] of these times to a split; channels blocks[2] at a time.
    """
    scratch, numbers = _scratch(c)
    images, channels, n, weights, places = shape
    plane = padded[0] * padded[1] * c.itemsize
    few, times, wide = blocks
    across = -(-channels // wide)
    lanes = VECTOR_BYTES // c.itemsize
    row = -(-n // lanes) * VECTOR_BYTES  # of all panels
    steps = np.empty(few * places, np.int64)
    for image in range(few):
        for place in range(places):
            steps[image * places + place] = tables[2 * weights + place] + image * plane
    column = channels * weights * c.itemsize
    for t in range(begin, end):
        split, some = t // across, t % across * wide
        many = min(wide, channels - some)
        target = address(c) + split * n * column + some * weights * c.itemsize
        for turn in range(times):
            first = (split * times + turn) * few
            last = min(images, first + few)
            if first >= last:
                break
            chosen, by = (some, some + many), (plane, images * plane)
            _pad_images(x, strides, (first, last), chosen, size, padded, before, workspace, by)
            a = address(workspace) + first * plane + some * by[1], by[1]
            k = (last - first) * places
            b = address(panels) + first * places * row
            _product(
                scratch, numbers, a, many, tables[:weights], steps[:k], k, b, n,
                (target, weights * c.itemsize), tables[weights : 2 * weights], column, turn
            )


# ------------------------------------------------------------------------------ in Python
def _check(op: str, *arrays: np.ndarray) -> None:
    if arrays[0].dtype not in (np.float32, np.float64) or arrays[0].dtype != arrays[1].dtype:
        given = ", ".join(str(x.dtype) for x in arrays)
        raise TypeError(f"{op}: takes arrays of one dtype, float32 or float64, not {given}")


def _output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    rows, columns = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
    )
    return rows, columns


def _grid(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """rows[i] + columns[j], flat."""
    return np.add.outer(rows, columns).reshape(-1)


def _panels(
    records: list[tuple[int, int, int]], steps: np.ndarray, column: int, n: int, size: int
) -> np.ndarray:
    """The tables of `pack`: for (first byte, k, first step) each, the panels of n columns.

    Each begins behind the one before.
    """
    lanes = VECTOR_BYTES // size
    rows, into = [], 0
    for source, k, at in records:
        j = 0
        while j < n:
            width = _panel_width.py_func(n - j, lanes)
            rows.append((source + j * column, k, at, width, into))
            into += -(-width // lanes) * VECTOR_BYTES * k
            j += width
    table = np.array(rows, np.int64).reshape(-1, 5)
    table[:, 2] += table.size
    return np.concatenate([table.reshape(-1), steps])


@lru_cache(maxsize=256)
def _forward_tables(
    padded: Pair, kernel: Pair, stride: Pair, out: Pair, channels: int, size: int
) -> np.ndarray:
    rows, columns = (np.arange(n) for n in out)
    places = _grid(rows * stride[0] * padded[1], columns * stride[1]) * size
    into = np.arange(out[0] * out[1]) * size
    plane = padded[0] * padded[1]
    taps = _grid(np.arange(kernel[0]) * padded[1], np.arange(kernel[1]))
    steps = _grid(np.arange(channels) * plane, taps) * size
    return _with_records([(steps, places, into)], [0])


def _with_records(phases: list[tuple[np.ndarray, ...]], panels: list[int]) -> np.ndarray:
    """The tables of `by_places`: a record for each phase, then its steps, places and targets."""
    records, at = [], 6 * len(phases)
    for (steps, places, into), panel in zip(phases, panels, strict=True):
        then = at + steps.size
        records.append((steps.size, at, places.size, then, then + places.size, panel))
        at = then + places.size + into.size
    numbers = [np.array(records, np.int64).reshape(-1), *(x for phase in phases for x in phase)]
    return np.concatenate(numbers).astype(np.int64)


def _launch_places(
    x: np.ndarray, padded: Pair, before: Pair, panels: np.ndarray, tables: np.ndarray,
    phases: int, c: np.ndarray, places: int, together: bool
) -> None:
    images, channels = x.shape[:2]
    n, pixels = c.shape[1], c.shape[2] * c.shape[3]
    few = WIDE * VECTOR_BYTES // c.itemsize if n <= FEW and together else 0
    workspace = empty((images * channels * math.prod(padded) + few,), c.dtype)
    least = max(1, -(-LEAST_ROWS // places))
    group = next(
        (g for g in range(least, 8 * least) if -g * places % ROWS <= g * places / 50), 8 * least
    )
    tasks = -(-images // group)
    shape = images, channels, n, pixels
    workers = min(tasks, parts(c.size * channels * 8, PARALLEL_WORK))
    given = first(x), x.strides, x.shape[2:], padded, before, workspace, panels, tables
    launch(by_places, *given, phases, c.reshape(-1), shape, group, few, over=tasks, parts=workers)


def _launch_pack(x: np.ndarray, tables: np.ndarray, count: int, column: int, size: int, n: int):
    panels = empty((size,), x.dtype)
    launch(pack, first(x), tables, column, n, panels, over=count, parts=parts(size * 16, PARALLEL_WORK))
    return panels


def conv2d(x: np.ndarray, w: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    _check("conv2d", x, w)
    size, kernel = x.shape[2:], w.shape[2:]
    out = _output_size(size, kernel, stride, padding)
    y = empty((len(x), len(w), *out), x.dtype)
    if not y.size:
        return y
    padded = size[0] + 2 * padding[0], size[1] + 2 * padding[1]
    tables = _forward_tables(padded, kernel, stride, out, x.shape[1], x.itemsize)
    packs, count, length = _weight_tables(w.shape, w.strides, x.itemsize)
    panels = _launch_pack(w, packs, count, w.strides[0], length, len(w))
    _launch_places(x, padded, padding, panels, tables, 1, y, math.prod(out), stride == (1, 1))
    return y


@lru_cache(maxsize=256)
def _weight_tables(shape, strides, size):
    o, c, kh, kw = shape
    steps = _grid(_grid(np.arange(c) * strides[1], np.arange(kh) * strides[2]), np.arange(kw) * strides[3])
    tables = _panels([(0, steps.size, 0)], steps, strides[0], o, size)
    lanes = VECTOR_BYTES // size
    return tables, (tables.size - steps.size) // 5, steps.size * -(-o // lanes) * lanes


@lru_cache(maxsize=256)
def _phases(size, kernel, stride, padding, out, padded, channels, w_strides, n, item):
    """The tables of input_grad."""
    taps = -(-kernel[0] // stride[0]), -(-kernel[1] // stride[1])
    phases, records, all_steps, at = [], [], [], 0
    panel, offsets = 0, []
    lanes = VECTOR_BYTES // item
    for a in range(stride[0]):
        for b in range(stride[1]):
            rows = np.array([y for y in range(size[0]) if (y + padding[0]) % stride[0] == a])
            columns = np.array([y for y in range(size[1]) if (y + padding[1]) % stride[1] == b])
            if not rows.size or not columns.size:
                continue
            places = _grid((rows + padding[0]) // stride[0] * padded[1], (columns + padding[1]) // stride[1]) * item
            into = _grid(rows * size[1], columns) * item
            h = np.arange(a, kernel[0], stride[0])
            v = np.arange(b, kernel[1], stride[1])
            back = _grid((taps[0] - 1 - h // stride[0]) * padded[1], taps[1] - 1 - v // stride[1])
            steps = _grid(np.arange(channels) * padded[0] * padded[1], back) * item
            phases.append((steps, places, into))
            offsets.append(panel)
            w_steps = _grid(np.arange(channels) * w_strides[0], _grid(h * w_strides[2], v * w_strides[3]))
            records.append((0, w_steps.size, at))
            all_steps.append(w_steps)
            at += w_steps.size
            panel += w_steps.size * -(-n // lanes) * VECTOR_BYTES
    packs = _panels(records, np.concatenate(all_steps), w_strides[1], n, item)
    return _with_records(phases, offsets), len(phases), packs, (packs.size - at) // 5, panel // item


def conv2d_input_grad(g, w, size, stride, padding):
    _check("conv2d_input_grad", g, w)
    kernel, out = w.shape[2:], g.shape[2:]
    x = empty((len(g), w.shape[1], *size), g.dtype)
    if not x.size:
        return x
    taps = -(-kernel[0] // stride[0]), -(-kernel[1] // stride[1])
    padded = tuple(
        n + t - 1 + max(0, (m - 1 + p) // s - n + 1)
        for n, t, m, s, p in zip(out, taps, size, stride, padding, strict=True)
    )
    tables, phases, packs, count, length = _phases(
        size, kernel, stride, padding, out, padded, len(w), w.strides, w.shape[1], g.itemsize
    )
    panels = _launch_pack(w, packs, count, w.strides[1], length, w.shape[1])
    before = taps[0] - 1, taps[1] - 1
    _launch_places(g, padded, before, panels, tables, phases, x, math.prod(size) // math.prod(stride) or 1, True)
    return x


@lru_cache(maxsize=256)
def _sum_tables(padded, kernel, stride, out, images, few, g_strides, n, item):
    taps = _grid(np.arange(kernel[0]) * padded[1], np.arange(kernel[1])) * item
    places = _grid(np.arange(out[0]) * stride[0] * padded[1], np.arange(out[1]) * stride[1]) * item
    tables = np.concatenate([taps, np.arange(taps.size) * item, places]).astype(np.int64)
    g_places = _grid(np.arange(out[0]) * g_strides[2], np.arange(out[1]) * g_strides[3])
    steps = _grid(np.arange(few) * g_strides[0], g_places)
    records = [(i * g_strides[0], (min(images, i + few) - i) * g_places.size, 0) for i in range(0, images, few)]
    packs = _panels(records, steps, g_strides[1], n, item)
    lanes = VECTOR_BYTES // item
    return tables, packs, (packs.size - steps.size) // 5, images * g_places.size * -(-n // lanes) * lanes


def conv2d_weight_grad(x, g, kernel, stride, padding):
    _check("conv2d_weight_grad", x, g)
    images, channels = x.shape[:2]
    n, out = g.shape[1], g.shape[2:]
    weights, places = math.prod(kernel), math.prod(out)
    if not g.size:
        return np.zeros((n, channels, *kernel), x.dtype)
    padded = x.shape[2] + 2 * padding[0], x.shape[3] + 2 * padding[1]
    few = min(images, max(1, DEPTH // places))
    turns = -(-images // few)
    splits = min(turns, -(-MANY_ROWS // (channels * weights)))
    times = -(-turns // splits)
    splits = -(-turns // times)
    tables, packs, count, length = _sum_tables(padded, kernel, stride, out, images, few, g.strides, n, x.itemsize)
    panels = _launch_pack(g, packs, count, g.strides[1], length, n)
    workspace = empty((images * channels * math.prod(padded),), x.dtype)
    c = empty((splits, n, channels, *kernel), x.dtype)
    wide = max(1, -(-LEAST_ROWS // weights))
    tasks = splits * -(-channels // wide)
    shape = images, channels, n, weights, places
    workers = min(tasks, parts(c[0].size * images * places, PARALLEL_WORK))
    given = first(x), x.strides, x.shape[2:], padded, padding, workspace, panels, tables
    launch(by_weights, *given, c.reshape(-1), shape, (few, times, wide), over=tasks, parts=workers)
    return reduce(c, (0,), False) if splits > 1 else c[0]


KERNELS = {
    "conv2d": conv2d,
    "conv2d_input_grad": conv2d_input_grad,
    "conv2d_weight_grad": conv2d_weight_grad,
}
