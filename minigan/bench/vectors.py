"""Limit the vectors of minigan and of its peers, so that one machine measures several.

Each library chooses instructions when it is loaded, by the processor or by an environment variable
of its own. So a limited benchmark is another process, in whose environment all of them are set.
"""

from __future__ import annotations

import getpass
import importlib
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path

# The instructions of x86 processors by the bytes of their vectors, as LLVM names them.
_FEATURES = {
    16: "64bit cx16 cx8 fxsr mmx popcnt sse sse2 sse3 ssse3 sse4.1 sse4.2",
    32: "avx avx2 bmi bmi2 f16c fma lzcnt movbe xsave",
}
_FEATURES[32] = f"{_FEATURES[16]} {_FEATURES[32]}"

# The environment variables of numba, OpenBLAS, PyTorch, oneDNN, MKL and XLA.
VARIABLES = {
    size: {
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in _FEATURES[size].split()),
        "OPENBLAS_CORETYPE": core,
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "XLA_FLAGS": f"--xla_cpu_max_isa={xla}",
    }
    for size, cpu, core, aten, onednn, mkl, xla in (
        (16, "nehalem", "Nehalem", "default", "SSE41", "SSE4_2", "SSE4_2"),
        (32, "haswell", "Haswell", "avx2", "AVX2", "AVX2", "AVX2"),
    )
}
# How the names of numpy's dispatched instruction sets begin that are above a limit.
_NUMPY_ABOVE = {16: ("X86_V3", "X86_V4", "AVX", "FMA"), 32: ("X86_V4", "AVX512")}
INDUCTOR_FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # the variable that names torch.compile's folder
SIZES = (16, 32, 64)


def limited_environment(size: int, native: int) -> dict[str, str]:
    """Return this process's environment with variables that limit all vectors to `size` bytes.

    Args:
        size: 16 (SSE4.2), 32 (AVX2) or 64 (AVX-512).
        native: the size of the vectors that are used without a limit.

    Raises:
        ValueError: vectors of that size are not known, or not on this processor.
    """
    if size not in SIZES:
        raise ValueError(f"--vector-bytes {size} is not one of {', '.join(map(str, SIZES))}")
    if size > native:
        raise ValueError(f"--vector-bytes {size}: the vectors in use here have {native} bytes")
    if size == native:
        return dict(os.environ)
    if platform.machine() not in ("x86_64", "AMD64"):
        raise ValueError(f"--vector-bytes: x86 is limited only, not {platform.machine()}")
    umath = importlib.import_module("numpy._core._multiarray_umath")
    above = (x for x in umath.__cpu_dispatch__ if x.startswith(_NUMPY_ABOVE[size]))
    flags = " ".join(filter(None, (os.environ.get("XLA_FLAGS"), VARIABLES[size]["XLA_FLAGS"])))
    return {
        **os.environ,
        **VARIABLES[size],
        "XLA_FLAGS": flags,
        "NPY_DISABLE_CPU_FEATURES": " ".join(above),
        # torch.compile would run what it has compiled for longer vectors, and crash.
        INDUCTOR_FOLDER: f"{_inductor_folder()}_{size}_bytes",
    }


def _inductor_folder() -> Path:
    """Return the folder in which torch.compile keeps its code."""
    if named := os.environ.get(INDUCTOR_FOLDER):
        return Path(named)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container whose user has no name
        user = str(os.getuid())
    return Path(tempfile.gettempdir(), f"torchinductor_{user}")


def limits(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those of the variables above that an environment sets, by name."""
    names = ["NPY_DISABLE_CPU_FEATURES", *VARIABLES[32]]
    return {name: environment[name] for name in names if name in environment}
