"""`minigan bench step`: one training step of each GAN, beside the same step in PyTorch and JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from . import floor
from .games import Step, minigan_step, peer_arguments
from .harness import first_line, progress_bar
from .plan import Game, Plan
from .table import cells, number, render
from .timing import Call, Group, Spread, geometric_mean, ratio

OWN, EAGER = "minigan", "minigan, eager"
# By name, the module of `bench.peers` that makes it.
PEERS = {
    "PyTorch": "pytorch",
    "PyTorch, fused Adam": "pytorch",
    "PyTorch, compiled": "pytorch",
    "JAX": "xla",
}
Peers = Mapping[str, ModuleType]  # those modules whose packages are installed, by name
Case = Mapping[str, Any]

# A step, and what gives both players' state dicts.
Made = tuple[Step, Callable[[], Sequence[Mapping[str, np.ndarray]]]]


def contenders(game: Game, batch: int, peers: Peers) -> dict[str, Callable[[], Made]]:
    """By name, what makes a step; all begin with equal weights and train on equal data."""
    given = peer_arguments(game, batch)
    own = {OWN: partial(_own, game, given, True), EAGER: partial(_own, game, given, False)}
    return own | {
        name: partial(peers[module].STEPS[name], *given)
        for name, module in PEERS.items()
        if module in peers
    }


def _own(game: Game, given: Sequence[Any], captured: bool) -> Made:
    players = game.nets()
    for net, (_, state) in zip(players, given[:2], strict=True):
        net.load_state_dict(state)
    step = minigan_step(*players, given[2], captured=captured)
    return step, lambda: [net.state_dict() for net in players]


def groups(plan: Plan, peers: Peers, threads: int) -> list[Group]:
    """One group per game and batch size; a case says which peers fail, and why."""
    makers = [
        (case, contenders(plan.games[case["game"]], case["batch"], peers))
        for case in floor.cases(plan.games, threads)
    ]
    with progress_bar("step: compiling", sum(len(x) for _, x in makers), "contender") as bar:
        return [
            Group([case], dict(_compiled(case, made, bar.update)), plan.step_seconds)
            for case, made in makers
        ]


def _compiled(
    case: dict[str, Any], makers: Mapping[str, Callable[[], Made]], tick: Call
) -> Iterator[tuple[str, list[Step]]]:
    """The steps that work, taken once; "left_out" in the case gets the others' reasons."""
    case["left_out"] = {}
    for name, make in makers.items():
        try:
            step, _ = make()
            step()
        except Exception as error:  # others' software, of any version
            if name not in PEERS:
                raise
            case["left_out"][name] = first_line(error)
        else:
            yield name, [step]
        tick()


# ------------------------------------------------------------------------------------------ report
def report(cases: Sequence[Case]) -> str:
    """A table of all, and one of the ratios to the peers, from what `measure` gave."""
    rounds = len(cases[0]["seconds"][OWN])
    flops = f"{1e-9 * cases[0]['flops_per_second']:.0f} GFLOP/s"
    rates = {case["game"]: f"{1e-9 * case['bytes_per_second']:.0f} GB/s" for case in cases}
    title = (
        "step: one training step of a GAN, both players, float32, ms\n"
        f"median and quartiles of {rounds} rounds; ratio = time / minigan's captured step's, higher"
        " is better\n"
        f"of floor = floor / time; the floor is the products' multiply-adds at {flops},"
        f" as measured here,\nand the optimizers' bytes at"
        f" {', '.join(f'{rate} ({game})' for game, rate in rates.items())}"
    )
    heads = ["game", "batch", "", "ms", "25..75 %", "ratio", "25..75 %", "of floor"]
    rows = [row for case in cases for row in _rows(case)]
    return "\n\n".join([f"{title}\n\n{render(heads, rows, left=3)}", *_ratios(cases)])


def _rows(case: Case) -> Iterator[list[str]]:
    for name in (OWN, EAGER, *PEERS):
        first = [case["game"], str(case["batch"])] if name == OWN else ["", ""]
        if name in case["seconds"]:
            seconds = np.array(case["seconds"][name])
            against = ["", ""] if name == OWN else cells(ratio(case, name))
            share = f"{case['floor'] / np.median(seconds):.0%}"
            yield [*first, name, *cells(Spread.of(1e3 * seconds)), *against, share]
        else:
            yield [*first, name, _missing(case["left_out"].get(name)), *[""] * 4]


def _missing(reason: str | None) -> str:
    """Why there is no time, in a word or two; all of it is in the case."""
    if reason is None:
        return "not installed"
    return "no compiler" if "InvalidCxxCompiler" in reason else reason.split(":")[0]


def _ratios(cases: Sequence[Case]) -> Iterator[str]:
    """A row for each peer and one for the fastest of each case; nothing where there is none."""
    table = {
        name: [ratio(case, name).median if name in case["seconds"] else np.nan for case in cases]
        for name in PEERS
    }
    if np.isnan(list(table.values())).all():
        return
    table["the fastest peer"] = list(np.nanmin(list(table.values()), axis=0))
    heads = ["ratio to", *(f"{case['game']} {case['batch']}" for case in cases), "mean", "least"]
    rows = []
    for name, ratios in table.items():
        if not np.isnan(ratios).any():
            ends = [number(geometric_mean(ratios)), number(min(ratios))]
            rows.append([name, *map(number, ratios), *ends])
    yield f"{render(heads, rows)}\nmean: the geometric one"
