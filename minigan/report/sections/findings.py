"""The findings of `minigan doctor`: what ails a run, the number that shows it, and a remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..charts import Chart, Series
from ..curves import draw
from ..gather import RunReport
from ..markup import NONE, Html, join, note, number, plural, table, tag
from .layout import columns, section
from .options import option_words


def findings_section(runs: Sequence[RunReport]) -> tuple[Html, dict[str, Any]]:
    """Return the findings of each run, and what the page's script needs to know of its curves."""
    data: dict[str, Any] = {}

    def findings(run: RunReport) -> Html:
        diagnosis = run.diagnosis
        if diagnosis is None:
            return note(
                "There is no diagnosis: ", run.reasons.get("diagnosis", "none was made"), "."
            )
        count = plural(len(diagnosis.gauges), "gauge")
        cards = [_card(run, i, finding, data) for i, finding in enumerate(diagnosis.findings)]
        if not cards:
            text = f"No alarm: {count} at step {diagnosis.step:,} are within their thresholds."
            cards = [tag("p", text, class_="healthy")]
        return join([*cards, _gauges(diagnosis.gauges)])

    text = (
        "What a doctor would look at: numbers that show the usual failures of a training, each with"
        " the threshold beyond which it is an alarm."
    )
    return section("doctor", "Diagnosis", tag("p", text), columns(runs, findings)), data


def _card(run: RunReport, index: int, finding: Any, data: dict[str, Any]) -> Html:
    gauge = run.diagnosis.gauges.get(finding.gauge)
    value = f"{finding.gauge} = {number(finding.value)}, threshold {number(finding.threshold)}"
    parts = [
        tag("h4", finding.title),
        tag("p", tag("code", value)),
        tag("p", finding.explanation),
        tag("p", tag("strong", "Remedy: "), finding.remedy),
    ]
    if finding.changes:
        parts.append(tag("pre", tag("code", " ".join(option_words(finding.changes)))))
    if gauge is not None and len(gauge.steps) > 1:
        ident = f"{run.ident}-finding-{index}"
        chart = _gauge_chart(gauge)
        data[ident] = chart.data()
        parts += [draw(chart, ident), tag("p", gauge.description, class_="help")]
    return tag("article", *parts, class_="finding")


def _gauge_chart(gauge: Any) -> Chart:
    steps = np.asarray(gauge.steps, np.int64)
    values = np.asarray(gauge.values, float)
    threshold = None if gauge.threshold is None else float(gauge.threshold)
    series = Series(gauge.name, values, "d", threshold, "threshold")
    return Chart(gauge.name, gauge.name, gauge.unit or "", steps, [series], help=gauge.description)


def _gauges(gauges: Mapping[str, Any]) -> Html:
    """Return a table of all gauges, folded."""
    rows = []
    for gauge in gauges.values():
        values = np.asarray(gauge.values, float)
        last = number(float(values[-1])) if len(values) else NONE
        rows.append((gauge.name, last, number(gauge.threshold), gauge.description))
    content = table(
        "All gauges, last values", ("gauge", "value", "threshold", "what it is"), rows, (1, 2)
    )
    return tag("details", tag("summary", f"All {plural(len(rows), 'gauge')}"), content)
