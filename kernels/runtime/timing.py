"""Time calls side by side, for the tables of optimization steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def medians(calls: Mapping[str, Callable[[], Any]], rounds: int = 101) -> dict[str, float]:
    """Return the median seconds of each call.

    The calls are interleaved: each round times every call once, so that a slow phase of the
    machine slows all of them. One untimed round comes first, which compiles.
    """
    times: dict[str, list[float]] = {title: [] for title in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for title, call in calls.items():
            start = time.perf_counter()
            call()
            times[title].append(time.perf_counter() - start)
    return {title: float(np.median(seconds)) for title, seconds in times.items()}
