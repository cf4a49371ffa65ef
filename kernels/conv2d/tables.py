"""The tables of byte offsets through which a convolution's product reads its operands.

An element of A lies at (offset of its row) + (offset of its term p): see `cpu.py`. These functions
make the two tables of each operation, and the one from which B is packed:

    operation     row offsets (positions)        term offsets               B's columns
    forward       output positions (a, b)        weights (c, h, v)          output channels
    input_grad    input pixels (i, j), by phase  weights (o, h, v)          input channels
    weight_grad   weights (h, v) of a channel    positions (n, a, b)        output channels

All tables are int64 and in bytes. They follow from sizes and strides alone, so they are cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..matmul.micro import panel_width
from ..runtime.cpu.simd import VECTOR_BYTES
from .geometry import Pair

PHASE_WORDS = 9  # words of a phase's record, see `_with_records`


class Packing(NamedTuple):
    """The arguments of `product.pack_panels`: table, number of panels, size of all in elements."""

    tables: np.ndarray
    panels: int
    size: int


class ProductTables(NamedTuple):
    """The arguments of `kernels.forward_or_input_grad`: table, number of phases, packing of B."""

    tables: np.ndarray
    phases: int
    packing: Packing


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
    byte in the packed memory), then the row offsets; sources that share them store them once.
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
            records.append((first + j * column, offsets.size, start, width, packed))
            packed += -(-width // lanes) * VECTOR_BYTES * offsets.size
            j += width
    table = np.array(records, np.int64).reshape(-1, 5)
    table[:, 2] += table.size
    tables = np.concatenate([table.reshape(-1), *distinct.values()])
    return Packing(tables, len(records), packed // size), source_starts


@lru_cache(maxsize=64)
def forward(
    padded: Pair,
    stride: Pair,
    out: Pair,
    w_shape: tuple[int, ...],
    w_strides: tuple[int, ...],
    size: int,
) -> ProductTables:
    """Make the tables of conv2d: rows are positions (a, b), sums run over (c, h, v).

    Args:
        padded: the sides of an image with its padding.
        out: the sides of the output.
        size: bytes of an element.
    """
    n, channels, height, width = w_shape
    line, plane = padded[1] * size, padded[0] * padded[1] * size
    positions = _outer_sum(
        np.arange(out[0]) * stride[0] * line, np.arange(out[1]) * stride[1] * size
    )
    taps = np.arange(channels), np.arange(height), np.arange(width)
    offsets = _outer_sum(taps[0] * plane, taps[1] * line, taps[2] * size)
    weights = _outer_sum(*(i * s for i, s in zip(taps, w_strides[1:], strict=True)))
    packing, starts = _plan_packing([(0, weights)], w_strides[0], n, size)
    target = (0, *out, out[1] * size, size)
    return ProductTables(_with_records([(offsets, positions, starts[0], target)]), 1, packing)


@lru_cache(maxsize=64)
def input_grad(
    padded: Pair,
    size: Pair,
    stride: Pair,
    padding: Pair,
    w_shape: tuple[int, ...],
    w_strides: tuple[int, ...],
    item: int,
) -> ProductTables:
    """Make the tables of the input's gradient: rows are pixels of a phase, sums run over (o, h, v).

    Pixel i takes g[(i + padding - h) / stride] for those h for which this is whole: every
    stride-th. So the pixels fall into stride x stride phases, and in each the input's gradient is
    a convolution of stride 1 over g, with every stride-th weight, in reverse order.

    Args:
        padded: the sides of g with its padding.
        size: the sides of the input.
        item: bytes of an element.
    """
    kernel = w_shape[2], w_shape[3]
    line, plane = padded[1] * item, padded[0] * padded[1] * item
    channels = np.arange(w_shape[0])
    axes = [
        [_phase(p, *numbers) for p in range(numbers[2])]
        for numbers in zip(size, kernel, stride, padding, strict=True)
    ]
    phases, sources = [], []
    for first, rows, h, h_offsets in axes[0]:
        for left, columns, v, v_offsets in axes[1]:
            if not rows.size or not columns.size:
                continue
            positions = _outer_sum(rows * line, columns * item)
            offsets = _outer_sum(channels * plane, h_offsets * line, v_offsets * item)
            weights = _outer_sum(channels * w_strides[0], h * w_strides[2], v * w_strides[3])
            target = (
                (first * size[1] + left) * item,
                rows.size,
                columns.size,
                stride[0] * size[1] * item,
                stride[1] * item,
            )
            phases.append((offsets, positions, target))
            sources.append((0, weights))
    packing, starts = _plan_packing(sources, w_strides[1], w_shape[1], item)
    records = [(o, p, s, t) for (o, p, t), s in zip(phases, starts, strict=True)]
    return ProductTables(_with_records(records), len(records), packing)


def taps(kernel: Pair, stride: Pair) -> Pair:
    """Return the largest number of a kernel's weights in one phase, on each axis."""
    return -(-kernel[0] // stride[0]), -(-kernel[1] // stride[1])


def _phase(
    phase: int, size: int, kernel: int, stride: int, padding: int
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Return, for one axis and one phase: the first pixel; for each pixel its position in g, which
    is padded by taps - 1; the weights; for each weight the offset from the position to its g.
    """
    first = (phase - padding) % stride
    positions = (np.arange(first, size, stride) + padding) // stride
    weights = np.arange(phase, kernel, stride)
    return first, positions, weights, -(-kernel // stride) - 1 - weights // stride


@lru_cache(maxsize=64)
def weight_grad(
    padded: Pair,
    kernel: Pair,
    stride: Pair,
    g_shape: tuple[int, ...],
    g_strides: tuple[int, ...],
    step_images: int,
    size: int,
) -> tuple[np.ndarray, Packing]:
    """Make the tables of the weight's gradient: rows are weights (h, v), sums over (n, a, b).

    Returns the offsets of the weights in a padded plane, then those of the positions (a, b); and
    the packing of g, `step_images` images to a panel.
    """
    images, n, *out = g_shape
    line = padded[1] * size
    weights = _outer_sum(np.arange(kernel[0]) * line, np.arange(kernel[1]) * size)
    positions = _outer_sum(
        np.arange(out[0]) * stride[0] * line, np.arange(out[1]) * stride[1] * size
    )
    g_positions = np.arange(out[0]) * g_strides[2], np.arange(out[1]) * g_strides[3]
    whole = _outer_sum(np.arange(step_images) * g_strides[0], *g_positions)
    rest = whole[: images % step_images * out[0] * out[1]]
    last = images - images % step_images
    sources = [(i * g_strides[0], whole) for i in range(0, last, step_images)]
    if rest.size:
        sources.append((last * g_strides[0], rest))
    return np.concatenate([weights, positions]), _plan_packing(sources, g_strides[1], n, size)[0]


def _with_records(
    phases: Sequence[tuple[np.ndarray, np.ndarray, int, tuple[int, ...]]],
) -> np.ndarray:
    """Return one table: a record for each phase, then the offsets and positions of each.

    A record is k, the indices of the offsets and of the positions in the table, the first byte of
    the panels, and of the target: first byte, rows, columns, bytes from row to row and from column
    to column.
    """
    records, index = [], PHASE_WORDS * len(phases)
    for offsets, positions, panel, target in phases:
        records.append((offsets.size, index, index + offsets.size, panel, *target))
        index += offsets.size + positions.size
    rows = [x for offsets, positions, *_ in phases for x in (offsets, positions)]
    return np.concatenate([np.array(records, np.int64).reshape(-1), *rows])
