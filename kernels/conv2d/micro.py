"""A tile of a matrix product whose left operand is read through two tables, and its way out."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from ..runtime.cpu.simd import ONE, Simd, i64, intrinsic


@intrinsic(prefer_literal=True)
def tile(typing, rows, vectors, like, starts, height, steps, b, b_step, k, c, add):
    """C[r, q] (+)= sum over p < k of A[r, p] B[p, q], where A[r, p] lies at starts[r] + steps[p].

        starts         address of int64's: where each of `height` rows begins
        steps          address of int64's: how far on element p is, the same for all rows
        B[p, :]        at b + p*b_step, contiguous, `vectors` registers
        C[r, :]        at c, one row after the other, replaced, or added to where `add`

    The tile is `rows` x `vectors` (literals) large; rows from `height` on repeat row height - 1.
    Each element is one chain of fused multiply-adds from zero, p rising.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    m, n = rows.literal_value, vectors.literal_value

    def codegen(context, builder, signature, args):
        starts, height, steps, b, b_step, k, c, add = args[3:]
        simd = Simd(context, builder, like.dtype)

        def number(address):
            return builder.load(builder.inttoptr(address, i64.as_pointer()))

        last, eight = builder.sub(height, ONE), ir.Constant(i64, 8)
        begins = []
        for r in range(m):
            row = ir.Constant(i64, r)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            begins.append(number(builder.add(starts, builder.mul(row, eight))))

        def step(offsets, sums):
            on = number(builder.add(steps, offsets[0]))
            b_row = [simd.load(x) for x in simd.vectors(builder.add(b, offsets[1]), n)]
            totals = []
            for r, begin in enumerate(begins):
                x = simd.broadcast(builder.add(begin, on))
                totals += [simd.fma(x, y, sums[r * n + v]) for v, y in enumerate(b_row)]
            return totals

        totals = simd.loop(k, [eight, b_step], m * n, step)
        simd.write(totals, simd.vectors(c, m * n), add)
        return context.get_dummy_value()

    return types.void(rows, vectors, like, *[types.intp] * 8), codegen


@intrinsic(prefer_literal=True)
def flat_tile(typing, rows, vectors, like, a, a_step, steps, b, k, c, c_row, add):
    """C[r, q] (+)= sum over p < k of A[r, p] B[p, q], where row p of B lies at b + steps[p].

        A[r, p]    at a + p*a_step + r*size
        B[p, :]    at b + steps[p], contiguous, `vectors` registers
        C[r, :]    at c + r*c_row, contiguous, replaced, or added to where `add`

    `rows` and `vectors` are literals; the chains are those of `tile`.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    m, n = rows.literal_value, vectors.literal_value

    def codegen(context, builder, signature, args):
        a, a_step, steps, b, k, c, c_row, add = args[3:]
        simd = Simd(context, builder, like.dtype)

        def step(offsets, sums):
            place = builder.inttoptr(builder.add(steps, offsets[0]), i64.as_pointer())
            on = builder.load(place)
            b_row = [simd.load(x) for x in simd.vectors(builder.add(b, on), n)]
            totals = []
            for r in range(m):
                at = builder.add(builder.add(a, offsets[1]), ir.Constant(i64, r * simd.size))
                x = simd.broadcast(at)
                totals += [simd.fma(x, y, sums[r * n + v]) for v, y in enumerate(b_row)]
            return totals

        totals = simd.loop(k, [ir.Constant(i64, 8), a_step], m * n, step)
        simd.write(
            totals, [x for r in range(m) for x in simd.vectors(simd.at(c, r, c_row), n)], add
        )
        return context.get_dummy_value()

    return types.void(rows, vectors, like, *[types.intp] * 8), codegen


@intrinsic(prefer_literal=True)
def store_turned(typing, rows, like, x, x_row, c, column):
    """C[r, q] = X[r, q] for `rows` (a literal) rows of one vector, where C's columns lie close.

        X[r, :]    at x + r*x_row, contiguous
        C[:, q]    at c + q*column, contiguous

    Interleaving vector i with vector i + rows/2, log2(rows) times, leaves the columns in order.
    """
    if not isinstance(rows, types.IntegerLiteral):
        return None
    m = rows.literal_value

    def codegen(context, builder, signature, args):
        x, x_row, c, column = args[2:]
        simd = Simd(context, builder, like.dtype)
        low = [lane for i in range(simd.lanes // 2) for lane in (i, simd.lanes + i)]
        high = [lane + simd.lanes // 2 for lane in low]
        turned = [simd.load(simd.at(x, r, x_row)) for r in range(m)]
        for _ in range(m.bit_length() - 1):
            pairs = zip(turned[: m // 2], turned[m // 2 :], strict=True)
            turned = [simd.shuffle(a, b, side) for a, b in pairs for side in (low, high)]
        for q in range(simd.lanes):
            into, part = simd.at(c, q, column), min(m, simd.lanes)
            for r in range(0, m, part):
                vector, start = divmod(q * m + r, simd.lanes)
                lanes = list(range(start, start + part))
                values = simd.shuffle(turned[vector], simd.zero, lanes)
                simd.store(values, builder.add(into, ir.Constant(i64, r * simd.size)))
        return context.get_dummy_value()

    return types.void(rows, like, *[types.intp] * 4), codegen
