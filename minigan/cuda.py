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
    block_order: int | None = None,
    hang_seconds: float | None = None,
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
        block_order: a seed of the order in which the emulator runs the blocks of a grid, to find
            what depends on it. By default that of MINIGAN_EMULATOR_BLOCK_ORDER, or from block 0 on.
        hang_seconds: the emulator ends a launch when a thread has computed for so long without
            reaching a barrier or its end. By default MINIGAN_EMULATOR_HANG_SECONDS, or 10;
            float("inf") for no limit.

    Raises:
        KernelError: the file cannot be read, or there is no GPU or no C++ compiler.
        ValueError: an unknown device or build, or a setting of the emulator that it does not take.
    """
    choose("device", device, dict.fromkeys(("cuda", "cuda-emulator")))
    if device == "cuda":
        given = {"build": build, "block_order": block_order, "hang_seconds": hang_seconds}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name}={value!r} is for device='cuda-emulator', not 'cuda'")
        from .kernels.runtime.cuda.gpu import Gpu

        launcher: Launcher = Gpu()
    else:
        from .kernels.runtime.emulator.compiler import BUILDS
        from .kernels.runtime.emulator.emulator import Emulator

        build = build or os.environ.get("MINIGAN_EMULATOR", "checked")
        choose("build", build, BUILDS)
        checked, debug = build == "checked", build == "debug"
        launcher = Emulator(checked, debug, block_order, hang_seconds)
    return Module(launcher, Path(source), dtype)
