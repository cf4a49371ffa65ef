"""The tables of byte offsets through which a convolution's product reads its operands.

An element of A lies at (offset of its row) + (offset of its term p): see `cpu.py`. These functions
make the tables of each operation, and the one from which B is packed:

    operation     rows of A (positions)          terms of the sums          B's columns
    forward       output positions (a, b)        weights (c, h, v)          output channels
    input_grad    input pixels (i, j), by phase  weights (o, h, v)          input channels
    weight_grad   weights (h, v) of a channel    positions (n, a, b)        output channels

Rows at an edge of the image have terms that read the padding, which is zero. Rows are divided into
*classes* that read the padding at the same terms, and these terms are left out of the class's sums:
of a kernel of 4 x 4 with stride 2 on 8 x 8 pixels, a quarter. No bit depends on it.

All tables are int64; offsets are in bytes. They follow from sizes, strides and the number of
threads, so they are cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from ..matmul.k_blocks import block_length
from ..matmul.micro import ROWS, panel_width
from ..runtime.cpu.simd import VECTOR_BYTES
from .geometry import Pair, output_size

MAX_BLOCK_ELEMENTS = 512  # the length of the longest K-block
PHASE_WORDS, CLASS_WORDS = 10, 6  # words of the records of a phase and of a class, see `_write`
PACKING_WORDS = 6  # words of the record of a panel, see `_plan_packing`
TERM_WORDS, ROW_WORDS = 2, 2  # a term's offsets in A and in B, a row's in A and in C

MIN_TASK_ROWS = 64  # the least rows of A in a task
# Along which axes padding may be skipped.
SKIP_OPTIONS = [(False, False), (False, True), (True, False), (True, True)]
MAX_TABLES = 16  # The terms of all classes are at most so many times those of one.
# What it costs to store a tile, in terms: where its rows are neighbours in C, and where they are
# not.
STORE_TERMS, SCATTER_TERMS = 12, 40


class Packing(NamedTuple):
    """The arguments of `product.pack_panels`: table, number of panels, size of all in elements.

    Behind the panels there is an element for each, the flag of `pack_panels`.
    """

    tables: np.ndarray
    panels: int
    size: int


class ProductTables(NamedTuple):
    """The tables of a product, and how its rows are divided into tasks.

    Attributes:
        tables: the records and tables of `_write`.
        phases: the number of phases.
        packing: of B.
        items: images, or for weight_grad channels, in a task.
        tiles: the number of tiles of a task for each panel of B, of all classes of a phase.
    """

    tables: np.ndarray
    phases: int
    packing: Packing
    items: int
    tiles: int


class Axis(NamedTuple):
    """The rows and the terms of a product along one axis of the image.

    Attributes:
        rows: the offset in A of each row.
        targets: the offset in C of each row.
        terms: the offset in A of each term.
        inside: for each row and each term: whether it reads the image, not the padding.
    """

    rows: np.ndarray
    targets: np.ndarray
    terms: np.ndarray
    inside: np.ndarray

    def classes(self, skip: bool) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the indices of the rows and of the terms of each class; one class without skip."""
        if not skip:
            return [(np.arange(self.rows.size), np.arange(self.terms.size))]
        patterns: dict[bytes, list[int]] = {}
        for row, inside in enumerate(self.inside):
            patterns.setdefault(inside.tobytes(), []).append(row)
        return [(np.array(x), np.flatnonzero(self.inside[x[0]])) for x in patterns.values()]


class Class(NamedTuple):
    """Rows of A whose sums have the same terms.

    Attributes:
        rows: the offset in A of each row.
        targets: the offset in C of each row.
        terms: the offset in A of each term.
        b_rows: the row of B of each term, rising.
    """

    rows: np.ndarray
    targets: np.ndarray
    terms: np.ndarray
    b_rows: np.ndarray


class Phase(NamedTuple):
    """The rows and the terms of a product, and where its operands lie.

    Attributes:
        axes: of the image's rows and columns.
        planes: the offsets in A of the planes that the sums run over: channels, or images.
        target: of several phases, first byte in C, rows, columns, bytes from row to row and from
            column to column.
    """

    axes: tuple[Axis, Axis]
    planes: np.ndarray
    target: tuple[int, ...] = (0,) * 5

    def classes(self, skip: tuple[bool, bool]) -> list[Class]:
        """Return the classes of the rows; `skip` says along which axes padding is left out."""
        height, width = self.axes
        counts = self.planes.size, height.terms.size, width.terms.size
        steps = counts[1] * counts[2], counts[2], 1
        return [
            Class(
                _outer_sum(height.rows[a], width.rows[b]),
                _outer_sum(height.targets[a], width.targets[b]),
                _outer_sum(self.planes, height.terms[h], width.terms[v]),
                _outer_sum(np.arange(counts[0]) * steps[0], h * steps[1], v * steps[2]),
            )
            for (a, h), (b, v) in product(height.classes(skip[0]), width.classes(skip[1]))
        ]

    @property
    def length(self) -> int:
        """The number of all terms, with those in the padding: the rows of B."""
        return self.planes.size * self.axes[0].terms.size * self.axes[1].terms.size


class Work(NamedTuple):
    """What is divided into tasks.

    Attributes:
        items: images, or for weight_grad channels.
        splits: the number of splits of each sum.
        workers: threads.
    """

    items: int
    splits: int
    workers: int


def _outer_sum(*rows: Iterable[int] | np.ndarray) -> np.ndarray:
    """Return a + b + ... for all a, b, ... of the rows, flat, with the last row fastest."""
    total = np.zeros(1, np.int64)
    for row in rows:
        total = (total[:, None] + np.asarray(row, np.int64)).reshape(-1)
    return total


def _plan_packing(
    sources: list[tuple[int, np.ndarray]], column: int, n: int, size: int
) -> tuple[Packing, list[int]]:
    """Plan the panels of matrices with n columns and `column` bytes between columns.

    A source is a matrix: its first byte, and the offsets of its rows from there.

    Returns the packing, and the first byte of each source in the packed memory. The table has a
    record for each panel (first byte, rows, index of the row offsets in the table, columns, first
    byte in the packed memory, index of its flag there), then the row offsets; sources that share
    them store them once.
    """
    lanes = VECTOR_BYTES // size
    distinct = {id(offsets): offsets for _, offsets in sources}
    starts = dict(zip(distinct, np.cumsum([0, *map(len, distinct.values())]), strict=False))
    records, source_starts, packed = [], [], 0
    for first, offsets in sources:
        source_starts.append(packed)
        j = 0
        while j < n:
            width = panel_width.py_func(n - j, lanes)
            start = starts[id(offsets)]
            records.append((first + j * column, offsets.size, start, width, packed, 0))
            packed += -(-width // lanes) * VECTOR_BYTES * offsets.size
            j += width
    table = np.array(records, np.int64).reshape(-1, PACKING_WORDS)
    table[:, 2] += table.size
    table[:, 5] = packed // size + np.arange(len(records))
    tables = np.concatenate([table.reshape(-1), *distinct.values()])
    return Packing(tables, len(records), packed // size), source_starts


# -------------------------------------------------------------------------------- the operations
@lru_cache(maxsize=64)
def forward(
    size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    w_shape: tuple[int, ...],
    w_strides: tuple[int, ...],
    item: int,
    narrow: bool,
    work: Work,
) -> ProductTables:
    """Make the tables of conv2d: rows are positions (a, b), sums run over (c, h, v).

    Args:
        size: the sides of an image, without its padding.
        item: bytes of an element.
        narrow: whether the tables are for `product.multiply_narrow`, which skips nothing.
    """
    n, channels = w_shape[:2]
    out = output_size(size, kernel, stride, padding)
    padded = size[0] + 2 * padding[0], size[1] + 2 * padding[1]
    line, plane = padded[1] * item, padded[0] * padded[1] * item
    axes = _forward_axes(size, kernel, stride, padding, (line, item), (out[1] * item, item))
    phase = Phase(axes, np.arange(channels) * plane)
    taps = np.arange(channels), np.arange(kernel[0]), np.arange(kernel[1])
    weights = _outer_sum(*(i * s for i, s in zip(taps, w_strides[1:], strict=True)))
    packing, starts = _plan_packing([(0, weights)], w_strides[0], n, item)
    return _plan([phase], starts, packing, narrow, work)


@lru_cache(maxsize=64)
def weight_grad(
    size: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    g_shape: tuple[int, ...],
    g_strides: tuple[int, ...],
    image: int,
    step_images: int,
    item: int,
    work: Work,
) -> ProductTables:
    """Make the tables of the weight's gradient: rows are weights (h, v), sums over (n, a, b).

    The packing of g has `step_images` images to a panel.

    Args:
        image: the bytes from the plane of an image to that of the next one.
    """
    images, n = g_shape[:2]
    line = (size[1] + 2 * padding[1]) * item
    axes = _forward_axes(size, kernel, stride, padding, (line, item), (0, 0))
    targets = kernel[1] * item, item  # Rows and terms are exchanged.
    height, width = (
        Axis(x.terms, np.arange(x.terms.size) * target, x.rows, x.inside.T)
        for x, target in zip(axes, targets, strict=True)
    )
    phase = Phase((height, width), np.arange(step_images) * image)
    g_positions = (np.arange(x.rows.size) * s for x, s in zip(axes, g_strides[2:], strict=True))
    whole = _outer_sum(np.arange(step_images) * g_strides[0], *g_positions)
    rest = whole[: whole.size // step_images * (images % step_images)]
    last = images - images % step_images
    sources = [(i * g_strides[0], whole) for i in range(0, last, step_images)]
    if rest.size:
        sources.append((last * g_strides[0], rest))
    packing, _ = _plan_packing(sources, g_strides[1], n, item)
    return _plan([phase], [0], packing, False, work)


def _forward_axes(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, source: Pair, target: Pair
) -> tuple[Axis, Axis]:
    """Return the axes of conv2d: rows are positions, terms are weights.

    Args:
        source, target: the bytes from row to row and from column to column of the padded image,
            and of the output.
    """
    axes = []
    for i, out in enumerate(output_size(size, kernel, stride, padding)):
        pixels, taps = np.arange(out) * stride[i], np.arange(kernel[i])
        read = pixels[:, None] + taps - padding[i]
        inside = (read >= 0) & (read < size[i])
        rows, targets = pixels * source[i], np.arange(out) * target[i]
        axes.append(Axis(rows, targets, taps * source[i], inside))
    return axes[0], axes[1]


@lru_cache(maxsize=64)
def input_grad(
    padded: Pair,
    out: Pair,
    size: Pair,
    stride: Pair,
    padding: Pair,
    w_shape: tuple[int, ...],
    w_strides: tuple[int, ...],
    item: int,
    narrow: bool,
    work: Work,
) -> ProductTables:
    """Make the tables of the input's gradient: rows are pixels of a phase, sums run over (o, h, v).

    Pixel i takes g[(i + padding - h) / stride] for those h for which this is whole: every
    stride-th. So the pixels fall into stride x stride phases, and in each the input's gradient is
    a convolution of stride 1 over g, with every stride-th weight, in reverse order.

    Args:
        padded, out: the sides of g with and without its padding.
        size: the sides of the input.
        item, narrow: see `forward`.
    """
    kernel = w_shape[2], w_shape[3]
    plane, channels = padded[0] * padded[1] * item, np.arange(w_shape[0])
    steps = padded[1] * item, item
    axes = [
        [_phase(phase, *numbers, steps[axis]) for phase in range(stride[axis])]
        for axis, numbers in enumerate(zip(size, out, kernel, stride, padding, strict=True))
    ]
    phases, sources = [], []
    for first, rows, h in axes[0]:
        for left, columns, v in axes[1]:
            counts = rows.rows.size, columns.rows.size
            if 0 in counts:
                continue
            # A phase is computed contiguously, and then stored to its pixels.
            axes_of_phase = (
                rows._replace(targets=np.arange(counts[0]) * counts[1] * item),
                columns._replace(targets=np.arange(counts[1]) * item),
            )
            first_pixel = (first * size[1] + left) * item
            target = (first_pixel, *counts, stride[0] * size[1] * item, stride[1] * item)
            phases.append(Phase(axes_of_phase, channels * plane, target))
            weights = _outer_sum(channels * w_strides[0], h * w_strides[2], v * w_strides[3])
            sources.append((0, weights))
    packing, starts = _plan_packing(sources, w_strides[1], w_shape[1], item)
    return _plan(phases, starts, packing, narrow, work)


def taps(kernel: Pair, stride: Pair) -> Pair:
    """Return the largest number of a kernel's weights in one phase, on each axis."""
    return -(-kernel[0] // stride[0]), -(-kernel[1] // stride[1])


def _phase(
    phase: int, size: int, out: int, kernel: int, stride: int, padding: int, step: int
) -> tuple[int, Axis, np.ndarray]:
    """Return, for one axis and one phase: the first pixel, the axis, and the weights.

    Pixels and weights are given by their offsets in g, which is padded by taps - 1, with `step`
    bytes from element to element.
    """
    first = (phase - padding) % stride
    positions = (np.arange(first, size, stride) + padding) // stride
    weights = np.arange(phase, kernel, stride)
    read = positions[:, None] - weights // stride
    offsets = -(-kernel // stride) - 1 - weights // stride
    targets = np.zeros_like(positions)
    axis = Axis(positions * step, targets, offsets * step, (read >= 0) & (read < out))
    return first, axis, weights


# ---------------------------------------------------------------------------------- the plan
def _plan(
    phases: Sequence[Phase], panels: Sequence[int], packing: Packing, narrow: bool, work: Work
) -> ProductTables:
    """Choose what is skipped and how many items a task has, so that the slowest thread ends early.

    Args:
        panels: the first byte of each phase's panels of B.
    """
    options: list[tuple[int, int, list[list[Class]]]] = []
    for skip in SKIP_OPTIONS[:1] if narrow else SKIP_OPTIONS:
        classes = [phase.classes(skip) for phase in phases]
        terms = sum(x.terms.size for phase in classes for x in phase)
        if options and terms > MAX_TABLES * sum(phase.length for phase in phases):
            continue
        items, cost = _items_per_task([x for phase in classes for x in phase], work)
        options.append((cost, items, classes))
    _, items, classes = min(options, key=lambda option: option[0])
    tiles = max(sum(_tiles(items, x) for x in phase) for phase in classes)
    return ProductTables(_write(phases, classes, panels), len(phases), packing, items, tiles)


def _items_per_task(classes: Sequence[Class], work: Work) -> tuple[int, int]:
    """Return the number of items in a task, and the cost of the slowest thread, in terms."""
    least = min(work.items, -(-MIN_TASK_ROWS // max(1, sum(x.rows.size for x in classes))))

    def cost(items: int) -> int:
        tasks = work.splits * -(-work.items // items)
        return -(-tasks // work.workers) * sum(_tiles(items, x) * _tile_cost(x) for x in classes)

    items = min(range(least, min(work.items, 8 * least) + 1), key=cost)
    return items, cost(items)


def _tiles(items: int, rows: Class) -> int:
    return -(-items * rows.rows.size // ROWS)


def _tile_cost(rows: Class) -> int:
    """Return what a tile costs, in terms; SCATTER_TERMS to store it if its rows are apart in C."""
    steps = np.diff(rows.targets)
    return rows.terms.size + (SCATTER_TERMS if (steps != steps[:1]).any() else STORE_TERMS)


def _write(
    phases: Sequence[Phase], classes: Sequence[Sequence[Class]], panels: Sequence[int]
) -> np.ndarray:
    """Return one table: a record for each phase, one for each class, then what these refer to.

    A phase has: the index of its first class, their number, the index of a class that skips
    nothing, the first byte of the panels, the number of rows of B, and the five numbers of
    `Phase.target`. A class has: the index of its rows, their number, the index of its terms, their
    number for each element of `Phase.planes`, the index of the ends of its K-blocks, and their
    number. A row has its offset in A and that in C, a term its offset in A and that in a panel of
    B of one vector. Indices count words from the start of the table.
    """
    all_classes = [
        [*x, *phase.classes((False, False))] for phase, x in zip(phases, classes, strict=True)
    ]
    index = PHASE_WORDS * len(phases)
    phase_records, class_records, data = [], [], []
    end = index + CLASS_WORDS * sum(map(len, all_classes))
    for phase, list_of_phase, panel in zip(phases, all_classes, panels, strict=True):
        count = len(list_of_phase) - 1
        whole = index + CLASS_WORDS * count
        phase_records.append((index, count, whole, panel, phase.length, *phase.target))
        index = whole + CLASS_WORDS
        block = block_length.py_func(phase.length, MAX_BLOCK_ELEMENTS)
        for x in list_of_phase:
            bounds = np.arange(block, phase.length + block, block)
            ends = np.unique(np.searchsorted(x.b_rows, bounds))
            ends = ends[ends > 0]
            parts = (
                np.stack([x.rows, x.targets], 1),
                np.stack([x.terms, x.b_rows * VECTOR_BYTES], 1),
                ends,
            )
            starts = end + np.cumsum([0, *(part.size for part in parts)])
            terms = x.terms.size // max(1, phase.planes.size)
            class_records.append((starts[0], x.rows.size, starts[1], terms, starts[2], ends.size))
            data += [part.reshape(-1) for part in parts]
            end = int(starts[3])
    records = [np.array(x, np.int64).reshape(-1) for x in (phase_records, class_records)]
    return np.concatenate([*records, *data]).astype(np.int64)
