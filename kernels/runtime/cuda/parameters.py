"""The parameters of CUDA kernels, as the source declares them: how Python numbers are passed.

    __global__ void saxpy(int n, float a, const float* x, float* y)

takes `n` as a 32-bit int and `a` as a float, whatever machine it runs on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

_INTEGERS = {"char": 1, "short": 2, "int": 4, "long": 8, "long long": 8}
_DTYPES = {
    **{"float": "f4", "double": "f8", "bool": "?", "signed char": "i1", "size_t": "u8"},
    **{name: f"i{size}" for name, size in _INTEGERS.items()},
    **{f"unsigned {name}": f"u{size}" for name, size in _INTEGERS.items()},
    **{f"int{8 * size}_t": f"i{size}" for size in (1, 2, 4, 8)},
    **{f"uint{8 * size}_t": f"u{size}" for size in (1, 2, 4, 8)},
    **{"unsigned": "u4", "uint": "u4", "uchar": "u1", "ptrdiff_t": "i8"},
}
_VECTORS = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"longlong": "i8", "ulonglong": "u8", "float": "f4", "double": "f8"},
}
_QUALIFIERS = re.compile(r"\b(const|volatile|__restrict__|restrict|struct)\b")
_KERNEL = re.compile(
    r"(?P<template>template\s*<[^;{}()]*>\s*)?(?P<linkage>extern\s+\"C\"\s+)?"
    r"(?P<global>(?:static\s+)?__global__)\s+(?:static\s+)?"
    r"(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?"
    r"(?P<name>\w+)\s*\((?P<parameters>(?:[^()]|\([^()]*\))*)\)"
)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
# Headers whose functions a kernel has without them. NVRTC finds no headers of the host.
BUILT_IN_HEADERS = re.compile(
    r"\s*#\s*include\s*<(cuda|cuda_runtime|cuda_runtime_api|device_launch_parameters"
    r"|device_functions|math_functions|math_constants|stdio|stdlib|math|assert|string|float"
    r"|limits|stdint)(\.h|\.cuh)?>.*"
    r"|\s*#\s*include\s*<(cstdio|cstdlib|cmath|cassert|cstring|cfloat|climits|cstdint)>.*"
)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel: an array of numbers, a number, or of a type that is not known."""

    name: str
    text: str  # its type, as written
    is_pointer: bool
    is_const: bool  # of a pointer: the array is only read
    dtype: np.dtype | None  # None: not known


def parameters(text: str, real: np.dtype) -> dict[str, tuple[Parameter, ...]]:
    """Return the parameters of each kernel of a `.cu` file; REAL is the dtype `real`."""
    code = _COMMENT.sub(" ", text)
    names = dict(re.findall(r"^\s*#define\s+(\w+)\s+([\w ]+?)\s*$", code, re.M))
    names |= {new: old for old, new in re.findall(r"\btypedef\s+([\w ]+?)\s+(\w+)\s*;", code)}
    names |= dict(re.findall(r"\busing\s+(\w+)\s*=\s*([\w ]+?)\s*;", code))
    return {
        match["name"]: tuple(
            _parameter(" ".join(one.split()), names, real)
            for one in match["parameters"].split(",")
            if one.strip() not in ("", "void")
        )
        for match in _KERNEL.finditer(code)
        if not match["template"]
    }


@lru_cache(maxsize=256)
def file_parameters(version: tuple[Path, ...], real: np.dtype) -> dict[str, tuple[Parameter, ...]]:
    """Return the same of the file `version[0]`; `version` changes when it is edited."""
    return parameters(version[0].read_text(), real)


def with_c_linkage(text: str) -> str:
    """Return the text with `extern "C"` before each kernel, by whose name a launch finds it."""
    if re.search(r'extern\s+"C"\s*\{', text):
        return text
    code = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for match in reversed(list(_KERNEL.finditer(code))):
        if not (match["template"] or match["linkage"] or "static" in match["global"]):
            text = f'{text[: match.start()]}extern "C" {text[match.start() :]}'
    return text


def typed_arguments(place: str, declared: tuple[Parameter, ...], arguments: list[Any]) -> list[Any]:
    """Return the arguments with Python numbers as numpy scalars of the declared types.

    Raises:
        ValueError: a number or the dtype of an array is not what the kernel declares; the message
            begins with `place`, the name of the kernel.
    """
    if len(declared) != len(arguments):
        names = ", ".join(parameter.name for parameter in declared)
        raise ValueError(f"{place} takes {len(declared)} arguments ({names}), not {len(arguments)}")
    return [_typed(place, *pair) for pair in zip(declared, arguments, strict=True)]


def _typed(place: str, parameter: Parameter, x: Any) -> Any:
    wanted, actual = parameter.dtype, getattr(x, "dtype", None)
    if wanted is None:
        return x
    declared = f"declared as {parameter.text}"
    name = f"{place}: argument {parameter.name!r}"
    if parameter.is_pointer:
        if actual is not None and hasattr(x, "shape") and not isinstance(x, np.generic):
            if actual.fields is None and actual != wanted and actual != _complex(wanted):
                raise ValueError(f"{name} is an array of {actual}, and {declared} ({wanted})")
            is_numpy = isinstance(x, np.ndarray)
            if is_numpy and not parameter.is_const and not x.flags.writeable:
                raise ValueError(f"{name} is a read-only array, and {declared}, which is not const")
        return x
    if isinstance(x, bool | int) and not (isinstance(x, bool) and wanted.kind == "f"):
        try:
            return wanted.type(x) if wanted.kind != "f" or abs(x) <= 2**53 else x
        except OverflowError:
            raise ValueError(f"{name} is {x}, and {declared} ({wanted})") from None
    if isinstance(x, float):
        if wanted.kind != "f":
            raise ValueError(f"{name} is a float of 4 bytes, and {declared}")
        return wanted.type(x)
    return x


def _complex(dtype: np.dtype) -> np.dtype | None:
    """Return the complex dtype of two such numbers."""
    names = {"f4": "c8", "f8": "c16"}
    name = names.get(dtype.str[1:])
    return None if name is None else np.dtype(name)


def _parameter(text: str, names: dict[str, str], real: np.dtype) -> Parameter:
    match = re.fullmatch(r"(.*?)(\w+)\)?\s*((?:\[[^\]]*\])*)", text)
    if match is None:
        return Parameter(text, text, False, False, None)
    kind, name, extents = match.groups()
    plain = " ".join(_QUALIFIERS.sub(" ", kind).replace("(", " ").split())
    is_pointer = bool(extents) or plain.endswith("*")
    base = plain.replace("*", " ").strip()
    for _ in range(8):  # names of names
        base = " ".join(names.get(base, base).split())
    base = re.sub(r"^(?:std::|signed (?!char))|(?<=long|hort) int$", "", base)
    dtype = real if base == "REAL" else np.dtype(_DTYPES[base]) if base in _DTYPES else None
    vector = re.fullmatch(r"(\w+?)([1-4])", base)
    if is_pointer and vector and vector[1] in _VECTORS:
        dtype = np.dtype(_VECTORS[vector[1]])
    if kind.count("*") > 1:
        dtype = None
    is_const = re.search(r"\bconst\b.*\*|^const\b", kind) is not None
    return Parameter(name, kind.strip() + extents, is_pointer, is_const, dtype)
