"""Lesson 01: the answers to its exercises."""

import numpy as np
import pytest

NAME = "01_finite_differences"
CENTRAL = "return (f(x + h) - f(x - h)) / (2 * h)"


# ---------------------------------------------------------------------------------- exercises
def softplus(x):
    return np.log1p(np.exp(x))


def test_exercise_1_five_points_gain_four_digits_for_one():
    x = np.random.default_rng(0).uniform(1, 2, 1001)
    h = 2.0 ** -np.arange(3, 45)[:, None]
    exact = 1 / (1 + np.exp(-x))
    inner, outer = softplus(x + h) - softplus(x - h), softplus(x + 2 * h) - softplus(x - 2 * h)
    five = np.median(abs((8 * inner - outer) / (12 * h) - exact), axis=1)
    central = np.median(abs(inner / (2 * h) - exact), axis=1)
    h = h[:, 0]
    arms = (h > 1e-2, h < 1e-5)
    slopes = [np.polyfit(np.log(h[arm]), np.log(five[arm]), 1)[0] for arm in arms]
    assert slopes == pytest.approx([4, -1], abs=0.15)
    assert 10 < central.min() / five.min() < 1000


def test_exercise_2_ones_find_a_bug_that_breaks_a_conservation_law():
    rng = np.random.default_rng(0)
    x = rng.normal(size=5)

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    y = softmax(x)
    ones = np.ones(5)
    v = rng.normal(size=5)
    jv = (softmax(x + 1e-6 * v) - softmax(x - 1e-6 * v)) / 2e-6
    assert abs((ones * jv).sum()) < 1e-8  # probabilities add up to 1, whatever x does
    assert abs((ones * y * v).sum()) > 0.01  # the wrong VJP does not know it
    g = rng.normal(size=5)
    assert abs((g * jv).sum() - (g * y * v).sum()) > 0.01
    assert (g * jv).sum() == pytest.approx(((g - (g * y).sum()) * y * v).sum(), rel=1e-6)


def test_exercise_3_the_complex_step_has_no_left_arm():
    x = np.random.default_rng(0).uniform(1, 2, 1001)
    exact = 1 / (1 + np.exp(-x))
    for h in (1e-8, 1e-100, 1e-308):
        derivative = np.log(1 + np.exp(x + 1j * h)).imag / h
        assert np.median(abs(derivative - exact)) <= 2.3e-16
    h = 1e-310  # below the smallest normal number digits are lost
    assert np.median(abs(np.log(1 + np.exp(x + 1j * h)).imag / h - exact)) > 1e-15
