"""`minigan bench`: minigan's kernels and training steps, timed beside their peers.

No number here is a verdict by itself: the contenders run in turns, in one process, on the same
number of threads, and what counts is their ratio, with its spread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from ..engine.device import use_device
from ..utils.names import choose
from . import conv, matmul, memory, modes, roofline, steps
from .harness import FilePath, check_request, finished, progress_bar, same_random_numbers
from .kernels import KERNELS
from .machine import describe, header, thread_count
from .peers import blas, load
from .plan import Plan
from .steps import Peers
from .timing import Group, measure


@dataclass(frozen=True)
class Setup:
    """What a benchmark is given; `peers` has the modules that it asked for and can have."""

    plan: Plan
    repeats: int
    threads: int
    peers: Peers


@dataclass(frozen=True)
class Benchmark:
    """One of the names that `minigan bench` takes.

    Args:
        run: gives what is found, for JSON, and a text.
        peers: the modules of `bench.peers` that it needs in this process.
        unasked: whether it is run where no names are given.
        draw: makes a PNG of what was found.
    """

    run: Callable[[Setup], tuple[Any, str]]
    peers: tuple[str, ...] = ()
    unasked: bool = False
    draw: Callable[[Any, Path], None] | None = None


# ------------------------------------------------------------------------------------- benchmarks
def _matmul(setup: Setup) -> tuple[Any, str]:
    peer = blas.name()
    cases = _measure("matmul", matmul.groups(setup.plan, peer), setup)
    return cases, matmul.report(cases, peer)


def _step(setup: Setup) -> tuple[Any, str]:
    cases = _measure("step", steps.groups(setup.plan, setup.peers, setup.threads), setup)
    return cases, steps.report(cases)


def _kernels(setup: Setup) -> tuple[Any, str]:
    """The machine's peaks are the best of several times: others may be at work in some of them."""
    peaks, cases = [roofline.peaks(setup.plan, setup.threads)], []
    for group in roofline.groups(setup.plan, setup.threads):
        cases += _measure("kernels", [group], setup)
        peaks.append(roofline.peaks(setup.plan, setup.threads))
    found = {**roofline.best(peaks), "cases": cases}
    return found, roofline.report(found)


def _conv(setup: Setup) -> tuple[Any, str]:
    cases = _measure("conv", conv.groups(setup.plan, setup.peers, setup.threads), setup)
    return cases, conv.report(cases)


def _memory(setup: Setup) -> tuple[Any, str]:
    found = memory.measure(setup.plan, setup.threads)
    return found, memory.report(found)


def _modes(setup: Setup) -> tuple[Any, str]:
    contests = setup.plan.contests
    cases = modes.measure(contests)
    return cases, modes.report(cases, contests)


BENCHMARKS = {
    "matmul": Benchmark(_matmul, unasked=True),
    "step": Benchmark(_step, ("pytorch", "xla"), unasked=True),
    "conv": Benchmark(_conv, (conv.MODULE,)),
    "kernels": Benchmark(_kernels, draw=roofline.draw),
    "memory": Benchmark(_memory),
    "modes": Benchmark(_modes),
}


def run(
    names: Sequence[str] = (),
    *,
    repeats: int = 9,
    threads: int | None = None,
    output: TextIO | None = None,
    json_path: FilePath = None,
    figure_path: FilePath = None,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """Measure, print a table for each benchmark, and return machine, plan and all samples.

    To be called in a fresh process, as `minigan bench` is: once minigan has computed something,
    a PyTorch that is loaded later no longer runs at its own speed (see the code).

    Args:
        names: of `BENCHMARKS`; none means matmul and step.
        repeats: how many rounds.
        threads: for minigan and every peer; None: as many as minigan uses by itself.
        output: where the tables go; None: standard output.
        json_path: a file for what is returned, as JSON.
        figure_path: a PNG, where kernels is the one benchmark that is chosen.
        plan: what to measure.

    Raises:
        ValueError: an unknown name; repeats or threads out of range; no folder to write to; a
            figure of what has none, or of several benchmarks.
    """
    unasked = [name for name, benchmark in BENCHMARKS.items() if benchmark.unasked]
    chosen = list(dict.fromkeys(names)) or unasked
    for name in chosen:
        if name in KERNELS and name not in BENCHMARKS:
            raise ValueError(f"benchmark {name!r} is measured on devices: --devices says on which")
        choose("benchmark", name, BENCHMARKS)
    check_request(repeats, json_path, figure_path)
    draw = BENCHMARKS[chosen[0]].draw
    if figure_path is not None and (draw is None or len(chosen) > 1):
        drawn = [name for name, benchmark in BENCHMARKS.items() if benchmark.draw]
        raise ValueError(
            f"{figure_path}: a figure shows one benchmark, {' or '.join(drawn)} (or, with"
            f" --devices, kernels over sizes), not {', '.join(chosen)}"
        )
    plan, output = plan or Plan(), output or sys.stdout
    # Before numba starts its threads: PyTorch would find numba's OpenMP library loaded and use that
    # in place of the one it ships, which makes its default Adam several times slower.
    asked = dict.fromkeys(chain(*(BENCHMARKS[name].peers for name in chosen)))
    found = {name: module for name in asked if (module := load(name)) is not None}
    with thread_count(threads, *found.values()) as count, use_device("cpu"), same_random_numbers():
        machine = describe(count)
        print(header(machine), file=output, flush=True)
        result: dict[str, Any] = {"machine": machine, "repeats": repeats, "plan": asdict(plan)}
        for name in chosen:
            benchmark = BENCHMARKS[name]
            peers = {k: module for k, module in found.items() if k in benchmark.peers}
            result[name], text = benchmark.run(Setup(plan, repeats, count, peers))
            print(f"\n{text}", file=output, flush=True)
    result = finished(result, json_path)
    if figure_path is not None and draw is not None:
        draw(result[chosen[0]], Path(figure_path))
    return result


def _measure(name: str, groups: list[Group], setup: Setup) -> list[dict[str, Any]]:
    """Every group's cases with their samples; a bar on stderr if it takes longer than 2 s."""
    for group in groups:  # what has to be compiled is, and is announced, before there is a bar
        for call in chain(*group.calls.values()):
            call()
    turns = setup.repeats * sum(len(group.calls) for group in groups)
    with progress_bar(name, turns, "turn") as bar:
        return [
            case
            for group in groups
            for case in measure(group, setup.repeats, setup.plan.rest_seconds, bar.update)
        ]
