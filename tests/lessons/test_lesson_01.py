"""Lesson 01: errors that its expectations must detect, and the answers to its exercises."""

import numpy as np
import pytest

NAME = "01_finite_differences"
# For each expectation: a part of the lesson's source, and the error to plant in its place (by
# test_lessons.py).
CENTRAL = "return (f(x + h) - f(x - h)) / (2 * h)"
PLANTS = {
    "central differences, large h: slope of the error": (CENTRAL, "return (f(x + h) - f(x)) / h"),
    "forward differences, large h: slope": (
        "return (f(x + h) - f(x)) / h",
        "return (f(x + h / 2) - f(x - h / 2)) / h",
    ),
    "both, small h: slope": (
        "return np.log1p(np.exp(x))",
        "return np.log1p(np.exp(x)).astype(np.float32)",
    ),
    "best h / h*": ("u = 2.0**-53", "u = 2.0**-24"),
    "relative error in float64 at h = 1e-6 (the bug: 0.004)": (
        "points.astype(dtype), [1e-6]",
        "points.astype(np.float32), [1e-6]",
    ),
    "relative error in float32 at h = 1e-6 (the bug: 0.004)": (
        "points.astype(dtype), [1e-6]",
        "points.astype(np.float64), [1e-6]",
    ),
    "two layers: |differences - chain rule|": ("B.T @ np.diag(1 -", "B.T @ np.diag(1 +"),
    "two layers: |differences - mg.grad|": (
        "(t @ mg.tensor(A)).tanh() @ mg.tensor(B)",
        "ops.sigmoid(t @ mg.tensor(A)) @ mg.tensor(B)",
    ),
    "wrong VJP, cotangent of ones: largest mismatch": ("ones = np.ones_like(cube)", "ones = cube"),
    "wrong VJP, random cotangents: smallest mismatch": (
        "return g.transpose(1, 2, 0)",
        "return g.transpose(2, 0, 1)",
    ),
    "right VJP, random cotangents: largest mismatch": (
        "return g.transpose(2, 0, 1)",
        "return g.transpose(2, 1, 0)",
    ),
    "the library's mismatch / ours - 1": ("max(abs(numeric), abs(exact))", "abs(numeric + exact)"),
    "the wrong VJP as an op": ("ops.transpose(g, 1, 2, 0)", "ops.transpose(g, 2, 0, 1)"),
    "ops that have a derivative to check": (
        "in mg.Op.registry.values()]",
        "in list(mg.Op.registry.values())[::2]]",
    ),
    "ops whose gradients of order 1 or 2 are wrong": (
        "results = [",
        'tanh = mg.Op.registry["tanh"]\n'
        'mg.Op("flat", np.tanh, (lambda g, y, x: g,), tanh.samples)\n'
        "results = [",
    ),
}


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
