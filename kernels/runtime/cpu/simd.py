"""Vector instructions for numba, as LLVM code: what it does not write by itself.

Addresses are integers, strides are in bytes, and `like` is any array of the dtype that is meant.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from .compiler import vector_bytes

intrinsic: Any = extending.intrinsic  # its own type also asks for the typing context in calls

VECTOR_BYTES = vector_bytes()
REGISTERS = 32 if VECTOR_BYTES == 64 or platform.machine() in ("aarch64", "arm64") else 16

i64 = ir.IntType(64)
ZERO = ir.Constant(i64, 0)
ONE = ir.Constant(i64, 1)


class Simd:
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
        return self.builder.add(address, self.builder.mul(ir.Constant(i64, index), stride))

    def vectors(self, address: Any, count: int) -> list[Any]:
        """The addresses of `count` vectors side by side."""
        return [self.at(address, v, ir.Constant(i64, VECTOR_BYTES)) for v in range(count)]

    def load(self, address: Any, kind: Any = None) -> Any:
        place = self.builder.inttoptr(address, (kind or self.vector).as_pointer())
        return self.builder.load(place, align=self.size)

    def store(self, value: Any, address: Any) -> None:
        place = self.builder.inttoptr(address, value.type.as_pointer())
        self.builder.store(value, place, align=self.size)

    def prefetch(self, address: Any, write: bool = False, level: int = 1) -> None:
        """Bring the cache line there nearer; any address will do, also one outside all arrays."""
        place = self.builder.inttoptr(address, ir.IntType(8).as_pointer())
        numbers = [ir.Constant(ir.IntType(32), x) for x in (int(write), 4 - level, 1)]
        signature = ir.FunctionType(ir.VoidType(), [place.type, *(x.type for x in numbers)])
        module = self.builder.module
        function = module.declare_intrinsic("llvm.prefetch", [place.type], signature)
        self.builder.call(function, [place, *numbers])

    def broadcast(self, address: Any) -> Any:
        place = self.builder.inttoptr(address, self.scalar.as_pointer())
        first = self.builder.insert_element(self._undefined, self.builder.load(place), ZERO)
        return self.shuffle(first, self._undefined, [0] * self.lanes)

    def shuffle(self, x: Any, y: Any, lanes: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        return self.builder.shuffle_vector(x, y, mask)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        name = f"llvm.fma.v{self.lanes}f{self.size * 8}"
        signature = ir.FunctionType(self.vector, [self.vector] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [x, y, z])

    def load_transposed(self, address: Any, stride: Any) -> list[Any]:
        """Row p holds element p of each of `lanes` vectors, the i-th at address + i*stride.

        Numbers move fastest within 16 bytes. So of n vectors, n being the numbers in 16 bytes, part
        j of vector r is loaded from vector j*n + r, and what is left are transpositions of n x n
        numbers, one in each part: log2(n) rounds that interleave vector i with vector i + n/2.
        """
        n, count = 16 // self.size, VECTOR_BYTES // 16
        low = [lane for i in range(n // 2) for lane in (i, self.lanes + i)]
        low = [lane + n * j for j in range(count) for lane in low]
        high = [lane + n // 2 for lane in low]
        found = []
        for c in range(0, self.lanes, n):
            column = self.builder.add(address, ir.Constant(i64, c * self.size))
            rows = [
                self.join([self.quarter(self.at(column, j * n + r, stride)) for j in range(count)])
                for r in range(n)
            ]
            for _ in range(n.bit_length() - 1):
                pairs = list(zip(rows[: n // 2], rows[n // 2 :], strict=True))
                rows = [self.shuffle(x, y, side) for x, y in pairs for side in (low, high)]
            found += rows
        return found

    def quarter(self, address: Any) -> Any:
        """16 bytes."""
        return self.load(address, ir.VectorType(self.scalar, 16 // self.size))

    def join(self, parts: list[Any]) -> Any:
        """Vectors of equal length, a power of two of them, side by side in one."""
        while len(parts) > 1:
            lanes = list(range(2 * parts[0].type.count))
            parts = [
                self.shuffle(x, y, lanes) for x, y in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def loop(self, count: Any, steps: list[Any], sums: int, body: Any) -> list[Any]:
        """Runs `sums = body(offsets, sums)` for p = 0, 1, ... < count (once at least).

        The sums start at zero and stay in registers; offset i is p * steps[i].
        """
        builder = self.builder
        before, inside = builder.block, builder.append_basic_block("loop")
        builder.branch(inside)
        builder.position_at_end(inside)
        counters = [builder.phi(i64) for _ in [ONE, *steps]]
        totals = [builder.phi(self.vector) for _ in range(sums)]
        new_counters = [builder.add(c, s) for c, s in zip(counters, [ONE, *steps], strict=True)]
        new_totals = body(counters[1:], totals)
        for phi, new in zip(counters + totals, new_counters + new_totals, strict=True):
            phi.add_incoming(ZERO if phi.type == i64 else self.zero, before)
            phi.add_incoming(new, inside)
        after = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", new_counters[0], count), inside, after)
        builder.position_at_end(after)
        return new_totals

    def write(self, values: list[Any], addresses: list[Any], add: Any) -> None:
        """Replaces what lies there, or adds to it."""
        builder = self.builder
        with builder.if_else(builder.icmp_signed("!=", add, ZERO)) as (adding, replacing):
            with adding:
                for value, address in zip(values, addresses, strict=True):
                    self.store(builder.fadd(self.load(address, value.type), value), address)
            with replacing:
                for value, address in zip(values, addresses, strict=True):
                    self.store(value, address)


@intrinsic
def address(typing, x):
    """Where an array begins, as a signed integer (`x.ctypes.data` is unsigned: sums turn float)."""

    def codegen(context, builder, signature, args):
        data = context.make_array(x)(context, builder, args[0]).data
        return builder.ptrtoint(data, i64)

    return types.intp(x), codegen


@intrinsic
def pointer(typing, like, address):
    """Memory as pointer[i], with no bounds and no wrap-around."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[1], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(like, types.intp), codegen


@intrinsic
def copy_bytes(typing, source, into, count):
    """libc's memcpy: a loop of our own over a short row costs three times as much."""

    def codegen(context, builder, signature, args):
        source, into = (builder.inttoptr(x, cgutils.voidptr_t) for x in args[:2])
        cgutils.raw_memcpy(builder, into, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@intrinsic
def zero_bytes(typing, into, count):
    """libc's memset to 0."""

    def codegen(context, builder, signature, args):
        cgutils.memset(builder, builder.inttoptr(args[0], cgutils.voidptr_t), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen
