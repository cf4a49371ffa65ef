"""C's math functions (erf, hypot, atan2, ...) for numba: any of libm's, by its C name.

numba knows those of Python's module `math`. Here a name is looked up in the C library, where each
function of floats has two versions: erf for float64, erff for float32.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba


@cache
def _libm() -> ctypes.CDLL:
    """Return the C library's math functions; on some systems they are in the process itself."""
    return ctypes.CDLL(ctypes.util.find_library("m"))


@cache
def c_function(name: str, dtype: str, arguments: int) -> Any:
    """Return C's function of that name, of floats of a dtype, to call in compiled code.

    Raises:
        ValueError: the C library has no such function.
    """
    names = {"float64": name, "float32": f"{name}f"}
    if not all(hasattr(_libm(), symbol) for symbol in names.values()):
        raise ValueError(
            f"{name} is no math function of the C library; expressions use C's names, such as erf,"
            " hypot, atan2, copysign"
        )
    symbol, number = names[dtype], getattr(numba, dtype)
    # Machine code from the cache finds the function by its name, too.
    llvm.add_symbol(symbol, ctypes.cast(getattr(_libm(), symbol), ctypes.c_void_p).value)
    return numba.types.ExternalFunction(symbol, number(*[number] * arguments))
