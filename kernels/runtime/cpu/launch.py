"""Launch CPU kernels: their threads, their result memory, and arrays as flat memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .. import host_memory
from ..arrays import array_address, array_at, contiguous_copy, memory_of
from ..recording import active, host_empty, keep_unplanned
from ..strides import elements, merge
from . import ahead, thread_pool
from .replay import Launch
from .thread_pool import MAX_THREADS, threads

# Dividing a launch among threads costs 15 to 60 us from Python and 1 us in a replay, so the least
# work for which a replayed launch is divided is smaller by this factor.
REPLAY_WORK_DIVISOR = 32


def parts(work: int, least: int) -> int:
    """Return the number of tasks into which to divide a launch: 1, or the number of threads.

    Args:
        work: the work of the launch, in any unit.
        least: the least work for which a launch from Python gains by a second thread. A launch of
            a captured step gains from `least // REPLAY_WORK_DIVISOR` on.
    """
    minimum = least if active() is None else least // REPLAY_WORK_DIVISOR
    return threads() if work >= minimum else 1


# ------------------------------------------------------------------------------------- arrays
def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a C-contiguous array of undefined contents, for the result of a kernel.

    It is in the memory plan of the active recording, else from `host_memory`. While kernels are
    collected (`ahead.py`) it is zeros.
    """
    if ahead.is_collecting():
        return np.zeros(shape, dtype)
    recording = active()
    if recording is None:
        return host_memory.empty(shape, dtype)
    return host_empty(recording, shape, dtype)


def launch(kernel: Any, *arguments: Any, over: int | None = None, parts: int = 1) -> None:
    """Run kernel(*arguments), and add the launch to the active recording.

    With `over`, the launch is a loop of `over` independent iterations: kernel(*arguments, begin,
    end) does iterations begin..end, and `parts` (at most MAX_THREADS) such calls, tasks of nearly
    equal length, run on several threads.

    While kernels are collected (`ahead.py`), the kernel is noted and does not run.

    A launch in which a task fails is run again, as one call from Python, to raise the error: a
    kernel that can fail must not work in place.
    """
    parts = min(parts, MAX_THREADS)
    if ahead.is_collecting():
        ahead.note(kernel, arguments if over is None else (*arguments, 0, over))
        thread_pool.note_kernels()
        return
    if over is None:
        kernel(*arguments)
    elif parts == 1:
        kernel(*arguments, 0, over)
    else:
        thread_pool.launch(kernel, arguments, over, parts)
    recording = active()
    if recording is not None:
        recording.add(Launch(kernel, arguments, over, parts))
        keep(*(x for x in arguments if isinstance(x, np.ndarray)))


def keep(*arrays: np.ndarray) -> None:
    """Keep arrays alive as long as the active recording, whose launches use their memory."""
    recording = active()
    if recording is not None:
        keep_unplanned(recording, *arrays)


def flat(x: np.ndarray) -> tuple[np.ndarray, int, tuple[int, ...]]:
    """Return (memory, offset, strides): x[i, j] is memory[offset + i*strides[0] + j*strides[1]].

    `memory` is one-dimensional, C-contiguous and writable, so that numba compiles a kernel once
    per dtype, and not for each number of dimensions, layout and writability. x is copied where it
    is no view of such memory, which arrays made by a Device always are.
    """
    memory = memory_of(x)
    if memory is None:
        x = contiguous_copy(x)
        return x.reshape(-1), 0, elements(x)
    is_all = x.flags.c_contiguous and x.flags.writeable
    offset = 0 if is_all else array_address(x) - array_address(memory)
    return memory, offset // x.itemsize, elements(x)


def first_element(x: np.ndarray) -> np.ndarray:
    """Return an array of one element, x[0, 0, ...]: kernels reach the others by its strides.

    It is writable also where x is not, so that numba compiles one signature.
    """
    if x.flags.writeable:
        return x[(0,) * (x.ndim - 1)][:1] if x.ndim > 1 else x[:1]
    return array_at(array_address(x), (1,), x.dtype, x)


@cache
def layout(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Return `merge`'s axes as an int64 matrix: row 0 holds sizes, row i operand i's strides."""
    return np.array(merge(shape, strides), np.int64).T.copy()
