"""Lesson 05: the answers to its exercises, and the numbers that its text quotes."""

import math

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import ops

NAME = "05_exact_game"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined before its last figure."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="fake twice: KL, worst seed")


def test_every_objective_has_the_best_answer_of_the_formula(lesson):
    p, q = lesson["p"], lesson["q"]
    formulas = {
        "V": p / (p + q),
        "fake twice": p / (p + 2 * q),
        "retain_graph": (p + q) / (p + 2 * q),
    }
    for name, best in formulas.items():
        assert abs(lesson["answers"][name] - best).max() < 1e-3, name
    at_equal = [lesson["answers"][name][lesson["equal"]] for name in formulas]
    assert at_equal == pytest.approx([1 / 2, 1 / 3, 2 / 3], abs=1e-3)
    steps = {steps: lesson["best_d"](q - p, 0 * q, steps) for steps in (100, 400)}
    assert steps[400].min() < 1e-20 * steps[100].min()  # no best answer: it falls on


def test_js_and_its_ceiling(lesson):
    """The numbers of the text, and d2l's 0.693054 at distance 8."""
    assert lesson["curve"][0] == pytest.approx(0, abs=1e-12)
    assert lesson["curve"][40] == pytest.approx(0.693054, abs=1e-6)
    assert lesson["curve"][80] == pytest.approx(math.log(2), abs=1e-9)
    assert np.all(np.diff(lesson["curve"]) > 0)


def test_the_game_with_the_fake_term_twice_has_its_value_at_p_equal_q():
    loss = -math.log(1 / 3) - 2 * math.log(2 / 3)
    assert loss == pytest.approx(math.log(3) + 2 * math.log(3 / 2))
    assert loss == pytest.approx(1.910, abs=5e-4)


def test_retain_graph_runs_away_and_its_d_says_one_half(lesson):
    """It is far worse than at the start, where KL is 18.8."""
    kl, output = lesson["train"](0, 1, 1)
    assert kl > 20
    assert output == pytest.approx(0.5, abs=1e-3)
    start = math.log(0.5) + (1 + 9) / (2 * 0.25) - 0.5
    assert start == pytest.approx(18.8, abs=0.01)


def test_d_ends_at_the_best_answer_of_its_objective(lesson):
    assert lesson["train"](0, 1, 0)[1] == pytest.approx(1 / 2, abs=0.02)
    assert lesson["train"](0, 2, 0)[1] == pytest.approx(1 / 3, abs=0.02)


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_a_minimizing_d_learns_the_opposite_and_g_is_detected(lesson):
    p, q = lesson["p"], lesson["q"]
    D = lesson["best_d"](-p, -q)
    assert D[p > 1.1 * q].max() < 1e-6
    assert D[q > 1.1 * p].min() > 1 - 1e-6
    s = mg.tensor([0.0], dtype="float64", requires_grad=True)  # the logit of a fake
    (slope,) = mg.grad(ops.softplus(s).sum(), [s])  # of -log(1 - D), which G is said to minimize
    assert slope.item() == 0.5  # so its step lowers D(fake)


def test_exercise_2_adam_ignores_the_size(lesson):
    path = lesson["descend"](lambda s: -ops.softplus(s), optimizer_class=mg.optim.Adam)
    assert path[50] == pytest.approx(1.80, abs=0.01)
    assert abs(path[-1]) < 0.001
    weights = [1 / (1 + np.exp(-s)) for s in (0.0, math.log(0.001 / 0.999))]
    assert weights[0] / weights[1] == pytest.approx(500)


def test_exercise_3_the_slopes_of_the_two_losses_add_up_to_the_distance(lesson):
    x, dx, normal = lesson["x"], lesson["dx"], lesson["normal"]
    z, weights = mg.tensor(x), mg.tensor(normal(x, 0, 1) * dx)

    def slope(d, loss):
        theta = mg.tensor(float(d), dtype="float64", requires_grad=True)
        s = d * d / 2 - d * (z + theta)
        return mg.grad((weights * loss(s)).sum(), [theta])[0].item()

    for d in (0.5, 2.0, 8.0):
        small, large = slope(d, lambda s: -ops.softplus(s)), slope(d, lambda s: ops.softplus(-s))
        assert small + large == pytest.approx(d, rel=1e-6)
    assert large == pytest.approx(7.9996, abs=5e-5)
    assert small == pytest.approx(0.0004, abs=5e-5)
