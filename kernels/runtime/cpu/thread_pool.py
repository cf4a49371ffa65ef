"""Threads that share out one launch: whoever is there takes the next part of it.

An OpenMP launch ends when all its threads have been there. Where another process holds a core, that
takes until the system gives the core back, milliseconds for a product of microseconds. Here the
thread that launches takes parts itself until none is left, and waits only for parts that another
one has begun. A thread that comes too late is not missed.

All that the threads share is one array of numbers. Its TICKET says which parts nobody has taken:

    job << 32 | a bit for each of up to 32 parts

To take a part is to clear its bit, by compare-and-swap. A ticket is never the same twice, so who
read an old one fails; who succeeds knows that the launch, and with it the other numbers, stays
until that part is counted as FINISHED. Each thread prefers the part of its own rank, the same in
each launch: what it wrote in the one before is still in its core's cache.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .call import BLOCK, DIRECT, RESULTS, call, entry, pack
from .compiler import jit
from .simd import address, intrinsic, pointer

MAX_THREADS = 32  # threads, and parts of a launch


def threads() -> int:
    """How many threads a launch may be shared by here and now. Its result never depends on it.

    It is numba's number (`NUMBA_NUM_THREADS`, `numba.set_num_threads`), at most MAX_THREADS.
    """
    return min(int(numba.get_num_threads()), MAX_THREADS)


# Where the shared numbers stand: those that many threads write, each on a cache line of its own.
TICKET, FINISHED, HELD, BUSY = 0, 8, 16, 24
FUNCTION, WORDS_AT, SLOT, SIZE, PARTS, FAILED = 32, 33, 34, 35, 36, 37
# How often a thread with nothing to do looks again before it goes to sleep: about a millisecond.
LOOKS = 30_000


# ------------------------------------------------------------------------------ atomic numbers
def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]])


@intrinsic
def load(typing, numbers, i):
    """numbers[i], and then all that its writer wrote before."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_place(context, builder, signature, args), "acquire", 8)

    return types.int64(numbers, types.intp), codegen


@intrinsic
def store(typing, numbers, i, value):
    """numbers[i] = value, after all that was written before."""

    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], _place(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.void(numbers, types.intp, types.int64), codegen


@intrinsic
def increase(typing, numbers, i, value):
    """numbers[i] += value, whoever else does so."""

    def codegen(context, builder, signature, args):
        place = _place(context, builder, signature, args)
        return builder.atomic_rmw("add", place, args[2], "acq_rel")

    return types.int64(numbers, types.intp, types.int64), codegen


@intrinsic
def swap(typing, numbers, i, before, after):
    """Put `after` where `before` is; whether it was there."""

    def codegen(context, builder, signature, args):
        place = _place(context, builder, signature, args)
        found = builder.cmpxchg(place, args[2], args[3], "acq_rel", "acquire")
        return builder.extract_value(found, 1)

    return types.boolean(numbers, types.intp, types.int64, types.int64), codegen


@intrinsic
def pause(typing):
    """A breath between two looks."""

    def codegen(context, builder, signature, args):
        if platform.machine() == "x86_64":
            name, numbers = "llvm.x86.sse2.pause", []
        elif platform.machine() == "aarch64":
            name, numbers = "llvm.aarch64.hint", [ir.Constant(ir.IntType(32), 1)]  # yield
        else:
            return context.get_dummy_value()
        signature = ir.FunctionType(ir.VoidType(), [x.type for x in numbers])
        function = cgutils.get_or_insert_function(builder.module, signature, name)
        builder.call(function, numbers)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def give_way(typing):
    """Let another thread have this core, if one wants it (POSIX's sched_yield)."""

    def codegen(context, builder, signature, args):
        yields = ir.FunctionType(ir.IntType(32), [])
        function = cgutils.get_or_insert_function(builder.module, yields, "sched_yield")
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


@jit
def breathe(looks):
    """Wait a little between two looks, and now and then for who may be waiting for this core."""
    pause()
    if looks % 200 == 0:
        give_way()


# ----------------------------------------------------------------------------------- the parts
@jit
def _part(own, function, block, slot, first, last):
    """Call a kernel for the positions first..last, from a copy of its block; its status."""
    words = pointer(own, block)
    for i in range(BLOCK):
        own[i] = words[i]
    own[0], own[1] = address(own[BLOCK:]), address(own[BLOCK + RESULTS // 2 :])
    own[slot], own[slot + 1] = first, last
    return call(function, address(own))


@jit
def _take(shared, own, rank):
    """Do parts of the launch that is on until none is left."""
    while True:
        ticket = load(shared, TICKET)
        if ticket & (2**MAX_THREADS - 1) == 0:
            return
        part = rank if ticket >> rank & 1 else 0
        while ticket >> part & 1 == 0:
            part += 1
        if swap(shared, TICKET, ticket, ticket ^ 1 << part):
            size, slot, parts = shared[SIZE], shared[SLOT], shared[PARTS]
            first, last = size * part // parts, size * (part + 1) // parts
            if _part(own, shared[FUNCTION], shared[WORDS_AT], slot, first, last) != 0:
                shared[FAILED] = 1
            increase(shared, FINISHED, 1)


@jit
def share(shared, own, function, block, slot, size, parts):
    """A launch over `size` positions, in parts that whoever is there takes; 0 if all is well.

    While one thread's launch has the workers, another thread's does without.
    """
    if not swap(shared, HELD, 0, 1):
        return _part(own, function, block, slot, 0, size)
    shared[FUNCTION], shared[WORDS_AT], shared[SLOT], shared[SIZE] = function, block, slot, size
    shared[PARTS], shared[FAILED], shared[FINISHED] = parts, 0, 0
    job = (load(shared, TICKET) >> 32) + 1 & 0x7FFFFFFF
    store(shared, TICKET, job << 32 | (1 << parts) - 1)
    _take(shared, own, 0)
    looks = 0
    while load(shared, FINISHED) < parts:
        looks += 1
        breathe(looks)
    failed = shared[FAILED]
    store(shared, HELD, 0)
    return failed


@jit
def _begin(shared, function, block, slot, size, parts):
    own = np.empty(BLOCK + RESULTS, np.int64)
    return share(shared, own, function, block, slot, size, parts)


@jit
def _work(shared, rank, looks):
    """Take parts as they come, until there have been none for so many looks.

    Behind a launch from Python a sixteenth of them is enough: the next one may be far off, and who
    looks takes from Python's speed where two threads share a core.
    """
    own = np.empty(BLOCK + RESULTS, np.int64)
    seen, left, turn = load(shared, TICKET) >> 32, looks // 16, 0
    while left > 0:
        _take(shared, own, rank)
        job = load(shared, TICKET) >> 32
        if load(shared, BUSY) > 0:
            left = looks
        else:
            left = max(left, looks // 16) if job != seen else left - 1
        seen = job
        turn += 1
        breathe(turn)


# ---------------------------------------------------------------------------------- the threads
class _Pool:
    """Python threads that run `_work`, each asleep until its event is set."""

    def __init__(self) -> None:
        memory = np.zeros(64 + 8, np.int64)
        start = -(memory.ctypes.data // 8) % 8  # the first number of a cache line
        self.shared = memory[start:][:40]
        self._lock = threading.Lock()
        self._awake: list[threading.Event] = []

    def wake(self, workers: int) -> None:
        """See that so many threads look for parts, soon."""
        if len(self._awake) < workers:
            self._start(workers)
        for event in self._awake[:workers]:
            if not event.is_set():
                event.set()

    def _start(self, workers: int) -> None:
        _work(np.zeros_like(self.shared), 1, 0)  # is compiled here, not by many threads at once
        with self._lock, contextlib.suppress(RuntimeError):  # the system has no more threads
            while len(self._awake) < workers:
                given = len(self._awake) + 1, threading.Event()
                threading.Thread(target=self._run, args=given, daemon=True).start()
                self._awake.append(given[1])

    def _run(self, rank: int, event: threading.Event) -> None:
        while True:
            event.wait()
            event.clear()  # before: who launches while this one is about to sleep sets it again
            _work(self.shared, rank, LOOKS)


_pool = _Pool()


def _forked() -> None:
    global _pool  # noqa: PLW0603
    _pool = _Pool()  # the threads have stayed with the parent
    _executor.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def wake(threads: int) -> np.ndarray:
    """The numbers that the pool shares, for `share`, its threads being on their way."""
    _pool.wake(threads - 1)
    return _pool.shared


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(64)


def launch(kernel: Any, arguments: tuple[Any, ...], size: int, parts: int) -> None:
    """kernel(*arguments, first, last) for the parts of 0..size; what it raises is raised.

    Args:
        parts: 2 to MAX_THREADS.
    """
    if DIRECT:
        packed = pack((*arguments, 0, size))
        if packed is not None:
            block, words = packed
            function = entry(kernel, (*arguments, 0, size))
            place = block.buffer_info()[0]
            if _begin(wake(parts), function, place, words - 2, size, parts) != 0:
                kernel(*arguments, 0, size)  # and says what is wrong
            return
    bounds = [size * part // parts for part in range(parts + 1)]
    calls = [partial(kernel, *arguments, *span) for span in pairwise(bounds)]
    futures = [_executor().submit(call) for call in calls]
    try:
        wait(futures)
    finally:
        wait(futures)  # nothing may be written any more when an interruption is raised
    for future in futures:
        future.result()
