"""The micro-kernels of the convolutions: register tiles whose operands are read through tables.

They are those of `matmul/micro.py`, which has the details, with one change: the address of an
element is a sum of table entries instead of strides, which takes one more load for each p.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types

from ..runtime.cpu.simd import ONE, Simd, i64, intrinsic


@intrinsic(prefer_literal=True)
def tile(typing, rows, vectors, like, a_rows, height, offsets, b, b_step, k, c, add):
    """Compute one tile, C[r, q] = sum over p < k of A[r, p] B[p, q], or add it to C.

        A[r, p]    at a_rows[r] + offsets[p]: one element, broadcast to all lanes
        B[p, :]    at b + p*b_step, contiguous, `vectors` registers
        C[r, :]    at c, one row after the other; added to where `add` is not 0

    a_rows and offsets are addresses of int64 tables: the addresses of `height` rows of A, and the
    offsets in bytes of element p from the start of any row.

    The tile has `rows` x `vectors` registers (literals); its rows from `height` on repeat row
    height - 1. Each element is one chain of fused multiply-adds from zero, p rising.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    m, n = rows.literal_value, vectors.literal_value

    def codegen(context, builder, signature, args):
        a_rows, height, offset_table, b, b_step, k, c, add = args[3:]
        simd = Simd(context, builder, like.dtype)

        def load_word(address):
            return builder.load(builder.inttoptr(address, i64.as_pointer()))

        last, word_bytes = builder.sub(height, ONE), ir.Constant(i64, 8)
        row_addresses = []
        for r in range(m):
            row = ir.Constant(i64, r)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            row_addresses.append(load_word(builder.add(a_rows, builder.mul(row, word_bytes))))

        def step(offsets, sums):
            offset = load_word(builder.add(offset_table, offsets[0]))
            b_row = [simd.load(x) for x in simd.vectors(builder.add(b, offsets[1]), n)]
            new_sums = []
            for r, row_address in enumerate(row_addresses):
                x = simd.broadcast(builder.add(row_address, offset))
                new_sums += [simd.fma(x, y, sums[r * n + v]) for v, y in enumerate(b_row)]
            return new_sums

        sums = simd.loop(k, [word_bytes, b_step], m * n, step)
        simd.store_or_add(sums, simd.vectors(c, m * n), add)
        return context.get_dummy_value()

    return types.void(rows, vectors, like, *[types.intp] * 8), codegen


@intrinsic(prefer_literal=True)
def narrow_tile(typing, rows, vectors, like, a, a_step, offsets, b, k, c, c_row, add):
    """Compute one tile, C[r, q] = sum over p < k of A[r, p] B[p, q], or add it to C.

        A[r, p]    at a + p*a_step + r*size: the packed weights of channel r
        B[p, :]    at b + offsets[p], contiguous, `vectors` registers: pixels of the image
        C[r, :]    at c + r*c_row, contiguous; added to where `add` is not 0

    `rows` and `vectors` are literals, and `offsets` is the address of an int64 table. The chains
    of multiply-adds are those of `tile`.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    m, n = rows.literal_value, vectors.literal_value

    def codegen(context, builder, signature, args):
        a, a_step, offset_table, b, k, c, c_row, add = args[3:]
        simd = Simd(context, builder, like.dtype)

        def step(offsets, sums):
            word = builder.inttoptr(builder.add(offset_table, offsets[0]), i64.as_pointer())
            offset = builder.load(word)
            b_row = [simd.load(x) for x in simd.vectors(builder.add(b, offset), n)]
            new_sums = []
            for r in range(m):
                element = builder.add(builder.add(a, offsets[1]), ir.Constant(i64, r * simd.size))
                x = simd.broadcast(element)
                new_sums += [simd.fma(x, y, sums[r * n + v]) for v, y in enumerate(b_row)]
            return new_sums

        sums = simd.loop(k, [ir.Constant(i64, 8), a_step], m * n, step)
        addresses = [x for r in range(m) for x in simd.vectors(simd.at(c, r, c_row), n)]
        simd.store_or_add(sums, addresses, add)
        return context.get_dummy_value()

    return types.void(rows, vectors, like, *[types.intp] * 8), codegen


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
