"""The emulator: `.cu` files compiled by g++ against `emulator.h`, and run on the CPU.

    Emulator()                one core, without checks: fast enough to train a small GAN
    Emulator(checked=True)    finds accesses out of bounds, reads of what nothing wrote, races, and
                              barriers that not all threads reach; counts memory transactions

`MINIGAN_EMULATOR=checked` makes the `cuda-emulator` device a checked one.
"""

from __future__ import annotations

import ctypes
import math
import operator
import re
import shutil
import subprocess
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cuda.launcher import (
    HEADERS,
    KernelError,
    Launcher,
    Size,
    digest,
    options,
    pointers,
    replayed,
    state_of,
)
from ..recording import active, host_empty
from .compiler import (
    BUILDS,
    EMULATOR_HEADERS,
    FLAGS,
    compile_library,
    compiler_version,
    emulator_folder,
    find_compiler,
    host,
    is_whole,
    own_folder,
)

ALIGNMENT = 256  # of an allocation, as cudaMalloc's
SHARED_BYTES = 227 * 1024  # that a block can have, on the largest GPUs


@dataclass(frozen=True)
class Counts:
    """What the warps of a checked emulator's launches did; a sector is 32 bytes of memory.

    `passes` are those through shared memory, of 32 banks of 4 bytes: ideally one per 128 bytes.
    """

    accesses: int = 0
    sectors: int = 0
    ideal_sectors: int = 0
    shared_accesses: int = 0
    passes: int = 0
    ideal_passes: int = 0
    barriers: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(operator.add, self.__dict__.values(), other.__dict__.values()))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*map(operator.sub, self.__dict__.values(), other.__dict__.values()))


class _Region(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("first", "end", "base", "bytes", "itemsize")),
        ("written", ctypes.c_void_p),
        ("view", ctypes.c_void_p),
        ("argument", ctypes.c_int64),
    )


class _Launch(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_uint64),
        ("regions", ctypes.c_uint64),
        ("region", ctypes.POINTER(_Region)),
    )


class _Counts(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in Counts.__dataclass_fields__)


@dataclass(frozen=True)
class _Memory:
    """Elements from an address on, and a byte for each: has anything written it?"""

    first: int
    itemsize: int
    written: np.ndarray


@dataclass(frozen=True)
class _Kernel:
    run: Any
    sizes: tuple[int, ...]  # in bytes, of each parameter; of an array's elements, below 0
    names: tuple[str, ...]


# A library holds the state of one launch, and every emulator of a process shares the libraries.
_RUNNING = threading.RLock()


class Emulator(Launcher):
    """Runs CUDA kernels on numpy arrays, one launch at a time; a checked one adds up `counts`."""

    name = "emulator"

    def __init__(self, checked: bool = False) -> None:
        self.checked = checked
        self.counts = Counts()  # of the launches so far; take differences
        self._modules: dict[Any, tuple[Any, dict[str, _Kernel]]] = {}  # by file, state, dtype
        self._memory: dict[int, _Memory] = {}  # by address

    # ------------------------------------------------------------------------------- memory
    def empty(self, shape: Size, dtype: Any) -> np.ndarray:
        recording = active()
        if recording is not None and not self.checked:
            return host_empty(recording, shape, dtype)
        found = self._allocate(shape, np.dtype(dtype), written=0)
        if recording is not None:  # what the checks know of an array goes with it: none is reused
            recording.keep(found)
        return found

    def from_numpy(self, array: np.ndarray) -> np.ndarray:
        copy = self._allocate(array.shape, array.dtype, written=1)
        copy[...] = array
        return copy

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return np.array(array, order="C")

    def address(self, array: np.ndarray) -> int:
        return _address(array)

    def broadcast_to(self, array: np.ndarray, shape: Size) -> np.ndarray:
        return np.broadcast_to(array, shape)

    def describe(self) -> dict[str, str]:
        build = "checked" if self.checked else "fast"
        return {"runs on": f"one core, {build} build", "compiler": compiler_version()}

    def _allocate(self, shape: Size, dtype: np.dtype, written: int) -> np.ndarray:
        """Memory that begins where a GPU's does, so that its sectors are a GPU's."""
        size = math.prod(shape) * dtype.itemsize
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = -_address(memory) % ALIGNMENT
        array = memory[start : start + size].view(dtype).reshape(shape)
        if self.checked:
            self._own(memory, start, dtype.itemsize, written)
        return array

    def _own(self, memory: np.ndarray, start: int, itemsize: int, written: int) -> _Memory:
        """Remember, for the checks, which elements something has written, until it is freed."""
        address = _address(memory)
        marks = np.full((memory.nbytes - start) // itemsize, written, np.uint8)
        found = self._memory[address] = _Memory(address + start, itemsize, marks)
        weakref.finalize(memory, self._memory.pop, address, None)
        return found

    # ----------------------------------------------------------------------------- launches
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
        with _RUNNING:
            library, kernels = self._module(source, dtype)
        entry = kernels.get(kernel)
        if entry is None:
            known = ", ".join(kernels)
            raise KernelError(f"{source.name} has no kernel {kernel!r}; it has {known}")
        if shared > SHARED_BYTES:
            raise KernelError(
                f"{kernel} ({source.name}): {shared} bytes of shared memory; a block can have"
                f" at most {SHARED_BYTES}"
            )
        values = self._values(source, kernel, entry, arguments, dtype)
        regions, marks = self._regions(arguments) if self.checked else ([], [])
        launch = _Launch(grid, block, shared, len(regions), (_Region * len(regions))(*regions))
        table = pointers(values)

        def run(about: Callable[[], str] = replayed, _held: Any = (values, marks)) -> None:
            with _RUNNING:
                failed = entry.run(ctypes.byref(launch), table)
                if self.checked:
                    found = library.emulator_counts().contents
                    names = Counts.__dataclass_fields__
                    self.counts += Counts(*(getattr(found, name) for name in names))
                if failed:
                    message = library.emulator_message().decode()
                    line = self._line(library) if self.checked else ""
                    raise KernelError(
                        f"{kernel} ({source.name}{line}): {message}"
                        f" [grid {grid}, block {block}; {about()}]"
                    )

        return run

    def _values(
        self, source: Path, kernel: str, entry: _Kernel, arguments: list[Any], dtype: np.dtype
    ) -> list[np.ndarray]:
        if len(arguments) != len(entry.sizes):
            raise KernelError(
                f"{kernel} ({source.name}) takes {len(entry.sizes)} arguments"
                f" ({', '.join(entry.names)}), not {len(arguments)}"
            )
        values = [self.value(x, dtype) for x in arguments]
        for x, value, size, name in zip(arguments, values, entry.sizes, entry.names, strict=True):
            array = isinstance(x, np.ndarray)
            given = -x.itemsize if array else size if x is None and size < 0 else value.nbytes
            if given != size:
                words = [
                    f"an array with elements of {-n} bytes" if n < 0 else f"a {kind} of {n} bytes"
                    for n, kind in ((given, type(x).__name__), (size, "value"))
                ]
                raise KernelError(
                    f"{kernel} ({source.name}): argument {name!r} is {words[0]}, and declared as"
                    f" {words[1]}"
                )
        return values

    def _regions(self, arguments: list[Any]) -> tuple[list[_Region], list[np.ndarray]]:
        """What the launch may touch: its array arguments, and the arrays of its tables.

        With them a byte per element for each view that leaves some out.
        """
        found = [(x, i) for i, x in enumerate(arguments) if isinstance(x, np.ndarray)]
        for x in arguments:
            found += [(array, -1) for array in getattr(x, "arrays", ())]
        regions, views = [], []
        for x, argument in found:
            base = x
            while isinstance(base.base, np.ndarray):
                base = base.base
            memory = self._memory.get(_address(base))
            if memory is None or memory.itemsize != x.itemsize:  # made or seen elsewhere
                start = (_address(x) - _address(base)) % x.itemsize
                memory = self._own(base, start, x.itemsize, 1)
            first, end = np.lib.array_utils.byte_bounds(x) if x.size else (0, 0)
            count, marks = memory.written.size, memory.written.ctypes.data
            place = (memory.first, count * memory.itemsize, memory.itemsize)
            view = None
            if _gaps(x):
                views.append(np.zeros(count, np.uint8))
                inside = views[-1][(_address(x) - memory.first) // x.itemsize :]
                steps = tuple(stride // x.itemsize for stride in x.strides)
                np.lib.stride_tricks.as_strided(inside, x.shape, steps)[...] = 1
                view = views[-1].ctypes.data
            regions.append(_Region(first, end, *place, marks, view, argument))
        return regions, views

    # -------------------------------------------------------------------------- compilation
    def _module(self, source: Path, dtype: np.dtype) -> tuple[Any, dict[str, _Kernel]]:
        state = (state_of(source), dtype)
        found = self._modules.get(state)
        if found is None:
            found = self._modules[state] = self._load(source, dtype)
        return found

    def _load(self, source: Path, dtype: np.dtype) -> tuple[Any, dict[str, _Kernel]]:
        build = BUILDS["checked" if self.checked else "fast"]
        flags = [*FLAGS, *build, *options(dtype)]
        headers = [*HEADERS.glob("*.h"), *EMULATOR_HEADERS.glob("*.h")]
        texts = [path.read_text() for path in sorted(headers)]
        compiler = find_compiler()
        name = digest(compiler_version(), host(), *flags, *texts, source.read_text())
        file = f"{source.parent.name}.{source.stem}-{dtype.name}-{name}.so"
        library = None
        for folder in (emulator_folder, own_folder):  # the second one for this process alone
            try:
                path = folder() / file
                if not is_whole(path):
                    self.tell(f"{source.parent.name}/{source.name} ({dtype.name})")
                    compile_library(compiler, source, flags, path)
                library = ctypes.CDLL(str(path))
                break
            except (
                OSError,
                RuntimeError,
            ) as error:  # no home, no right to it, half a file
                if isinstance(error, KernelError) or folder is own_folder:
                    raise
        assert library is not None
        library.emulator_message.restype = ctypes.c_char_p
        library.emulator_counts.restype = ctypes.POINTER(_Counts)
        library.emulator_kernels.restype = ctypes.c_char_p
        kernels: dict[str, _Kernel] = {}
        for line in library.emulator_kernels().decode().splitlines():
            kernel, *names = line.split(" ")
            sizes = (ctypes.c_int * (len(names) + 1))()
            count = library[f"emulator_sizes_{kernel}"](sizes)
            kernels[kernel] = _Kernel(
                library[f"emulator_run_{kernel}"], tuple(sizes[:count]), tuple(names)
            )
        return library, kernels

    def _line(self, library: Any) -> str:
        """:12, the line of the source where the checked build found a mistake; "" if unknown."""
        tool = shutil.which("addr2line")
        offset = library.emulator_fault_offset
        offset.restype = ctypes.c_uint64
        where = offset()
        if not (tool and where):
            return ""
        done = subprocess.run(
            [tool, "-i", "-e", library._name, hex(where - 1)],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = re.findall(r"\.cu:(\d+)", done.stdout)
        return f":{lines[-1]}" if lines else ""


def _gaps(x: np.ndarray) -> bool:
    """Whether elements of other arrays may lie between those of x."""
    once = x[tuple(slice(None) if stride else slice(1) for stride in x.strides)]
    low, high = np.lib.array_utils.byte_bounds(once) if x.size else (0, 0)
    return high - low > once.nbytes


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])
