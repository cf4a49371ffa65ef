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
        before, after: the results.
    """

    name: str
    before: tuple[Result, ...]
    after: tuple[Result, ...]

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The options of the remedy; several where the doctor proposes others for another seed."""
        proposed = [changes_for(self.name, result) for result in self.before]
        return [x for i, x in enumerate(proposed) if x not in proposed[:i]]

    def estimate(self, when: str) -> Estimate:
        """Return mean and standard error of the measure "before" or "after"."""
        return Estimate.of([result.value for result in getattr(self, when)])

    @property
    def is_better(self) -> bool:
        """Whether each seed's run is better with the remedy."""
        sign = 1 if MEASURES[PLANTED[self.name].measure].is_better_high else -1
        pairs = zip(self.before, self.after, strict=True)
        return all(sign * after.value > sign * before.value for before, after in pairs)


def changes_for(name: str, result: Result) -> dict[str, Any]:
    """Return the changes that the doctor proposes for a failure, and those of its text."""
    return {**result.changes.get(name, {}), **PLANTED[name].remedy}


def remedied_runs(name: str, seed: int) -> Remedied:
    """Train a planted failure, and again with what the doctor proposes for it."""
    before = run_case(PLANTED[name], seed)
    after = run_case(PLANTED[name], seed, changes_for(name, before))
    return Remedied(name, (before,), (after,))


def measure_remedies(
    workers: int | None = None, names: Sequence[str] = tuple(PLANTED)
) -> list[Remedied]:
    """Return the planted failures with and without their remedies, three seeds each."""
    keys = [(name, seed) for name in names for seed in SEEDS]
    jobs = [partial(remedied_runs, name, seed) for name, seed in keys]
    runs = run_all(jobs, workers, "remedies")
    return [_joined([run for run in runs if run.name == name]) for name in names]


def _joined(runs: Sequence[Remedied]) -> Remedied:
    """Return the runs of several seeds as one."""
    before, after = (tuple(x for run in runs for x in getattr(run, when)) for when in _WHEN)
    return Remedied(runs[0].name, before, after)


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
    """Return the changed options as options of the command line, without those left at default."""
    given = PLANTED[remedy.name].options
    texts = []
    for changes in remedy.changes:
        shown = {k: x for k, x in changes.items() if x is not None or k in given}
        texts.append(" ".join(map(_option, shown.items())) or "(none)")
    return " or ".join(texts)


def _option(item: tuple[str, Any]) -> str:
    name, value = item
    option = f"`--{name.replace('_', '-')}"
    return f"{option}`" if value is True else f"{option} {_value(value)}`"


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "default" if value is None else str(value)


def _mean(estimate: Estimate) -> str:
    return f"{format_number(estimate.mean)} ± {format_number(estimate.error)}"
