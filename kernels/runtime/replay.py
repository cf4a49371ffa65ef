"""Launches of compiled kernels, run again from one compiled loop.

A kernel that numba has compiled is a C function: its arguments are an address for the result, one
for an exception, and then every argument, flattened: of an array (meminfo, parent, size, itemsize,
address, shape.., strides..), of a tuple its members. On x86-64 and 64-bit Arm, where integers and
addresses take one row of registers and then the stack, and floats another row of registers, it can
be called with more arguments than it takes. So one C signature serves all kernels:

    int kernel(int64 x WORDS, double x REALS)

and a launch is an address and a block of WORDS + REALS numbers. One costs 14 ns, where a call from
Python costs 600.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .cpu import jit
from .simd import address

WORDS, REALS = 64, 8
# Apple's 64-bit Arm packs the stack more tightly, and Windows has one row of registers for both.
DIRECT = (sys.platform, platform.machine()) in {
    ("linux", "x86_64"),
    ("linux", "aarch64"),
    ("darwin", "x86_64"),
}


class _Place:
    """Where an array lies; it does not keep the memory."""

    def __init__(self, x: np.ndarray) -> None:
        self.__array_interface__ = x.__array_interface__


class Launch:
    """A kernel's call, without a hold on the memory of its arrays; calling it does it again."""

    def __init__(self, kernel: Any, arguments: tuple[Any, ...]) -> None:
        signature = tuple(kernel.typeof_pyval(x) for x in arguments)
        self.kernel = kernel
        self.compiled = kernel.overloads[signature]
        self.block = pack(arguments) if DIRECT else None
        self.arguments = [_Place(x) if isinstance(x, np.ndarray) else x for x in arguments]

    def __call__(self) -> None:
        self.kernel(*(np.asarray(x) if isinstance(x, _Place) else x for x in self.arguments))

    @property
    def entry(self) -> int:
        """The address of the compiled kernel."""
        return self.compiled.library.get_pointer_to_function(self.compiled.fndesc.llvm_func_name)


@intrinsic
def _call(typing, function, block):
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


@jit
def run(functions, blocks):
    """Call each function with its row of numbers; how many have succeeded."""
    for i in range(functions.size):
        if _call(functions[i], address(blocks[i])) != 0:
            return i
    return functions.size


def pack(arguments: Sequence[Any]) -> np.ndarray | None:
    """A launch's block, but for where its result goes. None where it does not fit."""
    words, reals = [0, 0], []

    def put(x: Any) -> None:
        if isinstance(x, np.ndarray):
            address = x.__array_interface__["data"][0]
            words.extend((0, 0, x.size, x.itemsize, address, *x.shape, *x.strides))
        elif isinstance(x, tuple):
            for member in x:
                put(member)
        elif isinstance(x, np.float32):
            reals.append(int(x.view(np.uint32)))  # the low half of the register
        elif isinstance(x, float):
            reals.append(int(np.float64(x).view(np.int64)))
        else:
            words.append(int(x))

    put(tuple(arguments))
    if len(words) > WORDS or len(reals) > REALS:
        return None
    block = np.zeros(WORDS + REALS, np.int64)
    block[: len(words)], block[WORDS : WORDS + len(reals)] = words, reals
    return block


class Replay:
    """Launches one after the other, without Python between them."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.launches = launches
        self._functions = np.array([launch.entry for launch in launches], np.int64)
        self._blocks = np.array([launch.block for launch in launches], np.int64)
        self._results = np.zeros(16, np.int64)
        address = self._results.__array_interface__["data"][0]
        self._blocks[:, :2] = address, address + self._results.nbytes // 2

    def __call__(self) -> None:
        done = run(self._functions, self._blocks)
        while done < len(self.launches):
            self.launches[done]()  # from Python, which says what is wrong; if it works now, go on
            done += 1
            done += run(self._functions[done:], self._blocks[done:])


def program(launches: Sequence[Callable[[], Any]]) -> list[Callable[[], Any]]:
    """The same launches in order, neighbours that can be run without Python as one Replay."""
    found: list[Callable[[], Any]] = []
    for direct, group in groupby(launches, lambda x: isinstance(x, Launch) and x.block is not None):
        row: list[Any] = list(group)
        found += [Replay(row)] if direct else row
    return found
