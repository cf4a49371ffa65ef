"""Call a compiled kernel by its address, with its arguments in a block of 64-bit words.

numba compiles a kernel to a C function `int kernel(result*, exception*, arguments...)`, in which
compound arguments are flattened: an array becomes (meminfo, parent, size, itemsize, address,
shape.., strides..), a tuple its members. So kernels have different C signatures, and a loop over
kernels would need one call instruction for each signature.

Calling convention. On x86-64 (System V) and 64-bit Arm (AAPCS64), the first integer and pointer
arguments are passed in general registers, the first floating-point arguments in vector registers,
and the rest of the integers on the stack, each in eight bytes. A function ignores registers and
stack words beyond its own parameters. So one C type serves all kernels:

    int kernel(int64 x INTEGER_ARGUMENTS, double x FLOAT_ARGUMENTS)

and a launch is an address and an argument block:

    word    0         1            2 ..              63   64 ..    71
          | result* | exception* | integer arguments .. | floats .. |
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
from numba.core import cgutils

from ..arrays import array_address
from . import ahead
from .simd import intrinsic

INTEGER_ARGUMENTS, FLOAT_ARGUMENTS = 64, 8
BLOCK_WORDS = INTEGER_ARGUMENTS + FLOAT_ARGUMENTS
RESULT_WORDS = 16  # memory for a kernel's result (the first half) and its exception (the second)
# Whether this platform has such a calling convention. Apple's 64-bit Arm packs stack arguments more
# tightly than eight bytes; Windows numbers integer and float registers together.
CAN_CALL_BY_ADDRESS = (sys.platform, platform.machine()) in {
    ("linux", "x86_64"),
    ("linux", "aarch64"),
    ("darwin", "x86_64"),
}

_addresses: dict[Any, Any] = {}


def compiled_address(kernel: Any, arguments: Sequence[Any]) -> int:
    """Return the address of a kernel's machine code for arguments of these types; compile it first.

    The address is cached: numba takes ten times as long as a launch to determine the types. While
    kernels are collected (`ahead.py`) it is 0.
    """
    if ahead.is_collecting():
        ahead.note(kernel, arguments)
        return 0
    key = (kernel, *map(_type_key, arguments))
    if key not in _addresses:
        signature = tuple(kernel.typeof_pyval(x) for x in arguments)
        if signature not in kernel.overloads:
            kernel.compile(signature)
        compiled = kernel.overloads[signature]
        name = compiled.fndesc.llvm_func_name
        _addresses[key] = compiled.library.get_pointer_to_function(name)
    return _addresses[key]


def function_addresses(kernels: tuple[Any, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Return the addresses of functions for `call_function`, with arrays of that dtype."""
    key = (kernels, dtype)
    if key in _addresses and not ahead.is_collecting():
        return _addresses[key]
    arrays = np.empty(0, dtype)
    addresses = tuple(
        compiled_address(kernel, (arrays, *(0,) * (kernel.py_func.__code__.co_argcount - 1)))
        for kernel in kernels
    )
    if not ahead.is_collecting():
        _addresses[key] = addresses
    return addresses


def _type_key(x: Any) -> Any:
    """Return a key that is equal for values of one numba type."""
    if isinstance(x, np.ndarray):
        return x.dtype, x.ndim, x.flags.num
    return tuple(map(_type_key, x)) if isinstance(x, tuple) else type(x)


@intrinsic
def call_kernel(typing, function, block):
    """Call the kernel at address `function` with the block at address `block`.

    Returns its status: 0, or another number if it has raised an exception.
    """
    word, double = ir.IntType(64), ir.DoubleType()

    def codegen(context, builder, signature, args):
        function, block = args
        parameters = [word] * INTEGER_ARGUMENTS + [double] * FLOAT_ARGUMENTS
        kernel = ir.FunctionType(ir.IntType(32), parameters)
        values = []
        for kind, first, count in (
            (word, 0, INTEGER_ARGUMENTS),
            (double, INTEGER_ARGUMENTS, FLOAT_ARGUMENTS),
        ):
            words = builder.inttoptr(block, kind.as_pointer())
            for i in range(first, first + count):
                values.append(builder.load(builder.gep(words, [ir.Constant(word, i)])))
        status = builder.call(builder.inttoptr(function, kernel.as_pointer()), values)
        return builder.sext(status, word)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def call_function(typing, function, x, words):
    """Call the kernel at address `function` with a C-contiguous array x and integers.

    `words` is a tuple of integers, or of such tuples: the kernel has a parameter for each integer.
    The kernel gets x with one dimension. A kernel that calls another one by its address is compiled
    without it; one that calls it by its name is compiled together with it, and a chain of calls
    compiles the last one many times. All arguments are of 64 bits and the signature is the kernel's
    own, so that this works on every platform, unlike `call_kernel`.

    Returns its status: 0, or another number if it has raised an exception, which is lost.
    """

    def codegen(context, builder, signature, args):
        function, x, words = args
        word = ir.IntType(64)
        results = cgutils.alloca_once(builder, ir.ArrayType(word, RESULT_WORDS))
        start = builder.ptrtoint(results, word)
        middle = builder.add(start, ir.Constant(word, RESULT_WORDS * 8 // 2))
        array = context.make_array(signature.args[1])(context, builder, x)
        nothing, data = ir.Constant(word, 0), builder.ptrtoint(array.data, word)
        values = [start, middle, nothing, nothing, array.nitems, array.itemsize, data]
        values += [array.nitems, array.itemsize, *_words(builder, signature.args[2], words)]
        kernel = ir.FunctionType(ir.IntType(32), [word] * len(values))
        status = builder.call(builder.inttoptr(function, kernel.as_pointer()), values)
        return builder.sext(status, word)

    return types.int64(types.int64, x, words), codegen


def _words(builder: ir.IRBuilder, kind: types.Type, value: Any) -> Iterator[Any]:
    """Yield the integers of a tuple of integers and of tuples, as LLVM values."""
    kinds = getattr(kind, "types", None)  # those of a tuple's elements
    if kinds is not None:
        for inner, x in zip(kinds, cgutils.unpack_tuple(builder, value), strict=True):
            yield from _words(builder, inner, x)
    else:
        yield value


def pack_arguments(arguments: Sequence[Any]) -> tuple[array[int], int] | None:
    """Return a launch's argument block and the number of integer words it uses.

    Words 0 and 1, the addresses of result and exception, are left 0. The result is None if a block
    cannot hold all arguments.
    """
    integers: list[int] = [0, 0]
    floats: list[int] = []  # the bits of each, as an integer
    for x in _flatten(arguments):
        if isinstance(x, np.ndarray):
            integers += (0, 0, x.size, x.itemsize, array_address(x), *x.shape, *x.strides)
        elif isinstance(x, np.float32):
            floats.append(int(x.view(np.uint32)))  # passed in the low half of the register
        elif isinstance(x, float):
            floats.append(int(np.float64(x).view(np.int64)))
        else:
            integers.append(int(x))
    if len(integers) > INTEGER_ARGUMENTS or len(floats) > FLOAT_ARGUMENTS:
        return None
    integer_padding = [0] * (INTEGER_ARGUMENTS - len(integers))
    float_padding = [0] * (FLOAT_ARGUMENTS - len(floats))
    return array("q", integers + integer_padding + floats + float_padding), len(integers)


def _flatten(arguments: Sequence[Any]) -> Iterator[Any]:
    for x in arguments:
        if isinstance(x, tuple):
            yield from _flatten(x)
        else:
            yield x
