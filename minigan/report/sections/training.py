"""The curves of a training: losses, quality, the accuracies of D, the norms of the gradients."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...utils.figures import ADDED_TERMS
from ..charts import Chart, Series, common_limits
from ..curves import SMOOTH, draw
from ..gather import RunReport
from ..markup import Html, note, tag
from .layout import section

# The colours' classes: of the discriminator, the generator, real data, and of other terms.
D, G, DATA, OTHERS = "d", "g", "data", ("c", "e", "f")

# The quick measures of a training, by the first part of their names: title, unit and help.
MEASURES = {
    "modes": ("Modes covered", "", "The modes of the data near which there are samples."),
    "high_quality": (
        "Share of samples near a mode",
        "",
        "Samples within three standard deviations of a mode; of real data it is 0.989.",
    ),
    "kl": (
        "KL divergence of the modes",
        "nats",
        "How unevenly the samples cover the modes; 0 is best.",
    ),
}


# The rows of a page of several runs. A critic's loss is beside the losses of the others.
ROWS = ("losses", "loss-g", "added", "quality", *MEASURES, "accuracy", "gradients")


def training_section(runs: Sequence[RunReport]) -> tuple[Html, dict[str, Any]]:
    """Return the curves of each run, and what the page's script needs to know of them."""
    found = {run.ident: {chart.slug: chart for chart in charts_of(run)} for run in runs}
    slugs = {slug for charts in found.values() for slug in charts}
    parts: list[Html] = []
    data: dict[str, Any] = {}
    for slug in sorted(slugs, key=ROWS.index):
        charts = {ident: found[ident][slug] for ident in found if slug in found[ident]}
        data |= {f"{ident}-{slug}": chart.data() for ident, chart in charts.items()}
        if runs[1:]:
            parts += _row(runs, slug, charts)
        else:
            ((ident, chart),) = charts.items()
            remark = tag("p", chart.help, class_="help")
            parts.append(tag("div", draw(chart, f"{ident}-{slug}"), remark))
    missing = [run.name for run in runs if not found[run.ident]]
    how = _how([chart for charts in found.values() for chart in charts.values()])
    if runs[1:]:
        how += " Charts beside each other have the same axes, except where it is said below them."
    notes = [note(f"{name} has no lines of metrics yet.") for name in missing]
    content = tag("div", *parts, class_="rows" if runs[1:] else "charts")
    return section("curves", "Training curves", tag("p", how), *notes, content), data


def _row(runs: Sequence[RunReport], slug: str, charts: Mapping[str, Chart]) -> list[Html]:
    """Return the same chart of several runs, each in the run's column, and a text below them."""
    limits = dict(zip(charts, common_limits(list(charts.values())), strict=True))
    cells = [
        draw(charts[run.ident], f"{run.ident}-{slug}", limits[run.ident], run.name)
        if run.ident in charts
        else tag("p", f"{run.name} has no such chart.", class_="help")
        for run in runs
    ]
    text = " ".join(dict.fromkeys(chart.help for chart in charts.values()))
    kinds = {
        "steps": {(x.first, x.last) for x in limits.values()},
        "values": {(x.low, x.high) for x in limits.values()},
    }
    different = " and ".join(name for name, ranges in kinds.items() if len(ranges) > 1)
    text += f" The axes of the {different} differ." if different else ""
    row = tag("div", *cells, class_=f"columns of-{min(len(runs), 4)}")
    return [row, tag("p", text, class_="help")]


def _how(charts: Sequence[Chart]) -> str:
    """Return how the curves of charts are read: of what is drawn in them."""
    text = "Lines connect the values of single steps"
    if any(len(chart.steps) >= SMOOTH for chart in charts):
        text += f"; from {SMOOTH} values on they are thin, and thick lines are their running mean"
    if any(x.level is not None for chart in charts for x in chart.series):
        text += "; dashed lines are values to compare with"
    read = "Point at a curve, or move to it with Tab and use the arrow keys, to read its values."
    return f"{text}. {read}"


def charts_of(run: RunReport) -> list[Chart]:
    """Return the charts of a run, of what its metrics have."""
    rows = run.content.rows
    makers: list[Callable[[RunReport], list[Chart]]] = [_losses, _added_terms]
    makers += [_quality, _measured, _accuracies, _gradients]
    if not rows:
        return _quality(run)
    return [chart for make in makers for chart in make(run)]


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([np.nan if row.get(key) is None else row[key] for row in rows], float)


def _steps(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([row["step"] for row in rows], np.int64)


def _losses(run: RunReport) -> list[Chart]:
    """Return both losses: without an equilibrium G's is on a scale of its own, up to an offset."""
    rows = run.content.rows
    levels, unit = ({}, "") if run.trained is None else (run.trained.levels, run.trained.unit)
    series = [
        Series(name, _column(rows, key), colour, levels.get(key))
        for key, name, colour in (("loss_d", "discriminator", D), ("loss_g", "generator", G))
    ]
    text = (
        "At equilibrium the samples are distributed as the data, and the losses are at the dashed"
        " lines. A loss that falls is no sign of better samples: the two players compete."
    )
    if levels.get("loss_g") is not None or levels.get("loss_d") is None:
        return [Chart("losses", "Losses", unit, _steps(rows), series, low=0.0, help=text)]
    own = "It follows the offset of D's output, so its height has no meaning."
    return [
        Chart("losses", "Loss of the discriminator", unit, _steps(rows), series[:1], help=text),
        Chart("loss-g", "Loss of the generator", unit, _steps(rows), series[1:], help=own),
    ]


def _added_terms(run: RunReport) -> list[Chart]:
    rows = run.content.rows
    levels = {} if run.trained is None else run.trained.levels
    keys = [key for key in ADDED_TERMS if any(row.get(key) is not None for row in rows)]
    series = [
        Series(ADDED_TERMS[key][1], _column(rows, key), colour, levels.get(key))
        for key, colour in zip(keys, OTHERS, strict=False)
    ]
    text = "These terms are added to the losses above."
    charts = [Chart("added", "Added terms", "", _steps(rows), series, low=0.0, help=text)]
    return charts if keys else []


def _quality(run: RunReport) -> list[Chart]:
    rows = run.content.quality
    if not rows:
        return []
    floor = rows[-1].get("floor")
    distance = Series("generated", _column(rows, "distance"), G, floor, "real data")
    count = "a few" if run.content.samples is None else f"{run.content.samples:,}"
    text = (
        f"The sliced Wasserstein distance of {count} samples to held-out data; the dashed line is"
        " that of real samples, below which no generator can be expected."
    )
    title = "Distance of samples to data"
    return [Chart("quality", title, "", _steps(rows), [distance], low=0.0, help=text)]


def _measured(run: RunReport) -> list[Chart]:
    """Return a chart of each other quick measure that the lines of metrics hold."""
    rows, charts = run.content.rows, []
    for slug, (title, unit, text) in MEASURES.items():
        names = {name for row in rows for name in row if re.fullmatch(rf"{slug}_n[0-9]+", name)}
        for name in sorted(names)[:1]:
            found = [row for row in rows if row.get(name) is not None]
            series = Series("generated", _column(found, name), G)
            if found:
                charts.append(Chart(slug, title, unit, _steps(found), [series], 0.0, help=text))
    return charts


def _accuracies(run: RunReport) -> list[Chart]:
    rows = run.content.rows
    series = [
        Series("of real samples", _column(rows, "d_real"), DATA),
        Series("of generated ones", _column(rows, "d_fake"), G, 0.5, "chance"),
    ]
    text = (
        "The share of a batch that the discriminator classifies correctly. At 1 for both it wins"
        " always, and the generator learns little; at 0.5 it cannot tell them apart."
    )
    title = "What the discriminator gets right"
    return [Chart("accuracy", title, "", _steps(rows), series, 0.0, 1.0, help=text)]


def _gradients(run: RunReport) -> list[Chart]:
    rows = run.content.rows
    series = [
        Series("discriminator", _column(rows, "grad_norm_d"), D),
        Series("generator", _column(rows, "grad_norm_g"), G),
    ]
    if all(np.isnan(x.values).all() for x in series):
        return []
    text = (
        "The L2 norm of the gradient of each net. A generator's that falls towards 0 has stopped"
        " learning; one that grows without end diverges."
    )
    return [Chart("gradients", "Gradient norms", "", _steps(rows), series, log=True, help=text)]
