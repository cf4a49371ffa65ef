"""Memory of numpy arrays that no recording plans: reused, aligned, where possible in huge pages.

`np.empty` often takes a large array from the operating system and returns it there. The system then
fills each page of 4 KiB with zeros at its first use, which takes as long as a kernel. Such an array
is aligned to 16 bytes only, so a vector of 64 bytes may lie in two cache lines. Here arrays are
aligned parts of chunks, and the memory of arrays that are freed is kept, up to KEPT_BYTES of it.
`README.md` says what huge pages are good for.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import array_at
from .recording import MemoryPlan, allocate_host

# Of the arrays that are in chunks. Smaller ones gain less than a chunk costs, some 5 us in Python.
MIN_BYTES, MAX_BYTES = 1 << 18, 1 << 26
# numpy asks Linux for pages of 2 MiB for arrays of 4 MiB and more. Linux gives them if
# /sys/kernel/mm/transparent_hugepage/enabled is "madvise" or "always".
CHUNK_BYTES = 1 << 23
KEPT_BYTES = 1 << 26  # of chunks without arrays; others are returned to the system


class _Chunks(MemoryPlan):
    """A memory plan that no step replays. Arrays may be freed in any thread, at any time."""

    def __init__(self) -> None:
        super().__init__(allocate_host, CHUNK_BYTES)
        self._released: deque[tuple[int, int]] = deque()
        self._released_bytes = 0

    def release(self, address: int, size: int) -> None:
        """Note a freed span: another method of this object may be running.

        `reclaim` frees it at the next allocation, or here where much is noted.
        """
        self._released.append((address, size))
        self._released_bytes += size
        if self._released_bytes > KEPT_BYTES:
            _exclusively(self.reclaim)

    def reclaim(self) -> None:
        """Free the noted spans, and return to the system what is above KEPT_BYTES."""
        self._released_bytes = 0
        while self._released:
            super().release(*self._released.popleft())
        unused = [
            (size, first)
            for size, first in self._sizes[bisect_left(self._sizes, (CHUNK_BYTES, 0)) :]
            if self._chunks.get(first, (0,))[0] == first + size
        ]
        excess = sum(size for size, _ in unused) - KEPT_BYTES
        while excess > 0:  # the largest chunk first
            size, first = unused.pop()
            self._remove_free(first)
            del self._chunks[first]
            excess -= size

    def array(self, shape: tuple[int, ...], dtype: np.dtype, size: int) -> np.ndarray:
        """Return an array of `size` bytes."""
        if self._released:
            self.reclaim()
        block = self.block(size)
        return array_at(block.address, shape, dtype, block)


_chunks = _Chunks()
_lock = threading.Lock()


def _exclusively(method: Callable[..., Any], *arguments: Any) -> Any:
    """Return method(*arguments), or None without a call if a method of the chunks is running.

    One is running in another thread, or a finalizer has interrupted it, or the process was forked
    while a thread was in it.
    """
    global _chunks  # noqa: PLW0603
    is_free = False
    try:
        is_free = _lock.acquire(blocking=False)
        return method(*arguments) if is_free else None
    except BaseException:
        _chunks = _Chunks()  # An interrupt may have left the old ones in a state between two.
        raise
    finally:
        if is_free:
            _lock.release()


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a new C-contiguous array of undefined contents, like `np.empty`."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    array = None
    if MIN_BYTES <= size <= MAX_BYTES and dtype.kind in "biuf":
        array = _exclusively(_chunks.array, shape, dtype, size)
    return np.empty(shape, dtype) if array is None else array
