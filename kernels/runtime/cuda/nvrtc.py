"""Compile `.cu` files for GPUs on a machine without one: NVRTC needs neither GPU nor driver.

It needs the packages cuda-bindings and nvidia-cuda-nvrtc, which are in the extra `test`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .launcher import NVRTC_FLAGS, KernelError, options, source_text

# Compute capabilities: Turing, Ampere, Hopper, and the two of Blackwell.
CAPABILITIES = ("7.5", "8.0", "9.0", "10.0", "12.0")


@dataclass(frozen=True)
class Compiled:
    """The compiler's warnings ("" if none), and the resources of each kernel per thread.

    `local_bytes` is local memory: arrays that are not kept in registers, and spilled registers.
    """

    warnings: str
    registers: dict[str, int]
    local_bytes: dict[str, int]


def compile_for(source: Path, dtype: np.dtype, capability: str) -> Compiled:
    """Compile `source` for a compute capability, such as "9.0".

    Raises:
        ImportError: the packages are missing.
        KernelError: the file does not compile.
    """
    from cuda.bindings import nvrtc

    def call(function: Any, *arguments: Any) -> Any:
        status, *results = function(*arguments)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{source.name}: {status.name}")
        return results[0] if results else None

    target = f"--gpu-architecture=sm_{capability.replace('.', '')}"
    words = (*NVRTC_FLAGS, target, "--ptxas-options=-v", *options(dtype))
    flags = [word.encode() for word in words]
    code, name = source_text(source).encode(), source.name.encode()
    program = call(nvrtc.nvrtcCreateProgram, code, name, 0, [], [])
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        log = b" " * call(nvrtc.nvrtcGetProgramLogSize, program)
        call(nvrtc.nvrtcGetProgramLog, program, log)
        text = log.decode().strip("\0 \n")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{source} for {capability}, {dtype}: {status.name}\n{text}")
        return _parse_log(text)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _parse_log(log: str) -> Compiled:
    """Read the output of ptxas -v: resources from its info lines, warnings from all others."""
    info = r"^ptxas (info +:|        \.).*\n?"
    kernels = re.findall(r"Compiling entry function '(\w+)'", log)
    registers = map(int, re.findall(r"Used (\d+) registers", log))
    # The log also lists functions that were not inlined.
    properties = r"Function properties for (\w+)\n\D*(\d+) bytes stack frame, (\d+) bytes spill"
    local = {name: max(int(a), int(b)) for name, a, b in re.findall(properties, log)}
    return Compiled(
        warnings=re.sub(info, "", log, flags=re.MULTILINE).strip(),
        registers=dict(zip(kernels, registers, strict=True)),
        local_bytes={kernel: local[kernel] for kernel in kernels},
    )
