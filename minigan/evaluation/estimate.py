"""Means over repeated draws, with their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The 97.5 % quantiles of Student's t distribution with 1, 2, ... degrees of freedom.
QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL_QUANTILE = 1.96


@dataclass(frozen=True)
class Estimate:
    """A mean over repeated draws with its standard error, which is NaN for a single draw."""

    mean: float
    error: float
    draws: int = 1

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Return the mean and standard error; the error is NaN where a value is not finite."""
        error = math.nan
        if len(values) > 1 and all(map(math.isfinite, values)):
            error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return cls(float(np.mean(values)), error, len(values))

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the mean, by Student's t distribution; NaN for one draw."""
        known = self.draws - 2 < len(QUANTILES)
        width = (QUANTILES[self.draws - 2] if known else NORMAL_QUANTILE) * self.error
        return self.mean - width, self.mean + width

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if math.isnan(self.error) else f" +- {self.error:.4f}")
