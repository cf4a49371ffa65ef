"""Atomic operations on 64-bit words, and the instructions of a spin loop, for numba kernels.

`words` is a one-dimensional int64 array. Memory orders are those of C++: acquire and release.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .compiler import jit
from .simd import intrinsic

YIELD_ITERATIONS = 200  # iterations of a spin loop between two calls of sched_yield


def _word_pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]])


@intrinsic
def load_acquire(typing, words, i):
    """Return words[i]; later reads see all that its writer had written before it."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_word_pointer(context, builder, signature, args), "acquire", 8)

    return types.int64(words, types.intp), codegen


@intrinsic
def store_release(typing, words, i, value):
    """Store words[i] = value after all earlier writes of this thread."""

    def codegen(context, builder, signature, args):
        word = _word_pointer(context, builder, signature, args)
        builder.store_atomic(args[2], word, "release", 8)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), codegen


@intrinsic
def fetch_add(typing, words, i, value):
    """Add to words[i] atomically; return the old value."""

    def codegen(context, builder, signature, args):
        word = _word_pointer(context, builder, signature, args)
        return builder.atomic_rmw("add", word, args[2], "acq_rel")

    return types.int64(words, types.intp, types.int64), codegen


@intrinsic
def compare_and_swap(typing, words, i, expected, value):
    """Store words[i] = value atomically if words[i] == expected; return whether it was stored."""

    def codegen(context, builder, signature, args):
        word = _word_pointer(context, builder, signature, args)
        result = builder.cmpxchg(word, args[2], args[3], "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(words, types.intp, types.int64, types.int64), codegen


@intrinsic
def pause(typing):
    """Execute the processor's hint that this is a spin loop (x86 PAUSE, Arm YIELD)."""

    def codegen(context, builder, signature, args):
        if platform.machine() == "x86_64":
            name, operands = "llvm.x86.sse2.pause", []
        elif platform.machine() == "aarch64":
            name, operands = "llvm.aarch64.hint", [ir.Constant(ir.IntType(32), 1)]  # yield
        else:
            return context.get_dummy_value()
        signature = ir.FunctionType(ir.VoidType(), [x.type for x in operands])
        function = cgutils.get_or_insert_function(builder.module, signature, name)
        builder.call(function, operands)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def sched_yield(typing):
    """Let another thread or process run on this core, if one waits (POSIX sched_yield)."""

    def codegen(context, builder, signature, args):
        signature = ir.FunctionType(ir.IntType(32), [])
        function = cgutils.get_or_insert_function(builder.module, signature, "sched_yield")
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


@jit
def spin(iteration):
    """Pause once in a spin loop, and yield the core every YIELD_ITERATIONS iterations."""
    pause()
    if iteration % YIELD_ITERATIONS == 0:
        sched_yield()
