"""The emulator's memory: numpy arrays, and in the checked build the marks of what is written."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import array_address
from ..strides import Size

ALIGNMENT_BYTES = 256  # of an allocation, as cudaMalloc's
GUARD_BYTES = 256 * 1024  # before and after an array, in the checked build; they are never touched


class Region(ctypes.Structure):
    """`Region` of runtime.h."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("first", "end", "base", "bytes", "itemsize")),
        ("written", ctypes.c_void_p),
        ("view", ctypes.c_void_p),
        ("argument", ctypes.c_int64),
    )


@dataclass(frozen=True)
class _Allocation:
    """An allocation, with a mark for each byte: 1 if it has been written."""

    first: int
    written: np.ndarray


class Memory:
    """Arrays for kernels, and what the checked build knows of each allocation."""

    def __init__(self, checked: bool) -> None:
        self.checked = checked
        self._allocations: dict[int, _Allocation] = {}  # by address

    def allocate(self, shape: Size, dtype: np.dtype, written: int) -> np.ndarray:
        """Return an uninitialised array, aligned as on a GPU so that it has the same sectors.

        In the checked build it lies between guards, so that what misses it hits no other array.
        """
        size = math.prod(shape) * dtype.itemsize
        guard = GUARD_BYTES if self.checked else 0
        memory = np.empty(size + ALIGNMENT_BYTES + 2 * guard, np.uint8)
        start = guard + -array_address(memory) % ALIGNMENT_BYTES
        array = memory[start : start + size].view(dtype).reshape(shape)
        if self.checked:
            self._track(memory, written, start, size)
        return array

    def copy(self, array: np.ndarray) -> np.ndarray:
        """Return a C-contiguous copy of an array, whose elements count as written."""
        copy = self.allocate(array.shape, array.dtype, written=1)
        copy[...] = array
        return copy

    def _track(
        self, memory: np.ndarray, written: int, start: int = 0, size: int | None = None
    ) -> _Allocation:
        """Track which of `size` bytes of `memory` have been written, until it is freed."""
        address = array_address(memory)
        marks = np.full(memory.nbytes if size is None else size, written, np.uint8)
        allocation = self._allocations[address] = _Allocation(address + start, marks)
        weakref.finalize(memory, self._allocations.pop, address, None)
        return allocation

    @contextmanager
    def borrowed(self, arguments: list[Any]) -> Iterator[list[Any]]:
        """Yield the arguments; in the checked build copies between guards replace numpy's arrays.

        The copies are written back at the end. Arrays that share memory still do.
        """
        copies: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        writable: set[int] = set()
        result = list(arguments)
        for i, x in enumerate(arguments):
            if not (self.checked and isinstance(x, np.ndarray) and x.size):
                continue
            base = _owner(x)
            if array_address(base) in self._allocations:
                continue
            first, end = np.lib.array_utils.byte_bounds(base)
            if first not in copies:
                memory = np.ctypeslib.as_array((ctypes.c_uint8 * (end - first)).from_address(first))
                copies[first] = memory, self.copy(memory)
            buffer: Any = copies[first][1]
            offset = array_address(x) - first
            result[i] = np.ndarray(x.shape, x.dtype, buffer, offset, x.strides)
            result[i].flags.writeable = x.flags.writeable
            if base.flags.writeable:
                writable.add(first)
        yield result
        for first in writable:
            memory, copy = copies[first]
            memory[...] = copy

    def regions(self, arguments: list[Any]) -> tuple[list[Region], list[np.ndarray]]:
        """Return the regions that the launch may access: array arguments, and arrays in structures.

        The second list keeps the masks of views alive, of arrays with gaps between elements.
        """
        arrays = [(x, i) for i, x in enumerate(arguments) if isinstance(x, np.ndarray)]
        for x in arguments:
            arrays += [(array, -1) for array in getattr(x, "arrays", ())]
        regions, views = [], []
        for x, argument in arrays:
            base = _owner(x)
            allocation = self._allocations.get(array_address(base))
            if allocation is None:  # Memory allocated elsewhere counts as written.
                allocation = self._track(base, 1)
            first, end = np.lib.array_utils.byte_bounds(x) if x.size else (0, 0)
            count, marks = allocation.written.size, allocation.written.ctypes.data
            view = None
            if _has_gaps(x):
                views.append(np.zeros(count, np.uint8))
                inside = views[-1][array_address(x) - allocation.first :]
                shape, steps = (*x.shape, x.itemsize), (*x.strides, 1)
                np.lib.stride_tricks.as_strided(inside, shape, steps)[...] = 1
                view = views[-1].ctypes.data
            extent = (allocation.first, count, x.itemsize)
            regions.append(Region(first, end, *extent, marks, view, argument))
        return regions, views


def _owner(x: np.ndarray) -> np.ndarray:
    """Return the array that x is a view of, or x."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def _has_gaps(x: np.ndarray) -> bool:
    """Return whether memory that does not belong to x lies between its elements."""
    distinct = x[tuple(slice(None) if stride else slice(1) for stride in x.strides)]
    low, high = np.lib.array_utils.byte_bounds(distinct) if x.size else (0, 0)
    return high - low > distinct.nbytes
