"""What `gpu.py` uses of cupy, standing on numpy and the emulator: a GPU for machines without one.

`RawModule` compiles the text that cupy would hand to NVRTC with g++, and its kernels run on the
emulator, from the bytes that cupy would hand to the driver.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigan.kernels.runtime import emulator
from minigan.kernels.runtime.launcher import GPU_FLAGS, HEADERS

__version__ = "0 (a stand-in)"


class OutOfMemoryError(MemoryError):
    pass


class Memory:
    """`array.data`: where the first element lies."""

    def __init__(self, array: np.ndarray) -> None:
        self.ptr = array.__array_interface__["data"][0]


class ndarray(np.ndarray):
    data = property(Memory)  # type: ignore[assignment]


TOTAL = 1 << 30  # bytes of memory


def empty(shape: tuple[int, ...], dtype: Any) -> ndarray:
    if np.prod(shape, dtype=object) * np.dtype(dtype).itemsize > TOTAL:
        raise OutOfMemoryError
    return np.empty(shape, dtype).view(ndarray)


def asarray(array: np.ndarray) -> ndarray:
    return array.copy().view(ndarray)


def asnumpy(array: ndarray) -> np.ndarray:
    return np.array(array, order="C").view(np.ndarray)


def broadcast_to(array: ndarray, shape: tuple[int, ...]) -> ndarray:
    return np.broadcast_to(array, shape, subok=True)


class Kernel:
    """`module.get_function(name)`: its `kernel.ptr` is what a launch names it by."""

    max_dynamic_shared_size_bytes = 48 * 1024

    def __init__(self, entry: Any, library: Any) -> None:
        self.entry, self.library = entry, library
        self.kernel = SimpleNamespace(ptr=id(self))
        known[id(self)] = self


known: dict[int, Kernel] = {}
STREAM = 7


def launch_kernel(function: int, *numbers: int) -> None:
    """cuLaunchKernel: grid, block, bytes of shared memory, stream, addresses of arguments, 0."""
    assert all(isinstance(n, int) for n in numbers)
    *sizes, shared, stream, arguments, extra = numbers
    assert (len(sizes), stream, extra) == (6, STREAM, 0)
    kernel = known[function]
    if shared > kernel.max_dynamic_shared_size_bytes:
        raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
    launch = emulator._Launch(tuple(sizes[:3]), tuple(sizes[3:]), shared, 0, None)
    table = emulator.ctypes.c_void_p(arguments)
    if kernel.entry.run(emulator.ctypes.byref(launch), table):
        raise RuntimeError(kernel.library.emulator_message().decode())


class RawModule:
    def __init__(self, *, code: str, options: tuple[str, ...], backend: str) -> None:
        assert options[: len(GPU_FLAGS)] == GPU_FLAGS
        assert backend == "nvrtc"
        (real,) = options[len(GPU_FLAGS) :]
        self.code, self.dtype = code, np.dtype(real.removeprefix("-DREAL_IS_").lower())

    def get_function(self, name: str) -> Kernel:
        header = (HEADERS / "kernel.h").read_text()
        assert header in self.code  # the emulator puts it there by itself
        text = self.code.split("\n", 1)[1].replace(header, "")
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "gpu", "module.cu")
            source.parent.mkdir()
            source.write_text(text)
            library, kernels = emulator.Emulator()._load(source, self.dtype)
        if name not in kernels:
            raise AttributeError(f"named symbol not found: {name}")
        return Kernel(kernels[name], library)


RUNTIME = SimpleNamespace(
    getDeviceCount=lambda: 1,
    memGetInfo=lambda: (TOTAL // 2, TOTAL),
    driverGetVersion=lambda: 13020,
    getDeviceProperties=lambda i: {
        "name": b"A stand-in",
        "totalGlobalMem": TOTAL,
        "major": 9,
        "minor": 0,
    },
)
waits: list[str] = []
cuda = SimpleNamespace(
    runtime=RUNTIME,
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    Device=lambda: SimpleNamespace(id=0),
    driver=SimpleNamespace(launchKernel=launch_kernel),
    get_current_stream=lambda: SimpleNamespace(
        ptr=STREAM, synchronize=lambda: waits.append("waited")
    ),
)
