"""A stand-in for the parts of cupy that `gpu.py` uses, made of numpy and the emulator.

Its `nvrtc` compiles the text with g++, and its kernels run on the emulator, from the bytes that
cupy would pass to the driver. Its "binary" is the text again.
"""

from __future__ import annotations

import ctypes
import json
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigan.kernels.runtime.cuda.launcher import HEADERS, NVRTC_FLAGS, KernelError
from minigan.kernels.runtime.emulator import emulator, library

__version__ = "0 (a stand-in)"


class OutOfMemoryError(MemoryError):
    pass


class Memory:
    """`array.data`: the address of the first element."""

    def __init__(self, array: np.ndarray) -> None:
        self.ptr = array.__array_interface__["data"][0]


class ndarray(np.ndarray):
    data = property(Memory)  # type: ignore[assignment]

    def __new__(cls, shape: Any, dtype: Any = float, memptr: Any = None) -> Any:
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        assert size <= memptr.memory.size
        window = SimpleNamespace(
            owner=memptr.memory,
            __array_interface__={
                "data": (memptr.memory.ptr, False),
                "shape": tuple(shape),
                "typestr": np.dtype(dtype).str,
                "version": 3,
            },
        )
        return np.asarray(window).view(cls)


class UnownedMemory:
    """Memory that `owner` owns, and keeps as long as this object keeps it."""

    def __init__(self, ptr: int, size: int, owner: Any) -> None:
        self.ptr, self.size, self.owner = ptr, size, owner


class MemoryPointer:
    def __init__(self, memory: UnownedMemory, offset: int) -> None:
        assert offset == 0
        self.memory = memory


class Allocation:
    """What `cuda.alloc` returns."""

    def __init__(self, size: int) -> None:
        if size > TOTAL:
            raise OutOfMemoryError
        self.bytes = np.empty(size, np.uint8)
        self.ptr = self.bytes.__array_interface__["data"][0]


class Stream:
    """Launches between begin_capture and end_capture are recorded instead of run."""

    ptr = 7

    def __init__(self, non_blocking: bool = False) -> None:
        self.noted: list[tuple[Any, ...]] | None = None

    def __enter__(self) -> None:
        streams.append(self)

    def __exit__(self, *error: object) -> None:
        streams.pop()

    def begin_capture(self) -> None:
        self.noted = []

    def end_capture(self) -> Any:
        recorded, self.noted = self.noted, None
        return Graph(recorded or [])

    def synchronize(self) -> None:
        waits.append("waited")


class Graph:
    def __init__(self, recorded: list[tuple[Any, ...]]) -> None:
        self.noted = recorded

    def launch(self, stream: Stream) -> None:
        assert stream is streams[0]
        graphs.append(self)
        for launch in self.noted:
            run_kernel(*launch)


streams: list[Stream] = [Stream()]
graphs: list[Graph] = []  # in the order of their launches


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
    """`module.get_function(name)`; a launch identifies it by its `ptr`."""

    dynamic_bytes = 48 * 1024

    def __init__(self, entry: Any, library: Any) -> None:
        self.entry, self.library = entry, library
        self.ptr = id(self)
        kernels[self.ptr] = self


kernels: dict[int, Kernel] = {}


def launch_kernel(function: int, *numbers: int) -> None:
    """cuLaunchKernel: grid, block, bytes of shared memory, stream, addresses of arguments, 0."""
    assert all(isinstance(n, int) for n in numbers)
    *sizes, shared, stream, arguments, extra = numbers
    assert (len(sizes), stream, extra) == (6, Stream.ptr, 0)
    recorded = streams[-1].noted
    if recorded is not None:
        recorded.append((function, sizes, shared, CopiedArguments(kernels[function], arguments)))
    else:
        run_kernel(function, sizes, shared, arguments)


class CopiedArguments:
    """The arguments of a launch in a graph: a copy of their bytes."""

    def __init__(self, kernel: Kernel, table: int) -> None:
        sizes = [8 if size < 0 else size for size in kernel.entry.sizes]
        addresses = (ctypes.c_void_p * len(sizes)).from_address(table)
        self.values = [ctypes.string_at(x, n) for x, n in zip(addresses, sizes, strict=True)]
        self.buffers = [ctypes.create_string_buffer(x, len(x)) for x in self.values]
        self.table = (ctypes.c_void_p * len(sizes))(*map(ctypes.addressof, self.buffers))

    def __int__(self) -> int:
        return ctypes.addressof(self.table)


def run_kernel(function: int, sizes: list[int], shared: int, arguments: Any) -> None:
    kernel = kernels[function]
    if not getattr(threads, "has_context", False):
        raise RuntimeError("CUDA_ERROR_INVALID_CONTEXT")
    if shared > kernel.dynamic_bytes:
        raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
    launch = library.Launch(tuple(sizes[:3]), tuple(sizes[3:]), shared)
    table = ctypes.c_void_p(int(arguments))
    if library.run_to_end(kernel.library, kernel.entry, launch, table, float("inf")):
        raise RuntimeError(kernel.library.emulator_message().decode())


def set_attribute(function: int, attribute: int, value: int) -> None:
    assert attribute == 8
    kernels[function].dynamic_bytes = value


class NVRTCError(RuntimeError):
    pass


def _build(code: str, real: str) -> tuple[Any, dict[str, Any]]:
    header = (HEADERS / "kernel.h").read_text()
    assert header in code  # the emulator adds it again
    text = code.split("\n", 1)[1].replace(header, "")
    dtype = np.dtype(real.removeprefix("-DREAL_IS_").lower())
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "gpu", "module.cu")
        source.parent.mkdir()
        source.write_text(text)
        return emulator.Emulator()._load(source, dtype)


class Nvrtc:
    """cupy.cuda.nvrtc: a program is a number."""

    NVRTCError = NVRTCError

    def __init__(self) -> None:
        self.programs: dict[int, dict[str, Any]] = {}
        self.compiled = 0

    def getVersion(self) -> tuple[int, int]:
        return (13, 5)

    def getSupportedArchs(self) -> tuple[int, ...]:
        return (75, 80, 90, 100)

    def createProgram(self, code: str, name: str, headers: Any, names: Any) -> int:
        number = len(self.programs) + 1
        self.programs[number] = {"code": code, "log": ""}
        return number

    def compileProgram(self, program: int, flags: tuple[str, ...]) -> None:
        assert flags[: len(NVRTC_FLAGS)] == NVRTC_FLAGS
        target, real = flags[len(NVRTC_FLAGS) :]
        self.compiled += 1
        state = self.programs[program]
        state["target"] = target.removeprefix("--gpu-architecture=")
        state["binary"] = json.dumps([state["code"], real]).encode()
        try:
            _build(state["code"], real)
        except KernelError as error:
            state["log"] = f"module.cu(1): error: {error}\n1 error detected\n"
            raise NVRTCError("NVRTC_ERROR_COMPILATION (6)") from None

    def getProgramLog(self, program: int) -> str:
        return self.programs[program]["log"]

    def getCUBIN(self, program: int) -> bytes:
        assert self.programs[program]["target"].startswith("sm_")
        return self.programs[program]["binary"]

    def getPTX(self, program: int) -> bytes:
        assert self.programs[program]["target"].startswith("compute_")
        return self.programs[program]["binary"]

    def destroyProgram(self, program: int) -> None:
        self.programs[program] = {}


class Module:
    """cupy.cuda.function.Module"""

    def load(self, binary: bytes) -> None:
        try:
            code, real = json.loads(binary)
        except ValueError:
            raise RuntimeError("CUDA_ERROR_INVALID_IMAGE") from None
        self.library, self.kernels = _build(code, real)

    def get_function(self, name: str) -> Kernel:
        if name not in self.kernels:
            raise RuntimeError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return Kernel(self.kernels[name], self.library)


class Device:
    id = 0
    compute_capability = "90"

    def use(self) -> None:
        threads.has_context = True


threads = threading.local()  # `has_context`
RUNTIME = SimpleNamespace(
    getDevice=lambda: 0,
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
    Device=Device,
    driver=SimpleNamespace(launchKernel=launch_kernel, funcSetAttribute=set_attribute),
    nvrtc=Nvrtc(),
    function=SimpleNamespace(Module=Module),
    get_current_stream=lambda: streams[-1],
    Stream=Stream,
    alloc=Allocation,
    UnownedMemory=UnownedMemory,
    MemoryPointer=MemoryPointer,
)
