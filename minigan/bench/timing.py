"""Time contenders side by side on a machine whose speed varies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np

Call = Callable[[], object]
Case = Mapping[str, Any]  # a description, and in "seconds" the samples of each contender
MINIGAN = "minigan"  # the contender that the others are compared with
CHUNKS_PER_SAMPLE = 10
MAX_SLEEPS = 50  # Then a contender is timed although the process is still busy.


def _do_nothing() -> None:
    """Return immediately: the work of a synchronous call is done when the call returns."""


@dataclass(frozen=True)
class Group:
    """Cases that every contender runs one after the other within a round.

    Args:
        cases: a description of each case, for tables and JSON.
        calls: by contender, one function per case.
        seconds: how long a contender runs each case in one round.
        synchronize: by contender whose calls are asynchronous, a function that waits until their
            work is done.
    """

    cases: Sequence[dict[str, Any]]
    calls: Mapping[str, Sequence[Call]]
    seconds: float
    synchronize: Mapping[str, Call] = field(default_factory=dict)


def measure(
    group: Group, repeats: int, rest: float, tick: Callable[[], object]
) -> list[dict[str, Any]]:
    """Return the group's cases, each with "seconds": by contender, the time of a call per round.

    Rounds are interleaved: every contender runs once in each round (A B C A B C), so that a machine
    that slows down slows all of them. Before each contender the process sleeps until its threads
    are idle.

    Args:
        group: the cases and calls to time. repeats: the number of rounds.
        rest: seconds of one sleep, see `_wait_until_idle`.
        tick: called after each contender of each round.
    """
    counts = {}
    for name, calls in group.calls.items():
        _wait_until_idle(rest)
        wait = group.synchronize.get(name, _do_nothing)
        seconds = group.seconds / CHUNKS_PER_SAMPLE
        counts[name] = [_calls_per_chunk(call, seconds, wait) for call in calls]
    results: list[dict[str, Any]] = [
        {**case, "seconds": {name: [] for name in group.calls}} for case in group.cases
    ]
    for _ in range(repeats):
        for name, calls in group.calls.items():
            _wait_until_idle(rest)
            wait = group.synchronize.get(name, _do_nothing)
            for case, call, count in zip(results, calls, counts[name], strict=True):
                case["seconds"][name].append(_sample(call, count, group.seconds, wait))
            tick()
    return results


def _wait_until_idle(sleep_seconds: float) -> None:
    """Sleep until the process has used no processor time during two sleeps in a row.

    The threads of a library wait for its next call by spinning, on the cores that the next
    contender needs: OpenBLAS's for 2^26 clock ticks (20 to 30 ms), PyTorch's for 5 to 10 ms, and
    both for longer where the cores are shared with other processes.
    """
    idle_sleeps = 0
    for _ in range(MAX_SLEEPS):
        before = time.process_time()
        time.sleep(sleep_seconds)
        is_idle = time.process_time() - before <= 0.05 * sleep_seconds
        idle_sleeps = idle_sleeps + 1 if is_idle else 0
        if idle_sleeps == 2:
            return


def run_calls(call: Call, count: int, wait: Call = _do_nothing) -> float:
    """Return the seconds per call of `count` successive calls, waiting for the last one's work.

    A GPU accepts the next call while it works on the previous one. So many calls in a row measure
    the slower of the two: launching, or computing.
    """
    start = time.perf_counter()
    for _ in repeat(None, count):
        call()
    wait()
    return (time.perf_counter() - start) / count


def _calls_per_chunk(call: Call, seconds: float, wait: Call) -> int:
    """Return the number of calls that take at least `seconds`, a power of two."""
    count = 1
    while min(run_calls(call, count, wait) for _ in range(3)) * count < seconds:
        count *= 2
    return count


def _sample(call: Call, count: int, seconds: float, wait: Call = _do_nothing) -> float:
    """Return the median seconds per call over chunks of `count` calls that take `seconds` in all.

    Two earlier chunks are not counted: they bring operands into the caches and wake threads.
    The median ignores a chunk during which the system gave a core to another process.
    """
    run_calls(call, 2 * count, wait)
    start, chunks = time.perf_counter(), [run_calls(call, count, wait)]
    while time.perf_counter() - start < seconds:
        chunks.append(run_calls(call, count, wait))
    return float(np.median(chunks))


# -------------------------------------------------------------------------------------- statistics
@dataclass(frozen=True)
class Quartiles:
    """The median of some samples and their lower and upper quartile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Any) -> Quartiles:
        """Compute them from an array-like of samples."""
        low, median, high = np.quantile(samples, (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high))


def median_seconds(case: Case, contender: str = MINIGAN) -> float:
    """Return the median time of a contender's call over the rounds."""
    return float(np.median(case["seconds"][contender]))


def ratio(case: Case, peer: str, own: str = MINIGAN) -> Quartiles:
    """Return the rounds' ratios, peer's time / own time: above 1, `own` is faster."""
    seconds = case["seconds"]
    return Quartiles.of(np.array(seconds[peer]) / np.array(seconds[own]))


def geometric_mean(values: Sequence[float]) -> float:
    """Return exp(mean(log x)): the mean of a ratio and its inverse is 1."""
    return math.exp(sum(map(math.log, values)) / len(values))
