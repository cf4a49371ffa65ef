"""`minigan bench seeds`: many runs as one device, beside one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..engine.device import get_device
from ..stack import stacked
from . import floor, games
from .plan import Plan
from .table import cells, number, render
from .timing import Group, Spread, ratio

SEEDS = 10
ONE, MANY = "one seed", f"{SEEDS} seeds"


def groups(plan: Plan, threads: int) -> list[Group]:
    """One group for each game at its least batch: the captured step of one seed, and of SEEDS."""
    cpu = get_device("cpu")
    devices = {ONE: cpu, MANY: stacked(range(SEEDS), cpu)}
    found = []
    for case in floor.cases(plan.games, threads):
        name, batch = case["game"], case["batch"]
        if batch == min(plan.games[name].batches):
            steps = {k: [games.ready(plan.games[name], batch, x)] for k, x in devices.items()}
            found.append(Group([case], steps, plan.step_seconds))
    return found


def report(cases: Sequence[Mapping[str, Any]]) -> str:
    """A table, from what `measure` gave."""
    rounds = len(cases[0]["seconds"][ONE])
    title = (
        "seeds: one captured training step of a GAN, of one seed and of several as one device, ms\n"
        f"median and quartiles of {rounds} rounds; gain = seeds * time of one / time;\n"
        "of peak = the products' multiply-adds / time, as a share of"
        f" {number(cases[0]['flops_per_second'] / 1e9)} GFLOP/s"
    )
    heads = ["game", "batch", "", "ms", "25..75 %", "ms a seed", "gain", "of peak"]
    return f"{title}\n\n{render(heads, [row for case in cases for row in _rows(case)], left=3)}"


def _rows(case: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, seeds in ((ONE, 1), (MANY, SEEDS)):
        spread = Spread.of(1e3 * np.array(case["seconds"][name]))
        work = 2 * seeds * case["multiply_adds"] / case["flops_per_second"]
        yield [
            *([case["game"], str(case["batch"])] if name == ONE else ["", ""]),
            name,
            *cells(spread),
            number(spread.median / seeds),
            "" if name == ONE else number(seeds * ratio(case, ONE, MANY).median),
            f"{1e3 * work / spread.median:.0%}",
        ]
