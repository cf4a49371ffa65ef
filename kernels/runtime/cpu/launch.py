"""Launch CPU kernels: threads and parts, result memory, and arrays as flat memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..recording import active, host_empty, keep_outside
from ..strides import elements, merge
from . import thread_pool
from .replay import Launch
from .thread_pool import MAX_THREADS, threads

# A launch of parts costs 15 to 60 us from Python, and 1 us in a replay.
REPLAYED = 32


def parts(work: int, least: int) -> int:
    """How many parts a launch is worth: one each for all threads where there is work enough.

    `least` is enough where Python launches, a REPLAYED-th of it in a captured step.
    """
    return threads() if work >= (least if active() is None else least // REPLAYED) else 1


# ------------------------------------------------------------------------------------- arrays
def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Where every kernel's result comes from: C-contiguous, its contents undefined."""
    recording = active()
    return np.empty(shape, dtype) if recording is None else host_empty(recording, shape, dtype)


def launch(kernel: Any, *arguments: Any, over: int | None = None, parts: int = 1) -> None:
    """kernel(*arguments), from host code: what a recording notes, and runs again.

    With `over`, kernel(*arguments, first, last) for positions 0..over, in so many parts,
    MAX_THREADS at most, which threads share out: parts must not depend on each other. A
    launch that fails is done again by one thread, from Python, to say why: a kernel that can fail
    must not work in place.
    """
    parts = min(parts, MAX_THREADS)
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
    """Arrays that a launch reaches must live as long as the recording that notes it."""
    recording = active()
    if recording is not None:
        keep_outside(recording, *arrays)


def flat(x: np.ndarray) -> tuple[np.ndarray, int, tuple[int, ...]]:
    """`(memory, offset, strides)`: element (i, j) of `x` is memory[offset + i*strides[0] + ...].

    A kernel that takes these compiles once per dtype, not once per dimension and layout.
    """
    if not (x.flags.c_contiguous and x.flags.writeable):  # numba compiles read-only ones anew
        base = x
        while isinstance(base.base, np.ndarray):
            base = base.base
        if base.dtype == x.dtype and base.flags.c_contiguous and base.flags.writeable:
            offset = _address(x) - _address(base)
            return base.reshape(-1), offset // x.itemsize, elements(x)
        x = np.array(x, order="C")  # never so for arrays made by a Device
    return x.reshape(-1), 0, elements(x)


class _Window:
    """Shows numba the first element of a read-only array as writable: one signature fewer."""

    def __init__(self, x: np.ndarray) -> None:
        self.__array_interface__ = {
            "data": (_address(x), False),
            "shape": (1,),
            "typestr": x.dtype.str,
            "version": 3,
        }
        self.memory = x


def first(x: np.ndarray) -> np.ndarray:
    """An array of x's first element, from whose address a kernel finds the others by strides."""
    if x.flags.writeable:
        return x[(0,) * (x.ndim - 1)][:1] if x.ndim > 1 else x[:1]
    return np.asarray(_Window(x))


def _address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


@cache
def layout(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """`merge` for numba: row 0 is a shape, row i the strides of operand i over it."""
    return np.array(merge(shape, strides), np.int64).T.copy()
