"""The interface through which host code launches CUDA kernels, on a GPU or on the emulator.

A kernel is an `extern "C" __global__` function of a `.cu` file, compiled for one dtype, which the
file calls REAL. The host code of each kernel family (`cuda.py`) takes a `Launcher` and is the same
for `Gpu` and `Emulator`, its two implementations.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..recording import active, run_launches
from ..strides import Size, merge
from .parameters import BUILT_IN_HEADERS, file_parameters, typed_arguments, with_c_linkage

HEADERS = Path(__file__).resolve().parent
# Contraction is off: a multiplication and an addition are fused only where a kernel calls `fma`.
NVRTC_FLAGS = ("--std=c++17", "--fmad=false")
# The limits that every GPU has (CUDA C++ Programming Guide, "Compute Capabilities").
MAX_THREADS_PER_BLOCK = 1024
MAX_BLOCK_DIM = (1024, 1024, 64)
MAX_GRID_DIM = (2**31 - 1, 65535, 65535)
MAX_AXES = 10  # the axes of a StridedLayout, as in kernel.h


class KernelError(RuntimeError):
    """A kernel could not be compiled or launched, or the emulator found a mistake in it."""


class OutOfMemoryError(KernelError):
    """The GPU has too little free memory for an array."""


class Launcher:
    """Device memory, and kernel launches on it.

    A kernel's arguments are arrays of that memory (or None, a null pointer), ints for `long long`,
    floats for REAL, numpy scalars for their own type, and ctypes structures by value. A structure
    that holds addresses of arrays lists those arrays in its attribute `arrays`.
    """

    name: ClassVar[str]
    array_type: type = np.ndarray
    compile_listener: Callable[[str], None] | None = None

    # ------------------------------------------------------------------------------- memory
    def empty(self, shape: Size, dtype: Any) -> Any:
        """Return a new C-contiguous array, uninitialised."""
        raise NotImplementedError

    def from_numpy(self, array: np.ndarray) -> Any:
        """Return a C-contiguous copy of `array` in device memory."""
        raise NotImplementedError

    def to_numpy(self, array: Any) -> np.ndarray:
        """Return a C-contiguous copy of `array` as a numpy array."""
        raise NotImplementedError

    def address(self, array: Any) -> int:
        """Return the address of the array's first element."""
        raise NotImplementedError

    def broadcast_to(self, array: Any, shape: Size) -> Any:
        """Return a view of that shape, with stride 0 on repeated axes."""
        raise NotImplementedError

    def borrowed(self, arguments: list[Any]) -> AbstractContextManager[list[Any]]:
        """Return a context of the arguments to launch with.

        Arrays in it may be copies, which are written back at its end.
        """
        return nullcontext(arguments)

    def variable(self, source: Path, dtype: np.dtype, name: str) -> Any:
        """Return the bytes of a __device__ or __constant__ variable of a file, as an array."""
        raise NotImplementedError

    # --------------------------------------------------------------------------- the device
    def synchronize(self) -> None:
        """Wait until all earlier launches are finished."""

    def describe(self) -> dict[str, str]:
        """Return properties of the GPU or of the compiler, as text by name ("gpu", ...)."""
        raise NotImplementedError

    def has_tf32(self) -> bool:
        """Return whether the GPU has tensor cores for TF32; the emulator plays them."""
        return True

    # ----------------------------------------------------------------------------- launches
    def launch(
        self,
        source: Path,
        kernel: str,
        dtype: np.dtype,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared_bytes: int = 0,
    ) -> None:
        """Run `kernel` of the file `source`, compiled for `dtype`, on a grid of blocks of threads.

        `shared_bytes` is the size of the dynamic shared memory. Nothing is launched if an extent of
        the grid is 0. While a Recording is active, the launch is also recorded for replay.

        Raises:
            KernelError: the kernel cannot be compiled or launched.
        """
        grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        if 0 in grid:
            return
        extents, limits = (*grid, *block), (*MAX_GRID_DIM, *MAX_BLOCK_DIM)
        in_range = all(1 <= n <= limit for n, limit in zip(extents, limits, strict=True))
        if not in_range or math.prod(block) > MAX_THREADS_PER_BLOCK:
            raise KernelError(
                f"{kernel} ({source.name}): cannot launch a grid of {grid} blocks of {block}"
                f" threads; CUDA takes 1 to {MAX_GRID_DIM} blocks of 1 to {MAX_BLOCK_DIM} threads,"
                f" at most {MAX_THREADS_PER_BLOCK} per block"
            )
        arguments = list(arguments)
        declared = file_parameters(file_version(source), np.dtype(dtype)).get(kernel)
        if declared is not None:
            try:
                arguments = typed_arguments(f"{kernel} ({source.name})", declared, arguments)
            except ValueError as error:
                raise KernelError(str(error)) from None
        run = self._prepare(source, kernel, np.dtype(dtype), grid, block, arguments, shared_bytes)
        run(lambda: describe_arguments(arguments))
        recording = active()
        if recording is not None:
            recording.add(run)
            for x in arguments:
                for array in getattr(x, "arrays", [x] if isinstance(x, self.array_type) else []):
                    if not recording.owns(self.address(array)):
                        recording.keep(array)

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
        """Return a function that launches the kernel each time it is called.

        It holds the bytes of the arguments (addresses, numbers) but no reference to the arrays.
        Its optional parameter is a function that describes the arguments, for error messages.
        """
        raise NotImplementedError

    def program(self, launches: list[Callable[[], Any]]) -> Callable[[], None]:
        """Return a function that runs the recorded launches in order."""
        return partial(run_launches, launches)

    def argument_bytes(self, x: Any, dtype: np.dtype) -> bytes:
        """Return a kernel argument as the bytes passed to the kernel; for an array its address."""
        if isinstance(x, self.array_type):
            return self.address(x).to_bytes(8, sys.byteorder)
        if isinstance(x, np.generic):
            return x.tobytes()
        if x is None:
            return bytes(8)
        if isinstance(x, int):  # or bool
            return x.to_bytes(8, sys.byteorder, signed=True)
        if isinstance(x, ctypes.Structure):
            return bytes(x)
        if isinstance(x, float):
            return np.array(x, dtype).tobytes()
        raise TypeError(
            f"a kernel argument is {type(x).__name__}; arrays, None, numbers, numpy scalars and"
            " ctypes structures are accepted"
        )

    def report_compilation(self, kernel: str) -> None:
        """Call the listener, if there is one, before a file is compiled."""
        if self.compile_listener is not None:
            self.compile_listener(kernel)


def describe_replay() -> str:
    """Return the text in place of the arguments in an error message of a replayed launch."""
    return "replayed"


def address_table(values: Sequence[bytes]) -> Any:
    """Return a C array of the addresses of the values: the `kernelParams` of cuLaunchKernel.

    The values lie in one buffer, each at a multiple of 16 bytes; the table keeps it alive.
    """
    offsets, parts, end = [], [], 0
    for value in values:
        padding = -len(value) % 16
        offsets.append(end)
        parts += [value, bytes(padding)]
        end += len(value) + padding
    buffer = ctypes.create_string_buffer(b"".join(parts), end)
    start = ctypes.addressof(buffer)
    table: Any = (ctypes.c_void_p * len(values))(*(start + offset for offset in offsets))
    table.buffer = buffer
    return table


def file_version(source: Path) -> tuple[Path, int, int]:
    """Return a key for the file as it is now, so that an edited kernel is compiled again."""
    try:
        status = source.stat()
    except OSError as error:
        raise KernelError(f"{source}: {error.strerror}") from None
    return source, status.st_mtime_ns, status.st_size


def source_text(path: Path) -> str:
    """Return kernel.h and the `.cu` file as one text, with the headers that it includes pasted in.

    NVRTC knows no include folders here, so `#include "name.h"` of a header of this folder is
    replaced by its text. #line directives keep file names and line numbers in compiler messages.
    """
    lines = ['#line 1 "kernel.h"', (HEADERS / "kernel.h").read_text(), f'#line 1 "{path.name}"']
    for number, line in enumerate(with_c_linkage(path.read_text()).splitlines(), 1):
        include = re.fullmatch(r'#include "(\w+\.h)"', line)
        if include:
            header = HEADERS / include[1]
            if not header.is_file():
                raise KernelError(f"{path}:{number}: there is no header {header}")
            lines += [f'#line 1 "{header.name}"', header.read_text()]
            lines.append(f'#line {number + 1} "{path.name}"')
        else:
            lines.append("" if BUILT_IN_HEADERS.fullmatch(line) else line)
    return "\n".join([*lines, ""])


def options(dtype: np.dtype) -> tuple[str, ...]:
    """Return the compiler flags, the same for NVRTC and g++, that define REAL."""
    return (f"-DREAL_IS_{dtype.name.upper()}",)


def digest(*parts: str) -> str:
    """Return a short hash of the texts, for the name of a file in the cache."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def describe_arguments(arguments: Sequence[Any]) -> str:
    """Return a launch's arguments as text, for error messages."""
    words = []
    for x in arguments:
        if x is None:
            words.append("null")
        elif hasattr(x, "shape") and not isinstance(x, np.generic):
            words.append(f"{x.dtype}{tuple(x.shape)}")
        else:
            words.append(type(x).__name__ if isinstance(x, ctypes.Structure) else str(x))
    return ", ".join(words)


# ------------------------------------------------------------------------------------- layouts
@cache
def layout_type(arrays: int) -> type[ctypes.Structure]:
    """Return the ctypes structure of `StridedLayout<arrays>` in kernel.h."""
    row = ctypes.c_int64 * MAX_AXES

    class StridedLayout(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_int64),
            ("axes", ctypes.c_int32),
            ("vectorized", ctypes.c_int32),
            ("sizes", row),
            ("strides", row * arrays),
        )

    return StridedLayout


@lru_cache(maxsize=4096)
def strided_layout(
    shape: Size, strides: tuple[Size, ...], aligned: bool = False
) -> ctypes.Structure:
    """Return the StridedLayout of arrays with these strides (in elements) over a common shape.

    The structure is shared by all calls with equal arguments: it must not be changed.
    `aligned`: every array begins at a multiple of 16 bytes, as vectorized access requires.

    Raises:
        ValueError: more than MAX_AXES axes are left after merging.
    """
    axes = merge(shape, strides)
    if len(axes) > MAX_AXES:
        raise ValueError(
            f"shape {shape}: {len(axes)} axes are left after merging; a CUDA kernel takes at most"
            f" {MAX_AXES}"
        )
    layout = layout_type(len(strides))()
    layout.size, layout.axes = math.prod(shape), len(axes)
    if aligned and len(axes) == 1 and axes[0][1] == 1 and set(axes[0][2:]) <= {0, 1}:
        layout.vectorized = sum(step << array for array, step in enumerate(axes[0][1:]))
    for axis, (size, *steps) in enumerate(axes):
        layout.sizes[axis] = size
        for array, step in enumerate(steps):
            layout.strides[array][axis] = step
    return layout


def ceil_div(count: int, size: int) -> int:
    """Return count / size, rounded up: the number of blocks of `size` that cover `count`."""
    return -(-count // size)
