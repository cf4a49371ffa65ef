"""The BLAS behind `numpy.matmul`: its name, and how many threads it uses."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

# Builds of OpenBLAS differ in what their functions' names begin and end with.
SPELLINGS = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))


def openblas(function: str, result: Any = ctypes.c_int) -> Any:
    """`openblas_<function>` of the library that numpy has loaded; None if that is no OpenBLAS."""
    library = ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)
    for before, after in SPELLINGS:
        found = getattr(library, f"{before}openblas_{function}{after}", None)
        if found is not None:
            found.restype = result
            return found
    return None


def name() -> str:
    """ "OpenBLAS", or what numpy says it was built with."""
    if openblas("get_num_threads") is not None:
        return "OpenBLAS"
    return str(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"])


def describe() -> str:
    """Name, version and the processor family that it has chosen its kernels for, if it says so."""
    config = openblas("get_config", ctypes.c_char_p)
    if config is None:
        return name()
    words = config().decode().split()
    family = words[-2] if words[-1].startswith("MAX_THREADS") else ""
    return " ".join([*words[:2], family]).strip()
