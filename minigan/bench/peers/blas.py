"""The BLAS that `numpy.matmul` calls: its name, and its number of threads."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

# Prefix and suffix of the functions' names in different builds of OpenBLAS.
AFFIXES = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))


def openblas(function: str, result: Any = ctypes.c_int) -> Any:
    """Return `openblas_<function>` of the library that numpy has loaded, or None if it has none."""
    library = ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)
    for prefix, suffix in AFFIXES:
        symbol = getattr(library, f"{prefix}openblas_{function}{suffix}", None)
        if symbol is not None:
            symbol.restype = result
            return symbol
    return None


def name() -> str:
    """Return "OpenBLAS", or the name of the BLAS that numpy was built with."""
    if openblas("get_num_threads") is not None:
        return "OpenBLAS"
    return str(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"])


def describe() -> str:
    """Return name, version and, if known, the processor family whose kernels it uses."""
    config = openblas("get_config", ctypes.c_char_p)
    if config is None:
        return name()
    words = config().decode().split()
    family = words[-2] if words[-1].startswith("MAX_THREADS") else ""
    return " ".join([*words[:2], family]).strip()
