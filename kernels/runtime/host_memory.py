"""Memory of numpy arrays outside of captured steps: kept for reuse, aligned, in huge pages.

`np.empty` takes larger arrays from the operating system and returns them to it: each page of 4 KiB
is then filled with zeros when it is first used, which takes as long as a kernel. And such an array
begins 16 bytes after a page does, so that each vector of 64 bytes lies in two cache lines. Here
arrays are parts of chunks, which stay. Chunks are large enough for pages of 2 MiB, for which numpy
asks the system (Linux gives them where /sys/kernel/mm/transparent_hugepage/enabled is "madvise" or
"always"): where a matrix product reads a panel of a row-major matrix, each row lies on another page
of 4 KiB, whose address has to be looked up in memory before anything can be prefetched.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Any

import numpy as np

from .arrays import array_at
from .recording import MemoryPlan, allocate_host

MIN_BYTES, MAX_BYTES = 1 << 17, 1 << 26  # of the arrays that are in chunks
CHUNK_BYTES = 1 << 23
KEPT_BYTES = 1 << 26  # of chunks without arrays; what is above is returned to the system


class _Chunks(MemoryPlan):
    """A memory plan that no step replays. Arrays may be freed in any thread, at any time."""

    def __init__(self) -> None:
        super().__init__(allocate_host, CHUNK_BYTES)
        self._released: deque[tuple[int, int]] = deque()

    def release(self, address: int, size: int) -> None:
        """Note a freed span: a method of this object may be running."""
        self._released.append((address, size))

    def array(self, shape: tuple[int, ...], dtype: np.dtype, size: int) -> np.ndarray:
        """Return an array of `size` bytes."""
        if self._released:
            self._free_released()
        block = self.block(size)
        return array_at(block.address, shape, dtype, block)

    def _free_released(self) -> None:
        while self._released:
            super().release(*self._released.popleft())
        chunks, unused = [], 0
        for owner, first, end in self._chunks:
            if self._free.get(first) == end:
                unused += end - first
                if unused > KEPT_BYTES:
                    del self._free[first]
                    continue
            chunks.append((owner, first, end))
        self._chunks = chunks


_chunks = _Chunks()
_lock = threading.Lock()


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a new C-contiguous array of undefined contents, like `np.empty`."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    # The lock is not free if another thread is in this function, or a finalizer interrupts it, or
    # the process was forked while a thread was in it.
    if not MIN_BYTES <= size <= MAX_BYTES or dtype.hasobject or not _lock.acquire(blocking=False):
        return np.empty(shape, dtype)
    try:
        return _chunks.array(shape, dtype, size)
    finally:
        _lock.release()
