"""Replay recorded launches from one compiled loop, with no Python between them.

Such a launch costs about 20 ns, and a call from Python 600 ns. `call.py` explains how one loop can
call kernels of any signature, `thread_pool.py` how a launch is divided among threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ..arrays import ArrayInterface, array_address, borrow
from . import ahead
from .atomics import fetch_add
from .call import (
    BLOCK_WORDS,
    CAN_CALL_BY_ADDRESS,
    RESULT_WORDS,
    call_kernel,
    compiled_address,
    pack_arguments,
)
from .compiler import jit
from .simd import address
from .thread_pool import ACTIVE_REPLAYS, run_parallel, start_workers


class Launch:
    """One recorded launch; calling it runs it again, from Python.

    It does not keep the memory of its arrays alive, so that the memory plan can reuse it for later
    launches of the step. The recording owns the plan, and keeps arrays outside it.

    Args:
        size: iterations of the launch, or None: see `launch`.
        tasks: the number of tasks into which the iterations are divided.
    """

    def __init__(
        self, kernel: Any, arguments: tuple[Any, ...], size: int | None = None, tasks: int = 1
    ) -> None:
        self.kernel, self.size, self.tasks = kernel, size, tasks
        all_arguments = arguments if size is None else (*arguments, 0, size)
        self.address = compiled_address(kernel, all_arguments)
        packed = pack_arguments(all_arguments) if CAN_CALL_BY_ADDRESS else None
        # None: the kernel has to be called from Python.
        self.block = packed[0] if packed else None
        self.words = packed[1] if packed else 0
        self.arguments = [borrow(x) if isinstance(x, np.ndarray) else x for x in arguments]

    def __call__(self) -> None:
        arguments = [np.asarray(x) if isinstance(x, ArrayInterface) else x for x in self.arguments]
        self.kernel(*arguments, *(() if self.size is None else (0, self.size)))


@jit
def replay_launches(shared, functions, blocks, slots, sizes, tasks):
    """Run launches in order until one fails; return the number that succeeded.

    Launch i calls functions[i] with the argument block blocks[i]. Where tasks[i] > 1, words
    slots[i] and slots[i] + 1 of the block are `begin` and `end` of a loop of sizes[i] iterations.
    """
    own = np.empty(BLOCK_WORDS + RESULT_WORDS, np.int64)
    fetch_add(shared, ACTIVE_REPLAYS, 1)
    done = 0
    while done < functions.size:
        if tasks[done] == 1:
            status = call_kernel(functions[done], address(blocks[done]))
        else:
            block = address(blocks[done])
            slot, size = slots[done], sizes[done]
            status = run_parallel(shared, own, functions[done], block, slot, size, tasks[done])
        if status != 0:
            break
        done += 1
    fetch_add(shared, ACTIVE_REPLAYS, -1)
    return done


def note_kernels() -> None:
    """Note the kernel of a replay, see `ahead.py`."""
    if CAN_CALL_BY_ADDRESS:
        words = np.zeros(1, np.int64)
        ahead.note(replay_launches, (words, words, words.reshape(1, 1), words, words, words))


class Replay:
    """A sequence of launches as tables for `replay_launches`; calling it runs them."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.launches = launches
        # `begin` and `end` are the last two integer words of a block.
        rows = [(x.address, x.words - 2, x.size or 0, x.tasks) for x in launches]
        columns = np.array(rows, np.int64).T.copy()
        blocks = np.array([x.block for x in launches], np.int64)
        self._results = np.zeros(RESULT_WORDS, np.int64)
        results = array_address(self._results)
        blocks[:, :2] = results, results + self._results.nbytes // 2
        self._tables = columns[0], blocks, *columns[1:]
        self._threads = max((x.tasks for x in launches), default=1)

    def __call__(self) -> None:
        done = 0
        while done < len(self.launches):
            tables = [x[done:] for x in self._tables] if done else self._tables
            done += replay_launches(start_workers(self._threads), *tables)
            if done < len(self.launches):
                # A launch has failed. Called from Python it raises its error; if it succeeds this
                # time, the replay continues after it.
                self.launches[done]()
                done += 1


def program(launches: Sequence[Callable[[], Any]]) -> list[Callable[[], Any]]:
    """Return functions that run the same launches in order, with runs of Launches as Replays."""
    if ahead.is_collecting():
        note_kernels()
    functions: list[Callable[[], Any]] = []
    for direct, group in groupby(launches, lambda x: isinstance(x, Launch) and x.block is not None):
        run: list[Any] = list(group)
        functions += [Replay(run)] if direct else run
    return functions
