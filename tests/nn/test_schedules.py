"""Schedules of the learning rate."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

import minigan as mg
from minigan.optim.schedules import SCHEDULES, factor

STEPS = 1000
# The factor after a quarter, a half, three quarters and all of the run.
WANTED = {
    "constant": (1, 1, 1, 1),
    "linear": (0.75, 0.5, 0.25, 0),
    "late-linear": (1, 1, 0.5, 0),
    "cosine": ((1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0),
    "exponential": (10**-0.5, 0.1, 10**-1.5, 0.01),
}


def test_each_schedule_has_its_numbers() -> None:
    assert SCHEDULES.keys() == WANTED.keys()


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize("warmup", [0, 8])
def test_factors(name: str, warmup: int) -> None:
    actual = [factor(name, warmup + k * STEPS // 4, warmup + STEPS, warmup) for k in range(5)]
    assert actual == pytest.approx([1, *WANTED[name]], abs=1e-15)
    held = [factor(name, k, warmup + STEPS, warmup) for k in (warmup + STEPS, 10 * STEPS)]
    assert held == pytest.approx([WANTED[name][-1]] * 2, abs=1e-15)
    run = [factor(name, k, warmup + STEPS, warmup) for k in range(warmup, warmup + STEPS + 9)]
    assert all(a >= b for a, b in pairwise(run))
    assert all(0 <= x <= 1 for x in run)


@pytest.mark.parametrize("name", WANTED)
def test_the_warm_up_is_a_line(name: str) -> None:
    actual = [factor(name, k, STEPS, warmup=4) for k in range(5)]
    assert actual == [0.25, 0.5, 0.75, 1, 1]
    assert factor(name, 0, STEPS, warmup=1) == 1


def test_an_optimizer_follows_also_in_a_captured_step() -> None:
    p = mg.tensor([1.0], dtype="float64", requires_grad=True)
    optimizer = mg.optim.SGD([p], 0.0)
    step = mg.capture(lambda: optimizer.step(mg.grad(p.sum(), [p])))
    total = 0.0
    for k in range(12):
        optimizer.lr = 0.1 * factor("cosine", k, 10, warmup=2)
        total += 0.1 * factor("cosine", k, 10, warmup=2)
        step()
    assert p.numpy() == pytest.approx([1 - total], abs=1e-14)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("cosin", 0, 10), ValueError, "unknown schedule 'cosin'; did you mean 'cosine'"),
        (("cosine", -1, 10), ValueError, "step = -1"),
        (("cosine", 0, 0), ValueError, "steps = 0"),
        (("cosine", 0, 10, 10), ValueError, "warmup = 10; accepted are"),
        (("cosine", 0, 10, -1), ValueError, "warmup = -1"),
        (("cosine", 0.5, 10), TypeError, "step = 0.5 is no integer"),
        (("cosine", 0, 1e4), TypeError, "steps = 10000.0 is no integer"),
        (("cosine", 0, 10, True), TypeError, "warmup = True is no integer"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        factor(*arguments)
