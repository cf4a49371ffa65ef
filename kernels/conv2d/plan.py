"""Plan a convolution's product: what is skipped, how rows are divided into tasks, its table.

The rows of A are divided into *classes* that read the padding at the same terms, and these terms,
which are zeros, are left out of the class's sums. The result is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from ..matmul.k_blocks import block_length
from ..matmul.micro import ROWS
from ..runtime.cpu.simd import VECTOR_BYTES

MAX_BLOCK_ELEMENTS = 512  # the length of the longest K-block
PHASE_WORDS, CLASS_WORDS = 10, 6  # words of the records of a phase and of a class, see `_write`
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
                outer_sum(height.rows[a], width.rows[b]),
                outer_sum(height.targets[a], width.targets[b]),
                outer_sum(self.planes, height.terms[h], width.terms[v]),
                outer_sum(np.arange(counts[0]) * steps[0], h * steps[1], v * steps[2]),
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


def outer_sum(*rows: Iterable[int] | np.ndarray) -> np.ndarray:
    """Return a + b + ... for all a, b, ... of the rows, flat, with the last row fastest."""
    total = np.zeros(1, np.int64)
    for row in rows:
        total = (total[:, None] + np.asarray(row, np.int64)).reshape(-1)
    return total


def make_plan(
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
