"""Lesson 08: the answers to its exercises, and two things that it does not show itself."""

import copy
import io
import math

import numpy as np
import pytest
from lesson_helpers import fast_run, run_cells, source
from PIL import Image

import minigan as mg

NAME = "08_how_gans_die"
pytestmark = pytest.mark.slow


def test_its_strip_shows_something():
    picture = Image.open(io.BytesIO(fast_run(NAME)["files"][f"{NAME}-hops.png"])).convert("RGB")
    assert 400 <= picture.width <= 1600
    assert np.asarray(picture).std() > 10


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when G has answered a fixed D."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, "fixed D: diversity of G's answer, worst seed")


def test_tanh_in_d_does_not_change_that_the_minimax_gradient_vanishes(lesson):
    D = lesson["net"](mg.nn.Tanh)
    run = lesson["train"](0, D=D, turns=(1, 0), falling=False)
    s, weights = D(run["G"](mg.random.normal((500, 2)))), run["G"].parameters()[::2]
    losses = mg.losses.Minimax(), mg.losses.NonSaturating()
    minimax, other = ([np.linalg.norm(g) for g in mg.grad(x.generator(s), weights)] for x in losses)
    ratio = np.divide(minimax, other)
    assert ratio.max() < 0.01
    assert ratio.max() < 3 * ratio.min()


def test_more_points_are_harder_to_learn_by_heart(lesson):
    options = {"world": "normal", "turns": (5, 1)}
    gaps = [lesson["train"](0, n=n, **options)["late"]["memory"] for n in (30, 300, 20_000)]
    assert gaps[0] > 5 * gaps[1]
    assert abs(gaps[2]) < 0.1


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_a_generator_that_covers_the_modes_stays_on_them(lesson):
    healthy = lesson["runs"]["healthy"][0]
    G = copy.deepcopy(healthy["G"])
    run = lesson["train"](0, G=G, D=healthy["net"], turns=(0, 1))
    assert run["diversity"].min() > 0.9
    assert lesson["answers"][0]["diversity"][-1] < 0.1


@pytest.mark.parametrize(("logit", "share"), [(-8, 0.99997), (-math.log(1e8), 0.5), (-25, 0.0014)])
def test_exercise_2_adam_hides_the_slope_until_its_epsilon(logit, share):
    s = mg.tensor([logit], dtype="float64", requires_grad=True)
    (slope,) = mg.grad(mg.losses.Minimax().generator(s), [s])
    assert float(slope) == pytest.approx(-1 / (1 + math.exp(-logit)), rel=1e-6)
    w = mg.tensor([0.0], dtype="float64", requires_grad=True)
    mg.optim.Adam([w], lr=1.0).step([slope])
    assert w.item() == pytest.approx(share, rel=0.02)


def test_exercise_3_another_loss_does_not_save_a_generator_from_a_strong_d(lesson, monkeypatch):
    monkeypatch.setitem(lesson, "STEPS", 1000)
    run = lesson["train"](0, turns=(10, 1))
    assert run["W1"] == pytest.approx(0.86, abs=0.1)
    assert 0.05 < run["late"]["slope left"] < 0.5, "its gradient by the logit is 1 - this"
    assert run["late"]["diversity"] < 0.5
