"""Compile `.cu` files for real GPUs where there is none: NVRTC takes neither a GPU nor a driver.

Needs the packages cuda-bindings and nvidia-cuda-nvrtc, which come with `pip install minigan[test]`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .launcher import GPU_FLAGS, KernelError, options, source_text

# Turing, Ampere, Hopper, and the two Blackwells.
CAPABILITIES = ("7.5", "8.0", "9.0", "10.0", "12.0")


def compile_for(source: Path, dtype: np.dtype, capability: str) -> str:
    """What NVRTC says of `source` compiled for that compute capability: "" if it has no complaint.

    ImportError where the packages are missing; KernelError where the file does not compile.
    """
    from cuda.bindings import nvrtc

    def call(function: Any, *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{source.name}: {status.name}")
        return results[0] if results else None

    target = f"--gpu-architecture=sm_{capability.replace('.', '')}"
    flags = [flag.encode() for flag in (*GPU_FLAGS, target, *options(dtype))]
    text, name = source_text(source).encode(), source.name.encode()
    program = call(nvrtc.nvrtcCreateProgram, text, name, 0, [], [])
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        log = b" " * call(nvrtc.nvrtcGetProgramLogSize, program)
        call(nvrtc.nvrtcGetProgramLog, program, log)
        said = log.decode().strip("\0 \n")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{source} for {capability}, {dtype}: {status.name}\n{said}")
        return said
    finally:
        nvrtc.nvrtcDestroyProgram(program)
