"""The confusion matrix of the doctor: runs in rows, findings in columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...bench.table import format_number, format_table
from ...utils.figures import BLUE, ORANGE, figure
from .healthy import HEALTHY
from .planted import PLANTED
from .runs import Result, run_all, run_case

SEEDS = (0, 1)
NAMES = tuple(PLANTED)  # of the findings: the test compares them with the rules'
ALL = {**PLANTED, **HEALTHY}


@dataclass(frozen=True)
class Matrix:
    """The results of all runs: by the name of the case, one for each seed."""

    results: Mapping[str, Sequence[Result]]

    def count(self, case: str, finding: str) -> int:
        """Return in how many runs of a case the doctor named a finding."""
        return sum(finding in result.findings for result in self.results[case])

    @property
    def missed(self) -> list[str]:
        """Each planted failure that was not named in all its runs."""
        return [
            name
            for name, results in self.results.items()
            if name in PLANTED and self.count(name, name) < len(results)
        ]

    @property
    def false_alarms(self) -> list[str]:
        """Each healthy run with a finding."""
        return [
            f"{name}: {', '.join(result.findings)}"
            for name, results in self.results.items()
            if name in HEALTHY
            for result in results
            if result.findings
        ]

    @property
    def further(self) -> list[str]:
        """Each planted run that has findings beside the right one."""
        return [
            f"{name}: {', '.join(others)}"
            for name, results in self.results.items()
            if name in PLANTED
            for result in results
            if (others := [finding for finding in result.findings if finding != name])
        ]


def measure_matrix(workers: int | None = None) -> Matrix:
    """Train the planted failures with two seeds each and the healthy runs with one; diagnose all.

    Args:
        workers: the number of processes; None: that of cores.
    """
    keys = [(name, seed) for name in PLANTED for seed in SEEDS] + [(name, 0) for name in HEALTHY]
    jobs = [partial(run_case, ALL[name], seed) for name, seed in keys]
    results = run_all(jobs, workers, "doctor")
    by_name: dict[str, list[Result]] = {name: [] for name in ALL}
    for (name, _), result in zip(keys, results, strict=True):
        by_name[name].append(result)
    return Matrix(by_name)


def rows(matrix: Matrix) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the rows of the matrix as a table, with the measure of each case."""
    numbers = {name: i + 1 for i, name in enumerate(NAMES)}
    heads = ["run", *map(str, numbers.values()), "measure", "value", "real"]
    table = []
    for name, results in matrix.results.items():
        counts = [matrix.count(name, finding) for finding in NAMES]
        title = f"{numbers[name]} {name}" if name in numbers else name
        values = ", ".join(_number(result.value) for result in results)
        cells = [ALL[name].measure, values, _number(results[0].floor)]  # all seeds have one floor
        table.append([title, *(str(n or ".") for n in counts), *cells])
    return heads, table


def _number(x: float) -> str:
    return f"{x:.0f}" if x == round(x) and abs(x) >= 1 else format_number(x)


def text(matrix: Matrix) -> str:
    """Return the matrix as a text table; a column is the finding that has the row's number."""
    return format_table(*rows(matrix))


def draw(matrix: Matrix, path: Path) -> None:
    """Write the matrix as a PNG: the share of a case's runs with each finding."""
    names = list(matrix.results)
    shares = np.array(
        [
            [matrix.count(name, finding) / len(matrix.results[name]) for finding in NAMES]
            for name in names
        ]
    )
    with figure(path, 9, 8.5) as drawing:
        axes = drawing.add_subplot()
        for (i, j), share in np.ndenumerate(shares):
            if share:
                size = 0.86 * share**0.5
                axes.add_patch(_square(j, i, size, BLUE if names[i] == NAMES[j] else ORANGE))
        axes.set_xticks(range(len(NAMES)), NAMES, rotation=40, ha="left", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.xaxis.tick_top()
        axes.tick_params(which="both", length=0)
        axes.set(xlim=(-0.5, len(NAMES) - 0.5), ylim=(len(names) - 0.5, -0.5))
        axes.set_xticks(np.arange(-0.5, len(NAMES)), minor=True)
        axes.set_yticks(np.arange(-0.5, len(names)), minor=True)
        axes.grid(which="minor", color="0.87", linewidth=0.8)
        axes.axhline(len(PLANTED) - 0.5, color="0.33", linewidth=1.5)
        for side in axes.spines.values():
            side.set_visible(False)


def _square(x: float, y: float, size: float, colour: str) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle((x - size / 2, y - size / 2), size, size, color=colour, lw=0)
