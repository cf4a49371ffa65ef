"""What one run of a captured step leaves behind: its launches, in order, and the memory they use.

Host code asks for memory and launches kernels as ever. While a Recording is active, memory comes
from its plan, and each launch is noted. Running the notes again does the step again, in place:

    recording = Recording()
    with record(recording):
        step()
    for launch in recording.launches:
        launch()

So whatever a launch reads must be written by a launch before it, or be kept for good.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

ALIGNMENT = 256  # of every array, as cudaMalloc's
CHUNK = 1 << 20  # bytes that are taken at least


class Recording:
    """Launches, the memory that they share, and what has to live as long as they do."""

    def __init__(self) -> None:
        self.launches: list[Callable[[], Any]] = []
        self.kept: list[Any] = []
        self.memory: Memory | None = None

    def add(self, launch: Callable[[], Any]) -> None:
        """Note what has just been done, as a function that does it again."""
        self.launches.append(launch)

    def keep(self, *things: Any) -> None:
        """What the launches use and the plan does not hold."""
        self.kept.extend(things)

    def block(self, size: int, take: Callable[[int], tuple[Any, int]]) -> Block:
        """`size` bytes; `take(bytes)` gives new memory, its owner and its address."""
        if self.memory is None:
            self.memory = Memory(take)
        return self.memory.block(size)

    def owns(self, address: int) -> bool:
        """Whether the plan holds the memory there."""
        return self.memory is not None and self.memory.owns(address)


class _State(threading.local):
    recording: Recording | None = None


_state = _State()


def active() -> Recording | None:
    """The Recording that this Python thread's launches go to, if there is one."""
    return _state.recording


@contextmanager
def record(recording: Recording) -> Iterator[None]:
    """Within the block, do this thread's launches and add each to the recording."""
    before, _state.recording = _state.recording, recording
    try:
        yield
    finally:
        _state.recording = before


def in_turn(launches: Iterable[Callable[[], Any]]) -> None:
    """Do what was noted again, from Python."""
    for launch in launches:
        launch()


# ---------------------------------------------------------------------------------------- memory
class Block:
    """Bytes of a plan, which takes them back when the last array in them is gone."""

    __slots__ = ("__weakref__", "address", "memory", "size")

    def __init__(self, memory: Memory, address: int, size: int) -> None:
        self.memory, self.address, self.size = memory, address, size

    def __del__(self) -> None:
        self.memory.release(self.address, self.size)


class Memory:
    """A plan made as it is needed: what one array leaves, the next takes (best fit).

    Arrays are freed while a step is recorded at the places where they are freed in each replay, so
    two that share memory here never live at one time there.
    """

    def __init__(self, take: Callable[[int], tuple[Any, int]]) -> None:
        self._take = take
        self._chunks: list[tuple[Any, int, int]] = []  # owner, first address, end
        self._free: dict[int, int] = {}  # spans that nobody uses: first address, end

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(end - first for _, first, end in self._chunks)

    def owns(self, address: int) -> bool:
        return any(first <= address < end for _, first, end in self._chunks)

    def block(self, size: int) -> Block:
        size = max(1, -(-size // ALIGNMENT)) * ALIGNMENT
        fitting = [(end - first, first) for first, end in self._free.items() if end - first >= size]
        if not fitting:
            room = max(CHUNK, size)
            owner, address = self._take(room + ALIGNMENT)
            first = -(-address // ALIGNMENT) * ALIGNMENT
            self._chunks.append((owner, first, first + room))
            self._free[first] = first + room
            fitting = [(room, first)]
        room, first = min(fitting)
        end = self._free.pop(first)
        if room > size:
            self._free[first + size] = end
        return Block(self, first, size)

    def release(self, address: int, size: int) -> None:
        """A span is free again, as one with its free neighbours."""
        end = address + size
        for first, last in list(self._free.items()):  # chunks never touch each other
            if last == address:
                del self._free[first]
                address = first
            elif first == end:
                end = self._free.pop(first)
        self._free[address] = end

    def fill(self, byte: int) -> None:
        """Overwrite all of it, for tests: no replay may depend on what lies there."""
        for owner, _, _ in self._chunks:
            owner[...] = byte


class _Window:
    """Shows numpy the bytes of a block."""

    def __init__(self, block: Block, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.block = block
        self.__array_interface__ = {
            "data": (block.address, False),
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }


def host_empty(recording: Recording, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A numpy array, contents undefined, in memory of the recording's plan."""
    dtype = np.dtype(dtype)
    block = recording.block(math.prod(shape) * dtype.itemsize, _host_memory)
    return np.asarray(_Window(block, shape, dtype))


def _host_memory(size: int) -> tuple[np.ndarray, int]:
    owner = np.empty(size, np.uint8)
    return owner, owner.__array_interface__["data"][0]


def keep_outside(recording: Recording, *arrays: np.ndarray) -> None:
    """Keep those of the arrays that lie in other memory than the plan's."""
    for x in arrays:
        if not recording.owns(x.__array_interface__["data"][0]):
            recording.keep(x)
