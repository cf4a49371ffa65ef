"""Convolutions as plain matrix products, where their matrix is small or exists already.

    conv2d         y[n] = W (o, k) @ X[n] (k, positions)
    input_grad     X[n] = W^T @ g[n], and each element is added to its pixel
    weight_grad    W    = sum over n of g[n] @ X[n]^T

X[n] is im2col's matrix of image n: row k = (c, h, v) has, for each position (a, b), the pixel that
weight (c, h, v) covers there. A kernel of one pixel with stride 1 has X = x: nothing is copied. A
layer of one channel has few rows k: to copy them takes less time than an implicit GEMM
(`product.py`) takes to store its results transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..matmul.cpu import matmul
from ..reduce.cpu import reduce
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, first_element, launch, parts
from ..runtime.cpu.simd import address, pointer
from ..shape.cpu import fill, reshape
from .geometry import Pair, output_size

# With fewer positions, a product for each image costs more than it saves.
MIN_POSITIONS = 64
# Images are unrolled for MAX_UNROLLED rows k at most, and for at least OUTPUTS_PER_ROW times as
# many outputs: then the matrix is smaller than what an implicit GEMM copies or stores transposed.
# Measured, as ratios to it, forward and the gradients of input and weight: 1 channel, 4 x 4 and 5 x
# 5, to 64: 1.2 to 1.5, 0.95 to 1.5, 1.0 to 1.9; 3 channels, 3 x 3, to 64: 0.95 to 1.3, 0.8, 0.9 to
# 1.4.
MAX_UNROLLED, OUTPUTS_PER_ROW = 64, 2.5
MIN_PARALLEL_ELEMENTS = 400_000  # With fewer, a launch from Python uses one thread.


@jit(inline="always")
def _span(size, step, shift, count):
    """Return the first and the last + 1 position b < count with 0 <= b*step + shift < size."""
    first = min(count, max(0, -(shift // step)))
    return first, max(first, min(count, (size - 1 - shift) // step + 1))


@jit(inline="always")
def _copy_row(like, row, count, pixels, step, first, last):
    """Set row[b] to the pixel at pixels + b*step for b in first..last, else to 0; b < count."""
    target, source = pointer(like, row), pointer(like, pixels)
    for b in range(first):
        target[b] = 0
    # Loops of constant strides take half the time.
    if step == like.itemsize:
        for b in range(first, last):
            target[b] = source[b]
    elif step == 2 * like.itemsize:
        for b in range(first, last):
            target[b] = source[2 * b]
    else:
        for b in range(first, last):
            target[b] = pointer(like, pixels + b * step)[0]
    for b in range(last, count):
        target[b] = 0


@jit(inline="always")
def _add_row(like, row, pixels, step, first, last):
    """Add row[b] to the pixel at pixels + b*step, for b in first..last."""
    source, target = pointer(like, row), pointer(like, pixels)
    if step == like.itemsize:
        for b in range(first, last):
            target[b] += source[b]
    elif step == 2 * like.itemsize:
        for b in range(first, last):
            target[2 * b] += source[b]
    else:
        for b in range(first, last):
            pointer(like, pixels + b * step)[0] += source[b]


@jit
def im2col(x, strides, size, columns, shape, stride, padding, adjoint, begin, end):
    """Fill X[n, (c, h, v), (a, b)] = x[n, c, a*s + h - p, b*s + v - p], 0 outside of x.

    n runs from begin to end; `columns` is X as flat memory, `shape` is (channels, kernel's height
    and width, output's height and width). With `adjoint`, X is read, and each of its elements is
    added to its pixel of x, in the order of (h, v).
    """
    channels, height, width, rows, row_length = shape
    row_bytes, step = row_length * columns.itemsize, stride[1] * strides[3]
    row = address(columns) + begin * channels * height * width * rows * row_bytes
    for image in range(begin, end):
        for channel in range(channels):
            plane = address(x) + image * strides[0] + channel * strides[1]
            for h in range(height):
                for v in range(width):
                    first, last = _span(size[1], stride[1], v - padding[1], row_length)
                    for a in range(rows):
                        i = a * stride[0] + h - padding[0]
                        pixels = plane + i * strides[2] + (v - padding[1]) * strides[3]
                        inside = 0 <= i < size[0]
                        if not adjoint:
                            b0, b1 = (first, last) if inside else (row_length, row_length)
                            _copy_row(columns, row, row_length, pixels, step, b0, b1)
                        elif inside:
                            _add_row(columns, row, pixels, step, first, last)
                        row += row_bytes


def unroll(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Return X (n, c*kh*kw, positions) of x (n, c, height, width), of any strides."""
    images, channels, *size = x.shape
    if is_pointwise(kernel, stride, padding):
        return reshape(x, (images, channels, math.prod(size)))
    out = output_size((size[0], size[1]), kernel, stride, padding)
    columns = empty((images, channels * math.prod(kernel), math.prod(out)), x.dtype)
    _launch(x, columns, (channels, *kernel, *out), stride, padding, False)
    return columns


def _launch(
    x: np.ndarray,
    columns: np.ndarray,
    shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    adjoint: bool,
) -> None:
    if columns.size:
        arguments = first_element(x), x.strides, x.shape[2:], columns.reshape(-1), shape
        tasks = min(len(x), parts(columns.size, MIN_PARALLEL_ELEMENTS))
        launch(im2col, *arguments, stride, padding, adjoint, over=len(x), parts=tasks)


def is_pointwise(kernel: Pair, stride: Pair, padding: Pair) -> bool:
    """Return whether a convolution is a matrix product of the channels of each pixel."""
    return kernel == stride == (1, 1) and padding == (0, 0)


def pays(w_shape: tuple[int, ...], positions: int, stride: Pair, padding: Pair) -> bool:
    """Return whether these products are faster than an implicit GEMM.

    The choice depends on shapes alone, so that bits do not depend on threads or strides: the sums
    of the gradients are in another order.
    """
    rows, kernel = math.prod(w_shape[1:]), (w_shape[2], w_shape[3])
    if is_pointwise(kernel, stride, padding):
        # The weight's gradient keeps (o, c) numbers for each image, g (o, positions).
        return positions >= max(MIN_POSITIONS, rows / 2)
    return positions >= MIN_POSITIONS and rows <= min(MAX_UNROLLED, w_shape[0] / OUTPUTS_PER_ROW)


def forward(x: np.ndarray, w: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    """Compute conv2d, see `cpu.py`."""
    kernel, size = (w.shape[2], w.shape[3]), (x.shape[2], x.shape[3])
    y = matmul(_matrix(w), unroll(x, kernel, stride, padding))
    return y.reshape(len(x), len(w), *output_size(size, kernel, stride, padding))


def input_grad(g: np.ndarray, w: np.ndarray, size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Compute conv2d_input_grad, see `cpu.py`."""
    images, outputs, *out = g.shape
    channels, kernel = w.shape[1], (w.shape[2], w.shape[3])
    columns = matmul(_matrix(w).T, reshape(g, (images, outputs, math.prod(out))))
    shape = images, channels, *size
    if is_pointwise(kernel, stride, padding):
        return columns.reshape(shape)
    x = empty(shape, g.dtype)
    launch(fill, x.reshape(-1), x.dtype.type(0))
    _launch(x, columns, (channels, *kernel, *out), stride, padding, True)
    return x


def weight_grad(
    x: np.ndarray, g: np.ndarray, kernel: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """Compute conv2d_weight_grad, see `cpu.py`."""
    columns = unroll(x, kernel, stride, padding)
    images, outputs = g.shape[:2]
    products = matmul(reshape(g, (images, outputs, columns.shape[2])), columns.swapaxes(1, 2))
    return reduce(products, (0,), False).reshape(outputs, x.shape[1], *kernel)


def _matrix(w: np.ndarray) -> np.ndarray:
    return reshape(w, (len(w), math.prod(w.shape[1:])))


OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "conv2d": forward,
    "conv2d_input_grad": input_grad,
    "conv2d_weight_grad": weight_grad,
}
