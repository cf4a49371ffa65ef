"""Print evaluations as tables: one run, several runs side by side, or runs of several seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..utils.names import printable
from .estimate import Estimate
from .evaluate import Evaluation, Measured

ARROWS = {"low": "lower is better", "high": "higher is better", None: ""}
Rows = list[list[str]]


def describe(evaluation: Evaluation) -> str:
    """Return a line on the run: its step, its data, and what was measured."""
    step, trained, steps = evaluation.step, evaluation.trained, evaluation.steps
    text = f"step {step}"
    if step < trained:
        text += f" of {trained}"
    elif trained < steps:
        text += f" of {steps}, not finished"
    return printable(f"{text}, data {evaluation.data}, {evaluation.held_out} held-out samples")


def one_run(evaluation: Evaluation) -> str:
    """Return the table of a run: each measure with its interval, beside that of real samples."""
    has_raw = any(x.without_average is not None for x in evaluation.measures)
    header = ["measure", "samples", "generated", "real", *(["G itself"] * has_raw), ""]
    rows = [
        [
            measured.label,
            str(measured.samples),
            with_error(measured.value, measured.error),
            number(measured.floor),
            *([number(measured.without_average)] * has_raw),
            ARROWS[measured.better],
        ]
        for measured in evaluation.measures
    ]
    return "\n".join([describe(evaluation), *aligned([header, *rows]), *notes([evaluation])])


def several_runs(evaluations: Mapping[str, Evaluation]) -> str:
    """Return a table with two columns per run: a measure, and the same of real samples."""
    runs = list(evaluations.values())
    names: dict[str, Measured] = {}
    for evaluation in runs:
        names |= {x.name: x for x in evaluation.measures if x.name not in names}
    header = ["measure", "samples", *(x for i in range(len(runs)) for x in (f"[{i + 1}]", "real"))]
    rows = []
    for name, measured in names.items():
        row = [measured.label, str(measured.samples)]
        for evaluation in runs:
            found = next((x for x in evaluation.measures if x.name == name), None)
            cells = ["", ""]
            if found is not None:
                cells = [with_error(found.value, found.error), number(found.floor)]
            row += cells
        rows.append([*row, ARROWS[measured.better]])
    folders = [
        f"[{i + 1}] {printable(folder)}: {describe(evaluation)}"
        for i, (folder, evaluation) in enumerate(evaluations.items())
    ]
    return "\n".join([*folders, *aligned([[*header, ""], *rows]), *notes(runs)])


def over_seeds(evaluations: Sequence[Evaluation]) -> str:
    """Return the table of runs of several seeds: means with their standard errors over seeds."""
    rows = []
    for first in evaluations[0].measures:
        found = [x for e in evaluations for x in e.measures if x.name == first.name]
        floors = [x.floor for x in found if x.floor is not None]
        rows.append(
            [
                first.label,
                str(first.samples),
                str(Estimate.of([x.value for x in found])),
                number(Estimate.of(floors).mean if floors else None),
                ARROWS[first.better],
            ]
        )
    count = len(evaluations)
    title = (
        f"step {evaluations[0].steps}, {count} seed{'s' * (count > 1)}, mean +- standard error over"
        " seeds"
    )
    lines = aligned([["measure", "samples", "generated", "real", ""], *rows])
    return "\n".join([title, *lines, *_notes(evaluations)])


def notes(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return lines on how to read a table: what is left out, and what does not compare."""
    lines = []
    if any(x.error is not None for e in evaluations for x in e.measures):
        lines.append("+-: half the 95 % interval of the mean over draws of the generator")
    lines.append("real: the same of training samples, the best that can be expected of a generator")
    for name, reason in dict.fromkeys(x for e in evaluations for x in e.left_out):
        lines.append(printable(f"left out: {name}: {reason}"))
    lines += _notes(evaluations)
    nets = {e.feature_net["key"]: e.feature_net["accuracy"] for e in evaluations if e.feature_net}
    if nets:
        texts = [f"{key} (accuracy {accuracy:.4f})" for key, accuracy in nets.items()]
        lines.append(
            f"classifier {', '.join(texts)}: distances of its features are not an FID, and do not"
            " compare with those of any other network"
        )
    return lines + _differences(evaluations, len(nets))


def _notes(evaluations: Sequence[Evaluation]) -> list[str]:
    texts = dict.fromkeys(x for e in evaluations for x in e.notes)
    return [f"note: {printable(text)}" for text in texts]


def _differences(evaluations: Sequence[Evaluation], nets: int) -> list[str]:
    """Return lines on what in a table of several runs cannot be compared."""
    lines = []
    data = list(dict.fromkeys(e.data for e in evaluations))
    if len(data) > 1:
        text = f"different data ({', '.join(data)}): numbers of one do not compare with another's"
        lines.append(printable(text))
    elif nets > 1:
        lines.append(
            "different classifiers, as the runs hold out different samples: their distances of"
            " features compare only roughly"
        )
    return lines


def with_error(value: float, error: float | None) -> str:
    """Return a number with its error: "0.1650 +- 0.0020"."""
    return number(value) + ("" if error is None else f" +- {number(error)}")


def number(value: float | None) -> str:
    """Return a number for a table; "-" for None."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.0f}"


def aligned(rows: Rows) -> list[str]:
    """Return the lines of a table; columns of numbers are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if i in (0, last) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
