"""Schedules of the learning rate: a factor as a function of the progress t in [0, 1] of a run.

    for step in range(10_000):
        optimizer.lr = lr * factor("cosine", step, 10_000)
        ...

A factor depends on the step's number alone, so a resumed run needs nothing saved. A captured step
follows, as the learning rate lies on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..utils.names import choose

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1 - t,
    # 1 for the first half, then to 0 in a line (Zhu et al. 2017, CycleGAN).
    "late-linear": lambda t: min(1.0, 2 - 2 * t),
    # Half a wave, from 1 to 0 (Loshchilov and Hutter 2017, equation 5, one period).
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
    # Equal times halve it, 6.6 times in all, to 1 %.
    "exponential": lambda t: 0.01**t,
}


def factor(name: str, step: int, steps: int, warmup: int = 0) -> float:
    """SCHEDULES[name](t), t = (step - warmup) / (steps - warmup); before, (step + 1) / warmup.

    It is what to multiply the learning rate by. The warm-up goes in a line from 1 / warmup to 1
    (Goyal et al. 2017, section 2.2). From step `steps` on t stays 1.

    Args:
        name: of SCHEDULES: constant, linear, late-linear, cosine, exponential.
        step: the step's number, from 0.
        steps: how many steps the run has.
        warmup: how many of them warm up, fewer than steps.

    Raises:
        TypeError: a number of steps is no integer.
        ValueError: the name is unknown, or a number is out of range.
    """
    schedule = choose("schedule", name, SCHEDULES)
    for key, number in (("step", step), ("steps", steps), ("warmup", warmup)):
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"factor: {key} = {number!r} is no integer")
    if step < 0 or not 0 <= warmup < steps:
        raise ValueError(
            f"factor: step = {step}, steps = {steps}, warmup = {warmup}; accepted are step >= 0 and"
            " 0 <= warmup < steps"
        )
    if step < warmup:
        return (step + 1) / warmup
    return schedule(min(1.0, (step - warmup) / (steps - warmup)))
