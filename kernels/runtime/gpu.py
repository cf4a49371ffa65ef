"""A real GPU through cupy, which gives memory, streams, compilation and launches, no arithmetic."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...paths import cache_root
from .launcher import (
    GPU_FLAGS,
    KernelError,
    Launcher,
    OutOfMemoryError,
    Size,
    describe,
    options,
    pointers,
    source_text,
    state_of,
)

INSTALL = (
    "pip install 'minigan[cuda12]' or 'minigan[cuda13]', whichever CUDA the driver is for"
    " (nvidia-smi says), or use the device cuda-emulator, which needs no GPU"
)


PLAIN_SHARED = 48 * 1024  # bytes of shared memory; who wants more must ask


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
            raise KernelError(
                f"the cuda device: no NVIDIA driver that fits cupy {self.cupy.__version__} answers"
                f" ({error}); {INSTALL}"
            ) from error
        if not count:
            raise KernelError(
                "the cuda device: the driver sees no GPU (is CUDA_VISIBLE_DEVICES empty?);"
                " the device cuda-emulator needs none"
            )
        self._modules: dict[Any, dict[str, Any]] = {}  # kernels, by file, its state, and dtype

    def empty(self, shape: Size, dtype: Any) -> Any:
        return self._allocate(lambda: self.cupy.empty(shape, dtype), shape, dtype)

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

    def _launch(
        self,
        source: Path,
        kernel: str,
        dtype: np.dtype,
        grid: Size,
        block: Size,
        arguments: list[Any],
        shared: int,
    ) -> None:
        function = self._function(source, kernel, dtype)
        values = [self.value(x, dtype) for x in arguments]
        table, stream = pointers(values), self.cupy.cuda.get_current_stream().ptr
        try:
            if shared > PLAIN_SHARED:
                function.max_dynamic_shared_size_bytes = shared
            # Not `function(..)`: this call takes arguments by address, as the emulator's does.
            self.cupy.cuda.driver.launchKernel(
                function.kernel.ptr, *grid, *block, shared, stream, ctypes.addressof(table), 0
            )
        except Exception as error:
            raise KernelError(
                f"{kernel} ({source.name}): the launch failed: {error}"
                f" [grid {grid}, block {block}, {shared} bytes shared; {describe(arguments)}]"
            ) from error

    def _function(self, source: Path, kernel: str, dtype: np.dtype) -> Any:
        functions = self._modules.setdefault((state_of(source), dtype), {})
        if kernel not in functions:
            os.environ.setdefault("CUPY_CACHE_DIR", str(cache_root() / "cupy"))
            self.tell(f"{source.parent.name}/{source.name} ({dtype.name})")
            module = self.cupy.RawModule(
                code=source_text(source), options=(*GPU_FLAGS, *options(dtype)), backend="nvrtc"
            )
            try:
                functions[kernel] = module.get_function(kernel)
            except Exception as error:
                said = str(error)
                first = next((line for line in said.splitlines() if "error" in line), said)
                raise KernelError(
                    f"{source}: kernel {kernel!r} does not compile: {first}"
                ) from error
        return functions[kernel]


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise KernelError(f"the cuda device needs cupy ({error}): {INSTALL}") from None
    return cupy
