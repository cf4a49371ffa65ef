"""The findings of `minigan doctor`: what is wrong, the number that shows it, and a remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...doctor import Diagnosis, Finding, Gauge
from ..charts import Chart, Series
from ..curves import draw
from ..gather import RunReport
from ..markup import Html, join, note, number, plural, table, tag
from .layout import columns, section
from .options import show


def findings_section(runs: Sequence[RunReport]) -> tuple[Html, dict[str, Any]]:
    """Return the findings of each run, and what the page's script needs to know of its curves."""
    data: dict[str, Any] = {}

    def findings(run: RunReport) -> Html:
        if run.diagnosis is None:
            return note("There is no diagnosis: ", run.reasons["diagnosis"], ".")
        return _diagnosis(run.diagnosis, run.ident, data)

    text = (
        "Gauges show the usual failures of a training. A rule looks at one or several: where all of"
        " them are beyond their thresholds, it finds a failure. A remedy is what to try first."
    )
    return section("doctor", "Diagnosis", tag("p", text), columns(runs, findings)), data


def _diagnosis(diagnosis: Diagnosis, ident: str, data: dict[str, Any]) -> Html:
    """Return the findings of a run; the curves of their gauges are added to `data`."""
    parts: list[Html] = []
    for i, finding in enumerate(diagnosis.findings):
        gauge = diagnosis.gauges.get(finding.gauge)
        parts.append(_card(finding, gauge, f"{ident}-finding-{i}", data))
    gauges = diagnosis.gauges
    if not parts and diagnosis.has_gauges:
        parts = [_nothing_found(diagnosis)]
    parts += [note(f"{text[:1].upper()}{text[1:]}.") for text in diagnosis.notes]
    return join([*parts, _gauges(gauges)] if gauges else parts)


def _nothing_found(diagnosis: Diagnosis) -> Html:
    """Return that no rule found anything, and which gauges alone are beyond their thresholds."""
    beyond = [x for x in diagnosis.gauges.values() if _is_beyond(x)]
    text = f"Nothing found at step {diagnosis.step:,}: no rule has all its gauges beyond thresholds"
    if beyond:
        text += f". Beyond a threshold alone: {', '.join(map(_against_threshold, beyond))}"
    is_far = any(x.name == "quality" for x in beyond)
    text += ". Its samples are still far from the data, for a reason that is not known" * is_far
    return tag("p", f"{text}.", class_="note" if is_far else "healthy")


def _is_beyond(gauge: Gauge) -> bool:
    if gauge.value is None or gauge.threshold is None:
        return False
    return gauge.value > gauge.threshold if gauge.above else gauge.value < gauge.threshold


def _against_threshold(gauge: Gauge) -> str:
    return f"{gauge.name} {number(gauge.value)} ({_bound(gauge)})"


def _bound(gauge: Gauge) -> str:
    if gauge.threshold is None:
        return "none"
    return f"{'above' if gauge.above else 'below'} {number(gauge.threshold, 3)}"


def _card(finding: Finding, gauge: Gauge | None, ident: str, data: dict[str, Any]) -> Html:
    side = "above" if finding.above else "below"
    value = f"{finding.gauge} is {number(finding.value)} ({finding.summary});"
    value += f" {side} {number(finding.threshold)} is bad"
    parts = [
        tag("h4", finding.title),
        tag("p", value, class_="help"),
        tag("p", finding.explanation),
        tag("p", tag("strong", "Remedy: "), finding.remedy),
    ]
    if finding.changes:
        changes = "\n".join(f"{name} = {show(x)}" for name, x in finding.changes.items())
        parts.append(tag("pre", tag("code", *_lines(changes))))
    if gauge is not None and len(gauge.steps) > 1:
        chart = _gauge_chart(gauge, finding.threshold)
        data[ident] = chart.data()
        text = f"{gauge.name}: {gauge.description}. The number above the curve is of one step."
        parts += [draw(chart, ident), tag("p", text, class_="help")]
    return tag("article", *parts, class_="finding")


def _lines(text: str) -> list[Html]:
    """Return lines of text, each in an element of its own."""
    return [tag("span", line, class_="line") for line in text.splitlines()]


def _gauge_chart(gauge: Gauge, threshold: float) -> Chart:
    series = Series(gauge.name, gauge.values, "d", threshold, "threshold")
    return Chart("gauge", gauge.name, gauge.unit, gauge.steps, [series])


def _gauges(gauges: Mapping[str, Gauge]) -> Html:
    """Return a table of all gauges, folded."""
    rows = []
    for gauge in gauges.values():
        about = f"{gauge.description}; the value is the {gauge.summary}"
        rows.append((tag("code", gauge.name), number(gauge.value), _bound(gauge), about))
    head = ("gauge", "value", "bad", "what it is")
    content = table("Gauges that the diagnosis looks at", head, rows, (1,))
    return tag("details", tag("summary", f"All {plural(len(rows), 'gauge')}"), content)
