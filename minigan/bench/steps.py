"""`minigan bench step`: one training step of each GAN, beside the same step in PyTorch and JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from . import lower_bound
from .harness import error_line, progress_bar
from .plan import Plan, Task
from .table import format_number, format_quartiles, format_table
from .tasks import Step, minigan_step, peer_arguments
from .timing import MINIGAN, Call, Case, Group, Quartiles, geometric_mean, median_seconds, ratio

EAGER = "minigan, eager"
# The module of `bench.peers` that makes each peer's step.
PEERS = {
    "PyTorch": "pytorch",
    "PyTorch, fused Adam": "pytorch",
    "PyTorch, compiled": "pytorch",
    "JAX": "xla",
}
Peers = Mapping[str, ModuleType]  # the modules whose packages are installed

# A step, and a function that returns both networks' state dicts.
StepAndStates = tuple[Step, Callable[[], Sequence[Mapping[str, np.ndarray]]]]


def contenders(task: Task, batch: int, peers: Peers) -> dict[str, Callable[[], StepAndStates]]:
    """Return by name the makers of steps; all start from equal weights and train on equal data."""
    arguments = peer_arguments(task, batch)
    own = {
        MINIGAN: partial(_minigan, task, arguments, True),
        EAGER: partial(_minigan, task, arguments, False),
    }
    return own | {
        name: partial(peers[module].STEPS[name], **arguments)
        for name, module in PEERS.items()
        if module in peers
    }


def _minigan(task: Task, arguments: Mapping[str, Any], captured: bool) -> StepAndStates:
    networks = task.build_networks()
    for net, player in zip(networks, ("player_g", "player_d"), strict=True):
        net.load_state_dict(arguments[player][1])
    step = minigan_step(task, networks, len(arguments["data"]), captured=captured)
    return step, lambda: [net.state_dict() for net in networks]


def groups(plan: Plan, peers: Peers, threads: int) -> list[Group]:
    """Return one group per task and batch size; a case holds the errors of peers that fail."""
    makers = [
        (case, contenders(plan.tasks[case["task"]], case["batch"], peers))
        for case in lower_bound.cases(plan.tasks, threads)
    ]
    with progress_bar("step: compiling", sum(len(x) for _, x in makers)) as bar:
        return [
            Group([case], dict(_compile_steps(case, steps, bar.update)), plan.step_seconds)
            for case, steps in makers
        ]


def _compile_steps(
    case: dict[str, Any], makers: Mapping[str, Callable[[], StepAndStates]], tick: Call
) -> Iterator[tuple[str, list[Step]]]:
    """Yield the steps that run, after one call; store errors of the others in case["skipped"]."""
    case["skipped"] = {}
    for name, make in makers.items():
        try:
            step, _ = make()
            step()
        except Exception as error:  # A peer may be of any version, and raise anything.
            if name not in PEERS:
                raise
            case["skipped"][name] = error_line(error)
        else:
            yield name, [step]
        tick()


# ------------------------------------------------------------------------------------------ report
def report(cases: Sequence[Case]) -> str:
    """Return a table of all contenders and one of the ratios to the peers."""
    rounds = len(cases[0]["seconds"][MINIGAN])
    flops = f"{1e-9 * cases[0]['flops_per_second']:.0f} GFLOP/s"
    rates = {case["task"]: f"{1e-9 * case['bytes_per_second']:.0f} GB/s" for case in cases}
    title = (
        "step: one training step of a GAN, both players, float32, ms\n"
        f"median and quartiles of {rounds} rounds; ratio = time / minigan's captured step's, higher"
        " is better\n"
        f"of bound = lower bound / time; the lower bound is the multiply-adds of the products at"
        f" {flops},\nas measured here, and the optimizers' memory traffic at"
        f" {', '.join(f'{rate} ({task})' for task, rate in rates.items())}"
    )
    heads = ["task", "batch", "", "ms", "25..75 %", "ratio", "25..75 %", "of bound"]
    rows = [row for case in cases for row in _rows(case)]
    return "\n\n".join([f"{title}\n\n{format_table(heads, rows, left=3)}", *_ratios(cases)])


def _rows(case: Case) -> Iterator[list[str]]:
    for name in (MINIGAN, EAGER, *PEERS):
        labels = [case["task"], str(case["batch"])] if name == MINIGAN else ["", ""]
        if name in case["seconds"]:
            milliseconds = 1e3 * np.array(case["seconds"][name])
            ratio_cells = ["", ""] if name == MINIGAN else format_quartiles(ratio(case, name))
            percent = f"{case['lower_bound'] / median_seconds(case, name):.0%}"
            time_cells = format_quartiles(Quartiles.of(milliseconds))
            yield [*labels, name, *time_cells, *ratio_cells, percent]
        else:
            yield [*labels, name, _describe_missing(case["skipped"].get(name)), *[""] * 4]


def _describe_missing(reason: str | None) -> str:
    """Return a short reason why a contender has no time; the case holds the full reason."""
    if reason is None:
        return "not installed"
    return "no compiler" if "InvalidCxxCompiler" in reason else reason.split(":")[0]


def _ratios(cases: Sequence[Case]) -> Iterator[str]:
    """Yield a table with a row per peer and one for the fastest peer, if there is any peer."""
    table = {
        name: [ratio(case, name).median if name in case["seconds"] else np.nan for case in cases]
        for name in PEERS
    }
    if np.isnan(list(table.values())).all():
        return
    table["the fastest peer"] = list(np.nanmin(list(table.values()), axis=0))
    columns = [f"{case['task']} {case['batch']}" for case in cases]
    rows = []
    for name, ratios in table.items():
        if not np.isnan(ratios).any():
            summary = [geometric_mean(ratios), min(ratios)]
            rows.append([name, *map(format_number, [*ratios, *summary])])
    heads = ["ratio to", *columns, "mean", "minimum"]
    yield f"{format_table(heads, rows)}\nmean: the geometric mean"
