"""CUDA kernels of your own `.cu` files, on a GPU or in the emulator.

module = minigan.cuda.compile("saxpy.cu")
module.saxpy[4, 256](1000, 2.0, x, y)       # saxpy<<<4, 256>>>(1000, 2.0, x, y)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .kernels.runtime.cuda.launcher import KernelError, Launcher
from .kernels.runtime.cuda.module import Kernel, Module
from .utils.names import choose

__all__ = ["Kernel", "KernelError", "Module", "compile"]


def compile(
    source: str | os.PathLike[str],
    device: str = "cuda-emulator",
    build: str | None = None,
    dtype: Any = "float32",
) -> Module:
    """Return the kernels of a `.cu` file.

    They are compiled at the first launch, and again when the file has changed.

    Args:
        source: a file of kernels and `__device__` functions, without host code.
        device: "cuda-emulator", whose kernels take numpy arrays, or "cuda", which take cupy arrays.
        build: of the emulator: "checked" finds accesses out of bounds, races, reads of what is not
            written and barriers that not all threads reach, with line, block and thread; "fast"
            checks nothing; "debug" is for gdb. By default that of MINIGAN_EMULATOR, or "checked".
        dtype: of the type REAL, if the file uses it.

    Raises:
        KernelError: the file cannot be read, or there is no GPU or no C++ compiler.
        ValueError: an unknown device or build.
    """
    choose("device", device, dict.fromkeys(("cuda", "cuda-emulator")))
    if device == "cuda":
        if build is not None:
            raise ValueError(f"build={build!r} is for device='cuda-emulator', not 'cuda'")
        from .kernels.runtime.cuda.gpu import Gpu

        launcher: Launcher = Gpu()
    else:
        from .kernels.runtime.emulator.compiler import BUILDS
        from .kernels.runtime.emulator.emulator import Emulator

        build = build or os.environ.get("MINIGAN_EMULATOR", "checked")
        choose("build", build, BUILDS)
        launcher = Emulator(checked=build == "checked", debug=build == "debug")
    return Module(launcher, Path(source), dtype)
