"""Squared Euclidean distances of all pairs of rows, on the CPU in float64.

a is (n, d), b is (m, d), and y[i, j] = sum over p of (a[i, p] - b[j, p])^2. The metrics search
nearest neighbours with it. The product |a|^2 - 2 a b + |b|^2 would take one instruction for a term,
not two, but it loses all digits where a is near b, which is where they count.

    for each panel of WIDTH rows of b                 threads share out the panels
        pack it: panel[p, q] = b[j + q, p]            d x WIDTH, stays in the L2 cache
        for i in 0 .. n step ROWS
            y[i:i+ROWS, j:j+WIDTH] = sums over p      the tile, in registers

Optimizations:
    - Register blocking: for each p, 3 loads of the panel and 8 broadcasts of a feed 24 sums.
    - Packing: the panel is contiguous, and its loads are whole vectors.
    - Multithreading from MIN_PARALLEL_TERMS on.

Each result is one chain of fused multiply-adds, p rising, so its bits depend on the two rows alone,
and exchanging them does not change them.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch, parts
from ..runtime.cpu.simd import REGISTERS, VECTOR_BYTES, Simd, address, i64, intrinsic
from ..shape.cpu import contiguous

# The sums, the vectors of the panel, an element of a and a difference must fit the register file:
# 24 + 3 + 2 of 32 registers, or 8 + 2 + 2 of 16.
ROWS, VECTORS = (8, 3) if REGISTERS == 32 else (4, 2)
WIDTH = VECTORS * VECTOR_BYTES // 8
MIN_PARALLEL_TERMS = 1048576


@intrinsic
def _tile(typing, like, a, a_row, height, panel, k, y, y_row):
    """Compute ROWS x WIDTH distances: y[r, q] = sum over p < k of (a[r, p] - panel[p, q])^2.

    Only `height` rows of a exist; the other rows of the tile repeat the last one. Strides are in
    bytes.
    """

    def codegen(context, builder, signature, args):
        like_type, (a, a_row, height, panel, k, y, y_row) = signature.args[0], args[1:]
        simd = Simd(context, builder, like_type.dtype)
        a_rows = [builder.add(a, builder.mul(r, a_row)) for r in simd.row_indices(ROWS, height)]

        def step(offsets, sums):
            b = [simd.load(v) for v in simd.vectors(builder.add(panel, offsets[1]), VECTORS)]
            new_sums = []
            for r, start in enumerate(a_rows):
                x = simd.broadcast(builder.add(start, offsets[0]))
                for v, z in enumerate(b):
                    difference = builder.fsub(x, z)
                    new_sums.append(simd.fma(difference, difference, sums[r * VECTORS + v]))
            return new_sums

        steps = [ir.Constant(i64, x) for x in (8, VECTORS * VECTOR_BYTES)]
        sums = simd.loop(k, steps, ROWS * VECTORS, step)
        for r in range(ROWS):
            targets = simd.vectors(simd.at(y, r, y_row), VECTORS)
            for v, target in enumerate(targets):
                simd.store(sums[r * VECTORS + v], target)
        return context.get_dummy_value()

    return types.void(like, *[types.intp] * 7), codegen


@jit
def distance_panels(y, a, b, begin, end):
    """Compute the columns of y of the panels begin..end of WIDTH rows of b."""
    n, m, k = a.shape[0], b.shape[0], a.shape[1]
    panel = np.zeros((k, WIDTH))
    scratch = np.empty((ROWS, WIDTH))
    for t in range(begin, end):
        first = t * WIDTH
        width = min(WIDTH, m - first)
        for q in range(width):  # Columns after them hold old numbers, which are not copied to y.
            for p in range(k):
                panel[p, q] = b[first + q, p]
        for i in range(0, n, ROWS):
            height = min(ROWS, n - i)
            rows = address(a) + i * k * 8
            if height == ROWS and width == WIDTH:
                target = address(y) + (i * m + first) * 8
                _tile(y, rows, k * 8, height, address(panel), k, target, m * 8)
            else:
                target = address(scratch)
                _tile(y, rows, k * 8, height, address(panel), k, target, WIDTH * 8)
                for r in range(height):
                    for q in range(width):
                        y[i + r, first + q] = scratch[r, q]


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (n, m), |a_i - b_j|^2, for float64 matrices (n, d) and (m, d) with d > 0."""
    y = empty((len(a), len(b)), np.dtype(np.float64))
    panels = -(-len(b) // WIDTH)
    if y.size:
        part_count = min(panels, parts(a.size * len(b), MIN_PARALLEL_TERMS))
        launch(distance_panels, y, *map(contiguous, (a, b)), over=panels, parts=part_count)
    return y
