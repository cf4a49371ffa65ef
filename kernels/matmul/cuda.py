"""C = A @ B on a GPU: which tile, and how K is split, for a product's shape."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.cuda.launcher import MAX_GRID, Launcher, blocks, walk, walk_type
from ..runtime.strides import elements
from ..shape.cuda import contiguous

SOURCE = Path(__file__).with_name("cuda.cu")
# (kernel, edge of its square tile, threads), the largest first.
TILES = (("product_128", 128, 256), ("product_64", 64, 256), ("product_32", 32, 64))
DEEP = 16  # a slice's depth, BK in cuda.cu
# Blocks that fill a large GPU, and the least depth of a split that is worth a block of its own.
# They are constants: if they followed the GPU at hand, so would the bits of the result.
BUSY, LEAST_DEPTH, MOST_SPLITS = 264, 64, 32
JOIN_THREADS = 256


class Operand(ctypes.Structure):
    """`Operand` of cuda.cu."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("row", "step", "rows")),
        *((name, ctypes.c_int32) for name in ("along_k", "wide")),
    )


class Product(ctypes.Structure):
    """`Product` of cuda.cu."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("m", "n", "k", "depth")),
        ("a", Operand),
        ("b", Operand),
        ("first_matrix", ctypes.c_int64),
        ("batch", walk_type(2)),
    )


def plan(m: int, k: int, n: int, matrices: int, dtype: np.dtype) -> tuple[str, int, int, int]:
    """(kernel, tile edge, threads, depth of a split) for a product of this shape."""
    tiles = TILES if dtype.itemsize == 4 else TILES[1:]
    counts = [blocks(m, edge) * blocks(n, edge) for _, edge, _ in tiles]

    def largest(copies: int) -> int:
        enough = (i for i, count in enumerate(counts) if count * copies >= BUSY // 2)
        return next(enough, len(tiles) - 1)

    kernel, edge, threads = tiles[largest(matrices)]
    # A matrix of a batch is split, and so has the bits, as if it were alone.
    splits = max(1, min(blocks(BUSY, counts[largest(1)]), k // LEAST_DEPTH, MOST_SPLITS))
    depth = blocks(blocks(k, splits), DEEP) * DEEP
    return kernel, edge, threads, depth


def _operand(gpu: Launcher, x: Any, row: int, step: int, rows: int, starts_fit: bool) -> Operand:
    """Along which axis its elements are read, and whether 16 bytes at a time."""
    lanes = 16 // x.dtype.itemsize
    along_k = step == 1 if 1 in (row, step) else step < row
    dense, other = (step, row) if along_k else (row, step)
    wide = dense == 1 and other % lanes == 0 and starts_fit and gpu.address(x) % 16 == 0
    return Operand(row, step, rows, along_k, wide)


def multiply(
    gpu: Launcher,
    a: Any,
    b: Any,
    bias: Any = None,
    batch: tuple[int, ...] = (),
    chosen: tuple[str, int, int, int] | None = None,
) -> Any:
    """(*batch, m, n): the products of the last two axes of a and b; leading axes broadcast.

    A bias is (n,). `chosen` stands in for what `plan` would say.
    """
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    dtype, matrices = a.dtype, math.prod(batch)
    join_grid = (blocks(math.prod(batch) * m * n, JOIN_THREADS),)
    c = gpu.empty((*batch, m, n), dtype)
    if not c.size:
        return c
    if bias is not None and not bias.flags.c_contiguous:
        bias = contiguous(gpu, bias)
    if not k:
        arguments = [c, bias, c.size, n]
        gpu.launch(SOURCE, "no_product", dtype, join_grid, (JOIN_THREADS,), arguments)
        return c
    leads = [elements(gpu.broadcast_to(x, batch + x.shape[-2:]))[:-2] for x in (a, b)]
    (a_row, a_step), (b_step, b_column) = elements(a)[-2:], elements(b)[-2:]
    lanes = 16 // dtype.itemsize
    fits = [all(stride % lanes == 0 for stride in lead) for lead in leads]
    kernel, edge, threads, depth = chosen or plan(m, k, n, matrices, dtype)
    splits = blocks(k, depth)
    product = Product(m, n, k, depth)
    product.a = _operand(gpu, a, a_row, a_step, m, fits[0])
    product.b = _operand(gpu, b, b_column, b_step, n, fits[1])
    product.batch = walk(batch, tuple(leads))
    out = c if splits == 1 else gpu.empty((splits, *c.shape), dtype)
    tiles = blocks(m, edge) * blocks(n, edge)
    for first in range(0, matrices, MAX_GRID[2]):
        product.first_matrix = first
        grid = (tiles, splits, min(matrices - first, MAX_GRID[2]))
        arguments = [a, b, out, bias if splits == 1 else None, product]
        gpu.launch(SOURCE, kernel, dtype, grid, (threads,), arguments)
    if splits > 1:
        arguments = [c, out, bias, splits, c.size, n]
        gpu.launch(SOURCE, "join_splits", dtype, join_grid, (JOIN_THREADS,), arguments)
    return c


def matmul(gpu: Launcher, a: Any, b: Any) -> Any:
    """C = A @ B, as `numpy.matmul` for (..., m, k) and (..., k, n): leading axes broadcast."""
    return multiply(gpu, a, b, None, np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))


def dense(gpu: Launcher, x: Any, w: Any, b: Any) -> Any:
    """y = x @ w + b for (n, k), (k, m) and (m,)."""
    return multiply(gpu, x, w, b)


KERNELS = {"matmul": matmul, "dense": dense}
