"""A real GPU through cupy, which gives memory, streams, compilation and launches, no arithmetic."""

from __future__ import annotations

import contextlib
import ctypes
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_write, cache_root, with_digest, without_digest
from ..recording import Recording, active, in_turn
from .launcher import (
    GPU_FLAGS,
    KernelError,
    Launcher,
    OutOfMemoryError,
    Size,
    digest,
    options,
    pointers,
    replayed,
    source_text,
    state_of,
)

INSTALL = (
    "install minigan with its extra cuda12 or cuda13, whichever CUDA the driver is for (nvidia-smi"
    " says): in the checkout pip install '.[cuda13]'; or use the device cuda-emulator, which needs"
    " no GPU"
)


PLAIN_SHARED = 48 * 1024  # bytes of shared memory; who wants more must ask
MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class Gpu(Launcher):
    """Runs CUDA kernels on cupy arrays, on the current device and stream of cupy.

    KernelError, in one line that says what to do, where there is no cupy or no GPU.
    """

    name = "gpu"

    def __init__(self, cupy: Any = None) -> None:
        self.cupy = cupy or _import_cupy()
        self.array_type = self.cupy.ndarray
        try:
            count = self.cupy.cuda.runtime.getDeviceCount()
        except Exception as error:
            if "cudaErrorNoDevice" in str(error):
                raise _no_gpu() from None
            raise KernelError(
                f"the cuda device: no NVIDIA driver that fits cupy {self.cupy.__version__} answers"
                f" ({error}); {INSTALL}"
            ) from error
        if not count:
            raise _no_gpu()
        self._modules: dict[Any, Any] = {}  # by device, file and its state, and dtype
        self._functions: dict[Any, Any] = {}  # by module and name
        self._threads = threading.local()

    def empty(self, shape: Size, dtype: Any) -> Any:
        recording = active()
        if recording is None:
            return self._allocate(lambda: self.cupy.empty(shape, dtype), shape, dtype)
        return self._allocate(lambda: self._planned(recording, shape, dtype), shape, dtype)

    def _planned(self, recording: Recording, shape: Size, dtype: Any) -> Any:
        """An array in memory of the recording's plan."""
        cuda = self.cupy.cuda

        def take(size: int) -> tuple[Any, int]:
            memory = cuda.alloc(size)
            return memory, int(memory.ptr)

        block = recording.block(math.prod(shape) * np.dtype(dtype).itemsize, take)
        memory = cuda.UnownedMemory(block.address, block.size, block)
        return self.cupy.ndarray(shape, dtype, cuda.MemoryPointer(memory, 0))

    def from_numpy(self, array: np.ndarray) -> Any:
        copy = np.array(array, order="C")
        return self._allocate(lambda: self.cupy.asarray(copy), copy.shape, copy.dtype)

    def to_numpy(self, array: Any) -> np.ndarray:
        return self.cupy.asnumpy(array)

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def broadcast_to(self, array: Any, shape: Size) -> Any:
        return self.cupy.broadcast_to(array, shape)

    def synchronize(self) -> None:
        self.cupy.cuda.get_current_stream().synchronize()

    def describe(self) -> dict[str, str]:
        runtime = self.cupy.cuda.runtime
        found = runtime.getDeviceProperties(self.cupy.cuda.Device().id)
        major, minor = divmod(runtime.driverGetVersion() // 10, 100)
        return {
            "gpu": found["name"].decode(),
            "memory": f"{found['totalGlobalMem'] / 2**30:.0f} GiB",
            "capability": f"{found['major']}.{found['minor']}",
            "driver": f"for CUDA {major}.{minor}",
            "cupy": self.cupy.__version__,
        }

    def _allocate(self, make: Any, shape: Size, dtype: Any) -> Any:
        try:
            return make()
        except self.cupy.cuda.memory.OutOfMemoryError:
            free, total = self.cupy.cuda.runtime.memGetInfo()
            raise OutOfMemoryError(
                f"the GPU has no room for {np.dtype(dtype)}{tuple(shape)},"
                f" {np.dtype(dtype).itemsize * int(np.prod(shape, dtype=object)):,} bytes:"
                f" {free:,} of {total:,} are free; a smaller batch or model is needed"
            ) from None

    def _prepare(
        self,
        source: Path,
        kernel: str,
        dtype: np.dtype,
        grid: Size,
        block: Size,
        arguments: list[Any],
        shared: int,
    ) -> Callable[..., None]:
        if not hasattr(self._threads, "device"):  # the driver launches in a context of the thread
            self._threads.device = self.cupy.cuda.Device()
            self._threads.device.use()
        function = self._function(source, kernel, dtype)
        values = [self.value(x, dtype) for x in arguments]
        table = pointers(values)

        def run(about: Callable[[], str] = replayed, _held: Any = values) -> None:
            stream = self.cupy.cuda.get_current_stream().ptr
            try:
                if shared > PLAIN_SHARED:
                    self.cupy.cuda.driver.funcSetAttribute(function.ptr, MAX_DYNAMIC_SHARED, shared)
                # Not `function(..)`: this call takes arguments by address, as the emulator's does.
                self.cupy.cuda.driver.launchKernel(
                    function.ptr, *grid, *block, shared, stream, ctypes.addressof(table), 0
                )
            except Exception as error:
                raise KernelError(
                    f"{kernel} ({source.name}): the launch failed: {error}"
                    f" [grid {grid}, block {block}, {shared} bytes shared; {about()}]"
                ) from error

        return run

    def program(self, launches: list[Callable[[], Any]]) -> Callable[[], None]:
        """One CUDA graph, which the driver launches as a whole."""
        stream = self.cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            in_turn(launches)
            graph = stream.end_capture()
        return lambda: graph.launch(self.cupy.cuda.get_current_stream())

    # -------------------------------------------------------------------------- compilation
    def _function(self, source: Path, kernel: str, dtype: np.dtype) -> Any:
        key = (self.cupy.cuda.runtime.getDevice(), state_of(source), dtype)
        function = self._functions.get((key, kernel))
        if function is None:
            module = self._modules.get(key)
            if module is None:
                module = self._modules[key] = self._module(source, dtype)
            try:
                function = self._functions[key, kernel] = module.get_function(kernel)
            except Exception as error:
                raise KernelError(f"{source} has no kernel {kernel!r}: {error}") from None
        return function

    def _module(self, source: Path, dtype: np.dtype) -> Any:
        """The file's compiled kernels, from the cache where they are in it.

        Not by cupy's RawModule: it adds -ftz=true behind all options, which turns every float32
        below 1.2e-38 into zero, in comparisons and copies too.
        """
        nvrtc = self.cupy.cuda.nvrtc
        own = int(self.cupy.cuda.Device().compute_capability)
        known = max(x for x in nvrtc.getSupportedArchs() if x <= own)
        # A card that is newer than the compiler gets a text that its driver compiles on.
        target = f"{'sm' if known == own else 'compute'}_{known}"
        flags = (*GPU_FLAGS, f"--gpu-architecture={target}", *options(dtype))
        text = source_text(source)
        name = digest(str(nvrtc.getVersion()), *flags, text)
        path = None
        # No home, a cache that is not ours, or a damaged file.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            path = cache_root() / "cuda" / f"{source.parent.name}.{source.stem}-{name}.cubin"
            module = self.cupy.cuda.function.Module()
            module.load(without_digest(path.read_bytes()))
            return module
        self.tell(f"{source.parent.name}/{source.name} ({dtype.name})")
        binary = self._compile(source, text, flags)
        module = self.cupy.cuda.function.Module()
        module.load(binary)
        if path is not None:
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(path, lambda file: file.write(with_digest(binary)))
        return module

    def _compile(self, source: Path, text: str, flags: tuple[str, ...]) -> bytes:
        nvrtc = self.cupy.cuda.nvrtc
        program = nvrtc.createProgram(text, source.name, (), ())
        try:
            nvrtc.compileProgram(program, flags)
            take = nvrtc.getCUBIN if "=sm_" in flags[len(GPU_FLAGS)] else nvrtc.getPTX
            found = take(program)
            return found if isinstance(found, bytes) else found.encode()
        except nvrtc.NVRTCError as error:
            said = nvrtc.getProgramLog(program) or str(error)
            first = next((line for line in said.splitlines() if "error" in line), said)
            raise KernelError(f"{source} does not compile: {first.strip()}") from None
        finally:
            nvrtc.destroyProgram(program)


def _no_gpu() -> KernelError:
    return KernelError(
        "the cuda device: the driver sees no GPU (is CUDA_VISIBLE_DEVICES empty?);"
        " the device cuda-emulator needs none"
    )


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise KernelError(f"the cuda device needs cupy ({error}): {INSTALL}") from None
    return cupy
