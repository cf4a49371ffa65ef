"""Draw curves over the steps of a training as inline SVG, which scales from a phone to a screen.

The colours are those of the style sheet, so that they change with it in the dark. The script of the
page moves a cursor over a curve, and reads the values from `Chart.data`.
"""

from __future__ import annotations

import math

import numpy as np

from ..utils.figures import running_mean
from .charts import Chart, Limits, Series, thin
from .markup import Html, join, number, tag

WIDTH, HEIGHT = 420, 224  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 50, 412, 12, 194  # the edges of the area of the curves
SMOOTH = 120  # from so many values on, the running mean is drawn, too: of three or more


def draw(chart: Chart, ident: str, limits: Limits | None = None, owner: str = "") -> Html:
    """Return the figure of a chart: its legend, which shows the values, and the curves.

    Args:
        chart: the chart.
        ident: its name in the page.
        limits: the ranges of the axes; None: those of the chart.
        owner: the run that it belongs to, where the page shows several.
    """
    axes = _Axes(chart, limits or chart.limits())
    heading = f"{chart.title} ({chart.unit})" if chart.unit else chart.title
    heading = f"{heading}, {owner}" if owner else heading
    legend = tag("ul", *(_legend_entry(x) for x in chart.series), class_="legend")
    last = int(chart.steps[-1])
    frame = tag(
        "div",
        _drawing(axes, ident),
        class_="plot",
        id=ident,
        tabindex=0,
        role="slider",
        aria_label=f"{heading}, by step",
        aria_valuemin=int(chart.steps[0]),
        aria_valuemax=last,
        aria_valuenow=last,
        aria_valuetext=_describe(chart),
        **axes.attributes(),
    )
    step = tag("span", "step ", tag("b", f"{last:,}", class_="at"), class_="step")
    caption = tag("figcaption", tag("strong", heading), step)
    outside = axes.outside()
    remark = tag("p", outside, class_="help") if outside else None
    return tag("figure", caption, legend, frame, remark, class_="chart")


def _drawing(axes: _Axes, ident: str) -> Html:
    """Return the SVG of a chart, with a cursor that the script moves."""
    series = axes.chart.series
    clip = tag("clipPath", tag("rect", **axes.area()), id=f"{ident}-clip")
    hidden = {"visibility": "hidden"}
    return tag(
        "svg",
        tag("defs", clip),
        axes.grid(),
        tag("g", *(axes.curve(x) for x in series), clip_path=f"url(#{ident}-clip)"),
        tag("line", class_="cursor", x1=LEFT, x2=LEFT, y1=TOP, y2=BOTTOM, **hidden),
        *(tag("circle", class_=f"dot {x.colour}", r=3.5, **hidden) for x in series),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        aria_hidden="true",
    )


def _describe(chart: Chart) -> str:
    values = (f"{x.name} {number(_last(x.values))}" for x in chart.series)
    return f"step {int(chart.steps[-1]):,}: {', '.join(values)}"


def _last(values: np.ndarray) -> float | None:
    return float(values[-1]) if len(values) else None


def _legend_entry(series: Series) -> Html:
    key = tag("span", class_=f"key {series.colour}", aria_hidden="true")
    value = tag("b", number(_last(series.values)), class_="value")
    level = None
    if series.level is not None:
        dashes = tag("span", class_=f"key dashed {series.colour}", aria_hidden="true")
        text = f"{series.level_name} {_plain(series.level, 3)}"
        level = tag("span", dashes, text, class_="level-text")
    reading = tag("span", key, tag("span", series.name, class_="name"), " ", value)
    return tag("li", reading, " ", level)


def _plain(value: float, digits: int = 6) -> str:
    """Return a number without zeros at its end: "0.5", "12,000", "1e-05"."""
    short = f"{value:.{digits}g}"
    return f"{float(short):,.0f}" if abs(value) >= 1000 and "e" not in short else short


class _Axes:
    """The axes of a chart: they convert steps and values to the units of the drawing."""

    def __init__(self, chart: Chart, limits: Limits) -> None:
        self.chart, self.is_log = chart, chart.is_log and limits.low > 0
        self.first, self.last = limits.first, limits.last
        ends = limits.low, limits.high
        low, high = map(math.log10, ends) if self.is_log else ends
        margin = 0.04 * (high - low)
        self.low, self.high = low - margin * (limits.low != 0), high + margin

    def x(self, steps: np.ndarray) -> np.ndarray:
        return LEFT + (steps - self.first) / (self.last - self.first) * (RIGHT - LEFT)

    def y(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, float)
        if self.is_log:
            values = np.log10(np.maximum(values, 1e-300))
        return BOTTOM - (values - self.low) / (self.high - self.low) * (BOTTOM - TOP)

    def area(self) -> dict[str, object]:
        return {"x": LEFT, "y": TOP - 4, "width": RIGHT - LEFT, "height": BOTTOM - TOP + 8}

    def attributes(self) -> dict[str, object]:
        """Return what the script needs to place its cursor."""
        return {
            "data_first": f"{self.first:.0f}",
            "data_last": f"{self.last:.0f}",
            "data_low": f"{self.low:.8g}",
            "data_high": f"{self.high:.8g}",
            "data_log": "1" if self.is_log else None,
        }

    def outside(self) -> str | None:
        """Return a remark on values that the axis leaves out."""
        y = self.y(np.concatenate([np.asarray(x.values, float) for x in self.chart.series]))
        count = int(((y < TOP - 4) | (y > BOTTOM + 4)).sum())
        verb = "lies" if count == 1 else "lie"
        return f"{count} value{'s' * (count != 1)} {verb} beyond the axis." if count else None

    def grid(self) -> Html:
        """Return the lines and numbers of both axes."""
        parts = []
        exponents = _ticks(self.low, self.high, 4)
        if self.is_log and self.high - self.low >= 1:
            exponents = list(range(math.ceil(self.low), math.floor(self.high) + 1))
            exponents = exponents[:: math.ceil(len(exponents) / 5)]
        for value in exponents:
            y = BOTTOM - (value - self.low) / (self.high - self.low) * (BOTTOM - TOP)
            shown = _plain(10**value if self.is_log else value)
            parts.append(tag("line", x1=LEFT, x2=RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}"))
            parts.append(tag("text", shown, x=LEFT - 6, y=f"{y + 3.5:.1f}", text_anchor="end"))
        steps = _ticks(self.first, self.last, 5)
        for step in steps:
            x = float(self.x(np.array(step)))
            anchor = "end" if x > RIGHT - 14 else "middle"
            label = tag("text", _short_count(step), x=f"{x:.1f}", y=BOTTOM + 18, text_anchor=anchor)
            parts.append(label)
        return tag("g", *parts, class_="grid")

    def curve(self, series: Series) -> Html:
        """Return the values as a thin line, their running mean as a thick one, and the level."""
        values = np.asarray(series.values, float)
        picked = thin(len(values))
        steps = self.x(self.chart.steps[picked].astype(float))
        is_noisy = len(values) >= SMOOTH
        lines = (
            [(values, "raw"), (running_mean(values), "mean")] if is_noisy else [(values, "mean")]
        )
        parts = [
            tag("path", d=_path(steps, self.y(y[picked])), class_=f"{kind} {series.colour}")
            for y, kind in lines
        ]
        if series.level is not None and not (self.is_log and series.level <= 0):
            y = f"{float(self.y(np.array(series.level))):.1f}"
            parts.append(
                tag("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_=f"level {series.colour}")
            )
        return join(parts)


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """Return the path of a line that is broken where a value is missing."""
    words, command = [], "M"
    for a, b in zip(x, y, strict=True):
        if math.isfinite(b):
            # A renderer need not draw what is a thousand sheets above this one.
            words.append(f"{command}{a:.1f} {min(max(b, -9999), 9999):.1f}")
            command = "L"
        else:
            command = "M"
    return "".join(words)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers from low to high."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _short_count(step: float) -> str:
    """Return a step as short text: "500", "1.5k", "2M"."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if step >= size:
            return f"{step / size:g}{letter}"
    return f"{step:g}"
