"""Learning rate schedules: factors that depend on the progress of a run.

    for step in range(10_000):
        optimizer.lr = lr * factor("cosine", step, 10_000)
        ...

A factor depends only on the step number, so a resumed run needs no state. It works with a captured
step, since the learning rate is on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..engine.dtypes import INTEGERS
from ..utils.names import choose

# The choices of `--schedule`: functions of the progress t in [0, 1].
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1 - t,
    # 1 in the first half, then linear to 0 (Zhu et al. 2017, CycleGAN).
    "late-linear": lambda t: min(1.0, 2 - 2 * t),
    # One period of cosine annealing (Loshchilov and Hutter 2017, equation 5).
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
    "exponential": lambda t: 0.01**t,
}


def factor(name: str, step: int, steps: int, warmup: int = 0) -> float:
    """Return the factor of the learning rate at a step.

    It is SCHEDULES[name](t) for t = (step - warmup) / (steps - warmup), and t = 1 after the last
    step. Before that, in the first `warmup` steps, it is (step + 1) / warmup: it rises linearly to
    1 (Goyal et al. 2017, section 2.2).

    Args:
        name: constant, linear, late-linear, cosine or exponential.
        step: the step number, from 0.
        steps: the number of steps in the run.
        warmup: the number of warm-up steps, less than steps.

    Raises:
        TypeError: a number of steps is not an integer.
        ValueError: the name is unknown, or a number is out of range.
    """
    schedule = choose("schedule", name, SCHEDULES)
    for key, number in (("step", step), ("steps", steps), ("warmup", warmup)):
        if not isinstance(number, INTEGERS) or isinstance(number, bool):
            raise TypeError(f"factor: {key} = {number!r} is no integer")
    if step < 0 or not 0 <= warmup < steps:
        raise ValueError(
            f"factor: step = {step}, steps = {steps}, warmup = {warmup}; accepted are step >= 0 and"
            " 0 <= warmup < steps"
        )
    if step < warmup:
        return (step + 1) / warmup
    return schedule(min(1.0, (step - warmup) / (steps - warmup)))
