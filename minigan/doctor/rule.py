"""What a rule of the doctor is: a gauge, a threshold, a part of the training, and a remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .record import DIVERGENCE, Record
from .series import SERIES

Options = Mapping[str, Any]
REDUCTIONS = {"median": "median", "max": "highest", "min": "lowest"}
PARTS = {0.0: "lines", 0.5: "second half of the lines", 2 / 3: "last third of the lines"}
MIN_LINES = 3  # lines with a number in the part of a rule; with fewer it says nothing


@dataclass(frozen=True)
class Test:
    """A comparison of a gauge, over a part of a training, with a threshold.

    Attributes:
        gauge: a name of SERIES.
        above: whether values above the threshold are bad, or values below it.
        threshold: it.
        start: where the part begins, as a share of the lines; it ends with the last line.
        reduce: the function that makes one number of the part.
        lines: how many numbers it needs.
    """

    gauge: str
    above: bool
    threshold: float
    start: float = 2 / 3
    reduce: Callable[[np.ndarray], Any] = np.median
    lines: int = MIN_LINES

    @property
    def summary(self) -> str:
        """What the number is that is compared: "median of the last third of the lines"."""
        part = PARTS.get(self.start, f"last {100 * (1 - self.start):.0f} % of the lines")
        kind = self.reduce.__name__.removeprefix("a")  # older NumPy says "amax"
        return f"{REDUCTIONS.get(kind, 'first')} of the {part}"

    def value(self, record: Record) -> float | None:
        """Return the number that is compared; None with too few lines that have one."""
        values = SERIES[self.gauge].values(record)
        part = values[int(len(values) * self.start) :]
        part = part[~np.isnan(part)]
        return float(self.reduce(part)) if len(part) >= self.lines else None

    def fails(self, record: Record) -> bool:
        """Return whether the number is on the bad side of the threshold."""
        value = self.value(record)
        if value is None:
            return False
        return value > self.threshold if self.above else value < self.threshold


def no_changes(options: Options) -> dict[str, Any]:
    """Return no option: the remedy is not one of options."""
    return {}


def always(record: Record) -> bool:
    """Return that a rule applies to any training."""
    return True


@dataclass(frozen=True)
class Rule:
    """A failure, how it is found, and the remedy to try.

    Attributes:
        name: of its finding; several rules may find the same, the first one that does counts.
        title: a few words.
        test: the comparison that is shown.
        why: the reason for its threshold.
        explanation: what it means.
        remedy: what to try.
        changes: the options to change, a function of the run's options.
        needs: further comparisons that must fail too.
        applies: whether the training is one to which the rule applies.
        scope: the same in words.
        hides: names of findings that are its consequences; their rules come later.
        is_last_resort: whether it counts only where nothing else was found.
        or_diverged: whether a training that diverged has this finding in any case.
    """

    name: str
    title: str
    test: Test
    why: str
    explanation: str
    remedy: str
    changes: Callable[[Options], dict[str, Any]] = no_changes
    needs: tuple[Test, ...] = ()
    applies: Callable[[Record], bool] = always
    scope: str = "all"
    hides: tuple[str, ...] = ()
    or_diverged: bool = False
    is_last_resort: bool = False

    def finds(self, record: Record) -> bool:
        """Return whether a training has this failure."""
        if not self.applies(record):
            return False
        if self.or_diverged and record.state == DIVERGENCE:
            return True
        return all(test.fails(record) for test in (self.test, *self.needs))

    @property
    def known_gauges(self) -> tuple[str, ...]:
        """The gauges that the rule looks at."""
        return tuple(dict.fromkeys(test.gauge for test in (self.test, *self.needs)))
