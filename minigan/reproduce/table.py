"""The table of an experiment's results, as Markdown: rows measured here, then published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..bench.table import format_markdown, format_table
from .experiment import Experiment, Measure


def markdown(experiment: Experiment, document: Mapping[str, Any]) -> str:
    """Return the table of results as Markdown, with the missed goals and the source below it.

    Args:
        experiment: what was measured.
        document: the content of results.json.
    """
    return "\n\n".join(
        [format_markdown(*_cells(experiment, document)), *_notes(experiment, document)]
    )


def text(experiment: Experiment, document: Mapping[str, Any]) -> str:
    """Return the same table with aligned columns, for a terminal."""
    table = format_table(*_cells(experiment, document))
    return "\n\n".join([table, *_notes(experiment, document)])


def _notes(experiment: Experiment, document: Mapping[str, Any]) -> list[str]:
    notes = [f"*Published:* {experiment.source}."] if experiment.published else []
    return notes + [f"Goal missed: {goal}." for goal in document["missed_goals"]]


def _cells(
    experiment: Experiment, document: Mapping[str, Any]
) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the rows of the table; the seconds per seed are the last column."""
    heads = ["", *(measure.title for measure in experiment.measures.values()), "s / seed"]
    rows = []
    for name, case in document["cases"].items():
        numbers = [
            format_estimate(case["mean"].get(key), case["error"].get(key), measure)
            for key, measure in experiment.measures.items()
        ]
        seconds = sum(case["seconds"]) / len(case["seconds"])
        rows.append([name, *numbers, f"{seconds:.{0 if seconds >= 10 else 1}f}"])
    for name, texts in experiment.published.items():
        rows.append([f"*{name}*", *(texts.get(key, "") for key in experiment.measures), ""])
    return heads, rows


def format_estimate(mean: float | None, error: float | None, measure: Measure) -> str:
    """Return "mean ± error"; the mean alone without an error, "-" without a finite mean."""
    if mean is None or not math.isfinite(mean):
        return "-"
    text = f"{mean * measure.scale:.{measure.digits}f}"
    if error is None or not math.isfinite(error):
        return text
    return f"{text} ± {error * measure.scale:.{measure.digits}f}"


def missed_goals(experiment: Experiment, document: Mapping[str, Any]) -> list[str]:
    """Return a text for each goal that the mean over seeds does not meet.

    Goals are about values as they are stored, without the factor of their column.
    """
    return [
        f"{name}, {key}: {_text(mean)}, not {goal}"
        for name, case in experiment.cases.items()
        for key, goal in case.goals.items()
        for mean in [document["cases"][name]["mean"][key]]
        if mean is None or not goal.is_met(mean)  # None: not finite, from a file
    ]


def _text(mean: float | None) -> str:
    return f"{mean:.4g}" if mean is not None and math.isfinite(mean) else "not finite"


def minutes(documents: Sequence[Mapping[str, Any]], cores: int = 2) -> float:
    """Return how long all seeds take on a number of cores, in minutes, from the seconds of each."""
    seconds = [s for doc in documents for case in doc["cases"].values() for s in case["seconds"]]
    return sum(seconds) / 60 / cores
