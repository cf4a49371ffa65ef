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
    """The compiler's warnings ("" if none), the machine code, and the resources of each kernel.

    `registers` and `local_bytes` are per thread; local memory holds arrays that are not kept in
    registers, and spilled registers. `shared_bytes` is per block. `threads` is the largest number
    of threads of a block, for kernels that state it (`__launch_bounds__`).
    """

    warnings: str
    registers: dict[str, int]
    local_bytes: dict[str, int]
    shared_bytes: dict[str, int]
    threads: dict[str, int]
    cubin: bytes


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

    def read(size: Any, function: Any) -> bytes:
        text = b" " * call(size, program)
        call(function, program, text)
        return text

    target = f"--gpu-architecture=sm_{capability.replace('.', '')}"
    words = (*NVRTC_FLAGS, target, "--ptxas-options=-v", *options(dtype))
    flags = [word.encode() for word in words]
    code, name = source_text(source).encode(), source.name.encode()
    program = call(nvrtc.nvrtcCreateProgram, code, name, 0, [], [])
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        text = read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode()
        text = text.strip("\0 \n")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{source} for {capability}, {dtype}: {status.name}\n{text}")
        ptx = read(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX).decode()
        cubin = read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
        return _parse(text, ptx, cubin)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _parse(log: str, ptx: str, cubin: bytes) -> Compiled:
    """Read the output of ptxas -v: resources from its info lines, warnings from all others."""
    info = r"^ptxas (info +:|        \.).*\n?"
    # A kernel's lines: its name, "Function properties for ...", and "Used 32 registers, ...".
    kernels = re.findall(r"Compiling entry function '(\w+)'", log)
    used = re.findall(r"Used (\d+) registers(?:.*?, (\d+) bytes smem)?", log)
    # The log also lists functions that were not inlined.
    properties = r"Function properties for (\w+)\n\D*(\d+) bytes stack frame, (\d+) bytes spill"
    local = {name: max(int(a), int(b)) for name, a, b in re.findall(properties, log)}
    threads = re.findall(r"\.entry (\w+)\([^{]*?\.maxntid (\d+)", ptx)
    return Compiled(
        warnings=re.sub(info, "", log, flags=re.MULTILINE).strip(),
        registers={k: int(n) for k, (n, _) in zip(kernels, used, strict=True)},
        local_bytes={kernel: local[kernel] for kernel in kernels},
        shared_bytes={k: int(n or 0) for k, (_, n) in zip(kernels, used, strict=True)},
        threads={kernel: int(n) for kernel, n in threads},
        cubin=cubin,
    )
