"""Matrix products on the CPU: C = A @ B, batched, of any strides, on any number of threads.

The loops are in `product.py`, the register tile in `micro.py`. This module is the host code, which
plans each launch:

- thin results: few columns become few rows of the transposed product, so that vectors are full
- multithreading: how many threads, and how each product is cut into blocks of C
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..elementwise.cpu import elementwise
from ..runtime.cpu.call import function_addresses
from ..runtime.cpu.launch import empty, first_element, launch, parts
from ..runtime.cpu.simd import IS_AMD, REGISTERS, VECTOR_BYTES
from .micro import ROWS
from .product import multiply_block, multiply_blocks, multiply_panel, pack

# The least work for which a launch from Python gains by a second thread, in multiply-adds;
# `_multiply` counts 8 for each element of A or B that is moved.
MIN_PARALLEL_WORK = 6_400_000


class Packing(NamedTuple):
    """Which operands of a block of C are packed; no bit of the result depends on it.

    Attributes:
        rows_for_b: the least rows of the block for which B is packed. A B whose rows are not
            contiguous is packed from 3 rows on, and so are columns that do not fill a vector.
        columns_for_a: the least columns for which an A is packed whose rows are not contiguous.
        group_panels: how many panels of a row-major B are packed together.
    """

    rows_for_b: int
    columns_for_a: int
    group_panels: int


# By the number of vector registers, and whether the processor is AMD's: a Zen 4 starts one
# multiply-add of 64 bytes in a cycle, so its loads have more time. A packed B makes a product
# - with 16 registers, of 24 rows 1.1 (Intel) and 0.81 to 0.86 times (AMD) as fast, of 48 rows 0.95
#   to 1.0, of 64 rows 1.01 to 1.07 (AMD)
# - with 32, of 64 rows 1.0 to 1.1, of 32 rows 0.7 times
# - with 32 on Zen 4, of 64 rows 0.87, of 128 rows 0.93, from 512 rows on 1.0 times.
# To pack A, with 16: for 256 columns 1.15, for 128 columns 0.95 times; with 32: for 512 columns 1.0
# to 1.1, for 128 columns 0.7 times. Four panels together, not one: 1.05 times for 2048 x 2048, else
# no difference.
PACKING = {
    (16, False): Packing(24, 256, 4),
    (16, True): Packing(64, 256, 4),
    (32, False): Packing(64, 512, 4),
    (32, True): Packing(512, 512, 4),
}[REGISTERS, IS_AMD]


# The most rows of a block of C: what is packed of A is 2 KiB for each, 16 MiB for each thread.
MAX_BLOCK_ROWS = 8192

# The functions that `multiply_blocks` calls by their addresses.
FUNCTIONS = multiply_block, pack, multiply_panel
_NO_BIAS = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
_ONE_PRODUCT = np.zeros((1, 2), np.int64)


def _dtype_error(op: str, *arrays: np.ndarray) -> TypeError:
    dtypes = ", ".join(str(x.dtype) for x in arrays)
    return TypeError(f"{op}: takes arrays of one dtype, float32 or float64, not {dtypes}")


def _shape_error(op: str, *arrays: np.ndarray) -> ValueError:
    shapes = ", ".join(str(x.shape) for x in arrays)
    accepted = {
        "matmul": "(..., m, k) and (..., k, n) with leading axes that broadcast",
        "dense": "(n, k), (k, m) and (m,)",
    }
    return ValueError(f"{op}: takes shapes {accepted[op]}, not {shapes}")


def _multiply(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray, starts: np.ndarray = _ONE_PRODUCT
) -> np.ndarray:
    """Return the products of a batch, plus the bias, stacked along the rows.

    Row i of `starts` holds the bytes from a and b to the matrices of product i.
    """
    m, k = a.shape
    n = b.shape[1]
    c = empty((len(starts) * m, n), a.dtype)
    x, y = first_element(a), first_element(b)
    z, bias_step = (first_element(bias), bias.strides[0]) if bias.size else (bias, 0)
    operands = x, *a.strides, y, *b.strides
    transposed = _is_thin(m, n, a.itemsize)
    if transposed:  # C^T = B^T A^T
        operands = y, *b.strides[::-1], x, *a.strides[::-1]
        m, n = n, m
    work = len(starts) * k * (m * n + 8 * (m + n))
    workers = parts(work, MIN_PARALLEL_WORK)
    across, down = _block_grid(m, n, len(starts), workers, a.itemsize)
    down = max(down, -(-m // MAX_BLOCK_ROWS))
    blocks = len(starts) * across * down
    shape = m, k, n, transposed, across, down
    arguments = (
        function_addresses(FUNCTIONS, c.dtype),
        *operands,
        z,
        bias_step,
        c,
        starts,
        *shape,
        tuple(PACKING),
    )
    launch(multiply_blocks, *arguments, over=blocks, parts=min(workers, blocks))
    return c


def _block_grid(m: int, n: int, matrices: int, workers: int, size: int) -> tuple[int, int]:
    """Return the number of blocks (across, down) into which each product is divided.

    Many products are not divided. Otherwise the longer side of C is: each thread then reads only
    its part of the larger operand, and in the next layer finds its results in its cache.
    """
    if matrices >= 4 * workers or matrices % workers == 0:
        return 1, 1
    vectors, tiles = -(-n * size // VECTOR_BYTES), -(-m // ROWS)
    if m > n:
        down = min(workers, tiles)
        return min(workers // down, max(1, vectors // 2)), down
    across = min(workers, max(1, vectors // 2))
    return across, min(workers // across, tiles)


def _is_thin(m: int, n: int, size: int) -> bool:
    """Return whether C has so few columns that its transpose fills more of a vector register."""
    lanes = VECTOR_BYTES // size
    return n == 1 or n < lanes // 2 < m


def _matrix_starts(x: np.ndarray, batch: tuple[int, ...]) -> np.ndarray:
    """Return the bytes from the first matrix to each matrix of a broadcast batch."""
    strides = np.broadcast_to(x, batch + x.shape[-2:]).strides
    starts = np.zeros((), np.int64)
    for size, stride in zip(batch, strides, strict=False):
        starts = starts[..., None] + np.arange(size) * stride
    return starts.reshape(-1)


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return C = A @ B, as `numpy.matmul`, for (..., m, k) and (..., k, n).

    Leading axes broadcast. float32 or float64, any strides; neither operand is copied as a whole.
    Each element is a sum of K-blocks in order, each block one chain of fused multiply-adds: its
    bits do not depend on threads, strides or other rows and columns.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
        ValueError: the shapes do not fit.
    """
    no_bias = _NO_BIAS.get(a.dtype)
    if no_bias is None or b.dtype != a.dtype:
        raise _dtype_error("matmul", a, b)
    if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
        return _multiply_batch((), a, b, no_bias)
    try:
        if min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-2]:
            raise ValueError
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise _shape_error("matmul", a, b) from None
    return _multiply_batch(batch, a, b, no_bias)


def _multiply_batch(
    batch: tuple[int, ...], a: np.ndarray, b: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Return A @ B + bias for each pair of matrices; the bias is (n,), or empty for none."""
    shape = (*batch, a.shape[-2], b.shape[-1])
    if 0 in shape:
        return empty(shape, a.dtype)
    if not a.shape[-1]:  # empty sums
        sums = bias if bias.size else np.zeros(1, a.dtype)
        return elementwise("copy", np.broadcast_to(sums, shape))
    if not batch:
        return _multiply(a, b, bias)
    starts = [_matrix_starts(a, batch), _matrix_starts(b, batch)]
    if _is_thin(a.shape[-2], b.shape[-1], a.itemsize):  # `_multiply` will exchange the operands
        starts.reverse()
    first_a, first_b = (x[(0,) * (x.ndim - 2)] for x in (a, b))
    return _multiply(first_a, first_b, bias, np.stack(starts, axis=1)).reshape(shape)


def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return y = x @ w + b for (n, k), (k, m) and (m,).

    The bits are those of `matmul` and one addition. float32 or float64, any strides.

    Raises:
        TypeError: the dtypes differ, or are neither float32 nor float64.
        ValueError: the shapes do not fit.
    """
    if x.dtype not in _NO_BIAS or not x.dtype == w.dtype == b.dtype:
        raise _dtype_error("dense", x, w, b)
    if not (x.ndim == w.ndim == 2 and x.shape[1] == w.shape[0] and b.shape == w.shape[1:]):
        raise _shape_error("dense", x, w, b)
    return _multiply_batch((), x, w, b)


KERNELS = {"matmul": matmul, "dense": dense}
