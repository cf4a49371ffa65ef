"""Launch CUDA kernels on a GPU through cupy: memory, streams, compilation and launches only."""

from __future__ import annotations

import contextlib
import ctypes
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import mark_used, prune, report_unusable
from ..files import atomic_write, cache_root, with_digest, without_digest
from ..recording import Recording, active, run_launches
from .launcher import (
    NVRTC_FLAGS,
    KernelError,
    Launcher,
    OutOfMemoryError,
    Size,
    address_table,
    describe_replay,
    digest,
    file_version,
    options,
    source_text,
)

INSTALL = (
    "install minigan with its extra cuda12 or cuda13, whichever CUDA the driver is for (nvidia-smi"
    " says): in the checkout pip install '.[cuda13]'; or use the device cuda-emulator, which needs"
    " no GPU"
)

# A block may use more dynamic shared memory than this only after its kernel's attribute
# CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, number 8 of the driver API, has been raised.
DEFAULT_SHARED_BYTES = 48 * 1024
MAX_DYNAMIC_SHARED_SIZE_ATTRIBUTE = 8


class Gpu(Launcher):
    """Launch CUDA kernels on cupy arrays, on cupy's current device and stream.

    Raises:
        KernelError: there is no cupy or no GPU; the message says what to install.
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
        self._modules: dict[Any, Any] = {}  # by device, file version and dtype
        self._functions: dict[Any, Any] = {}  # by the module's key and the kernel's name
        self._context = threading.local()  # It has `device` in threads with a CUDA context.

    def empty(self, shape: Size, dtype: Any) -> Any:
        recording = active()
        if recording is None:
            return self._allocate(lambda: self.cupy.empty(shape, dtype), shape, dtype)
        return self._allocate(lambda: self._empty_in(recording, shape, dtype), shape, dtype)

    def _empty_in(self, recording: Recording, shape: Size, dtype: Any) -> Any:
        """Return an uninitialised array in the memory of the recording's plan."""
        cuda = self.cupy.cuda

        def allocate(size: int) -> tuple[Any, int]:
            memory = cuda.alloc(size)
            return memory, int(memory.ptr)

        block = recording.block(math.prod(shape) * np.dtype(dtype).itemsize, allocate)
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
        properties = runtime.getDeviceProperties(self.cupy.cuda.Device().id)
        major, minor = divmod(runtime.driverGetVersion() // 10, 100)
        return {
            "gpu": properties["name"].decode(),
            "memory": f"{properties['totalGlobalMem'] / 2**30:.0f} GiB",
            "capability": f"{properties['major']}.{properties['minor']}",
            "driver": f"for CUDA {major}.{minor}",
            "cupy": self.cupy.__version__,
        }

    def has_tf32(self) -> bool:
        return int(self.cupy.cuda.Device().compute_capability) >= 80

    def _allocate(self, allocate: Callable[[], Any], shape: Size, dtype: Any) -> Any:
        """Return what `allocate` returns; OutOfMemoryError where the GPU's memory is full."""
        try:
            return allocate()
        except self.cupy.cuda.memory.OutOfMemoryError:
            free, total = self.cupy.cuda.runtime.memGetInfo()
            raise OutOfMemoryError(
                f"the GPU has too little free memory for {np.dtype(dtype)}{tuple(shape)},"
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
        shared_bytes: int,
    ) -> Callable[..., None]:
        # A launch by the driver API needs a context of the calling thread, which `use` makes.
        if not hasattr(self._context, "device"):
            self._context.device = self.cupy.cuda.Device()
            self._context.device.use()
        function = self._function(source, kernel, dtype)
        table = address_table([self.argument_bytes(x, dtype) for x in arguments])
        driver = self.cupy.cuda.driver

        def run(describe: Callable[[], str] = describe_replay) -> None:
            stream = self.cupy.cuda.get_current_stream().ptr
            try:
                if shared_bytes > DEFAULT_SHARED_BYTES:
                    driver.funcSetAttribute(
                        function.ptr, MAX_DYNAMIC_SHARED_SIZE_ATTRIBUTE, shared_bytes
                    )
                # cupy's own call, `function(...)`, would convert the arguments again.
                driver.launchKernel(
                    function.ptr, *grid, *block, shared_bytes, stream, ctypes.addressof(table), 0
                )
            except Exception as error:
                raise KernelError(
                    f"{kernel} ({source.name}): the launch failed: {error}"
                    f" [grid {grid}, block {block}, {shared_bytes} bytes shared; {describe()}]"
                ) from error

        return run

    def program(self, launches: list[Callable[[], Any]]) -> Callable[[], None]:
        """Return a function that launches a CUDA graph of the recorded launches."""
        stream = self.cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            run_launches(launches)
            graph = stream.end_capture()
        return lambda: graph.launch(self.cupy.cuda.get_current_stream())

    # -------------------------------------------------------------------------- compilation
    def _function(self, source: Path, kernel: str, dtype: np.dtype) -> Any:
        key = (self.cupy.cuda.runtime.getDevice(), file_version(source), dtype)
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

    def variable(self, source: Path, dtype: np.dtype, name: str) -> Any:
        key = (self.cupy.cuda.runtime.getDevice(), file_version(source), dtype)
        if key not in self._modules:
            self._modules[key] = self._module(source, dtype)
        try:
            pointer = self._modules[key].get_global_var(name)
        except Exception as error:
            raise KernelError(f"{source} has no variable {name!r}: {error}") from None
        return self.cupy.ndarray((pointer.mem.size,), np.uint8, pointer)

    def _module(self, source: Path, dtype: np.dtype) -> Any:
        """Return the file's compiled kernels, from the cache if they are there.

        cupy's RawModule is not used because it adds -ftz=true after all options, which flushes
        every float32 below 1.2e-38 to zero, in comparisons and copies too.
        """
        nvrtc = self.cupy.cuda.nvrtc
        capability = int(self.cupy.cuda.Device().compute_capability)
        supported = max(x for x in nvrtc.getSupportedArchs() if x <= capability)
        # For a GPU newer than the compiler, NVRTC makes PTX, which the GPU's driver compiles.
        target = f"{'sm' if supported == capability else 'compute'}_{supported}"
        flags = (*NVRTC_FLAGS, f"--gpu-architecture={target}", *options(dtype))
        text = source_text(source)
        name = digest(str(nvrtc.getVersion()), *flags, text)
        path = None
        # The cache has no folder or cannot be read, or the file is damaged.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            path = cache_root() / "cuda" / f"{source.parent.name}.{source.stem}-{name}.cubin"
            module = self.cupy.cuda.function.Module()
            module.load(without_digest(path.read_bytes()))
            mark_used(path)
            return module
        self.report_compilation(f"{source.parent.name}/{source.name} ({dtype.name})")
        binary = self._compile(source, text, flags)
        module = self.cupy.cuda.function.Module()
        module.load(binary)
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(path, lambda file: file.write(with_digest(binary)))
                prune(path.parent, r".*\.(cubin|tmp)")
            except OSError as error:
                report_unusable(path.parent, error)
        return module

    def _compile(self, source: Path, text: str, flags: tuple[str, ...]) -> bytes:
        """Return the cubin or the PTX of the text; KernelError with the first error message."""
        nvrtc = self.cupy.cuda.nvrtc
        program = nvrtc.createProgram(text, source.name, (), ())
        try:
            nvrtc.compileProgram(program, flags)
            is_cubin = "=sm_" in flags[len(NVRTC_FLAGS)]
            binary = nvrtc.getCUBIN(program) if is_cubin else nvrtc.getPTX(program)
            return binary if isinstance(binary, bytes) else binary.encode()
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program) or str(error)
            first = next((line for line in log.splitlines() if "error" in line), log)
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
