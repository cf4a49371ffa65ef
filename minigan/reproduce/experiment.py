"""What an experiment is: cases, what is measured of each seed, goals, and published numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """The result of one case for one seed.

    Attributes:
        values: a number for each measure.
        arrays: what the figure needs, by name; saved beside the values, as they are.
    """

    values: Mapping[str, float]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes:
        title: the head of the column, with the unit.
        digits: decimal places.
        scale: the factor between the value and the number in the table, 100 for per cent.
    """

    title: str
    digits: int
    scale: float = 1.0


@dataclass(frozen=True)
class Goal:
    """The range in which the mean over seeds of a measure has to be."""

    low: float = -math.inf
    high: float = math.inf

    def is_met(self, mean: float) -> bool:
        """Return whether the mean is in the range; False for NaN."""
        return self.low <= mean <= self.high

    def __str__(self) -> str:
        bounds = {"at least": self.low, "at most": self.high}
        return " and ".join(f"{word} {x:g}" for word, x in bounds.items() if math.isfinite(x))


@dataclass(frozen=True)
class Case:
    """A row of the table that is measured here.

    Attributes:
        measure: a function measure(config, seed) -> Outcome of a module, called once per seed, in
            worker processes; the default generator has that seed then.
        config: the first argument, in JSON types: all that the result depends on but the seed.
        goals: by measure.
        seeds: the number of seeds; None: all that are asked for. 1 where nothing is random.
    """

    measure: Callable[[Mapping[str, Any], int], Outcome]
    config: Mapping[str, Any]
    goals: Mapping[str, Goal] = field(default_factory=dict)
    seeds: int | None = None


@dataclass(frozen=True)
class CaseResult:
    """What was measured of a case: a list of each measure, of seconds and of arrays, per seed."""

    name: str
    config: Mapping[str, Any]
    seeds: Sequence[int]
    values: Mapping[str, Sequence[float]]
    seconds: Sequence[float]
    arrays: Sequence[Mapping[str, np.ndarray]]


Draw = Callable[[Sequence[CaseResult], Path], None]


@dataclass(frozen=True)
class Experiment:
    """A published table or figure, and how it is measured here.

    Attributes:
        about: what is reproduced, for the list of experiments.
        source: the publication of the rows in `published`, with their setting.
        minutes: how long ten seeds take on two cores.
        cases: by the name of the row.
        measures: the columns, by the name of the value.
        published: by the name of the row, the text of cells by measure.
        draw: draw(results, path) writes the figure, a PNG.
        caption: a text below the figure in the README.
    """

    about: str
    source: str
    minutes: float
    cases: Mapping[str, Case]
    measures: Mapping[str, Measure]
    published: Mapping[str, Mapping[str, str]]
    draw: Draw
    caption: str
