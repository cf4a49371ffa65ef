"""Tiles held in SIMD registers. Each intrinsic is one short loop, or one block of vector code."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from ..runtime.cpu.simd import ONE, REGISTERS, VECTOR_BYTES, Simd, i64, intrinsic

# The tile: ROWS x VECTORS sums, VECTORS registers of B and one of A must fit the register file,
# 24 + 3 + 1 of 32, or 12 + 3 + 1 of 16.
ROWS = 8 if REGISTERS == 32 else 4
VECTORS = 3


@intrinsic(prefer_literal=True)
def tile(
    typing,
    rows,
    vectors,
    like,
    a,
    a_row,
    a_step,
    height,
    b,
    b_step,
    k,
    c,
    c_row,
    add,
    far,
    far_step,
):
    """C[r, q] (+)= sum over p < k of A[r, p] B[p, q], for one tile that stays in registers.

        A[r, p] at a + r*a_row + p*a_step      one element, broadcast to all lanes
        B[p, :] at b + p*b_step                contiguous, `vectors` registers
        C[r, :] at c + r*c_row                 contiguous, replaced, or added to where `add`

    The tile is `rows` x `vectors` (literals) large. Its rows from `height` on repeat row
    height - 1, so that nothing outside A is read. Each element is one chain of fused
    multiply-adds from zero, p rising.

    Far memory takes as long as hundreds of multiply-adds. So each tile calls for lines that later
    ones will need: before the sums C's of the tile below, and with each p the one at
    far + p*far_step.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    m, n = rows.literal_value, vectors.literal_value

    def codegen(context, builder, signature, args):
        a, a_row, a_step, height, b, b_step, k, c, c_row, add, far, far_step = args[3:]
        simd = Simd(context, builder, like.dtype)
        last = builder.sub(height, ONE)
        starts = []
        for r in range(m):
            row = ir.Constant(i64, r)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            starts.append(builder.add(a, builder.mul(row, a_row)))

        addresses = [x for r in range(m) for x in simd.vectors(simd.at(c, r, c_row), n)]
        below = builder.mul(ir.Constant(i64, m), c_row)
        for x in addresses:
            simd.prefetch(builder.add(x, below), write=True)

        def step(offsets, sums):
            b_row = [simd.load(x) for x in simd.vectors(builder.add(b, offsets[1]), n)]
            simd.prefetch(builder.add(far, offsets[2]))
            totals = []
            for r, start in enumerate(starts):
                x = simd.broadcast(builder.add(start, offsets[0]))
                totals += [simd.fma(x, y, sums[r * n + v]) for v, y in enumerate(b_row)]
            return totals

        totals = simd.loop(k, [a_step, b_step, far_step], m * n, step)
        simd.write(totals, addresses, add)
        return context.get_dummy_value()

    return types.void(rows, vectors, like, *[types.intp] * 12), codegen


@intrinsic(prefer_literal=True)
def transposed_tile(typing, rows, vectors, like, a, a_row, a_step, b, b_column, k, c, c_row, add):
    """C[r, q] (+)= sum over p < k of A[r, p] B[p, q], where B's columns are contiguous.

        A[r, p] at a + r*a_row + p*a_step      as in `tile`
        B[:, q] at b + q*b_column              `vectors` registers of columns, k whole ones deep
        C[r, :] at c + r*c_row                 as in `tile`

    Square blocks of B are turned in registers, and used at once; the chains are `tile`'s.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    m, n = rows.literal_value, vectors.literal_value

    def codegen(context, builder, signature, args):
        a, a_row, a_step, b, b_column, k, c, c_row, add = args[3:]
        simd = Simd(context, builder, like.dtype)
        lanes = ir.Constant(i64, simd.lanes)

        def step(offsets, sums):
            a_block, b_block = builder.add(a, offsets[0]), builder.add(b, offsets[1])
            blocks = [
                simd.load_transposed(simd.at(b_block, v * simd.lanes, b_column), b_column)
                for v in range(n)
            ]
            totals = list(sums)
            for p, row in enumerate(zip(*blocks, strict=True)):
                for r in range(m):
                    x = simd.broadcast(simd.at(simd.at(a_block, p, a_step), r, a_row))
                    for v, y in enumerate(row):
                        totals[r * n + v] = simd.fma(x, y, totals[r * n + v])
            return totals

        steps = [builder.mul(lanes, a_step), ir.Constant(i64, VECTOR_BYTES)]
        totals = simd.loop(builder.sdiv(k, lanes), steps, m * n, step)
        addresses = [x for r in range(m) for x in simd.vectors(simd.at(c, r, c_row), n)]
        simd.write(totals, addresses, add)
        return context.get_dummy_value()

    return types.void(rows, vectors, like, *[types.intp] * 9), codegen


@intrinsic
def transpose_block(typing, like, x, x_row, y, y_row):
    """y[p, q] = x[q, p] for a square block of lanes x lanes; the rows of both are contiguous."""

    def codegen(context, builder, signature, args):
        _, x, x_row, y, y_row = args
        simd = Simd(context, builder, like.dtype)
        for q in range(simd.lanes):
            simd.prefetch(simd.at(x, simd.lanes + q, x_row), level=2)
        for p, row in enumerate(simd.load_transposed(x, x_row)):
            simd.store(row, simd.at(y, p, y_row))
        return context.get_dummy_value()

    return types.void(like, *[types.intp] * 4), codegen
