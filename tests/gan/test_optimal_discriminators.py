"""Discriminators, trained to the optimum against fixed p and q: outputs and values in closed form.

A sample is one of a few cells, and a discriminator is a table of a number per cell. The counts of
the cells are integers, so that means over batches are exact expectations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import minigan as mg
from minigan import ops
from minigan.gan.losses import LOSSES
from minigan.reproduce.losses import js, js_of_pairs, kl, total_variation, triangular

Counts = tuple[np.ndarray, np.ndarray]


def counts(density: np.ndarray, n: int) -> np.ndarray:
    """Integers in proportion to a density, at least 1: every cell has both kinds of samples."""
    return np.maximum(1, np.rint(n * density / density.sum())).astype(int).reshape(-1)


def gaussian(points: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    z = points - mean
    return np.exp(-0.5 * (z @ np.linalg.inv(covariance) * z).sum(-1))


def problems() -> dict[str, Counts]:
    line = np.arange(-3, 4.01, 0.5)[:, None]
    one = np.eye(1)
    plane = np.stack(np.meshgrid(*[np.linspace(-2, 4, 6)] * 2), axis=-1)
    correlated = np.array([[1.01, 1.95], [1.95, 4.25]])
    return {
        "cells": (np.array([35, 25, 20, 12, 8]), np.array([2, 5, 13, 30, 50])),
        "equal": (np.array([3, 2, 1]), np.array([3, 2, 1])),
        "1-D": (
            counts(gaussian(line, np.zeros(1), one), 100),
            counts(gaussian(line, np.ones(1), one), 100),
        ),
        "2-D": (
            counts(gaussian(plane, np.array([1, 2]), correlated), 100),
            counts(gaussian(plane, np.zeros(2), np.eye(2)), 100),
        ),
    }


PROBLEMS = problems()
PROBLEM = pytest.mark.parametrize("problem", PROBLEMS)


def weights(problem: str) -> tuple[np.ndarray, np.ndarray]:
    p, q = PROBLEMS[problem]
    return p / p.sum(), q / q.sum()


def best_table(name: str, problem: str, steps: int = 400) -> tuple[np.ndarray, float]:
    """The outputs of a trained discriminator by cell, and its loss."""
    loss = LOSSES[name]()
    cells = [np.repeat(np.arange(len(n)), n) for n in PROBLEMS[problem]]
    if name == "relativistic":  # all pairs
        cells = [x.reshape(-1) for x in np.meshgrid(*cells)]
    real, fake = (mg.tensor(x[:, None]) for x in cells)
    start = np.random.default_rng(0).standard_normal((len(PROBLEMS[problem][0]), 1))
    table = mg.tensor(start, requires_grad=True)
    optimizer = mg.optim.Adam([table], betas=(0.9, 0.99))

    @mg.capture
    def step() -> mg.Tensor:
        value = loss.discriminator(ops.gather(table, real), ops.gather(table, fake))
        optimizer.step(mg.grad(value, [table]))
        return value

    for i in range(steps):
        optimizer.lr = 0.2 * (1 - i / steps)
        value = step().item()
    return table.numpy()[:, 0], value


LOG_2 = math.log(2)
# The best output by p and q, up to a constant for pairs; and the loss there.
OPTIMA: dict[str, tuple[Callable[..., np.ndarray], Callable[..., float]]] = {
    "nonsaturating": (lambda p, q: np.log(p / q), lambda p, q: 2 * LOG_2 - 2 * js(p, q)),
    "leastsquares": (lambda p, q: p / (p + q), lambda p, q: (1 - triangular(p, q)) / 4),
    "hinge": (lambda p, q: np.sign(p - q), lambda p, q: 2 - 2 * total_variation(p, q)),
    "relativistic": (lambda p, q: np.log(p / q), lambda p, q: LOG_2 - js_of_pairs(p, q)),
}


@PROBLEM
@pytest.mark.parametrize("name", OPTIMA)
def test_outputs_and_values_of_the_optimum(name: str, problem: str) -> None:
    p, q = weights(problem)
    best, exact = (f(p, q) for f in OPTIMA[name])
    table, value = best_table(name, problem)
    # No discriminator has less, and this one hardly more; the hinge has corners at its optimum.
    assert -1e-9 < value - exact < (1e-3 if name == "hinge" else 1e-4)
    if name == "relativistic":
        table = table - table @ (p + q) / 2 + best @ (p + q) / 2
    decided = p != q if name == "hinge" else np.full(len(p), True)  # else all of [-1, 1] is best
    assert table[decided] == pytest.approx(best[decided], abs=0.03)
    assert problem != "equal" or exact == pytest.approx(LOSSES[name]().levels[0], rel=1e-14)


def test_the_value_where_p_is_q_is_minus_2_log_2() -> None:
    table, value = best_table("minimax", "equal")
    assert -value == pytest.approx(-1.386294, abs=1e-6)
    assert np.abs(table).max() < 1e-3  # D = 1/2


@PROBLEM
def test_least_squares_measure_pearsons_chi_square(problem: str) -> None:
    """Mao et al. 2017, theorem 1: with targets -1, 1 for D and 0 for G; D is 2 D - 1 of ours."""
    p, q = weights(problem)
    d = 2 * best_table("leastsquares", problem)[0] - 1
    generator = 0.5 * (p @ d**2 + q @ d**2)
    pearson = ((2 * q - (p + q)) ** 2 / (p + q)).sum()
    assert generator == pytest.approx(pearson / 2, abs=2e-3)
    assert pearson == pytest.approx(2 * triangular(p, q), rel=1e-12)


@PROBLEM
def test_relativistic_averages_have_an_optimum_without_a_closed_form(problem: str) -> None:
    """The loss is convex in the outputs, so it is lowest where all its derivatives are 0."""
    p, q = weights(problem)
    c, value = best_table("relativistic-average", problem, steps=800)
    a, b = q @ c, p @ c  # the means that real samples and fakes are compared with

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    real, fake = sigmoid(a - c), sigmoid(c - b)
    slope = -p * real + q * fake + q * (p @ real) - p * (q @ fake)
    assert np.abs(slope).max() < 1e-4
    assert value == pytest.approx(p @ np.logaddexp(0, a - c) + q @ np.logaddexp(0, c - b), abs=1e-6)
    if problem == "equal":
        assert value == pytest.approx(2 * LOG_2, abs=1e-6)
    else:
        assert value < 2 * LOG_2 - 0.1


def test_kl_by_duality() -> None:
    """KL(p || q) >= E_p f - log E_q exp f, with equality for the logit of the best D."""
    p, q = weights("2-D")
    table, _ = best_table("nonsaturating", "2-D")
    for f in (table, 0.5 * table, table + 3, -table):
        bound = p @ f - math.log(q @ np.exp(f))
        assert bound <= kl(p, q) + 1e-12
    bound = p @ table - math.log(q @ np.exp(table))
    assert bound == pytest.approx(kl(p, q), rel=1e-3)
