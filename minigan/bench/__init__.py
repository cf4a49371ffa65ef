"""`minigan bench`: minigan's kernels and training steps, timed beside their peers.

No number here is a verdict by itself: the contenders run in turns, in one process, on the same
number of threads, and what counts is their ratio, with its spread.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, TextIO

from ..device import use_device
from ..names import choose
from . import matmul, steps
from .harness import FilePath, check_request, finished, progress_bar, same_random_numbers
from .kernels import KERNELS
from .machine import describe, header, thread_count
from .peers import blas, load_pytorch
from .plan import Plan
from .timing import Group, measure

BENCHMARKS = {"matmul": "the GAN's products beside BLAS", "step": "a training step beside PyTorch"}


def run(
    names: Sequence[str] = (),
    *,
    repeats: int = 9,
    threads: int | None = None,
    output: TextIO | None = None,
    json_path: FilePath = None,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """Measure, print a table for each benchmark, and return machine, plan and all samples.

    To be called in a fresh process, as `minigan bench` is: once minigan has computed something,
    a PyTorch that is loaded later no longer runs at its own speed (see the code).

    Args:
        names: of "matmul" and "step"; none means both.
        repeats: how many rounds.
        threads: for minigan and every peer; None: as many as minigan uses by itself.
        output: where the tables go; None: standard output.
        json_path: a file for what is returned, as JSON.
        plan: what to measure.

    Raises:
        ValueError: an unknown name; repeats or threads out of range; no folder to write JSON to.
    """
    chosen = list(dict.fromkeys(names)) or list(BENCHMARKS)
    for name in chosen:
        if name in KERNELS and name not in BENCHMARKS:
            raise ValueError(f"benchmark {name!r} is measured on devices: --devices says on which")
        choose("benchmark", name, BENCHMARKS)
    check_request(repeats, json_path)
    plan, output = plan or Plan(), output or sys.stdout
    # Before numba starts its threads: PyTorch would find numba's OpenMP library loaded and use that
    # in place of the one it ships, which makes its default Adam several times slower.
    pytorch = load_pytorch() if "step" in chosen else None
    with thread_count(threads, pytorch) as count, use_device("cpu"), same_random_numbers():
        machine = describe(count)
        print(header(machine), file=output, flush=True)
        result: dict[str, Any] = {"machine": machine, "repeats": repeats, "plan": asdict(plan)}
        for name in chosen:
            if name == "matmul":
                peer = blas.name()
                result[name] = _measure(name, matmul.groups(plan, peer), repeats, plan)
                text = matmul.report(result[name], peer)
            else:
                result[name] = _measure(name, steps.groups(plan, pytorch), repeats, plan)
                text = steps.report(result[name])
            print(f"\n{text}", file=output, flush=True)
    return finished(result, json_path)


def _measure(name: str, groups: list[Group], repeats: int, plan: Plan) -> list[dict[str, Any]]:
    """Every group's cases with their samples; a bar on stderr if it takes longer than 2 s."""
    for group in groups:  # what has to be compiled is, and is announced, before there is a bar
        for call in chain(*group.calls.values()):
            call()
    with progress_bar(name, repeats * sum(len(group.calls) for group in groups), "turn") as bar:
        return [
            case
            for group in groups
            for case in measure(group, repeats, plan.rest_seconds, bar.update)
        ]
