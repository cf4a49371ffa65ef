"""Calling a compiled kernel by its address, with a block of numbers.

A kernel that numba has compiled is a C function: its arguments are an address for the result, one
for an exception, and then every argument, flattened: of an array (meminfo, parent, size, itemsize,
address, shape.., strides..), of a tuple its members. On x86-64 and 64-bit Arm, where integers and
addresses take one row of registers and then the stack, and floats another row of registers, it can
be called with more arguments than it takes. So one C signature serves all kernels:

    int kernel(int64 x WORDS, double x REALS)

and a launch is an address and a block of WORDS + REALS numbers.
"""

from __future__ import annotations

import platform
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .simd import intrinsic

WORDS, REALS = 64, 8
BLOCK = WORDS + REALS
RESULTS = 16  # numbers that a kernel may write as its result and its exception, half of them each
# Apple's 64-bit Arm packs the stack more tightly, and Windows has one row of registers for both.
DIRECT = (sys.platform, platform.machine()) in {
    ("linux", "x86_64"),
    ("linux", "aarch64"),
    ("darwin", "x86_64"),
}

_entries: dict[Any, int] = {}


def entry(kernel: Any, arguments: Sequence[Any]) -> int:
    """The address of a kernel as it is, or now will be, compiled for arguments of these types.

    Asking numba for the types takes it ten times as long as a launch.
    """
    key = (kernel, *map(_kind, arguments))
    if key not in _entries:
        signature = tuple(kernel.typeof_pyval(x) for x in arguments)
        if signature not in kernel.overloads:
            kernel.compile(signature)
        found = kernel.overloads[signature]
        _entries[key] = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
    return _entries[key]


def _kind(x: Any) -> Any:
    """Equal for values of one type in numba's eyes."""
    if isinstance(x, np.ndarray):
        return x.dtype, x.ndim, x.flags.num
    return tuple(map(_kind, x)) if isinstance(x, tuple) else type(x)


@intrinsic
def call(typing, function, block):
    """The status of calling `function` with the numbers at `block`."""
    word, real = ir.IntType(64), ir.DoubleType()

    def codegen(context, builder, signature, args):
        function, block = args
        kernel = ir.FunctionType(ir.IntType(32), [word] * WORDS + [real] * REALS)
        values = []
        for kind, first, count in ((word, 0, WORDS), (real, WORDS, REALS)):
            numbers = builder.inttoptr(block, kind.as_pointer())
            for i in range(first, first + count):
                values.append(builder.load(builder.gep(numbers, [ir.Constant(word, i)])))
        status = builder.call(builder.inttoptr(function, kernel.as_pointer()), values)
        return builder.sext(status, word)

    return types.int64(types.int64, types.int64), codegen


def pack(arguments: Sequence[Any]) -> tuple[array[int], int] | None:
    """A launch's block, without where its result goes, and how many words it has.

    None where they do not fit.
    """
    words: list[int] = [0, 0]
    reals: list[int] = []
    for x in _flat(arguments):
        if isinstance(x, np.ndarray):
            place = x.__array_interface__["data"][0]
            words += (0, 0, x.size, x.itemsize, place, *x.shape, *x.strides)
        elif isinstance(x, np.float32):
            reals.append(int(x.view(np.uint32)))  # the low half of the register
        elif isinstance(x, float):
            reals.append(int(np.float64(x).view(np.int64)))
        else:
            words.append(int(x))
    if len(words) > WORDS or len(reals) > REALS:
        return None
    rest = [0] * (WORDS - len(words)), [0] * (REALS - len(reals))
    return array("q", words + rest[0] + reals + rest[1]), len(words)


def _flat(arguments: Sequence[Any]) -> Iterator[Any]:
    for x in arguments:
        if isinstance(x, tuple):
            yield from _flat(x)
        else:
            yield x
