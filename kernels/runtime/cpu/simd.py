"""Explicit vector instructions for numba kernels, written as LLVM code by intrinsics.

`Simd` emits the instructions, of which the micro-kernels of `matmul/micro.py` and `conv2d/micro.py`
consist. The functions at the end are for use in kernels: they access memory by address.

In kernels, addresses are integers and strides are in bytes. `like` is any array with the dtype of
the elements; its values are not used.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from .compiler import vector_bytes

# It is untyped, because its type in numba requires the typing context as an argument of calls.
intrinsic: Any = extending.intrinsic

VECTOR_BYTES = vector_bytes()
# Architectural vector registers: 32 with AVX-512 and on 64-bit Arm, 16 with AVX2 and SSE.
REGISTERS = 32 if VECTOR_BYTES == 64 or platform.machine() in ("aarch64", "arm64") else 16

IS_AMD = llvm.get_host_cpu_name().startswith("znver")  # whatever NUMBA_CPU_NAME says

i64 = ir.IntType(64)
ZERO = ir.Constant(i64, 0)
ONE = ir.Constant(i64, 1)


class Simd:
    """Emit vector instructions for one dtype, at the position of an LLVM builder.

    Values are LLVM values; `lanes` is the number of elements in a vector register.
    """

    def __init__(self, context: Any, builder: ir.IRBuilder, dtype: types.Float) -> None:
        self.builder = builder
        self.size = dtype.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.size
        self.scalar = context.get_value_type(dtype)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self._undefined = ir.Constant(self.vector, ir.Undefined)

    def at(self, address: Any, index: int, stride: Any) -> Any:
        """Return address + index * stride."""
        return self.builder.add(address, self.builder.mul(ir.Constant(i64, index), stride))

    def vectors(self, address: Any, count: int) -> list[Any]:
        """Return the addresses of `count` consecutive vectors."""
        return [self.at(address, v, ir.Constant(i64, VECTOR_BYTES)) for v in range(count)]

    def load(self, address: Any, kind: Any = None) -> Any:
        """Load a vector, or another LLVM type, from an address aligned to one element."""
        pointer = self.builder.inttoptr(address, (kind or self.vector).as_pointer())
        return self.builder.load(pointer, align=self.size)

    def store(self, value: Any, address: Any) -> None:
        """Store a vector at an address aligned to one element."""
        pointer = self.builder.inttoptr(address, value.type.as_pointer())
        self.builder.store(value, pointer, align=self.size)

    def prefetch(self, address: Any, write: bool = False, level: int = 1) -> None:
        """Prefetch a cache line into the cache of a level; the address may be invalid."""
        pointer = self.builder.inttoptr(address, ir.IntType(8).as_pointer())
        # The operands of llvm.prefetch: for reading or writing, locality (3 is L1), data cache.
        operands = [ir.Constant(ir.IntType(32), x) for x in (int(write), 4 - level, 1)]
        signature = ir.FunctionType(ir.VoidType(), [pointer.type, *(x.type for x in operands)])
        module = self.builder.module
        function = module.declare_intrinsic("llvm.prefetch", [pointer.type], signature)
        self.builder.call(function, [pointer, *operands])

    def broadcast(self, address: Any) -> Any:
        """Load one element into all lanes of a vector."""
        pointer = self.builder.inttoptr(address, self.scalar.as_pointer())
        first = self.builder.insert_element(self._undefined, self.builder.load(pointer), ZERO)
        return self.shuffle(first, self._undefined, [0] * self.lanes)

    def shuffle(self, x: Any, y: Any, lanes: list[int]) -> Any:
        """Return the elements `lanes` of the concatenation of x and y."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        return self.builder.shuffle_vector(x, y, mask)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """Return x * y + z, rounded once."""
        name = f"llvm.fma.v{self.lanes}f{self.size * 8}"
        signature = ir.FunctionType(self.vector, [self.vector] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [x, y, z])

    def load_transposed(self, address: Any, stride: Any) -> list[Any]:
        """Load `lanes` vectors at address + i*stride; vector p of the result has element p of each.

        A square block is transposed by n x n transpositions within its 16-byte parts, n being the
        elements in 16 bytes, because a shuffle within 16 bytes is the fastest:

        1. Part j of register r is loaded from vector j*n + r, so that every element is in the
           16-byte part where it belongs.
        2. log2(n) rounds interleave register i with register i + n/2: a transposition of n x n
           elements in each part.
        """
        n, count = 16 // self.size, VECTOR_BYTES // 16
        low = [lane for i in range(n // 2) for lane in (i, self.lanes + i)]
        low = [lane + n * j for j in range(count) for lane in low]
        high = [lane + n // 2 for lane in low]
        transposed = []
        for c in range(0, self.lanes, n):
            column = self.builder.add(address, ir.Constant(i64, c * self.size))
            rows = []
            for r in range(n):
                parts = [self.load_16(self.at(column, j * n + r, stride)) for j in range(count)]
                rows.append(self.concatenate(parts))
            for _ in range(n.bit_length() - 1):
                pairs = list(zip(rows[: n // 2], rows[n // 2 :], strict=True))
                rows = [self.shuffle(x, y, side) for x, y in pairs for side in (low, high)]
            transposed += rows
        return transposed

    def load_16(self, address: Any) -> Any:
        """Load 16 bytes of elements."""
        return self.load(address, ir.VectorType(self.scalar, 16 // self.size))

    def concatenate(self, parts: list[Any]) -> Any:
        """Return vectors of equal length, a power of two of them, as one vector."""
        while len(parts) > 1:
            lanes = list(range(2 * parts[0].type.count))
            parts = [
                self.shuffle(x, y, lanes) for x, y in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def row_indices(self, rows: int, height: Any) -> list[Any]:
        """Return the indices 0 .. rows - 1, of which those from `height` on are height - 1."""
        last = self.builder.sub(height, ONE)
        indices = (ir.Constant(i64, r) for r in range(rows))
        return [
            self.builder.select(self.builder.icmp_signed("<", r, last), r, last) for r in indices
        ]

    def switch(self, value: Any, cases: dict[int, Callable[[], None]]) -> None:
        """Emit a jump to the code of the case that equals `value`, if there is one."""
        done = self.builder.append_basic_block("switch_done")
        switch = self.builder.switch(value, done)
        for number, emit in cases.items():
            block = self.builder.append_basic_block(f"case_{number}")
            switch.add_case(ir.Constant(i64, number), block)
            self.builder.position_at_end(block)
            emit()
            self.builder.branch(done)
        self.builder.position_at_end(done)

    def loop(
        self, count: Any, steps: list[Any], sums: int, body: Any, unroll: int = 1
    ) -> list[Any]:
        """Emit the loop `sums = body(offsets, sums)` for p = 0 .. count - 1; return the sums.

        The sums are vectors that start at zero and stay in registers (phi nodes); offsets[i] is
        p * steps[i]. With `unroll` that many iterations are emitted one after the other, and a
        second loop does those that are left: where a step is a constant, the addresses of an
        iteration differ from those of the first by constants, which cost no instruction.
        """
        builder, zeros = self.builder, [self.zero] * sums
        if unroll == 1:
            return self._loop(count, steps, zeros, body)
        factor = ir.Constant(i64, unroll)

        def unrolled(offsets: list[Any], sums: list[Any]) -> list[Any]:
            for i in range(unroll):
                pairs = zip(offsets, steps, strict=True)
                sums = body([self.at(x, i, step) for x, step in pairs], sums)
            return sums

        def rest(offsets: list[Any], sums: list[Any]) -> list[Any]:
            pairs = zip(offsets, steps, strict=True)
            return body([builder.add(x, builder.mul(done, step)) for x, step in pairs], sums)

        turns = builder.sdiv(count, factor)
        done = builder.mul(turns, factor)
        sums_of_turns = self._loop(turns, [builder.mul(x, factor) for x in steps], zeros, unrolled)
        return self._loop(builder.sub(count, done), steps, sums_of_turns, rest)

    def _loop(self, count: Any, steps: list[Any], sums: list[Any], body: Any) -> list[Any]:
        """Emit a loop that starts with these sums."""
        builder = self.builder
        before = builder.block
        head, inside, after = (builder.append_basic_block(x) for x in ("head", "loop", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        counters = [builder.phi(i64) for _ in [ONE, *steps]]
        totals = [builder.phi(self.vector) for _ in sums]
        builder.cbranch(builder.icmp_signed("<", counters[0], count), inside, after)
        builder.position_at_end(inside)
        new_counters = [builder.add(c, s) for c, s in zip(counters, [ONE, *steps], strict=True)]
        new_totals = body(counters[1:], totals)
        starts = [ZERO] * len(counters) + sums
        for phi, start, new in zip(
            counters + totals, starts, new_counters + new_totals, strict=True
        ):
            phi.add_incoming(start, before)
            phi.add_incoming(new, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return totals

    def store_or_add(self, values: list[Any], addresses: list[Any], add: Any) -> None:
        """Store vectors, or add them to the stored ones where `add` is not 0."""
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
    """Return the address of an array's memory as a signed integer.

    `x.ctypes.data` is unsigned, and in numba a sum of signed and unsigned integers is a float.
    """

    def codegen(context, builder, signature, args):
        data = context.make_array(x)(context, builder, args[0]).data
        return builder.ptrtoint(data, i64)

    return types.intp(x), codegen


@intrinsic
def pointer(typing, like, address):
    """Return the memory at an address for access as pointer[i], without bounds checks."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[1], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(like, types.intp), codegen


@intrinsic
def copy_bytes(typing, source, target, count):
    """Copy bytes by libc's memcpy: a compiled loop over a short row takes three times as long."""

    def codegen(context, builder, signature, args):
        source, target = (builder.inttoptr(x, cgutils.voidptr_t) for x in args[:2])
        cgutils.raw_memcpy(builder, target, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@intrinsic
def zero_bytes(typing, target, count):
    """Set bytes to 0 by libc's memset."""

    def codegen(context, builder, signature, args):
        cgutils.memset(builder, builder.inttoptr(args[0], cgutils.voidptr_t), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen
