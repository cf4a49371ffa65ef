"""Launch C = A @ B on a GPU: the tile, the splits of K and the strides for each shape.

`matmul` and `dense` take the precision of `precision.current`; `multiply`, which other kernel
families call too, is in float32 unless its argument says otherwise.
"""

from __future__ import annotations

import ctypes
import math
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.cuda.launcher import MAX_GRID_DIM, Launcher, ceil_div, layout_type, strided_layout
from ..runtime.strides import elements
from ..shape.cuda import contiguous
from . import precision
from .split_k import TARGET_BLOCKS, allocate_partial_sums, count_splits, sum_splits

SOURCE, TF32_SOURCE = (Path(__file__).with_name(name) for name in ("cuda.cu", "tf32.cu"))
# (kernel, edge of its square tile, threads per block), the largest tile first.
TILES = (("product_128", 128, 256), ("product_64", 64, 128), ("product_32", 32, 64))
TF32_TILES = (("tf32_128", 128, 128), ("tf32_64", 64, 128))
DEPTH_MULTIPLE = 16  # A split's depth is a multiple, so whole slices (BK in both files).
MIN_SPLIT_DEPTH, MAX_SPLITS = 64, 32
PACKS, ALONG_ROWS, ALONG_K = range(3)  # `Copying` of matrix_product.h
FILL_THREADS_PER_BLOCK = 256  # of empty_product


class Operand(ctypes.Structure):
    """`Operand` of matrix_product.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("row_stride", "k_stride", "rows")),
        *((name, ctypes.c_int32) for name in ("copying", "unused")),
    )


class Product(ctypes.Structure):
    """`Product` of matrix_product.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("m", "n", "k", "split_depth")),
        ("a", Operand),
        ("b", Operand),
        ("first_matrix", ctypes.c_int64),
        ("batch", layout_type(2)),
    )


def plan(
    m: int, k: int, n: int, matrices: int, dtype: np.dtype, tf32: bool = False
) -> tuple[str, int, int, int]:
    """Return (kernel, tile edge, threads per block, depth of a split) for a shape.

    The tile is the largest one with enough tiles to fill half a GPU. The depth of a split does
    not depend on the number of matrices, so a matrix has the same bits in a batch as alone.
    """
    tiles = TF32_TILES if tf32 else TILES if dtype.itemsize == 4 else TILES[1:]
    counts = [ceil_div(m, edge) * ceil_div(n, edge) for _, edge, _ in tiles]

    def choose_tile(copies: int) -> int:
        filling = (i for i, count in enumerate(counts) if count * copies >= TARGET_BLOCKS // 2)
        return next(filling, len(tiles) - 1)

    kernel, edge, threads = tiles[choose_tile(matrices)]
    splits = count_splits(counts[choose_tile(1)], k, MIN_SPLIT_DEPTH, MAX_SPLITS)
    depth = ceil_div(ceil_div(k, splits), DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    return kernel, edge, threads, depth


def _operand(
    gpu: Launcher, x: Any, row_stride: int, k_stride: int, rows: int, starts_aligned: bool
) -> Operand:
    """Choose how the lanes of a warp copy the operand: `Copying` of matrix_product.h."""
    pack = 16 // x.dtype.itemsize
    if 1 in (row_stride, k_stride):
        copying = ALONG_K if k_stride == 1 else ALONG_ROWS
    else:
        copying = ALONG_K if k_stride < row_stride else ALONG_ROWS
    aligned = k_stride % pack == 0 and starts_aligned and gpu.address(x) % 16 == 0
    return Operand(row_stride, k_stride, rows, PACKS if row_stride == 1 and aligned else copying)


def multiply(
    gpu: Launcher,
    a: Any,
    b: Any,
    bias: Any = None,
    batch: tuple[int, ...] = (),
    overriding_plan: tuple[str, int, int, int] | None = None,
    tf32: bool = False,
) -> Any:
    """Compute (*batch, m, n): the products of the last two axes of a and b; leading axes broadcast.

    A bias is (n,). `overriding_plan` is used instead of the result of `plan`. With `tf32` the
    operands, which are float32, are rounded to TF32.
    """
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    dtype, matrices = a.dtype, math.prod(batch)
    c = gpu.empty((*batch, m, n), dtype)
    if not c.size:
        return c
    bias = None if bias is None else contiguous(gpu, bias)
    if not k:
        blocks, block = ceil_div(c.size, FILL_THREADS_PER_BLOCK), (FILL_THREADS_PER_BLOCK,)
        arguments = [c, bias, c.size, n]
        gpu.launch(SOURCE, "empty_product", dtype, (blocks,), block, arguments)
        return c
    batch_strides = [elements(gpu.broadcast_to(x, batch + x.shape[-2:]))[:-2] for x in (a, b)]
    (a_row, a_k), (b_k, b_column) = elements(a)[-2:], elements(b)[-2:]
    pack = 16 // dtype.itemsize
    starts_aligned = [all(stride % pack == 0 for stride in strides) for strides in batch_strides]
    kernel, edge, threads, depth = overriding_plan or plan(m, k, n, matrices, dtype, tf32)
    splits = ceil_div(k, depth)
    product = Product(m, n, k, depth)
    product.a = _operand(gpu, a, a_row, a_k, m, starts_aligned[0])
    product.b = _operand(gpu, b, b_column, b_k, n, starts_aligned[1])
    product.batch = strided_layout(batch, tuple(batch_strides))
    out = allocate_partial_sums(gpu, c, splits)
    tiles = ceil_div(m, edge) * ceil_div(n, edge)
    for first in range(0, matrices, MAX_GRID_DIM[2]):
        product.first_matrix = first
        grid = (tiles, splits, min(matrices - first, MAX_GRID_DIM[2]))
        arguments = [a, b, out, bias if splits == 1 else None, product]
        source = TF32_SOURCE if tf32 else SOURCE
        gpu.launch(source, kernel, dtype, grid, (threads,), arguments)
    if splits > 1:
        sum_splits(gpu, c, out, bias)
    return c


def uses_tf32(gpu: Launcher, dtype: np.dtype) -> bool:
    """Return whether `matmul` and `dense` round operands of this dtype to TF32."""
    if precision.current.get() != "tf32" or dtype != np.float32:
        return False
    if not gpu.has_tf32():
        _warn_without_tf32()
        return False
    return True


@cache
def _warn_without_tf32() -> None:
    """Warn once per process: what follows is slower than was asked for, and more accurate."""
    warnings.warn(
        "matmul_precision is 'tf32', but this GPU's compute capability is below 8.0: it has no"
        " tensor cores for TF32, and multiplies in float32",
        RuntimeWarning,
        stacklevel=2,
    )


def matmul(gpu: Launcher, a: Any, b: Any) -> Any:
    """Compute C = A @ B as `numpy.matmul`, (..., m, k) @ (..., k, n): leading axes broadcast."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return multiply(gpu, a, b, None, batch, tf32=uses_tf32(gpu, a.dtype))


def dense(gpu: Launcher, x: Any, w: Any, b: Any) -> Any:
    """Compute y = x @ w + b for (n, k), (k, m) and (m,)."""
    return multiply(gpu, x, w, b, tf32=uses_tf32(gpu, x.dtype))


KERNELS = {"matmul": matmul, "dense": dense}
