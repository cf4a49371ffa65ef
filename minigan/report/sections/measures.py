"""The measures of `minigan evaluate`, each beside its floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..gather import RunReport
from ..markup import NONE, Html, join, note, number, plural, table, tag
from .layout import section


def measures_section(runs: Sequence[RunReport]) -> Html:
    """Return the measures of one run with intervals, or those of several beside each other."""
    measured = [run for run in runs if run.content.evaluation]
    parts: list[Html] = []
    if len(measured) == 1:
        parts = [_one_table(measured[0], measured[0].name if runs[1:] else "")]
    elif measured:
        parts = [_common_table(measured)]
    missing = [run for run in runs if not run.content.evaluation]
    if missing:
        names = ", ".join(run.name for run in missing)
        of = f" of {names}" if len(runs) > 1 else ""
        command, only = tag("code", "minigan evaluate RUN"), tag("code", "--only")
        text = f"There are no stored measures{of}: "
        parts.append(note(text, command, " takes and stores them (none with ", only, ")."))
    for run in missing:
        if "measures" in run.reasons:
            parts.append(note(f"{run.name} cannot be measured: {run.reasons['measures']}."))
    parts += [x for run in measured for x in _remarks(run, len(runs) > 1)]
    text = (
        "The floor of a measure is its value for real samples, as many as there are generated ones:"
        " no generator can be expected to be better."
    )
    return section("measures", "Measures", tag("p", text), *parts)


def _remarks(run: RunReport, is_one_of_several: bool) -> list[Html]:
    """Return what else is to say of an evaluation: another step, notes, and what was left out."""
    evaluation, name = run.content.evaluation or {}, run.name if is_one_of_several else "The run"
    remarks = []
    if evaluation["step"] != run.step:
        step = f"{evaluation['step']:,}"
        remarks.append(note(f"{name} was measured at step {step}, and is at {run.step:,}."))
    net = evaluation.get("feature_net")
    if isinstance(net, dict) and type(net.get("accuracy")) is float:
        text = f"Distances of features are those of minigan's own classifier of {_data(run)}, which"
        text += f" gets {net['accuracy']:.1%} of held-out samples right: they do not compare with"
        remarks.append(tag("p", f"{text} an FID of another network.", class_="help"))
    notes = evaluation.get("notes")
    for text in notes if isinstance(notes, list) else []:
        remarks.append(note(f"{run.name}: {text}." if is_one_of_several else f"Note: {text}."))
    left_out = evaluation.get("left_out")
    for item in left_out if isinstance(left_out, list) else []:
        if isinstance(item, dict):
            why = f"{item.get('name')} is left out: {item.get('reason')}."
            remarks.append(tag("p", f"{run.name}: {why}" if is_one_of_several else why))
    return remarks


def _data(run: RunReport) -> str:
    return str(run.content.options.get("data")).rsplit("/", 1)[-1]


def _measures(run: RunReport) -> list[Mapping[str, Any]]:
    return list((run.content.evaluation or {}).get("measures", []))


def _label(measure: Mapping[str, Any]) -> Html:
    better = {"low": "lower is better", "high": "higher is better"}.get(str(measure.get("better")))
    label = str(measure.get("label") or measure["name"])
    return join([label, tag("small", f"{better}") if better else ""], " ")


def _interval(measure: Mapping[str, Any]) -> str:
    low, high = measure.get("low"), measure.get("high")
    return NONE if low is None or high is None else f"{number(low)} to {number(high)}"


def _one_table(run: RunReport, owner: str = "") -> Html:
    """Return the measures of a run; `owner` is its name, where the page shows several."""
    rows = []
    for measure in _measures(run):
        count = measure.get("samples")
        samples = f"{count:,}" if type(count) is int else NONE
        values = number(measure.get("value")), number(measure.get("floor")), _interval(measure)
        rows.append((_label(measure), *values, samples))
    step = (run.content.evaluation or {})["step"]
    caption = f"{owner}, measured" if owner else "Measured"
    caption += f" at step {step:,}; intervals are of 95 %"
    head = ("measure", "generated", "real (floor)", "interval", "samples")
    return table(caption, head, rows, numbers=(1, 2, 3, 4))


def _common_table(runs: Sequence[RunReport]) -> Html:
    """Return a row for each measure and a column for each run.

    The best of a row is bold, if all runs were measured by the same held-out samples, and features
    of the same classifier: other measures do not compare, or only roughly.
    """
    difference = _difference(runs)
    found = [{str(m["name"]): m for m in _measures(run)} for run in runs]
    rows = []
    for name in dict.fromkeys(name for measures in found for name in measures):
        cells = [measures.get(name) for measures in found]
        best = None if difference else _best(cells)
        first = next(cell for cell in cells if cell)
        rows.append((_label(first), *(_cell(cell, best) for cell in cells)))
    caption = f"Measures of {plural(len(runs), 'run')}, floors in brackets; "
    caption += f"{difference}, so none is the best" if difference else "bold: best of a row"
    return table(caption, ("measure", *(run.name for run in runs)), rows, range(1, len(runs) + 1))


def _difference(runs: Sequence[RunReport]) -> str:
    """Return in words what the measures of runs do not have in common; "" where they compare."""
    digests = [None if run.trained is None else run.trained.data.get("values") for run in runs]
    splits = {str([run.content.options.get(x) for x in ("holdout", "seed")]) for run in runs}
    nets = [(run.content.evaluation or {}).get("feature_net") for run in runs]
    keys = {str(net.get("key")) for net in nets if isinstance(net, dict)}
    if len(set(digests) - {None}) > 1:
        return "their data differ"
    if None in digests:
        return "whether their data are the same is not known"
    if len(splits) > 1:
        return "their held-out samples differ (holdout, seed)"
    return "their classifiers differ" if len(keys) > 1 else ""


def _best(cells: Sequence[Mapping[str, Any] | None]) -> float | None:
    """Return the best value of several measures; None where there is none, or all are equal."""
    measures = [cell for cell in cells if cell]
    values = [cell["value"] for cell in measures]
    kinds = {cell.get("better") for cell in measures}
    # A value that is missing may be better: older versions wrote null for infinity.
    if None in values or len(set(values)) < 2 or len(kinds) > 1 or not kinds <= {"low", "high"}:
        return None
    best: float = min(values) if kinds == {"low"} else max(values)
    return best


def _cell(measure: Mapping[str, Any] | None, best: float | None) -> Html:
    if measure is None:
        return Html(NONE)
    value = number(measure["value"])
    floor = measure.get("floor")
    small = "" if floor is None else tag("small", f"({number(floor)})")
    is_best = best is not None and measure["value"] == best
    return join([tag("strong", value) if is_best else value, small], " ")
