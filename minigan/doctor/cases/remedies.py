"""Whether the doctor's remedies help: each planted failure with and without them, three seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...bench.table import format_number
from ...evaluation.estimate import Estimate
from .measures import MEASURES
from .planted import PLANTED
from .runs import Result, run_all, run_case

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Remedied:
    """A planted failure and the same run with the remedy, for each seed.

    Attributes:
        name: of the failure.
        changes: the options of the remedy.
        by_doctor: whether the doctor proposed them; else they are what its text says of own nets.
        before, after: the results.
    """

    name: str
    changes: dict[str, Any]
    by_doctor: bool
    before: tuple[Result, ...]
    after: tuple[Result, ...]

    def estimate(self, when: str) -> Estimate:
        """Return mean and standard error of the measure "before" or "after"."""
        return Estimate.of([result.value for result in getattr(self, when)])

    @property
    def is_better(self) -> bool:
        """Whether each seed's run is better with the remedy."""
        sign = 1 if MEASURES[PLANTED[self.name].measure].is_better_high else -1
        pairs = zip(self.before, self.after, strict=True)
        return all(sign * after.value > sign * before.value for before, after in pairs)


def remedied_runs(name: str, seed: int) -> Remedied:
    """Train a planted failure, and again with what the doctor proposes for it."""
    case = PLANTED[name]
    before = run_case(case, seed)
    proposed = before.changes.get(name, {})
    changes = {**proposed, **case.remedy}
    after = run_case(case, seed, changes)
    return Remedied(name, changes, not case.remedy, (before,), (after,))


def measure_remedies(
    workers: int | None = None, names: Sequence[str] = tuple(PLANTED)
) -> list[Remedied]:
    """Return the planted failures with and without their remedies, three seeds each."""
    keys = [(name, seed) for name in names for seed in SEEDS]
    jobs = [partial(remedied_runs, name, seed) for name, seed in keys]
    runs = run_all(jobs, workers, "remedies")
    return [_joined([run for run in runs if run.name == name]) for name in names]


def _joined(runs: Sequence[Remedied]) -> Remedied:
    """Return the runs of several seeds as one; their changes are those of the first."""
    before, after = (tuple(x for run in runs for x in getattr(run, k)) for k in _WHEN)
    return Remedied(runs[0].name, runs[0].changes, runs[0].by_doctor, before, after)


_WHEN = ("before", "after")


def rows(remedies: Sequence[Remedied]) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the rows of the table of remedies."""
    heads = ["planted failure", "remedy", "measure", "before", "after", "real data"]
    table = []
    for remedy in remedies:
        measure = PLANTED[remedy.name].measure
        cells = [_mean(remedy.estimate(when)) for when in _WHEN]
        floor = format_number(Estimate.of([x.floor for x in remedy.before]).mean)
        table.append([remedy.name, options_text(remedy), measure, *cells, floor])
    return heads, table


def options_text(remedy: Remedied) -> str:
    """Return the changed options as options of the command line."""
    parts = [
        f"--{name.replace('_', '-')} {value:g}"
        if isinstance(value, float)
        else f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
        for name, value in remedy.changes.items()
    ]
    return " ".join(parts) or "(none)"


def _mean(estimate: Estimate) -> str:
    return f"{format_number(estimate.mean)} ± {format_number(estimate.error)}"
