"""How contenders are timed side by side on a machine that is never quite still."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np

Call = Callable[[], object]
PIECES = 10  # of a case's time in a turn


def _done() -> None:
    """What a call has started is done when it returns."""


@dataclass(frozen=True)
class Group:
    """Cases that every contender runs in one turn.

    Args:
        cases: what each case is, for tables and JSON.
        calls: by contender, one function per case.
        seconds: how long a contender runs each case in one turn.
        waits: by contender whose calls only start something, what returns when it is done.
    """

    cases: Sequence[dict[str, Any]]
    calls: Mapping[str, Sequence[Call]]
    seconds: float
    waits: Mapping[str, Call] = field(default_factory=dict)


def measure(
    group: Group, repeats: int, rest: float, tick: Callable[[], object]
) -> list[dict[str, Any]]:
    """The group's cases, each with "seconds": one call's, by contender, a list over the rounds.

    In a round the contenders take turns, A B C A B C, so that a machine that slows down slows all
    of them, and before each turn all come to rest. `tick` is called after each turn.
    """
    chunks = {}
    for name, calls in group.calls.items():
        _settle(rest)
        wait = group.waits.get(name, _done)
        chunks[name] = [_chunk(call, group.seconds / PIECES, wait) for call in calls]
    found: list[dict[str, Any]] = [
        {**case, "seconds": {name: [] for name in group.calls}} for case in group.cases
    ]
    for _ in range(repeats):
        for name, calls in group.calls.items():
            _settle(rest)
            wait = group.waits.get(name, _done)
            for case, call, chunk in zip(found, calls, chunks[name], strict=True):
                case["seconds"][name].append(_sample(call, chunk, group.seconds, wait))
            tick()
    return found


def _settle(rest: float) -> None:
    """Sleep, `rest` seconds at a time, until two times in a row the process has used no processor.

    A library's threads wait for its next call by spinning, on the cores that the next contender
    needs: OpenBLAS's for 2^26 clock ticks (20 to 30 ms), PyTorch's for 5 to 10 ms, and both
    for longer where the cores are shared with other processes.
    """
    quiet = 0
    for _ in range(50):
        before = time.process_time()
        time.sleep(rest)
        quiet = quiet + 1 if time.process_time() - before <= 0.05 * rest else 0
        if quiet == 2:
            return


def run_calls(call: Call, count: int, wait: Call = _done) -> float:
    """Seconds per call of that many calls, one behind the other, the last one's work included.

    A device takes the next call while it works at the last: in a long row, what is measured is the
    slower of the two, starting and doing.
    """
    start = time.perf_counter()
    for _ in repeat(None, count):
        call()
    wait()
    return (time.perf_counter() - start) / count


def _chunk(call: Call, seconds: float, wait: Call) -> int:
    """A number of calls, a power of two, that takes at least so long."""
    count = 1
    while min(run_calls(call, count, wait) for _ in range(3)) * count < seconds:
        count *= 2
    return count


def _sample(call: Call, chunk: int, seconds: float, wait: Call = _done) -> float:
    """Seconds per call: the median of the pieces of `chunk` calls that go into `seconds`.

    Two pieces before them are not counted: they bring operands into the caches and wake threads.
    A median, because now and then the system gives a core to somebody else for milliseconds.
    """
    run_calls(call, 2 * chunk, wait)
    start, pieces = time.perf_counter(), [run_calls(call, chunk, wait)]
    while time.perf_counter() - start < seconds:
        pieces.append(run_calls(call, chunk, wait))
    return float(np.median(pieces))


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some samples."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Any) -> Spread:
        low, median, high = np.quantile(samples, (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high))


def ratio(case: Mapping[str, Any], peer: str, own: str = "minigan") -> Spread:
    """Peer's time / own time, round by round: above 1, `own` is the faster."""
    seconds = case["seconds"]
    return Spread.of(np.array(seconds[peer]) / np.array(seconds[own]))


def geometric_mean(values: Sequence[float]) -> float:
    """exp(mean(log x)): the mean that is 1 when a gain and a loss of one factor meet."""
    return math.exp(sum(map(math.log, values)) / len(values))
