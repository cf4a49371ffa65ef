"""Skip marks for tests of CUDA kernels: the emulator needs a C++ compiler, `cuda` a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache

import pytest

from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.emulator.compiler import find_compiler


def _succeeds(function: Callable[[], object]) -> bool:
    try:
        function()
    except KernelError:
        return False
    return True


@cache
def has_gpu() -> bool:
    """Return whether there are cupy and a GPU."""
    from minigan.engine.device import get_device

    return _succeeds(lambda: get_device("cuda"))


COMPILER = _succeeds(find_compiler)
# In CI a missing compiler is a failure: the tests run, and say what is missing.
needs_compiler = pytest.mark.skipif(
    not COMPILER and not os.environ.get("CI"),
    reason="no C++ compiler (g++): the CUDA emulator cannot be built",
)
NO_GPU = "no GPU"
needs_gpu = pytest.mark.skipif(not has_gpu(), reason=NO_GPU)

EMULATOR = pytest.param("cuda-emulator", marks=needs_compiler)
GPU = pytest.param("cuda", marks=needs_gpu)
CUDA_DEVICES = pytest.mark.parametrize("device", [EMULATOR, GPU])
