"""Measure the machine's two peaks: fused multiply-adds per second, and bytes per second.

They are the ceilings of the roofline model (Williams, Waterman and Patterson 2009; cache-aware:
Ilic, Pratas and Sousa 2014). Both rates are the best of several short bursts, the rate of the
machine when no other process disturbs it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils

from . import thread_pool
from .compiler import jit
from .launch import launch
from .simd import REGISTERS, VECTOR_BYTES, Simd, address, intrinsic

# The number of independent chains of multiply-adds, a vector each: they fit the registers, and are
# enough to hide the latency of an fma.
CHAINS = REGISTERS * 3 // 4
CHAIN_BYTES = CHAINS * VECTOR_BYTES

CACHED_BYTES = 16 * 1024  # bytes that every first-level cache holds
UNCACHED_BYTES = 256 * 1024 * 1024  # bytes that few last-level caches hold

MIN_BURST_SECONDS, BURST_COUNT = 0.002, 15


# ------------------------------------------------------------------------------ in numba
@intrinsic
def _multiply_add(typing, like, z, factor, term, count):
    """Do z = factor*z + term `count` times for the CHAINS vectors at z, in registers.

    z, factor and term are addresses; the last two, of one element each.
    """

    def codegen(context, builder, signature, args):
        _, z, factor, term, count = args
        simd = Simd(context, builder, like.dtype)
        addresses = simd.vectors(z, CHAINS)
        a, b = simd.broadcast(factor), simd.broadcast(term)
        # LLVM keeps these variables in registers.
        chains = [cgutils.alloca_once_value(builder, simd.load(x)) for x in addresses]
        with cgutils.for_range(builder, count):
            for chain in chains:
                builder.store(simd.fma(a, builder.load(chain), b), chain)
        for chain, x in zip(chains, addresses, strict=True):
            simd.store(builder.load(chain), x)
        return context.get_dummy_value()

    return types.void(like, *[types.intp] * 4), codegen


@jit
def _chains(z, factor, term, count, begin, end):
    a, b = np.full(1, factor, z.dtype), np.full(1, term, z.dtype)
    for t in range(begin, end):
        _multiply_add(z, address(z) + t * CHAIN_BYTES, address(a), address(b), count)


@jit
def _add(y, x, count):
    for _ in range(count):
        for i in range(len(y)):
            y[i] += x[i]


@jit
def _sums(y, x, count, begin, end):
    for t in range(begin, end):
        _add(y[t], x[t], count)


# ------------------------------------------------------------------------------ in Python
def multiply_add(z: np.ndarray, factor: float, term: float, count: int) -> None:
    """Do z = fma(factor, z, term) `count` times; z has a row of CHAIN_BYTES for each thread."""
    launch(_chains, z, factor, term, count, over=len(z), parts=len(z))


def add(y: np.ndarray, x: np.ndarray, count: int) -> None:
    """Do y = y + x `count` times: two loads and a store; (threads, n), a row for each thread."""
    launch(_sums, y, x, count, over=len(y), parts=len(y))


def fma_rate(dtype: Any, threads: int) -> float:
    """Measure the FLOP/s of fused multiply-adds in registers, each counted as 2 FLOP.

    Raises:
        TypeError: dtype is neither float32 nor float64.
        ValueError: `threads` is not between 1 and the number that a launch may use now.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"fma_rate: dtype is float32 or float64, not {dtype}")
    _check_threads("fma_rate", threads)
    z = np.empty((threads, CHAIN_BYTES // dtype.itemsize), dtype)
    z[:] = np.arange(z.shape[1])  # Equal chains could be computed once by a compiler.
    return 2 * z.size / _seconds(lambda count: multiply_add(z, 0.5, 0.5, count))


def bandwidth(size: int, threads: int) -> float:
    """Measure the byte/s that threads load and store as each adds an array to another, y += x.

    Each thread has arrays of its own, `size` bytes for the two (rounded up to whole vectors), and
    adds them repeatedly: the rate is that of the nearest cache, or memory, which holds them.
    Two bytes are loaded for one that is stored, as where a kernel updates a sum in memory.

    Raises:
        ValueError: size < 1, or `threads` is not between 1 and the limit of a launch.
    """
    if size < 1:
        raise ValueError(f"bandwidth: size is at least 1 byte, not {size}")
    _check_threads("bandwidth", threads)
    shape = (threads, -(-size // (2 * VECTOR_BYTES)) * VECTOR_BYTES // 4)
    x, y = aligned(shape, np.float32), aligned(shape, np.float32)
    x[:] = y[:] = 1
    return 3 * x.nbytes / _seconds(lambda count: add(y, x, count))


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return `np.empty(shape, dtype)` at an address aligned to VECTOR_BYTES.

    In an unaligned array every vector, or every second one, lies in two cache lines and takes twice
    as long to load.
    """
    dtype, size = np.dtype(dtype), math.prod(shape)
    memory = np.empty(size * dtype.itemsize + VECTOR_BYTES, np.uint8)
    start = -memory.ctypes.data % VECTOR_BYTES
    return memory[start:][: size * dtype.itemsize].view(dtype).reshape(shape)


def _check_threads(name: str, threads: int) -> None:
    limit = thread_pool.threads()
    if not 1 <= threads <= limit:
        raise ValueError(
            f"{name}: threads is between 1 and {limit}, the number that a kernel may use now, "
            f"not {threads}"
        )


def _seconds(run: Callable[[int], object]) -> float:
    """Return the seconds per count of run(count), in the best of BURST_COUNT bursts."""
    run(1)  # compiles
    count = 1
    while _burst_seconds(run, count) < MIN_BURST_SECONDS:
        count *= 2
    return min(_burst_seconds(run, count) for _ in range(BURST_COUNT)) / count


def _burst_seconds(run: Callable[[int], object], count: int) -> float:
    start = time.perf_counter()
    run(count)
    return time.perf_counter() - start
