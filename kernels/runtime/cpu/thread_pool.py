"""Run one launch on several threads: a work queue in one word, claimed by compare-and-swap.

OpenMP, which numba's `prange` uses, is not used because its parallel region ends only when all of
its threads have reached a barrier. While another process occupies a core, that takes until the
system's scheduler gives the core back: milliseconds, for a matrix product of microseconds.

A launch is a loop of `size` iterations, divided into up to 32 tasks; task t has the iterations
[size*t // tasks, size*(t+1) // tasks). All threads share a control block of 64-bit words. Its word
TASK_MASK is the queue:

    bits 63..32: number of the launch        bits 31..0: one for each unclaimed task

    launching thread                         worker thread
    ----------------                         -------------
    lock the control block                   repeat until there was no work for a millisecond:
    write function, arguments, size              claim and run tasks
    TASK_MASK = launch | all tasks           sleep until a launching thread sets an event
    claim and run tasks
    spin until FINISHED_TASKS == tasks       claim and run tasks
    unlock                                   -------------------
                                             while TASK_MASK has a bit t:
                                                 compare-and-swap TASK_MASK to itself without bit t
                                                 if that succeeded: run task t, FINISHED_TASKS += 1

So the launching thread waits only for tasks that another thread has begun, never for a thread. A
worker that starts late finds no bit set.

Invariants:
- No value of TASK_MASK occurs in two launches, because it holds the launch's number: a
  compare-and-swap with a value that was read during an earlier launch fails.
- The control block is rewritten only when all tasks are finished. A thread whose compare-and-swap
  has succeeded has not counted its task yet, so it reads the words of the same launch.
- TASK_MASK is stored with release and loaded with acquire order, so a thread that reads a bit also
  reads the words that were written before it. The same holds for FINISHED_TASKS and the results of
  the tasks.

Optimizations:
- affinity: a thread claims the task of its own rank first, the same range of iterations in each
  launch, whose data are in the cache of its core
- no false sharing: each word that several threads write has a cache line of its own
- spinning before sleeping: the launches of a captured step follow each other within microseconds,
  and to wake a sleeping thread takes the system longer
- yielding: a spinning thread regularly offers its core to other processes
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from ..arrays import array_address
from . import ahead
from .atomics import compare_and_swap, fetch_add, load_acquire, spin, store_release
from .call import (
    BLOCK_WORDS,
    CAN_CALL_BY_ADDRESS,
    RESULT_WORDS,
    call_kernel,
    compiled_address,
    pack_arguments,
)
from .compiler import jit
from .simd import address, pointer

MAX_THREADS = 32  # of threads and of tasks of a launch: the bits of half a word


def threads() -> int:
    """Return the number of threads that a launch may use now. No result depends on it.

    It is numba's number (`NUMBA_NUM_THREADS`, `numba.set_num_threads`), at most MAX_THREADS.
    """
    return min(int(numba.get_num_threads()), MAX_THREADS)


def max_threads() -> int:
    """Return the largest number of threads that `set_threads` accepts."""
    return min(int(numba.config.NUMBA_NUM_THREADS), MAX_THREADS)  # type: ignore[attr-defined]


def set_threads(count: int) -> None:
    """Set the number of threads of all later launches of this thread."""
    numba.set_num_threads(count)


@contextlib.contextmanager
def thread_limit(count: int) -> Iterator[None]:
    """Let the launches of a `with` block use at most `count` threads."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, before))
    try:
        yield
    finally:
        numba.set_num_threads(before)


CACHE_LINE_WORDS = 8
# Words of the control block that several threads write, each on its own cache line:
TASK_MASK = 0 * CACHE_LINE_WORDS
FINISHED_TASKS = 1 * CACHE_LINE_WORDS
LOCKED = 2 * CACHE_LINE_WORDS  # 1 while a launch uses the workers
ACTIVE_REPLAYS = 3 * CACHE_LINE_WORDS  # the number of replays that are running
# Words that the launching thread writes: the kernel's address, the address of its argument block,
# the index of the word `begin` in that block (`end` follows), the number of iterations, the number
# of tasks, and whether a task has failed.
FUNCTION, BLOCK, SLOT, SIZE, TASKS, FAILED = range(4 * CACHE_LINE_WORDS, 4 * CACHE_LINE_WORDS + 6)
CONTROL_WORDS = 5 * CACHE_LINE_WORDS

SPIN_ITERATIONS = 30_000  # of a worker without work before it sleeps: about a millisecond


# ----------------------------------------------------------------------------------- the tasks
@jit
def _run_range(own, function, block, slot, begin, end):
    """Call a kernel for iterations begin..end, with a copy of its block; return its status.

    `own` is this thread's memory: BLOCK_WORDS words for the copy, RESULT_WORDS for the result.
    """
    words = pointer(own, block)
    for i in range(BLOCK_WORDS):
        own[i] = words[i]
    own[0] = address(own[BLOCK_WORDS:])
    own[1] = address(own[BLOCK_WORDS + RESULT_WORDS // 2 :])
    own[slot], own[slot + 1] = begin, end
    return call_kernel(function, address(own))


@jit
def _run_tasks(shared, own, rank):
    """Claim and run tasks of the current launch until none is left."""
    while True:
        word = load_acquire(shared, TASK_MASK)
        if word & (2**MAX_THREADS - 1) == 0:
            return
        task = rank if word >> rank & 1 else 0
        while word >> task & 1 == 0:
            task += 1
        if compare_and_swap(shared, TASK_MASK, word, word ^ 1 << task):
            size, slot, tasks = shared[SIZE], shared[SLOT], shared[TASKS]
            begin, end = size * task // tasks, size * (task + 1) // tasks
            if _run_range(own, shared[FUNCTION], shared[BLOCK], slot, begin, end) != 0:
                shared[FAILED] = 1
            fetch_add(shared, FINISHED_TASKS, 1)


@jit
def run_parallel(shared, own, function, block, slot, size, tasks):
    """Run a launch of `size` iterations, divided into tasks; return 0 where all succeeded.

    There is one control block. While the launch of another Python thread uses it, this thread
    runs all iterations itself.
    """
    if not compare_and_swap(shared, LOCKED, 0, 1):
        return _run_range(own, function, block, slot, 0, size)
    shared[FUNCTION], shared[BLOCK], shared[SLOT], shared[SIZE] = function, block, slot, size
    shared[TASKS], shared[FAILED], shared[FINISHED_TASKS] = tasks, 0, 0
    number = (load_acquire(shared, TASK_MASK) >> 32) + 1 & 0x7FFFFFFF
    store_release(shared, TASK_MASK, number << 32 | (1 << tasks) - 1)
    _run_tasks(shared, own, 0)
    iteration = 0
    while load_acquire(shared, FINISHED_TASKS) < tasks:
        iteration += 1
        spin(iteration)
    failed = shared[FAILED]
    store_release(shared, LOCKED, 0)
    return failed


@jit
def _run_parallel_once(shared, function, block, slot, size, tasks):
    own = np.empty(BLOCK_WORDS + RESULT_WORDS, np.int64)
    return run_parallel(shared, own, function, block, slot, size, tasks)


@jit
def _work(shared, rank, spins):
    """Run tasks of all launches; return when there was none for `spins` iterations.

    While no replay runs, launches come from Python, and `spins // 16` iterations are enough: the
    next launch may come much later, and where two threads share a core, spinning slows Python down.
    """
    own = np.empty(BLOCK_WORDS + RESULT_WORDS, np.int64)
    last, spins_left, iteration = load_acquire(shared, TASK_MASK) >> 32, spins // 16, 0
    while spins_left > 0:
        _run_tasks(shared, own, rank)
        number = load_acquire(shared, TASK_MASK) >> 32
        if load_acquire(shared, ACTIVE_REPLAYS) > 0:
            spins_left = spins
        else:
            spins_left = max(spins_left, spins // 16) if number != last else spins_left - 1
        last = number
        iteration += 1
        spin(iteration)


# ---------------------------------------------------------------------------------- the threads
class _ThreadPool:
    """The control block, and Python threads that run `_work`, each asleep on an event of its own.

    The launching thread has rank 0, worker i rank i + 1.
    """

    def __init__(self) -> None:
        memory = np.zeros(CONTROL_WORDS + CACHE_LINE_WORDS, np.int64)
        start = -(array_address(memory) // 8) % CACHE_LINE_WORDS  # the start of a cache line
        self.shared = memory[start:][:CONTROL_WORDS]
        self._lock = threading.Lock()
        self._events: list[threading.Event] = []

    def wake(self, workers: int) -> None:
        """Wake `workers` workers, without waiting for them; start those that do not exist yet."""
        if len(self._events) < workers:
            self._start(workers)
        for event in self._events[:workers]:
            if not event.is_set():
                event.set()

    def _start(self, workers: int) -> None:
        _work(np.zeros_like(self.shared), 1, 0)  # This compiles it once, not in several threads.
        # RuntimeError: the system has no more threads; the launching thread then works alone.
        with self._lock, contextlib.suppress(RuntimeError):
            while len(self._events) < workers:
                rank, event = len(self._events) + 1, threading.Event()
                threading.Thread(target=self._run, args=(rank, event), daemon=True).start()
                self._events.append(event)

    def _run(self, rank: int, event: threading.Event) -> None:
        while True:
            event.wait()
            # Cleared before the work: a launch that comes while this thread is about to sleep
            # sets the event again, and is not missed.
            event.clear()
            _work(self.shared, rank, SPIN_ITERATIONS)


_pool = _ThreadPool()


def _reset_after_fork() -> None:
    global _pool  # noqa: PLW0603
    _pool = _ThreadPool()  # a forked child has the memory of its parent, not the threads
    _executor.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def note_kernels() -> None:
    """Note the kernels of the thread pool itself, see `ahead.py`."""
    ahead.note(_work, (_pool.shared, 1, 0))
    ahead.note(_run_parallel_once, (_pool.shared, *(0,) * 5))


def start_workers(threads: int) -> np.ndarray:
    """Wake the workers for launches of `threads` threads; return the control block."""
    _pool.wake(threads - 1)
    return _pool.shared


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(64)


def launch(kernel: Any, arguments: tuple[Any, ...], size: int, parts: int) -> None:
    """Run kernel(*arguments, begin, end) for `parts` ranges that cover 0..size, on several threads.

    An exception in a kernel is raised. Where kernels cannot be called by address, or have too many
    arguments for a block, Python threads call them.

    Args:
        parts: the number of tasks, 2 to MAX_THREADS.
    """
    if CAN_CALL_BY_ADDRESS:
        packed = pack_arguments((*arguments, 0, size))
        if packed is not None:
            block, words = packed
            function = compiled_address(kernel, (*arguments, 0, size))
            block_address, slot = block.buffer_info()[0], words - 2
            shared = start_workers(parts)
            if _run_parallel_once(shared, function, block_address, slot, size, parts) != 0:
                kernel(*arguments, 0, size)  # raises the error
            return
    bounds = [size * task // parts for task in range(parts + 1)]
    calls = [partial(kernel, *arguments, *span) for span in pairwise(bounds)]
    futures = [_executor().submit(call) for call in calls]
    try:
        wait(futures)
    finally:
        wait(futures)  # When an interruption is raised, no task may still write.
    for future in futures:
        future.result()
