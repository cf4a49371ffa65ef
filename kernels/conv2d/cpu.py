"""Convolutions on the CPU: implicit GEMM, matrix products whose left operand is never written.

With im2col a convolution is a product A @ B, where A has a row for each position of the kernel and
a column for each of its weights. A repeats every pixel many times, but its elements need no
storage of their own: in an image padded with zeros, element (r, p) lies at

    row offset[r] + term offset[p]

So the micro-kernel reads A through two short tables (`tables.py`), and the images are not unrolled.
All three operations are such products (`product.py`, called by `kernels.py`), but for the layers of
`columns.py`:

    operation     rows of A                         summed over                  columns
    forward       positions (n, a, b) in x          weights (c, h, v)            output channels
    input_grad    pixels (n, i, j), read from g     weights (o, h, v), by phase  input channels
    weight_grad   weights (c, h, v), read from x    positions (n, a, b)          output channels

Optimizations:
- implicit GEMM: only padded images and packed panels of B are copied, each once; without padding,
  contiguous images are read where they lie
- skipped padding: terms that read zeros are left out (`plan.py`)
- plain matrix products where these are faster, for few channels and kernels of one pixel
  (`columns.py`)
- cache blocking: a task pads its images just before it multiplies them
- multithreading: over images, or for weight_grad over channels and splits of the sum

Each element of a result is a sum of K-blocks in order, each block one chain of fused multiply-adds;
`columns.py` adds the sums of images, or of pixels, in another fixed order. Blocks and splits follow
from the shapes (`matmul/k_blocks.py`), so bits do not depend on threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..matmul.k_blocks import steps_per_split
from ..reduce.cpu import reduce
from ..runtime.cpu.call import function_addresses
from ..runtime.cpu.launch import empty, first_element, launch, parts
from ..runtime.cpu.simd import VECTOR_BYTES
from ..shape.cpu import fill
from . import columns, tables
from .geometry import Pair, output_size
from .kernels import forward_or_input_grad, weight_grad
from .plan import MAX_BLOCK_ELEMENTS, Packing, ProductTables, Work
from .product import (
    NARROW_COLUMNS,
    NARROW_OVERREACH,
    multiply,
    multiply_narrow,
    pack_panels,
    pad_images,
)

FUNCTIONS = pad_images, multiply, multiply_narrow  # that the kernels call by their addresses
MIN_PARALLEL_MULTIPLY_ADDS = 6_400_000  # With fewer, a launch from Python uses one thread.


def _check(op: str, *arrays: np.ndarray) -> None:
    if arrays[0].dtype not in (np.float32, np.float64) or arrays[0].dtype != arrays[1].dtype:
        dtypes = ", ".join(str(x.dtype) for x in arrays)
        raise TypeError(f"{op}: takes arrays of one dtype, float32 or float64, not {dtypes}")


def _pack(x: np.ndarray, packing: Packing, column: int) -> np.ndarray:
    """Return the packed panels of B, which lies in x, and their flags."""
    panels = empty((packing.size + packing.panels,), x.dtype)
    tasks = parts(16 * packing.size, MIN_PARALLEL_MULTIPLY_ADDS)
    arguments = first_element(x), packing.tables, column, panels
    launch(pack_panels, *arguments, over=packing.panels, parts=tasks)
    return panels


def _workspace(x: np.ndarray, padded: Pair, overreach: int = 0) -> np.ndarray:
    """Return memory for padded images and `overreach` elements; none where x is read in place.

    That is, where there is no padding, the images are contiguous, and nothing behind them is read.
    """
    if padded == x.shape[2:] and x.flags.c_contiguous and not overreach:
        return _NO_MEMORY[x.dtype]
    return empty((x.shape[0] * x.shape[1] * math.prod(padded) + overreach,), x.dtype)


_NO_MEMORY = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}


def _multiply_images(
    x: np.ndarray,
    padded: Pair,
    before: Pair,
    product_tables: ProductTables,
    panels: np.ndarray,
    c: np.ndarray,
    narrow: bool,
    workers: int,
) -> np.ndarray:
    """Fill c from x, padded to `padded` with `before` zeros before its rows and columns."""
    overreach = NARROW_OVERREACH * VECTOR_BYTES // x.itemsize if narrow else 0
    tasks = -(-len(x) // product_tables.items)
    launch(
        forward_or_input_grad,
        function_addresses(FUNCTIONS, x.dtype),
        first_element(x),
        x.strides,
        x.shape[2:],
        padded,
        before,
        _workspace(x, padded, overreach),
        panels,
        product_tables.packing.size,
        product_tables.tables,
        product_tables.phases,
        c.reshape(-1),
        (*x.shape[:2], c.shape[1], math.prod(c.shape[2:])),
        product_tables.items,
        overreach,
        over=tasks,
        parts=min(tasks, workers),
    )
    return c


def _is_narrow(n: int, item: int) -> bool:
    """Return whether n columns are so few that vectors are of positions instead."""
    return n <= min(NARROW_COLUMNS, VECTOR_BYTES // item)


def conv2d(x: np.ndarray, w: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    """Convolve x (n, c, height, width) with w (o, c, kh, kw): (n, o, rows, columns); any strides.

    The workspace is the padded x, unless x is read in place, and w in whole vectors; or im2col's
    matrix, where `columns.pays`.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
    """
    _check("conv2d", x, w)
    size, kernel = (x.shape[2], x.shape[3]), (w.shape[2], w.shape[3])
    shape = len(x), len(w), *output_size(size, kernel, stride, padding)
    if columns.pays(w.shape, math.prod(shape[2:]), stride, padding):
        return columns.forward(x, w, stride, padding)
    y = empty(shape, x.dtype)
    if not y.size:
        return y
    padded = size[0] + 2 * padding[0], size[1] + 2 * padding[1]
    workers = parts(y.size * w[0].size, MIN_PARALLEL_MULTIPLY_ADDS)
    narrow = stride == (1, 1) and _is_narrow(len(w), x.itemsize)
    geometry = size, kernel, stride, padding, w.shape, w.strides, x.itemsize
    product_tables = tables.forward(*geometry, narrow, Work(len(x), 1, workers))
    panels = _pack(w, product_tables.packing, w.strides[0])
    return _multiply_images(x, padded, padding, product_tables, panels, y, narrow, workers)


def conv2d_input_grad(
    g: np.ndarray, w: np.ndarray, size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """Apply the adjoint of conv2d in x: g (n, o, rows, columns), w (o, c, kh, kw) to (n, c, *size).

    The workspace is the padded g, unless g is read in place, and w in whole vectors; or im2col's
    matrix, where `columns.pays`.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
    """
    _check("conv2d_input_grad", g, w)
    kernel, out = (w.shape[2], w.shape[3]), (g.shape[2], g.shape[3])
    shape = len(g), w.shape[1], *size
    if columns.pays(w.shape, math.prod(out), stride, padding):
        return columns.input_grad(g, w, size, stride, padding)
    x = empty(shape, g.dtype)
    if not x.size:
        return x
    taps = tables.taps(kernel, stride)
    after = (  # rows and columns of zeros behind g
        max(0, (m - 1 + p) // s - n + 1)
        for m, p, s, n in zip(size, padding, stride, out, strict=True)
    )
    height, width = (n + t - 1 + a for n, t, a in zip(out, taps, after, strict=True))
    padded = height, width
    workers = parts(g.size * w[0].size, MIN_PARALLEL_MULTIPLY_ADDS)
    narrow = _is_narrow(w.shape[1], g.itemsize)
    geometry = padded, out, size, stride, padding, w.shape, w.strides, g.itemsize
    product_tables = tables.input_grad(*geometry, narrow, Work(len(g), 1, workers))
    panels = _pack(w, product_tables.packing, w.strides[1])
    before = taps[0] - 1, taps[1] - 1
    return _multiply_images(g, padded, before, product_tables, panels, x, narrow, workers)


def conv2d_weight_grad(
    x: np.ndarray, g: np.ndarray, kernel: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """Apply the adjoint of conv2d in w: x (n, c, height, width), g (n, o, rows, columns) to
    (o, c, kh, kw).

    The workspace is the padded x, unless x is read in place, g in whole vectors, and a result for
    each split; or im2col's matrix and a result for each image, where `columns.pays`.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
    """
    _check("conv2d_weight_grad", x, g)
    images, channels, *size = x.shape
    n, positions, weights = g.shape[1], math.prod(g.shape[2:]), math.prod(kernel)
    w_shape = n, channels, *kernel
    if not images:
        w = empty(w_shape, x.dtype)
        launch(fill, w.reshape(-1), w.dtype.type(0))
        return w
    if columns.pays(w_shape, positions, stride, padding):
        return columns.weight_grad(x, g, kernel, stride, padding)
    padded = size[0] + 2 * padding[0], size[1] + 2 * padding[1]
    workspace = _workspace(x, padded)
    # In the workspace the images of a channel follow each other.
    image = math.prod(padded) * x.itemsize if workspace.size else x.strides[0]
    # A step sums over the positions of as many images as fill one K-block.
    step_images = min(images, max(1, MAX_BLOCK_ELEMENTS // positions))
    steps = -(-images // step_images)
    split_steps = steps_per_split(steps, channels * weights)
    splits = -(-steps // split_steps)
    workers = parts(channels * weights * g.size, MIN_PARALLEL_MULTIPLY_ADDS)
    geometry = tuple(size), kernel, stride, padding, g.shape, g.strides, image, step_images
    work = Work(channels, splits, workers)
    product_tables = tables.weight_grad(*geometry, x.itemsize, work)
    panels = _pack(g, product_tables.packing, g.strides[1])
    c = empty((splits, n, channels, *kernel), x.dtype)
    tasks = splits * -(-channels // product_tables.items)
    launch(
        weight_grad,
        function_addresses(FUNCTIONS, x.dtype),
        first_element(x),
        x.strides,
        x.shape[2:],
        padded,
        padding,
        workspace,
        panels,
        product_tables.packing.size,
        product_tables.tables,
        c.reshape(-1),
        (images, channels, n, weights, positions),
        (step_images, split_steps, product_tables.items, product_tables.tiles),
        over=tasks,
        parts=min(tasks, workers),
    )
    return reduce(c, (0,), False) if splits > 1 else c[0]


KERNELS: dict[str, Callable[..., np.ndarray]] = {
    "conv2d": conv2d,
    "conv2d_input_grad": conv2d_input_grad,
    "conv2d_weight_grad": conv2d_weight_grad,
}
