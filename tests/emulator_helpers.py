"""Who can run CUDA kernels here: the emulator needs a C++ compiler, a real device a GPU."""

from __future__ import annotations

import os
from functools import cache

import pytest

from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.emulator.compiler import find_compiler


def _answers(question: object) -> bool:
    try:
        question()  # type: ignore[operator]
    except KernelError:
        return False
    return True


@cache
def has_gpu() -> bool:
    """True where cupy and a GPU answer."""
    from minigan.engine.device import get_device

    return _answers(lambda: get_device("cuda"))


COMPILER = _answers(find_compiler)
# In CI a missing compiler is a failure, so there the tests run, and say what is missing.
needs_compiler = pytest.mark.skipif(
    not COMPILER and not os.environ.get("CI"),
    reason="no C++ compiler (g++): the CUDA emulator cannot be built",
)
NO_GPU = "no GPU"
needs_gpu = pytest.mark.skipif(not has_gpu(), reason=NO_GPU)

EMULATOR = pytest.param("cuda-emulator", marks=needs_compiler)
GPU = pytest.param("cuda", marks=needs_gpu)
CUDA_DEVICES = pytest.mark.parametrize("device", [EMULATOR, GPU])
