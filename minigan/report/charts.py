"""What a chart shows: curves over the steps of a training, and the ranges of their axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

MAX_POINTS = 400  # of a curve
OUTLIERS = 1.0  # percent of the values at either end that an axis may leave out
EDGE = 0.05  # An axis begins at step 0 if its first step is that near to it, of the last one.
SMALL = 8  # Runs whose ranges differ by this factor have axes of their own.


class Limits(NamedTuple):
    """The ranges of the axes: of the steps, and of the values."""

    first: float
    last: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """A curve: its name, its values (one per step), its colour's class, and its level.

    The level is a value to compare with, such as that at equilibrium; `level_name` says which.
    """

    name: str
    values: np.ndarray
    colour: str
    level: float | None = None
    level_name: str = "at equilibrium"


@dataclass(frozen=True)
class Chart:
    """Curves on common axes.

    Attributes:
        slug: its name in the page, of letters.
        title, unit: its title, and the unit of the values.
        steps: of the values, in ascending order.
        series: the curves.
        low, high: numbers that the axis must hold.
        log: whether the axis is logarithmic, where any value is positive.
        help: a sentence on how to read it.
    """

    slug: str
    title: str
    unit: str
    steps: np.ndarray
    series: Sequence[Series]
    low: float | None = None
    high: float | None = None
    log: bool = False
    help: str = ""

    @property
    def is_log(self) -> bool:
        """Whether the axis is logarithmic."""
        return self.log and bool((self._numbers() > 0).any())

    def _numbers(self) -> np.ndarray:
        values = np.concatenate([np.asarray(x.values, float) for x in self.series])
        return values[np.isfinite(values)]

    def limits(self) -> Limits:
        """Return the ranges of the axes: that of the values holds nearly all, and the levels."""
        first, last = float(self.steps[0]), float(self.steps[-1])
        first = 0.0 if first <= EDGE * last else first
        return Limits(first, max(last, first + 1), *self._range())

    def _range(self) -> tuple[float, float]:
        values = self._numbers()
        if self.is_log:
            values = values[values > 0]
        if not len(values):
            return 0.0, 1.0
        low, high = np.percentile(values, [OUTLIERS, 100 - OUTLIERS])
        if values.max() - values.min() <= 3 * (high - low):
            low, high = values.min(), values.max()
        levels = [x.level for x in self.series if x.level is not None]
        fixed = [x for x in (self.low, self.high) if x is not None]
        low, high = min(low, *levels, *fixed, high), max(high, *levels, *fixed, low)
        if low == high:
            low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
        return float(low), float(high)

    def data(self) -> dict[str, Any]:
        """Return what the cursor shows: the steps, and the values of each curve."""
        picked = thin(len(self.steps))
        columns = [np.asarray(x.values, float)[picked] for x in self.series]
        return {
            "steps": self.steps[picked].tolist(),
            "values": [[_short(x) for x in column] for column in columns],
        }


def thin(count: int) -> np.ndarray:
    """Return the indices of at most MAX_POINTS of so many lines, the last one among them."""
    if count <= MAX_POINTS:
        return np.arange(count)
    return np.unique(np.rint(np.linspace(0, count - 1, MAX_POINTS)).astype(int))


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def common_limits(charts: Sequence[Chart]) -> list[Limits]:
    """Return the axes of the same chart of several runs: equal ones, so that they compare.

    An axis is not common where a curve would be small on it; that of values only with one unit.
    """
    own = [chart.limits() for chart in charts]
    steps = _common([(x.first, x.last) for x in own])
    values = [(x.low, x.high) for x in own]
    if len({(chart.unit, chart.is_log) for chart in charts}) == 1:
        values = _common(values, charts[0].is_log)
    return [Limits(*x, *y) for x, y in zip(steps, values, strict=True)]


def _common(ranges: list[tuple[float, float]], is_log: bool = False) -> list[tuple[float, float]]:
    """Return the range that holds all, for each of them; if one would be small, their own."""
    same = min(low for low, _ in ranges), max(high for _, high in ranges)

    def width(ends: tuple[float, float]) -> float:
        return math.log(ends[1] / ends[0]) if is_log else ends[1] - ends[0]

    is_small = min(map(width, ranges)) < width(same) / SMALL
    return ranges if is_small else [same] * len(ranges)
