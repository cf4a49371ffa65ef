"""The micro-kernels of the matrix product: tiles of C in vector registers, as LLVM code.

A micro-kernel, as in the BLIS papers (Van Zee and van de Geijn 2015), is the loop over p within a
K-block, for an MR x NR tile of C whose sums stay in registers. Here MR is ROWS and NR is VECTORS
vector registers. Each intrinsic emits short loops, or one block of vector code.

Optimizations:
- register blocking: for each p, 3 loads of B and 8 broadcasts of A feed 24 fused multiply-adds, and
  24 independent sums hide the latency of each
- vectorized access: rows of B and C are whole vectors
- unrolling: where the operands are packed, four iterations share one calculation of addresses
- prefetch: each iteration prefetches one cache line that a later tile needs
"""

from __future__ import annotations

from functools import partial

from llvmlite import ir
from numba import types

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.simd import REGISTERS, VECTOR_BYTES, Simd, i64, intrinsic

# The register tile: ROWS x VECTORS sums, VECTORS registers for a row of B and one for an element of
# A must fit the register file: 24 + 3 + 1 of 32 registers, or 12 + 3 + 1 of 16.
ROWS = 8 if REGISTERS == 32 else 4
VECTORS = 3
UNROLL = 4  # iterations of the loop over packed operands
COPIED_ROWS = 8  # of a row-major B: as many rows of each panel of a group are copied in turn

# The tiles of `tile`: (rows, vectors, whether both operands are packed).
TILES = [(m, n, False) for m in (1, 2, ROWS) for n in range(1, VECTORS + 1)]
TILES += [(ROWS, n, True) for n in range(1, VECTORS + 1)]


@jit
def panel_width(columns, lanes):
    """Return the width of the next panel of B, for `columns` columns that are left.

    It is three vectors, or two where four are left (2 + 2, not 3 + 1), or all whole vectors that
    are left, or finally the columns that do not fill a vector. `columns` may be those of a group.
    """
    vectors = columns // lanes
    if vectors == 0:
        return columns
    return lanes * (VECTORS - 1 if vectors == VECTORS + 1 else min(vectors, VECTORS))


@intrinsic
def tile(
    typing,
    like,
    rows,
    vectors,
    packed,
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
    prefetch,
    prefetch_step,
):
    """Compute one tile, C[r, q] = sum over p < k of A[r, p] B[p, q], or add it to C.

        A[r, p] at a + r*a_row + p*a_step      one element, broadcast to all lanes
        B[p, :] at b + p*b_step                contiguous, `vectors` registers
        C[r, :] at c + r*c_row                 contiguous; added to where `add` is not 0

    (rows, vectors, packed) is one of TILES. Where `packed`, rows of A are contiguous and rows of B
    follow each other: a_step is an element and b_step `vectors` registers. Only `height` rows of A
    exist: the other rows of the tile repeat the last one, so that nothing outside A is read. Each
    element is one chain of fused multiply-adds from zero, p rising.

    Prefetches: before the loop, the rows of C below this tile, for the next one to write; at each
    p, the cache line at prefetch + p*prefetch_step, which the caller chooses, into the second-level
    cache.
    """

    def codegen(context, builder, signature, args):
        simd = Simd(context, builder, like.dtype)
        rows, vectors, packed = args[1:4]
        # The case is 16 rows + 8 packed + vectors.
        number = builder.add(builder.mul(rows, ir.Constant(i64, 16)), vectors)
        number = builder.add(number, builder.mul(packed, ir.Constant(i64, 8)))
        cases = {
            16 * m + 8 * is_packed + n: partial(_emit_tile, simd, m, n, is_packed, *args[4:])
            for m, n, is_packed in TILES
        }
        simd.switch(number, cases)
        return context.get_dummy_value()

    return types.void(like, *[types.intp] * 15), codegen


def _emit_tile(
    simd, m, n, packed, a, a_row, a_step, height, b, b_step, k, c, c_row, add, prefetch, next_line
):
    """Emit `tile` for m rows and n vectors."""
    builder = simd.builder
    if packed:
        a_step, b_step = ir.Constant(i64, simd.size), ir.Constant(i64, n * VECTOR_BYTES)
    a_rows = [builder.add(a, builder.mul(r, a_row)) for r in simd.row_indices(m, height)]

    c_addresses = [x for r in range(m) for x in simd.vectors(simd.at(c, r, c_row), n)]
    tile_below = builder.mul(ir.Constant(i64, m), c_row)
    for x in c_addresses:
        simd.prefetch(builder.add(x, tile_below), write=True)

    def step(offsets, sums):
        b_row = [simd.load(x) for x in simd.vectors(builder.add(b, offsets[1]), n)]
        simd.prefetch(builder.add(prefetch, offsets[2]), level=2)
        new_sums = []
        for r, a_start in enumerate(a_rows):
            x = simd.broadcast(builder.add(a_start, offsets[0]))
            new_sums += [simd.fma(x, y, sums[r * n + v]) for v, y in enumerate(b_row)]
        return new_sums

    steps, unroll = [a_step, b_step, next_line], UNROLL if packed else 1
    simd.store_or_add(simd.loop(k, steps, m * n, step, unroll), c_addresses, add)


@intrinsic(prefer_literal=True)
def copy_rows(typing, vectors, like, x, x_row, y, y_row, count):
    """Copy `count` rows of `vectors` (a literal) vectors from x + p*x_row to y + p*y_row.

    The row COPIED_ROWS rows later is prefetched: the rows lie on different pages of memory, which
    a processor's own prefetcher does not follow.
    """
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    n = vectors.literal_value

    def codegen(context, builder, signature, args):
        x, x_row, y, y_row, count = args[2:]
        simd = Simd(context, builder, like.dtype)

        def step(offsets, sums):
            source = builder.add(x, offsets[0])
            for line in simd.vectors(simd.at(source, COPIED_ROWS, x_row), n):
                simd.prefetch(line)
            row = [simd.load(v) for v in simd.vectors(source, n)]
            for value, v in zip(row, simd.vectors(builder.add(y, offsets[1]), n), strict=True):
                simd.store(value, v)
            return sums

        simd.loop(count, [x_row, y_row], 0, step)
        return context.get_dummy_value()

    return types.void(vectors, like, *[types.intp] * 5), codegen


@intrinsic(prefer_literal=True)
def tile_transposed_b(typing, rows, vectors, like, a, a_row, a_step, b, b_column, k, c, c_row, add):
    """Compute `tile` for a B whose columns are contiguous, transposed in registers.

        A[r, p] at a + r*a_row + p*a_step      as in `tile`
        B[:, q] at b + q*b_column              contiguous; k is a multiple of the lanes
        C[r, :] at c + r*c_row                 as in `tile`

    For tiles of one or two rows, for which packing B first would cost more than the product. The
    chains of multiply-adds are those of `tile`.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    m, n = rows.literal_value, vectors.literal_value

    def codegen(context, builder, signature, args):
        a, a_row, a_step, b, b_column, k, c, c_row, add = args[3:]
        simd = Simd(context, builder, like.dtype)
        lanes = ir.Constant(i64, simd.lanes)

        def step(offsets, sums):  # `lanes` values of p
            a_block, b_block = builder.add(a, offsets[0]), builder.add(b, offsets[1])
            blocks = [
                simd.load_transposed(simd.at(b_block, v * simd.lanes, b_column), b_column)
                for v in range(n)
            ]
            new_sums = list(sums)
            for p, b_row in enumerate(zip(*blocks, strict=True)):
                for r in range(m):
                    x = simd.broadcast(simd.at(simd.at(a_block, p, a_step), r, a_row))
                    for v, y in enumerate(b_row):
                        new_sums[r * n + v] = simd.fma(x, y, new_sums[r * n + v])
            return new_sums

        steps = [builder.mul(lanes, a_step), ir.Constant(i64, VECTOR_BYTES)]
        sums = simd.loop(builder.sdiv(k, lanes), steps, m * n, step)
        addresses = [x for r in range(m) for x in simd.vectors(simd.at(c, r, c_row), n)]
        simd.store_or_add(sums, addresses, add)
        return context.get_dummy_value()

    return types.void(rows, vectors, like, *[types.intp] * 9), codegen


@intrinsic
def transpose_block(typing, like, x, x_row, y, y_row):
    """Transpose a square block of lanes x lanes: y[p, q] = x[q, p]; rows of both are contiguous.

    The rows of x after the block are prefetched into the second-level cache.
    """

    def codegen(context, builder, signature, args):
        _, x, x_row, y, y_row = args
        simd = Simd(context, builder, like.dtype)
        for q in range(simd.lanes):
            simd.prefetch(simd.at(x, simd.lanes + q, x_row), level=2)
        for p, row in enumerate(simd.load_transposed(x, x_row)):
            simd.store(row, simd.at(y, p, y_row))
        return context.get_dummy_value()

    return types.void(like, *[types.intp] * 4), codegen
