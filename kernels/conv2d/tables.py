"""The tables of byte offsets through which a convolution's product reads its operands.

An element of A lies at (offset of its row) + (offset of its term p): see `cpu.py`. These functions
make the tables of each operation, and the one from which B is packed:

    operation     rows of A (positions)          terms of the sums          B's columns
    forward       output positions (a, b)        weights (c, h, v)          output channels
    input_grad    input pixels (i, j), by phase  weights (o, h, v)          input channels
    weight_grad   weights (h, v) of a channel    positions (n, a, b)        output channels

`plan.py` divides the rows into classes and writes the table of the product. All tables are int64;
offsets are in bytes. They follow from sizes, strides and the number of threads, so they are cached.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..matmul.micro import panel_width
from ..runtime.cpu.simd import VECTOR_BYTES
from .geometry import Pair, output_size
from .plan import Axis, Packing, Phase, ProductTables, Work, make_plan, outer_sum

PACKING_WORDS = 6  # words of the record of a panel, see `_plan_packing`


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
    weights = outer_sum(*(i * s for i, s in zip(taps, w_strides[1:], strict=True)))
    packing, starts = _plan_packing([(0, weights)], w_strides[0], n, item)
    return make_plan([phase], starts, packing, narrow, work)


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
    whole = outer_sum(np.arange(step_images) * g_strides[0], *g_positions)
    rest = whole[: whole.size // step_images * (images % step_images)]
    last = images - images % step_images
    sources = [(i * g_strides[0], whole) for i in range(0, last, step_images)]
    if rest.size:
        sources.append((last * g_strides[0], rest))
    packing, _ = _plan_packing(sources, g_strides[1], n, item)
    return make_plan([phase], [0], packing, False, work)


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
            weights = outer_sum(channels * w_strides[0], h * w_strides[2], v * w_strides[3])
            sources.append((0, weights))
    packing, starts = _plan_packing(sources, w_strides[1], w_shape[1], item)
    return make_plan(phases, starts, packing, narrow, work)


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
