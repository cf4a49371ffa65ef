"""The micro-kernels of the convolutions: register tiles whose operands are read through tables.

They are those of `matmul/micro.py`, which has the details, with one change: the address of an
element is a sum of table entries instead of strides, which takes two more loads for each p.
"""

from __future__ import annotations

from functools import partial

from llvmlite import ir
from numba import types

from ..matmul.micro import ROWS, VECTORS
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.simd import REGISTERS, Simd, i64, intrinsic

WORD = ir.Constant(i64, 8)
TERM = ir.Constant(i64, 16)  # the bytes of a term in a table: its offsets in A and in B
UNROLL = 2

# The tiles of `narrow_tile`: (rows, vectors). A tile of one row uses no vector twice, so it is as
# wide as the registers allow.
THREE_ROWS_WIDE = 6 if REGISTERS == 32 else 3
NARROW_TILES = {(1, 12), (1, 6), (1, 3), (3, THREE_ROWS_WIDE), (3, 3)}


@jit
def narrow_width(rows, vectors):
    """Return the width of the next tile of NARROW_TILES, for `vectors` vectors that are left."""
    if rows == 3:
        return THREE_ROWS_WIDE if vectors > 3 else 3
    return 12 if vectors > 9 else 6 if vectors > 3 else 3


def _word(simd, address):
    """Load an int64."""
    return simd.builder.load(simd.builder.inttoptr(address, i64.as_pointer()))


@intrinsic
def tile(typing, vectors, like, a_rows, height, terms, b, k, c, add):
    """Compute one tile, C[r, q] = sum over p < k of A[r, p] B[p, q], or add it to C.

        A[r, p]    at a_rows[r] + terms[p, 0]: one element, broadcast to all lanes
        B[p, :]    at b + vectors*terms[p, 1]: contiguous, `vectors` registers
        C[r, :]    at c, one row after the other; added to where `add` is not 0

    a_rows and terms are addresses of int64 tables: the addresses of `height` rows of A, and offsets
    in bytes. The tile has ROWS x `vectors` registers, 1 to VECTORS; its rows from `height` on
    repeat row height - 1. Each element is one chain of fused multiply-adds from zero, p rising.
    """

    def codegen(context, builder, signature, args):
        simd = Simd(context, builder, like.dtype)
        emitters = {n: partial(_emit_tile, simd, n, *args[2:]) for n in range(1, VECTORS + 1)}
        simd.switch(args[0], emitters)
        return context.get_dummy_value()

    return types.void(types.intp, like, *[types.intp] * 7), codegen


def _emit_tile(simd, n, a_rows, height, terms, b, k, c, add):
    """Emit `tile` for n vectors."""
    builder = simd.builder
    rows = [
        _word(simd, builder.add(a_rows, builder.mul(row, WORD)))
        for row in simd.row_indices(ROWS, height)
    ]

    def step(offsets, sums):
        term = builder.add(terms, offsets[0])
        a_offset, b_offset = _word(simd, term), _word(simd, builder.add(term, WORD))
        b_start = builder.add(b, builder.mul(b_offset, ir.Constant(i64, n)))
        b_row = [simd.load(x) for x in simd.vectors(b_start, n)]
        new_sums = []
        for r, row in enumerate(rows):
            x = simd.broadcast(builder.add(row, a_offset))
            new_sums += [simd.fma(x, y, sums[r * n + v]) for v, y in enumerate(b_row)]
        return new_sums

    sums = simd.loop(k, [TERM], ROWS * n, step, UNROLL)
    # A sum that underflows to -0 becomes 0, as it would by a term of the padding that is skipped.
    sums = [builder.fadd(x, simd.zero) for x in sums]
    simd.store_or_add(sums, simd.vectors(c, ROWS * n), add)


@intrinsic
def narrow_tile(typing, rows, vectors, like, a, terms, b, k, c, c_row, add):
    """Compute one tile, C[r, q] = sum over p < k of A[r, p] B[p, q], or add it to C.

        A[r, p]    at a + terms[p, 1] + r*size: the packed weights of channel r
        B[p, :]    at b + terms[p, 0], contiguous, `vectors` registers: pixels of the image
        C[r, :]    at c + r*c_row, contiguous; added to where `add` is not 0

    `rows` and `vectors` are of NARROW_TILES, and `terms` is the address of an int64 table. The
    chains of multiply-adds are those of `tile`.
    """

    def codegen(context, builder, signature, args):
        simd = Simd(context, builder, like.dtype)
        number = builder.add(builder.mul(args[0], ir.Constant(i64, 16)), args[1])
        cases = {
            16 * m + n: partial(_emit_narrow_tile, simd, m, n, *args[3:])
            for m, n in sorted(NARROW_TILES)
        }
        simd.switch(number, cases)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, like, *[types.intp] * 7), codegen


def _emit_narrow_tile(simd, m, n, a, terms, b, k, c, c_row, add):
    """Emit `narrow_tile` for m rows and n vectors."""
    builder = simd.builder

    def step(offsets, sums):
        term = builder.add(terms, offsets[0])
        pixels, weights = _word(simd, term), _word(simd, builder.add(term, WORD))
        b_row = [simd.load(x) for x in simd.vectors(builder.add(b, pixels), n)]
        new_sums = []
        for r in range(m):
            element = builder.add(builder.add(a, weights), ir.Constant(i64, r * simd.size))
            x = simd.broadcast(element)
            new_sums += [simd.fma(x, y, sums[r * n + v]) for v, y in enumerate(b_row)]
        return new_sums

    sums = simd.loop(k, [TERM], m * n, step)
    addresses = [x for r in range(m) for x in simd.vectors(simd.at(c, r, c_row), n)]
    simd.store_or_add(sums, addresses, add)


@intrinsic(prefer_literal=True)
def store_transposed(typing, rows, like, x, x_row, c, column):
    """Store the transpose of `rows` (a literal) vectors: C[r, q] = X[r, q], by columns of C.

        X[r, :]    at x + r*x_row, contiguous
        C[:, q]    at c + q*column, contiguous

    log2(rows) rounds interleave vector i with vector i + rows/2, which leaves the columns one
    after the other; each takes one store.
    """
    if not isinstance(rows, types.IntegerLiteral):
        return None
    m = rows.literal_value

    def codegen(context, builder, signature, args):
        x, x_row, c, column = args[2:]
        simd = Simd(context, builder, like.dtype)
        low = [lane for i in range(simd.lanes // 2) for lane in (i, simd.lanes + i)]
        high = [lane + simd.lanes // 2 for lane in low]
        vectors = [simd.load(simd.at(x, r, x_row)) for r in range(m)]
        for _ in range(m.bit_length() - 1):
            pairs = zip(vectors[: m // 2], vectors[m // 2 :], strict=True)
            vectors = [simd.shuffle(a, b, side) for a, b in pairs for side in (low, high)]
        for q in range(simd.lanes):
            target, length = simd.at(c, q, column), min(m, simd.lanes)
            for r in range(0, m, length):
                vector, start = divmod(q * m + r, simd.lanes)
                lanes = list(range(start, start + length))
                values = simd.shuffle(vectors[vector], simd.zero, lanes)
                simd.store(values, builder.add(target, ir.Constant(i64, r * simd.size)))
        return context.get_dummy_value()

    return types.void(rows, like, *[types.intp] * 4), codegen
