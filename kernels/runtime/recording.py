"""Record the launches of a captured step, and plan the memory that they share.

While a Recording is active in a Python thread, each kernel launch of that thread runs as usual and
is also appended to `recording.launches`, and each result array is allocated from the recording's
memory plan. Calling the recorded launches in order repeats the step, in the same memory:

    recording = Recording()
    with record(recording):
        step()
    for launch in recording.launches:
        launch()

So a launch may read two kinds of memory: what an earlier launch of the recording has written, and
arrays outside the plan (parameters, constants), which the recording keeps alive.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .arrays import array_address, array_at

ALIGNMENT_BYTES = 256  # the alignment of every array in a plan, as of cudaMalloc
MIN_CHUNK_BYTES = 1 << 20  # what a plan requests from the system at once, at least


class Recording:
    """The launches of one step, their memory plan, and the objects that they need alive."""

    def __init__(self) -> None:
        self.launches: list[Callable[[], Any]] = []
        self.kept: list[Any] = []
        self.memory: MemoryPlan | None = None

    def add(self, launch: Callable[[], Any]) -> None:
        """Append a launch that has just run, as a function that runs it again."""
        self.launches.append(launch)

    def keep(self, *objects: Any) -> None:
        """Keep objects alive that the launches use and the memory plan does not own."""
        self.kept.extend(objects)

    def block(self, size: int, allocate: Callable[[int], tuple[Any, int]]) -> Block:
        """Return `size` bytes of the plan's memory.

        `allocate(bytes)` returns new memory, as its owner and its address. A recording uses one
        kind of memory: the function of the first call serves all.
        """
        if self.memory is None:
            self.memory = MemoryPlan(allocate)
        return self.memory.block(size)

    def owns(self, address: int) -> bool:
        """Return whether an address lies in the plan's memory."""
        return self.memory is not None and self.memory.owns(address)


class _State(threading.local):
    recording: Recording | None = None
    collected: dict[Any, None] | None = None


_state = _State()


def active() -> Recording | None:
    """Return the active Recording of this Python thread, or None."""
    return _state.recording


@contextmanager
def record(recording: Recording) -> Iterator[None]:
    """Make a recording the active one of this Python thread within the `with` block."""
    before, _state.recording = _state.recording, recording
    try:
        yield
    finally:
        _state.recording = before


@contextmanager
def collect() -> Iterator[dict[Any, None]]:
    """Collect the kernels of all launches of this Python thread in a `with` block: none runs.

    See `cpu/ahead.py`, which defines what is collected.
    """
    before, _state.collected = _state.collected, {}
    try:
        yield _state.collected
    finally:
        _state.collected = before


def collected() -> dict[Any, None] | None:
    """Return what this Python thread is collecting, or None: then launches run."""
    return _state.collected


def run_launches(launches: Iterable[Callable[[], Any]]) -> None:
    """Run recorded launches in order, each by a call from Python."""
    for launch in launches:
        launch()


# ---------------------------------------------------------------------------------------- memory
class Block:
    """A span of a plan's memory, returned to the plan when the last array in it is freed."""

    __slots__ = ("__weakref__", "address", "memory", "size")

    def __init__(self, memory: MemoryPlan, address: int, size: int) -> None:
        self.memory, self.address, self.size = memory, address, size

    def __del__(self) -> None:
        self.memory.release(self.address, self.size)


class MemoryPlan:
    """A best-fit allocator of spans of chunks; a freed span is used again.

    In a recording, placement is decided once. Python frees the arrays of a step at fixed points of
    the sequence of launches, so two arrays that share memory are never alive at the same point of a
    replay.
    """

    def __init__(
        self, allocate: Callable[[int], tuple[Any, int]], chunk_bytes: int = MIN_CHUNK_BYTES
    ) -> None:
        self._allocate, self._chunk_bytes = allocate, chunk_bytes
        self._chunks: dict[int, tuple[int, Any]] = {}  # first address -> (end address, owner)
        # The free spans: first address -> end address and the reverse, and (size, first address) in
        # increasing order.
        self._free: dict[int, int] = {}
        self._free_ends: dict[int, int] = {}
        self._sizes: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        """The bytes of all chunks."""
        return sum(end - first for first, (end, _) in self._chunks.items())

    def owns(self, address: int) -> bool:
        return any(first <= address < end for first, (end, _) in self._chunks.items())

    def block(self, size: int) -> Block:
        """Return the smallest free span of at least `size` bytes, cut to the aligned size."""
        size = max(1, -(-size // ALIGNMENT_BYTES)) * ALIGNMENT_BYTES
        fitting = bisect_left(self._sizes, (size, 0))
        if fitting < len(self._sizes):
            _, first = self._sizes[fitting]
        else:
            first = self._add_chunk(size)
        end = self._remove_free(first)
        if end > first + size:
            self._add_free(first + size, end)
        return Block(self, first, size)

    def _add_chunk(self, size: int) -> int:
        """Allocate a chunk of at least `size` bytes; return its first address."""
        size = max(self._chunk_bytes, size)
        owner, address = self._allocate(size + ALIGNMENT_BYTES)
        first = -(-address // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self._chunks[first] = first + size, owner
        self._add_free(first, first + size)
        return first

    def _add_free(self, first: int, end: int) -> None:
        self._free[first], self._free_ends[end] = end, first
        insort(self._sizes, (end - first, first))

    def _remove_free(self, first: int) -> int:
        """Remove a free span, and return its end."""
        end = self._free.pop(first)
        del self._free_ends[end]
        del self._sizes[bisect_left(self._sizes, (end - first, first))]
        return end

    def release(self, address: int, size: int) -> None:
        """Free a span, and merge it with the free spans before and after it."""
        first, end = address, address + size
        # Chunks are never adjacent, as their owners are longer than they are by ALIGNMENT_BYTES.
        if end in self._free:
            end = self._remove_free(end)
        if first in self._free_ends:
            first = self._free_ends[first]
            self._remove_free(first)
        self._add_free(first, end)

    def fill(self, byte: int) -> None:
        """Overwrite all memory of the plan: tests show that no replay depends on old contents."""
        for _, owner in self._chunks.values():
            owner[...] = byte


# ------------------------------------------------------------------------------- numpy's memory
def host_empty(recording: Recording, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a numpy array of undefined contents in the memory of the recording's plan."""
    dtype = np.dtype(dtype)
    block = recording.block(math.prod(shape) * dtype.itemsize, allocate_host)
    return array_at(block.address, shape, dtype, block)


def allocate_host(size: int) -> tuple[np.ndarray, int]:
    """Return (owner, address) of new memory of the host, for a MemoryPlan."""
    owner = np.empty(size, np.uint8)
    return owner, array_address(owner)


def keep_unplanned(recording: Recording, *arrays: np.ndarray) -> None:
    """Keep alive those numpy arrays that lie outside the memory of the recording's plan."""
    for x in arrays:
        if not recording.owns(array_address(x)):
            recording.keep(x)
