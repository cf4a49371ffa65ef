"""Lesson 01: the answers to its exercises, and the numbers that its text quotes."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import ops
from minigan.engine.check import GradientError, check_gradients

NAME = "01_finite_differences"


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when its last check is reached."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="ops whose gradients of order 1 or 2 are wrong")


def _number(lesson, what):
    return lesson["lesson"].numbers[what]["mean"]


def test_the_printed_gradient_is_that_of_minus_d(lesson):
    x, h = np.linspace(-4, 4, 17), 1e-5
    D, central, softplus = (lesson[k] for k in ("sigmoid", "central", "softplus"))
    assert lesson["printed"](x) == pytest.approx(central(lambda x: -D(x), x, h), abs=1e-10)
    assert -np.log(1 - D(x)) == pytest.approx(softplus(x))
    slope = central(lambda x: -D(x), x, h) / -(1 - D(x))  # the missing factor, and the sign
    assert slope == pytest.approx(central(softplus, x, h), abs=1e-8)


def test_the_slopes_of_the_errors(lesson):
    steps, errors = lesson["steps"], lesson["errors"]

    def slope(errors, largest, smallest):
        part = (steps <= largest) & (steps >= smallest)
        return np.polyfit(np.log(steps[part]), np.log(errors[part]), 1)[0]

    assert slope(errors["central"], 1e-1, 1e-3) == pytest.approx(2, abs=0.1)
    assert slope(errors["forward"], 1e-1, 1e-5) == pytest.approx(1, abs=0.1)
    assert slope(errors["central"], 1e-9, 1e-13) == pytest.approx(-1, abs=0.1)
    assert slope(errors["forward"], 1e-9, 1e-13) == pytest.approx(-1, abs=0.1)
    assert np.interp(1e-12, steps[::-1], errors["central"][::-1]) == pytest.approx(1e-4, rel=0.7)


def test_the_numbers_of_the_text(lesson):
    assert _number(lesson, "predicted best h") == pytest.approx(2e-5, rel=0.1)
    assert _number(lesson, "smallest error, central") < 1e-11
    assert _number(lesson, "smallest error, forward") < 5e-9
    assert _number(lesson, "float64, h = 1e-6: relative error") < 0.004 / 1e4
    assert lesson["single"] == pytest.approx(0.046, abs=0.001)
    assert np.float32(1.5) + np.float32(1e-6) == np.float32(1.5) + 8 * 2.0**-23
    assert _number(lesson, "two layers: |differences - chain rule|") < 1e-8
    assert _number(lesson, "two layers: |differences - mg.grad|") < 1e-8
    assert _number(lesson, "right VJP, random g: largest mismatch") < 1e-6
    assert _number(lesson, "ops that have a derivative to check") >= 40


def test_the_librarys_mismatch_is_that_of_the_lesson(lesson):
    x, A = lesson["x"], lesson["A"]

    def net(t):
        return (t @ mg.tensor(A, device="reference")).tanh()

    theirs = check_gradients(net, [x], order=1, seed=7, eps=0.01, rtol=1, atol=0)[0]
    rng = np.random.default_rng(7)
    g, v = rng.standard_normal(4), rng.standard_normal(5)

    def vjp(g):
        return (g * (1 - np.tanh(x @ A) ** 2)) @ A.T

    ours = lesson["mismatch"](lambda x: np.tanh(x @ A), vjp, x, g, v, h=0.01)
    assert theirs == pytest.approx(ours, rel=1e-6)


def test_the_library_refuses_the_wrong_vjp(lesson, monkeypatch):
    monkeypatch.setattr(mg.Op, "registry", dict(mg.Op.registry))
    wrong = mg.Op("rotated", lesson["rotate"], vjps=(lambda g, y, x: ops.transpose(g, 1, 2, 0),))
    with pytest.raises(GradientError, match="f, order 1"):
        check_gradients(wrong, [lesson["cube"]])
    right = mg.Op("rotated2", lesson["rotate"], vjps=(lambda g, y, x: ops.transpose(g, 2, 0, 1),))
    check_gradients(right, [lesson["cube"]])


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
    # At the minimum half of the error is rounding, in the last bits of numpy's exp and log1p. Those
    # differ between processors: 94 with AVX-512, for which numpy has its own, and 91 without.
    assert central.min() / five.min() == pytest.approx(92.5, rel=0.03)
    assert h[five.argmin()] == pytest.approx(0.002, rel=0.05)


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
