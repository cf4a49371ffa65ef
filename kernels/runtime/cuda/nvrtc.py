"""Compile `.cu` files for real GPUs where there is none: NVRTC takes neither a GPU nor a driver.

Needs the packages cuda-bindings and nvidia-cuda-nvrtc, which come with `pip install minigan[test]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .launcher import GPU_FLAGS, KernelError, options, source_text

# Turing, Ampere, Hopper, and the two Blackwells.
CAPABILITIES = ("7.5", "8.0", "9.0", "10.0", "12.0")


@dataclass(frozen=True)
class Compiled:
    """What the compiler complains of ("" if nothing), and what each kernel takes per thread.

    `local_bytes` are arrays that found no place in registers, and registers that were spilled.
    """

    complaints: str
    registers: dict[str, int]
    local_bytes: dict[str, int]


def compile_for(source: Path, dtype: np.dtype, capability: str) -> Compiled:
    """`source` compiled for that compute capability.

    ImportError where the packages are missing; KernelError where the file does not compile.
    """
    from cuda.bindings import nvrtc

    def call(function: Any, *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{source.name}: {status.name}")
        return results[0] if results else None

    target = f"--gpu-architecture=sm_{capability.replace('.', '')}"
    told = (*GPU_FLAGS, target, "--ptxas-options=-v", *options(dtype))
    flags = [flag.encode() for flag in told]
    text, name = source_text(source).encode(), source.name.encode()
    program = call(nvrtc.nvrtcCreateProgram, text, name, 0, [], [])
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        log = b" " * call(nvrtc.nvrtcGetProgramLogSize, program)
        call(nvrtc.nvrtcGetProgramLog, program, log)
        said = log.decode().strip("\0 \n")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{source} for {capability}, {dtype}: {status.name}\n{said}")
        return _read(said)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _read(log: str) -> Compiled:
    notes = r"^ptxas (info +:|        \.).*\n?"
    kernels = re.findall(r"Compiling entry function '(\w+)'", log)
    registers = map(int, re.findall(r"Used (\d+) registers", log))
    # Functions that were not inlined are listed too.
    properties = r"Function properties for (\w+)\n\D*(\d+) bytes stack frame, (\d+) bytes spill"
    local = {name: max(int(a), int(b)) for name, a, b in re.findall(properties, log)}
    return Compiled(
        complaints=re.sub(notes, "", log, flags=re.MULTILINE).strip(),
        registers=dict(zip(kernels, registers, strict=True)),
        local_bytes={kernel: local[kernel] for kernel in kernels},
    )
