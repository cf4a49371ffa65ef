"""How CUDA kernels are launched, whoever runs them: a GPU (`gpu.py`) or the emulator.

A kernel is an entry of a `.cu` file, compiled for one dtype, which the file calls REAL. Its host
code, in each room's `cuda.py`, is the same for both.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..recording import active, in_turn
from ..strides import Size, merge

HEADERS = Path(__file__).resolve().parent
# What NVRTC is told. Contraction is off: a multiply-add is fused where `fma` says so.
GPU_FLAGS = ("--std=c++17", "--fmad=false")
MAX_THREADS, MAX_BLOCK = 1024, (1024, 1024, 64)  # of a block, on every GPU
MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_AXES = 10  # that a Walk can hold, as in kernel.h


class KernelError(RuntimeError):
    """A kernel could not be compiled or launched, or made a mistake that the emulator found."""


class OutOfMemoryError(KernelError):
    """The GPU's memory has no room for an array."""


class Launcher:
    """Memory of one kind, and launches on it.

    Args to a kernel: arrays of that memory (or None) for pointers, ints for `long long`, floats for
    REAL, numpy numbers for their own type, and ctypes structures by value.
    """

    name: ClassVar[str]
    array_type: type = np.ndarray
    compile_listener: Callable[[str], None] | None = None

    # ------------------------------------------------------------------------------- memory
    def empty(self, shape: Size, dtype: Any) -> Any:
        """A new C-contiguous array of undefined contents."""
        raise NotImplementedError

    def from_numpy(self, array: np.ndarray) -> Any:
        """A new C-contiguous array with these values."""
        raise NotImplementedError

    def to_numpy(self, array: Any) -> np.ndarray:
        """A copy of the values."""
        raise NotImplementedError

    def address(self, array: Any) -> int:
        """Where the array's first element lies."""
        raise NotImplementedError

    def broadcast_to(self, array: Any, shape: Size) -> Any:
        """A view that repeats elements."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------- itself
    def synchronize(self) -> None:
        """Return when everything launched before is done."""

    def describe(self) -> dict[str, str]:
        """What runs the kernels, in words: "gpu", "compiler" and such."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------- launches
    def launch(
        self,
        source: Path,
        kernel: str,
        dtype: np.dtype,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared: int = 0,
    ) -> None:
        """Run `kernel` of the file `source`, compiled for `dtype`, on grid x block threads.

        `shared` is the size of its dynamic shared memory in bytes. A grid without a block is no
        launch. KernelError where it cannot be compiled or launched.
        """
        grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        if 0 in grid:
            return
        sizes, most = (*grid, *block), (*MAX_GRID, *MAX_BLOCK)
        if math.prod(block) > MAX_THREADS or not all(map(_within, sizes, most)):
            raise KernelError(
                f"{kernel} ({source.name}): a grid of {grid} blocks of {block} threads; 1 to"
                f" {MAX_GRID} blocks of 1 to {MAX_BLOCK} threads, {MAX_THREADS} in all, can be"
            )
        given = list(arguments)
        run = self._prepare(source, kernel, np.dtype(dtype), grid, block, given, shared)
        run(lambda: describe(given))
        recording = active()
        if recording is not None:
            recording.add(run)
            for x in given:
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
        shared: int,
    ) -> Callable[..., None]:
        """A function that launches it, as often as it is called; it does not keep the arguments.

        What it may be given says, in words for an error, what they are.
        """
        raise NotImplementedError

    def program(self, launches: list[Callable[[], Any]]) -> Callable[[], None]:
        """A function that does launches that a recording has noted, in order."""
        return partial(in_turn, launches)

    def value(self, x: Any, dtype: np.dtype) -> np.ndarray:
        """An argument as the bytes that travel to the kernel: an array's are its address."""
        if x is None:
            return np.array(0, np.uint64)
        if isinstance(x, self.array_type):
            return np.array(self.address(x), np.uint64)
        if isinstance(x, ctypes.Structure):
            return np.frombuffer(memoryview(x), np.uint8)
        if isinstance(x, np.generic):
            return np.asarray(x)
        if isinstance(x, (bool, int)):
            return np.array(x, np.int64)
        if isinstance(x, float):
            return np.array(x, dtype)
        raise TypeError(f"a kernel cannot take a {type(x).__name__}")

    def tell(self, kernel: str) -> None:
        """A kernel is about to be compiled."""
        if self.compile_listener is not None:
            self.compile_listener(kernel)


def replayed() -> str:
    """The arguments of a launch that is done again."""
    return "replayed"


def _within(size: int, most: int) -> bool:
    return 1 <= size <= most


def pointers(values: Sequence[np.ndarray]) -> Any:
    """Where each of the values lies: how a launch takes its arguments, on a GPU as here."""
    return (ctypes.c_void_p * len(values))(*(x.__array_interface__["data"][0] for x in values))


def state_of(source: Path) -> tuple[Path, int]:
    """Names the file as it is now: who edits a kernel runs the new one at the next launch."""
    try:
        return source, source.stat().st_mtime_ns
    except OSError as error:
        raise KernelError(f"{source}: {error.strerror}") from None


def source_text(path: Path) -> str:
    """The file behind what all kernels share, as one text. Errors name the file's own lines."""
    header = (HEADERS / "kernel.h").read_text()
    return f'#line 1 "kernel.h"\n{header}\n#line 1 "{path.name}"\n{path.read_text()}'


def options(dtype: np.dtype) -> tuple[str, ...]:
    """How both compilers are told what REAL is."""
    return (f"-DREAL_IS_{dtype.name.upper()}",)


def digest(*parts: str) -> str:
    """A short name for all of this."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def describe(arguments: Sequence[Any]) -> str:
    """The arguments of a launch in words, for messages."""
    words = []
    for x in arguments:
        if x is None:
            words.append("null")
        elif hasattr(x, "shape") and not isinstance(x, np.generic):
            words.append(f"{x.dtype}{tuple(x.shape)}")
        else:
            words.append(type(x).__name__ if isinstance(x, ctypes.Structure) else str(x))
    return ", ".join(words)


# --------------------------------------------------------------------------------------- walks
@cache
def walk_type(arrays: int) -> type[ctypes.Structure]:
    """`Walk<arrays>` of kernel.h."""
    row = ctypes.c_int64 * MAX_AXES

    class Walk(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_int64),
            ("axes", ctypes.c_int32),
            ("packed", ctypes.c_int32),
            ("sizes", row),
            ("strides", row * arrays),
        )

    return Walk


def walk(shape: Size, strides: tuple[Size, ...], packed: bool = False) -> ctypes.Structure:
    """How to walk arrays of these strides (in elements) over `shape`; see kernel.h.

    ValueError where more than MAX_AXES axes are left after merging.
    """
    axes = merge(shape, strides)
    if len(axes) > MAX_AXES:
        raise ValueError(
            f"shape {shape}: {len(axes)} axes that cannot be walked as fewer; a CUDA kernel takes"
            f" {MAX_AXES}"
        )
    found = walk_type(len(strides))()
    found.size, found.axes = math.prod(shape), len(axes)
    found.packed = packed and len(axes) == 1 and set(axes[0][1:]) <= {0, 1}
    for axis, (size, *steps) in enumerate(axes):
        found.sizes[axis] = size
        for array, step in enumerate(steps):
            found.strides[array][axis] = step
    return found


def blocks(count: int, threads: int) -> int:
    """How many blocks of so many threads it takes for `count` of them."""
    return -(-count // threads)
