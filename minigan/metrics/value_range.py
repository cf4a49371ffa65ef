"""The share of numbers outside of the range of the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from .numbers import real_numbers


def out_of_range(samples: Any, low: float = -1.0, high: float = 1.0) -> float:
    """Return the share of numbers that are not in [low, high]; NaN is not.

    Pictures clip such pixels, so nobody sees them, but a discriminator does. A generator that ends
    in tanh has none.

    Raises:
        TypeError: the samples are not real numbers.
        ValueError: there are no numbers, or `low` is not below `high`.
    """
    x = real_numbers("out_of_range", samples)
    if not x.size:
        raise ValueError(f"out_of_range: samples of shape {x.shape} hold no numbers")
    if not low < high:
        raise ValueError(f"out_of_range: low = {low} is not below high = {high}")
    return (x.size - int(np.count_nonzero((x >= low) & (x <= high)))) / x.size
