"""Convolutions on the CPU: implicit GEMM, matrix products whose left operand is never written.

With im2col a convolution is a product A @ B, where A has a row for each position of the kernel and
a column for each of its weights. A repeats every pixel many times, but its elements need no
storage of their own: in an image padded with zeros, element (r, p) lies at

    row offset[r] + term offset[p]

So the micro-kernel reads A through two short tables (`tables.py`), and the images are not unrolled.
All three operations are such products (`product.py`, called by `kernels.py`):

    operation     rows of A                         summed over                  columns
    forward       positions (n, a, b) in x          weights (c, h, v)            output channels
    input_grad    pixels (n, i, j), read from g     weights (o, h, v), by phase  input channels
    weight_grad   weights (c, h, v), read from x    positions (n, a, b)          output channels

Optimizations:
- implicit GEMM: only padded images and packed panels of B are copied, each once
- cache blocking: a task pads its images just before it multiplies them
- multithreading: over images, or for weight_grad over channels and splits of the sum

Each element of a result is a sum of K-blocks in order, each block one chain of fused multiply-adds.
Blocks and splits follow from the shapes (`matmul/k_blocks.py`), so bits do not depend on threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ..matmul.k_blocks import steps_per_split
from ..matmul.micro import ROWS
from ..reduce.cpu import reduce
from ..runtime.cpu.launch import empty, first_element, launch, parts
from ..runtime.cpu.simd import VECTOR_BYTES
from ..shape.cpu import fill
from . import tables
from .geometry import Pair, output_size
from .kernels import forward_or_input_grad, weight_grad
from .product import MAX_BLOCK_ELEMENTS, NARROW_COLUMNS, NARROW_VECTORS, pack_panels
from .tables import Packing, ProductTables

MIN_TASK_ROWS = 64  # the least rows of A in a task
MIN_PARALLEL_MULTIPLY_ADDS = 6_400_000  # With fewer, a launch from Python uses one thread.


def _check(op: str, *arrays: np.ndarray) -> None:
    if arrays[0].dtype not in (np.float32, np.float64) or arrays[0].dtype != arrays[1].dtype:
        dtypes = ", ".join(str(x.dtype) for x in arrays)
        raise TypeError(f"{op}: takes arrays of one dtype, float32 or float64, not {dtypes}")


def _pack(x: np.ndarray, packing: Packing, column: int) -> np.ndarray:
    """Return the packed panels of B, which lies in x."""
    panels = empty((packing.size,), x.dtype)
    tasks = parts(16 * packing.size, MIN_PARALLEL_MULTIPLY_ADDS)
    arguments = first_element(x), packing.tables, column, panels
    launch(pack_panels, *arguments, over=packing.panels, parts=tasks)
    return panels


def _multiply_images(
    x: np.ndarray,
    padded: Pair,
    before: Pair,
    product_tables: ProductTables,
    panels: np.ndarray,
    c: np.ndarray,
    unit_stride: bool,
) -> np.ndarray:
    """Fill c from x, padded to `padded` with `before` zeros before its rows and columns.

    `unit_stride`: neighbouring positions are neighbouring pixels, so that few columns may go
    through `multiply_narrow`.
    """
    images, channels = x.shape[:2]
    n, pixels = c.shape[1], math.prod(c.shape[2:])
    lanes = VECTOR_BYTES // c.itemsize
    narrow = NARROW_VECTORS * lanes if unit_stride and n <= min(NARROW_COLUMNS, lanes) else 0
    workspace = empty((images * channels * math.prod(padded) + narrow,), c.dtype)
    workers = parts(c.size * product_tables.packing.size // n, MIN_PARALLEL_MULTIPLY_ADDS)
    group = _images_per_task(images, -(-pixels // product_tables.phases), workers)
    tasks = -(-images // group)
    launch(
        forward_or_input_grad,
        first_element(x),
        x.strides,
        x.shape[2:],
        padded,
        before,
        workspace,
        panels,
        product_tables.tables,
        product_tables.phases,
        c.reshape(-1),
        (images, channels, n, pixels),
        group,
        narrow,
        over=tasks,
        parts=min(tasks, workers),
    )
    return c


@lru_cache(maxsize=256)
def _images_per_task(images: int, positions: int, workers: int) -> int:
    """Return the number of images per task for which the slowest thread has the fewest tiles."""

    def most_tiles(group: int) -> int:
        tasks = -(-images // group)
        return -(-tasks // workers) * -(-group * positions // ROWS)

    least = -(-MIN_TASK_ROWS // positions)
    return min(range(least, 8 * least + 1), key=most_tiles)


def conv2d(x: np.ndarray, w: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    """Convolve x (n, c, height, width) with w (o, c, kh, kw): (n, o, rows, columns); any strides.

    The workspace is the padded x, and w in whole vectors.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
    """
    _check("conv2d", x, w)
    size, kernel = (x.shape[2], x.shape[3]), (w.shape[2], w.shape[3])
    out = output_size(size, kernel, stride, padding)
    y = empty((len(x), len(w), *out), x.dtype)
    if not y.size:
        return y
    padded = size[0] + 2 * padding[0], size[1] + 2 * padding[1]
    product_tables = tables.forward(padded, stride, out, w.shape, w.strides, x.itemsize)
    panels = _pack(w, product_tables.packing, w.strides[0])
    return _multiply_images(x, padded, padding, product_tables, panels, y, stride == (1, 1))


def conv2d_input_grad(
    g: np.ndarray, w: np.ndarray, size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """Apply the adjoint of conv2d in x: g (n, o, rows, columns), w (o, c, kh, kw) to (n, c, *size).

    The workspace is the padded g, and w in whole vectors.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
    """
    _check("conv2d_input_grad", g, w)
    kernel, out = (w.shape[2], w.shape[3]), (g.shape[2], g.shape[3])
    x = empty((len(g), w.shape[1], *size), g.dtype)
    if not x.size:
        return x
    taps = tables.taps(kernel, stride)
    after = (  # rows and columns of zeros behind g
        max(0, (m - 1 + p) // s - n + 1)
        for m, p, s, n in zip(size, padding, stride, out, strict=True)
    )
    height, width = (n + t - 1 + a for n, t, a in zip(out, taps, after, strict=True))
    padded = height, width
    product_tables = tables.input_grad(
        padded, size, stride, padding, w.shape, w.strides, g.itemsize
    )
    panels = _pack(w, product_tables.packing, w.strides[1])
    before = taps[0] - 1, taps[1] - 1
    return _multiply_images(g, padded, before, product_tables, panels, x, True)


def conv2d_weight_grad(
    x: np.ndarray, g: np.ndarray, kernel: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """Apply the adjoint of conv2d in w: x (n, c, height, width), g (n, o, rows, columns) to
    (o, c, kh, kw).

    The workspace is the padded x, g in whole vectors, and a result for each split.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
    """
    _check("conv2d_weight_grad", x, g)
    images, channels = x.shape[:2]
    n, positions, weights = g.shape[1], math.prod(g.shape[2:]), math.prod(kernel)
    if not images:
        w = empty((n, channels, *kernel), x.dtype)
        launch(fill, w.reshape(-1), w.dtype.type(0))
        return w
    padded = x.shape[2] + 2 * padding[0], x.shape[3] + 2 * padding[1]
    # A step sums over the positions of as many images as fill one K-block.
    step_images = min(images, max(1, MAX_BLOCK_ELEMENTS // positions))
    steps = -(-images // step_images)
    split_steps = steps_per_split(steps, channels * weights)
    table, packing = tables.weight_grad(
        padded, kernel, stride, g.shape, g.strides, step_images, x.itemsize
    )
    panels = _pack(g, packing, g.strides[1])
    workspace = empty((images * channels * math.prod(padded),), x.dtype)
    splits, block_channels = -(-steps // split_steps), -(-MIN_TASK_ROWS // weights)
    c = empty((splits, n, channels, *kernel), x.dtype)
    tasks = splits * -(-channels // block_channels)
    launch(
        weight_grad,
        first_element(x),
        x.strides,
        x.shape[2:],
        padded,
        padding,
        workspace,
        panels,
        table,
        c.reshape(-1),
        (images, channels, n, weights, positions),
        (step_images, split_steps, block_channels),
        over=tasks,
        parts=min(tasks, parts(channels * weights * g.size, MIN_PARALLEL_MULTIPLY_ADDS)),
    )
    return reduce(c, (0,), False) if splits > 1 else c[0]


KERNELS: dict[str, Callable[..., np.ndarray]] = {
    "conv2d": conv2d,
    "conv2d_input_grad": conv2d_input_grad,
    "conv2d_weight_grad": conv2d_weight_grad,
}
