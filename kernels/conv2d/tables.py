"""Where the elements of a convolution's operands lie: the tables that its kernels walk.

All numbers are bytes, and all tables int64; each follows from sizes and strides alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..matmul.cpu import _panel_width
from ..runtime.cpu.simd import VECTOR_BYTES
from .geometry import Pair

RECORD = 9  # numbers that tell of a phase


class Packing(NamedTuple):
    """What `product.pack` needs: its tables, how many panels, and their size in elements."""

    tables: np.ndarray
    panels: int
    size: int


class Faces(NamedTuple):
    """What `cpu.by_places` needs: its tables, how many phases, and the packing of the weights."""

    tables: np.ndarray
    phases: int
    packing: Packing


def _sums(*rows: Iterable[int] | np.ndarray) -> np.ndarray:
    """a + b + ... for all a, b, ..., the last one running fastest."""
    total = np.zeros(1, np.int64)
    for row in rows:
        total = (total[:, None] + np.asarray(row, np.int64)).reshape(-1)
    return total


def _packing(
    sources: list[tuple[int, np.ndarray]], column: int, n: int, size: int
) -> tuple[Packing, list[int]]:
    """For (first byte, steps of the rows) each, panels of n columns that lie `column` apart.

    A record for each panel (first byte, k, where its steps begin, columns, first byte in memory),
    then the steps. Also: where each source's panels begin.
    """
    lanes = VECTOR_BYTES // size
    distinct = {id(steps): steps for _, steps in sources}
    starts = dict(zip(distinct, np.cumsum([0, *map(len, distinct.values())]), strict=False))
    records, begins, into = [], [], 0
    for first, steps in sources:
        begins.append(into)
        j = 0
        while j < n:
            width = _panel_width.py_func(n - j, lanes)
            records.append((first + j * column, steps.size, starts[id(steps)], width, into))
            into += -(-width // lanes) * VECTOR_BYTES * steps.size
            j += width
    table = np.array(records, np.int64).reshape(-1, 5)
    table[:, 2] += table.size
    tables = np.concatenate([table.reshape(-1), *distinct.values()])
    return Packing(tables, len(records), into // size), begins


@lru_cache(maxsize=64)
def forward(
    padded: Pair,
    stride: Pair,
    out: Pair,
    w_shape: tuple[int, ...],
    w_strides: tuple[int, ...],
    size: int,
) -> Faces:
    """Rows are places (a, b); sums run over (c, h, v); columns are output channels."""
    n, channels, height, width = w_shape
    line, plane = padded[1] * size, padded[0] * padded[1] * size
    places = _sums(np.arange(out[0]) * stride[0] * line, np.arange(out[1]) * stride[1] * size)
    inner = np.arange(channels), np.arange(height), np.arange(width)
    steps = _sums(inner[0] * plane, inner[1] * line, inner[2] * size)
    weights = _sums(*(i * s for i, s in zip(inner, w_strides[1:], strict=True)))
    packing, begins = _packing([(0, weights)], w_strides[0], n, size)
    target = (0, *out, out[1] * size, size)
    return Faces(_with_records([(steps, places, begins[0], target)]), 1, packing)


@lru_cache(maxsize=64)
def input_grad(
    padded: Pair,
    size: Pair,
    stride: Pair,
    padding: Pair,
    w_shape: tuple[int, ...],
    w_strides: tuple[int, ...],
    item: int,
) -> Faces:
    """Rows are places (i, j) of one phase of the stride; sums run over (o, h, v); columns: c.

    Pixel i takes g[(i + padding - h) / stride] for the h's where this is whole, one in `stride`.
    So the pixels fall into phases, and in each the input's gradient is a convolution of stride 1
    with some of the weights, back to front.
    """
    kernel = w_shape[2], w_shape[3]
    line, plane = padded[1] * item, padded[0] * padded[1] * item
    channels = np.arange(w_shape[0])
    axes = [
        [_phase(p, *numbers) for p in range(numbers[2])]
        for numbers in zip(size, kernel, stride, padding, strict=True)
    ]
    phases, sources = [], []
    for first, rows, h, h_back in axes[0]:
        for left, columns, v, v_back in axes[1]:
            if not rows.size or not columns.size:
                continue
            places = _sums(rows * line, columns * item)
            steps = _sums(channels * plane, h_back * line, v_back * item)
            weights = _sums(channels * w_strides[0], h * w_strides[2], v * w_strides[3])
            target = (
                (first * size[1] + left) * item,
                rows.size,
                columns.size,
                stride[0] * size[1] * item,
                stride[1] * item,
            )
            phases.append((steps, places, target))
            sources.append((0, weights))
    packing, begins = _packing(sources, w_strides[1], w_shape[1], item)
    records = [(s, p, b, t) for (s, p, t), b in zip(phases, begins, strict=True)]
    return Faces(_with_records(records), len(records), packing)


def taps(kernel: Pair, stride: Pair) -> Pair:
    """How many of a kernel's weights one phase has at most, on each axis."""
    return -(-kernel[0] // stride[0]), -(-kernel[1] // stride[1])


def _phase(
    phase: int, size: int, kernel: int, stride: int, padding: int
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """On one axis: the first pixel, the pixels' places in g (padded by taps - 1), the weights, and
    how far from its place each weight finds its g."""
    first = (phase - padding) % stride
    places = (np.arange(first, size, stride) + padding) // stride
    weights = np.arange(phase, kernel, stride)
    return first, places, weights, -(-kernel // stride) - 1 - weights // stride


@lru_cache(maxsize=64)
def weight_grad(
    padded: Pair,
    kernel: Pair,
    stride: Pair,
    g_shape: tuple[int, ...],
    g_strides: tuple[int, ...],
    few: int,
    size: int,
) -> tuple[np.ndarray, Packing]:
    """Rows are weights (h, v) of a channel; sums run over (n, a, b); columns are g's channels.

    The tables: where the weights look in a plane, then where each place (a, b) lies in it. The
    packing is of g, `few` images to a panel.
    """
    images, n, *out = g_shape
    line = padded[1] * size
    weights = _sums(np.arange(kernel[0]) * line, np.arange(kernel[1]) * size)
    places = _sums(np.arange(out[0]) * stride[0] * line, np.arange(out[1]) * stride[1] * size)
    inner = np.arange(out[0]) * g_strides[2], np.arange(out[1]) * g_strides[3]
    whole = _sums(np.arange(few) * g_strides[0], *inner)
    rest = whole[: images % few * out[0] * out[1]]
    sources = [(i * g_strides[0], whole) for i in range(0, images - images % few, few)]
    if rest.size:
        sources.append((images // few * few * g_strides[0], rest))
    return np.concatenate([weights, places]), _packing(sources, g_strides[1], n, size)[0]


def _with_records(
    phases: Sequence[tuple[np.ndarray, np.ndarray, int, tuple[int, ...]]],
) -> np.ndarray:
    """A record for each phase, then its steps and places.

    A record is k, where the steps begin, where the places begin, the first byte of the panels, and
    of the target: first byte, rows, columns, bytes from row to row and from column to column.
    """
    records, at = [], RECORD * len(phases)
    for steps, places, panel, target in phases:
        records.append((steps.size, at, at + steps.size, panel, *target))
        at += steps.size + places.size
    numbers = [x for steps, places, *_ in phases for x in (steps, places)]
    return np.concatenate([np.array(records, np.int64).reshape(-1), *numbers])
