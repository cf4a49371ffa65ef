"""What numba does not write by itself: tiles held in SIMD registers, as LLVM vector code.

Each intrinsic is one short loop, or one block of straight-line vector code. Addresses are
integers, strides are in bytes, and `like` is any array of the dtype that is meant.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from ..runtime.cpu import vector_bytes

intrinsic: Any = extending.intrinsic  # its own type also asks for the typing context in calls

VECTOR_BYTES = vector_bytes()
_REGISTERS = 32 if VECTOR_BYTES == 64 or platform.machine() in ("aarch64", "arm64") else 16

# The tile: ROWS x VECTORS sums, VECTORS registers of B and one of A must fit the register file,
# 24 + 3 + 1 of 32, or 12 + 3 + 1 of 16.
ROWS = 8 if _REGISTERS == 32 else 4
VECTORS = 3

_i64 = ir.IntType(64)
_ZERO = ir.Constant(_i64, 0)
_ONE = ir.Constant(_i64, 1)


class _Simd:
    """Vector instructions for one dtype, written at the place where `builder` stands."""

    def __init__(self, context: Any, builder: ir.IRBuilder, dtype: types.Float) -> None:
        self.builder = builder
        self.size = dtype.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.size
        self.scalar = context.get_value_type(dtype)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self._undefined = ir.Constant(self.vector, ir.Undefined)

    def at(self, address: Any, index: int, stride: Any) -> Any:
        """address + index * stride"""
        return self.builder.add(address, self.builder.mul(ir.Constant(_i64, index), stride))

    def vectors(self, address: Any, count: int) -> list[Any]:
        """The addresses of `count` vectors side by side."""
        return [self.at(address, v, ir.Constant(_i64, VECTOR_BYTES)) for v in range(count)]

    def load(self, address: Any) -> Any:
        place = self.builder.inttoptr(address, self.vector.as_pointer())
        return self.builder.load(place, align=self.size)

    def store(self, value: Any, address: Any) -> None:
        place = self.builder.inttoptr(address, self.vector.as_pointer())
        self.builder.store(value, place, align=self.size)

    def broadcast(self, address: Any) -> Any:
        place = self.builder.inttoptr(address, self.scalar.as_pointer())
        first = self.builder.insert_element(self._undefined, self.builder.load(place), _ZERO)
        return self.shuffle(first, self._undefined, [0] * self.lanes)

    def shuffle(self, x: Any, y: Any, lanes: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), lanes)
        return self.builder.shuffle_vector(x, y, mask)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        name = f"llvm.fma.v{self.lanes}f{self.size * 8}"
        signature = ir.FunctionType(self.vector, [self.vector] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [x, y, z])

    def transpose(self, rows: list[Any]) -> list[Any]:
        """A square block: log2(lanes) rounds that interleave row i with row i + lanes/2.

        Each round rotates the bits of (row, column) by one place, so the last has swapped them.
        """
        half = self.lanes // 2
        low = [lane for i in range(half) for lane in (i, self.lanes + i)]
        high = [lane + half for lane in low]
        for _ in range(self.lanes.bit_length() - 1):
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [self.shuffle(x, y, side) for x, y in pairs for side in (low, high)]
        return rows

    def loop(self, count: Any, steps: list[Any], sums: int, body: Any) -> list[Any]:
        """Runs `sums = body(offsets, sums)` for p = 0, 1, ... < count (once at least).

        The sums start at zero and stay in registers; offset i is p * steps[i].
        """
        builder = self.builder
        before, inside = builder.block, builder.append_basic_block("loop")
        builder.branch(inside)
        builder.position_at_end(inside)
        counters = [builder.phi(_i64) for _ in [_ONE, *steps]]
        totals = [builder.phi(self.vector) for _ in range(sums)]
        new_counters = [builder.add(c, s) for c, s in zip(counters, [_ONE, *steps], strict=True)]
        new_totals = body(counters[1:], totals)
        for phi, new in zip(counters + totals, new_counters + new_totals, strict=True):
            phi.add_incoming(_ZERO if phi.type == _i64 else self.zero, before)
            phi.add_incoming(new, inside)
        after = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", new_counters[0], count), inside, after)
        builder.position_at_end(after)
        return new_totals

    def write(self, values: list[Any], addresses: list[Any], add: Any) -> None:
        """Replaces what lies there, or adds to it."""
        builder = self.builder
        with builder.if_else(builder.icmp_signed("!=", add, _ZERO)) as (adding, replacing):
            with adding:
                for value, address in zip(values, addresses, strict=True):
                    self.store(builder.fadd(self.load(address), value), address)
            with replacing:
                for value, address in zip(values, addresses, strict=True):
                    self.store(value, address)


@intrinsic(prefer_literal=True)
def tile(typing, rows, vectors, like, a, a_row, a_step, height, b, b_step, k, c, c_row, add):
    """C[r, q] (+)= sum over p < k of A[r, p] B[p, q], for one tile that stays in registers.

        A[r, p] at a + r*a_row + p*a_step      one element, broadcast to all lanes
        B[p, :] at b + p*b_step                contiguous, `vectors` registers
        C[r, :] at c + r*c_row                 contiguous, replaced, or added to where `add`

    The tile is `rows` x `vectors` (literals) large. Its rows from `height` on repeat row
    height - 1, so that nothing outside A is read. Each element is one chain of fused
    multiply-adds from zero, p rising.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    m, n = rows.literal_value, vectors.literal_value

    def codegen(context, builder, signature, args):
        a, a_row, a_step, height, b, b_step, k, c, c_row, add = args[3:]
        simd = _Simd(context, builder, like.dtype)
        last = builder.sub(height, _ONE)
        starts = []
        for r in range(m):
            row = ir.Constant(_i64, r)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            starts.append(builder.add(a, builder.mul(row, a_row)))

        def step(offsets, sums):
            b_row = [simd.load(x) for x in simd.vectors(builder.add(b, offsets[1]), n)]
            totals = []
            for r, start in enumerate(starts):
                x = simd.broadcast(builder.add(start, offsets[0]))
                totals += [simd.fma(x, y, sums[r * n + v]) for v, y in enumerate(b_row)]
            return totals

        totals = simd.loop(k, [a_step, b_step], m * n, step)
        addresses = [x for r in range(m) for x in simd.vectors(simd.at(c, r, c_row), n)]
        simd.write(totals, addresses, add)
        return context.get_dummy_value()

    return types.void(rows, vectors, like, *[types.intp] * 10), codegen


@intrinsic
def transposed_tile(typing, like, a, a_step, b, b_column, k, c, add):
    """C[q] (+)= sum over p < k of A[p] B[p, q], q < lanes, where B's columns are contiguous.

        B[:, q] at b + q*b_column              k is a multiple of the lanes

    Square blocks of B are turned in registers; the chains are the same as `tile`'s.
    """

    def codegen(context, builder, signature, args):
        _, a, a_step, b, b_column, k, c, add = args
        simd = _Simd(context, builder, like.dtype)
        lanes = ir.Constant(_i64, simd.lanes)

        def step(offsets, sums):
            a_block, b_block = builder.add(a, offsets[0]), builder.add(b, offsets[1])
            columns = [simd.load(simd.at(b_block, q, b_column)) for q in range(simd.lanes)]
            total = sums[0]
            for p, row in enumerate(simd.transpose(columns)):
                total = simd.fma(simd.broadcast(simd.at(a_block, p, a_step)), row, total)
            return [total]

        steps = [builder.mul(lanes, a_step), ir.Constant(_i64, VECTOR_BYTES)]
        totals = simd.loop(builder.sdiv(k, lanes), steps, 1, step)
        simd.write(totals, [c], add)
        return context.get_dummy_value()

    return types.void(like, *[types.intp] * 7), codegen


@intrinsic
def transpose_block(typing, like, x, x_row, y, y_row):
    """y[p, q] = x[q, p] for a square block of lanes x lanes; the rows of both are contiguous."""

    def codegen(context, builder, signature, args):
        _, x, x_row, y, y_row = args
        simd = _Simd(context, builder, like.dtype)
        rows = [simd.load(simd.at(x, q, x_row)) for q in range(simd.lanes)]
        for p, row in enumerate(simd.transpose(rows)):
            simd.store(row, simd.at(y, p, y_row))
        return context.get_dummy_value()

    return types.void(like, *[types.intp] * 4), codegen


@intrinsic
def address(typing, x):
    """Where an array begins, as a signed integer (`x.ctypes.data` is unsigned: sums turn float)."""

    def codegen(context, builder, signature, args):
        data = context.make_array(x)(context, builder, args[0]).data
        return builder.ptrtoint(data, _i64)

    return types.intp(x), codegen


@intrinsic
def pointer(typing, like, address):
    """Memory as pointer[i], with no bounds and no wrap-around."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[1], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(like, types.intp), codegen
