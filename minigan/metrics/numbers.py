"""Check the samples that a metric takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.dtypes import check_not_masked


def real_numbers(name: str, values: Any) -> np.ndarray:
    """Return samples as an array of floats; integers, whose differences wrap, as float64.

    Raises:
        TypeError: they are not real numbers. ValueError: elements are masked.
    """
    check_not_masked(name, values)
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: samples of type {array.dtype}; real numbers are needed")
    return array if array.dtype.kind == "f" else array.astype(np.float64)
