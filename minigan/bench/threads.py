"""`minigan bench threads`: what more threads bring to a training step, minigan's and PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .plan import Game, Plan
from .steps import OWN, Peers, Step, contenders
from .table import cells, render
from .timing import Group, Spread, ratio

PEER = "PyTorch, fused Adam"


def counts(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return sorted({most, *(2**i for i in range(most.bit_length()) if 2**i <= most)})


def groups(plan: Plan, peers: Peers, threads: int) -> list[Group]:
    """One group for each game at its least and at its largest batch."""
    return [
        Group(
            [{"game": name, "batch": batch, "threads": counts(threads)}],
            _contenders(game, batch, peers, threads),
            plan.step_seconds,
        )
        for name, game in plan.games.items()
        for batch in sorted({min(game.batches), max(game.batches)})
    ]


def _contenders(game: Game, batch: int, peers: Peers, threads: int) -> dict[str, list[Step]]:
    """A step of its own for each library and number of threads."""
    import numba

    makers = contenders(game, batch, peers)
    pools = {OWN: numba.set_num_threads}
    if "pytorch" in peers:
        pools[PEER] = peers["pytorch"].set_threads
    return {
        label(name, count): [_with_threads(makers[name]()[0], set_threads, count)]
        for name, set_threads in pools.items()
        for count in counts(threads)
    }


def label(name: str, count: int) -> str:
    """A contender's name with its number of threads."""
    return f"{name}, {count} thread{'s' * (count > 1)}"


def _with_threads(step: Step, set_threads: Callable[[int], object], count: int) -> Step:
    def run() -> Any:
        set_threads(count)
        return step()

    return run


# ------------------------------------------------------------------------------------------ report
def report(cases: Sequence[Mapping[str, Any]]) -> str:
    """A table, from what `measure` gave."""
    rounds = len(next(iter(cases[0]["seconds"].values())))
    title = (
        "threads: one training step of a GAN, both players, float32, ms\n"
        f"median and quartiles of {rounds} rounds; speed-up = time on one thread / time"
    )
    heads = ["game", "batch", "", "threads", "ms", "25..75 %", "speed-up", "25..75 %"]
    return f"{title}\n\n{render(heads, [row for case in cases for row in _rows(case)], left=3)}"


def _rows(case: Mapping[str, Any]) -> Iterator[list[str]]:
    for name in (OWN, PEER):
        for count in case["threads"]:
            first = count == 1
            game = [case["game"], str(case["batch"])] if first and name == OWN else ["", ""]
            start = [*game, name if first else ""]
            if label(name, count) not in case["seconds"]:
                yield [*start, "", "not installed", "", "", ""]
                break
            times = cells(Spread.of(1e3 * np.array(case["seconds"][label(name, count)])))
            gain = ["", ""] if first else cells(ratio(case, label(name, 1), label(name, count)))
            yield [*start, str(count), *times, *gain]
