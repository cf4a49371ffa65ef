"""`minigan bench`: time minigan's kernels and training steps beside their peers.

All contenders run in one process on the same number of threads, in interleaved rounds. The results
to compare are the ratios of times within a round, given by median and quartiles.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from ..engine.device import use_device
from ..engine.random import fork_rng
from ..utils.names import choose
from . import conv, lower_bound, matmul, memory, roofline, steps
from .harness import (
    FilePath,
    check_options,
    progress_bar,
    write_result,
)
from .kernels import KERNELS
from .machine import describe, header, thread_count
from .peers import blas, load
from .plan import Plan
from .steps import Peers
from .timing import Group, measure


@dataclass(frozen=True)
class Setup:
    """The arguments of a benchmark; `peers` holds the modules that it needs and are installed."""

    plan: Plan
    repeats: int
    threads: int
    peers: Peers


@dataclass(frozen=True)
class Benchmark:
    """One of the names that `minigan bench` takes.

    Args:
        run: returns the result in JSON types, and a text.
        peers: the names of the modules of `bench.peers` that it needs in this process.
        is_default: whether it runs if no names are given.
        draw: writes a PNG of the result.
    """

    run: Callable[[Setup], tuple[Any, str]]
    peers: tuple[str, ...] = ()
    is_default: bool = False
    draw: Callable[[Any, Path], None] | None = None


# ------------------------------------------------------------------------------------- benchmarks
def _matmul(setup: Setup) -> tuple[Any, str]:
    peer = blas.name()
    cases = _measure("matmul", matmul.groups(setup.plan, peer), setup)
    return cases, matmul.report(cases, peer)


def _step(setup: Setup) -> tuple[Any, str]:
    """Measure steps, and the peak before and after: other processes may disturb one of them."""
    rates = [lower_bound.fma_rate(setup.threads)]
    cases = _measure("step", steps.groups(setup.plan, setup.peers, setup.threads), setup)
    rates.append(lower_bound.fma_rate(setup.threads))
    cases = lower_bound.with_bounds(cases, max(rates))
    return cases, steps.report(cases)


def _kernels(setup: Setup) -> tuple[Any, str]:
    """Measure the machine's peaks several times, since other processes may disturb some of them."""
    peaks, cases = [roofline.measure_peaks(setup.plan, setup.threads)], []
    for group in roofline.groups(setup.plan, setup.threads):
        cases += _measure("kernels", [group], setup)
        peaks.append(roofline.measure_peaks(setup.plan, setup.threads))
    result = {**roofline.best_peaks(peaks), "cases": cases}
    return result, roofline.report(result)


def _conv(setup: Setup) -> tuple[Any, str]:
    cases = _measure("conv", conv.groups(setup.plan, setup.peers, setup.threads), setup)
    return cases, conv.report(cases)


def _memory(setup: Setup) -> tuple[Any, str]:
    cases = memory.measure(setup.plan, setup.threads)
    return cases, memory.report(cases)


BENCHMARKS = {
    "matmul": Benchmark(_matmul, is_default=True),
    "step": Benchmark(_step, ("pytorch", "xla"), is_default=True),
    "conv": Benchmark(_conv, (conv.MODULE,)),
    "kernels": Benchmark(_kernels, draw=roofline.draw),
    "memory": Benchmark(_memory),
}


def run(
    names: Sequence[str] = (),
    *,
    repeats: int = 9,
    threads: int | None = None,
    output: TextIO | None = None,
    json_path: FilePath = None,
    figure_path: FilePath = None,
    tasks: Sequence[str] = (),
    plan: Plan | None = None,
) -> dict[str, Any]:
    """Measure, print a table for each benchmark, and return machine, plan and all samples.

    Call it in a new process, as `minigan bench` does: PyTorch is slower if it is imported after
    minigan has computed something (a comment in the code has the reason).

    Args:
        names: of `BENCHMARKS`; none means matmul and step.
        repeats: the number of rounds.
        threads: the number for minigan and every peer; None: minigan's default.
        output: the stream for the tables; None: standard output.
        json_path: a file for the result as JSON.
        figure_path: a file for a PNG, accepted if kernels is the only name.
        tasks: names of the plan's tasks whose steps `step` measures; none means all.
        plan: the tasks, sizes and durations.

    Raises:
        ValueError: an unknown name; repeats or threads out of range; no folder to write to; a
            figure of a benchmark that has none, or of several; tasks for another benchmark.
    """
    selected = _select(names)
    check_options(repeats, json_path, figure_path)
    draw = _figure_function(selected, figure_path)
    plan, output = _select_tasks(plan or Plan(), tasks, selected), output or sys.stdout
    # Peers are imported before numba starts its threads: otherwise PyTorch would use numba's OpenMP
    # library instead of its own, which makes its default Adam several times slower.
    modules = dict.fromkeys(chain(*(BENCHMARKS[name].peers for name in selected)))
    peers = {name: module for name in modules if (module := load(name)) is not None}
    with (
        thread_count(threads, *peers.values()) as count,
        use_device("cpu"),
        fork_rng(),
    ):
        machine = describe(count)
        print(header(machine), file=output, flush=True)
        result: dict[str, Any] = {"machine": machine, "repeats": repeats, "plan": asdict(plan)}
        for name in selected:
            benchmark = BENCHMARKS[name]
            own_peers = {k: module for k, module in peers.items() if k in benchmark.peers}
            result[name], text = benchmark.run(Setup(plan, repeats, count, own_peers))
            print(f"\n{text}", file=output, flush=True)
    result = write_result(result, json_path)
    if figure_path is not None and draw is not None:
        draw(result[selected[0]], Path(figure_path))
    return result


def _select(names: Sequence[str]) -> list[str]:
    """Return the benchmarks to run, each once."""
    defaults = [name for name, benchmark in BENCHMARKS.items() if benchmark.is_default]
    selected = list(dict.fromkeys(names)) or defaults
    for name in selected:
        if name in KERNELS and name not in BENCHMARKS:
            raise ValueError(f"benchmark {name!r} needs --devices, say --devices cpu,cuda")
        choose("benchmark", name, BENCHMARKS)
    return selected


def _select_tasks(plan: Plan, tasks: Sequence[str], selected: Sequence[str]) -> Plan:
    """Return the plan with these tasks only; without names, with all."""
    if not tasks:
        return plan
    if list(selected) != ["step"]:
        names = ", ".join(selected)
        raise ValueError(f"tasks = {', '.join(tasks)} need step as the only benchmark, not {names}")
    return replace(plan, tasks={name: choose("task", name, plan.tasks) for name in tasks})


def _figure_function(
    selected: Sequence[str], figure_path: FilePath
) -> Callable[[Any, Path], None] | None:
    """Return the function that draws the figure of the one selected benchmark, or None."""
    draw = BENCHMARKS[selected[0]].draw
    if figure_path is not None and (draw is None or len(selected) > 1):
        names = [name for name, benchmark in BENCHMARKS.items() if benchmark.draw]
        raise ValueError(
            f"{figure_path}: a figure shows one benchmark, {' or '.join(names)} (or, with"
            f" --devices, kernels over sizes), not {', '.join(selected)}"
        )
    return draw


def _measure(name: str, groups: list[Group], setup: Setup) -> list[dict[str, Any]]:
    """Return every group's cases with their samples, under a progress bar."""
    for group in groups:  # The first calls compile, which is announced, before the bar appears.
        for call in chain(*group.calls.values()):
            call()
    runs = setup.repeats * sum(len(group.calls) for group in groups)
    with progress_bar(name, runs) as bar:
        return [
            case
            for group in groups
            for case in measure(group, setup.repeats, setup.plan.rest_seconds, bar.update)
        ]
