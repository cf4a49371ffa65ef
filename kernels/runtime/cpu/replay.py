"""Launches of compiled kernels, run again from one compiled loop.

One costs some 20 ns, where a call from Python costs 600 (see `call.py` for how, and `pool.py` for
what several threads do).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from .call import BLOCK, DIRECT, RESULTS, call, entry, pack
from .compiler import jit
from .simd import address
from .thread_pool import BUSY, increase, share, wake


class _Place:
    """Where an array lies; it does not keep the memory."""

    def __init__(self, x: np.ndarray) -> None:
        self.__array_interface__ = x.__array_interface__


class Launch:
    """A kernel's call, without a hold on the memory of its arrays; calling it does it again.

    With `size`, it is kernel(*arguments, first, last) for positions 0..size, in so many parts.
    """

    def __init__(
        self, kernel: Any, arguments: tuple[Any, ...], size: int | None = None, parts: int = 1
    ) -> None:
        self.kernel, self.size, self.parts = kernel, size, parts
        all_arguments = arguments if size is None else (*arguments, 0, size)
        self.entry = entry(kernel, all_arguments)
        packed = pack(all_arguments) if DIRECT else None
        self.block = packed[0] if packed else None
        self.words = packed[1] if packed else 0
        self.arguments = [_Place(x) if isinstance(x, np.ndarray) else x for x in arguments]

    def __call__(self) -> None:
        arguments = [np.asarray(x) if isinstance(x, _Place) else x for x in self.arguments]
        self.kernel(*arguments, *(() if self.size is None else (0, self.size)))


@jit
def run(shared, functions, blocks, slots, sizes, parts):
    """Call each function with its row of numbers; how many have succeeded."""
    own = np.empty(BLOCK + RESULTS, np.int64)
    increase(shared, BUSY, 1)
    done = 0
    while done < functions.size:
        if parts[done] == 1:
            status = call(functions[done], address(blocks[done]))
        else:
            block = address(blocks[done])
            slot, size = slots[done], sizes[done]
            status = share(shared, own, functions[done], block, slot, size, parts[done])
        if status != 0:
            break
        done += 1
    increase(shared, BUSY, -1)
    return done


class Replay:
    """Launches one after the other, without Python between them."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self.launches = launches
        numbers = [(x.entry, x.words - 2, x.size or 0, x.parts) for x in launches]
        columns = np.array(numbers, np.int64).T.copy()
        blocks = np.array([x.block for x in launches], np.int64)
        self._results = np.zeros(RESULTS, np.int64)
        address = self._results.__array_interface__["data"][0]
        blocks[:, :2] = address, address + self._results.nbytes // 2
        self._rows = columns[0], blocks, *columns[1:]
        self._threads = max((x.parts for x in launches), default=1)

    def __call__(self) -> None:
        done = 0
        while done < len(self.launches):
            rest = [x[done:] for x in self._rows] if done else self._rows
            done += run(wake(self._threads), *rest)
            if done < len(self.launches):
                self.launches[done]()  # from Python, which says what is wrong; if it works, go on
                done += 1


def program(launches: Sequence[Callable[[], Any]]) -> list[Callable[[], Any]]:
    """The same launches in order, neighbours that can be run without Python as one Replay."""
    found: list[Callable[[], Any]] = []
    for direct, group in groupby(launches, lambda x: isinstance(x, Launch) and x.block is not None):
        row: list[Any] = list(group)
        found += [Replay(row)] if direct else row
    return found
