"""Lesson 11: the answers to its exercises."""

import math

import numpy as np
import pytest
from lesson_helpers import fast_run, run_cells, source

import minigan as mg
from minigan import ops

NAME = "11_wgan_gp"
pytestmark = pytest.mark.slow


def test_its_other_figures_are_drawn():
    files = fast_run(NAME)["files"]
    assert {f"{NAME}-distance.png", f"{NAME}-layers.png"} <= files.keys()


def test_with_the_penalty_the_slope_stays_near_one_through_eight_layers():
    numbers = {number["what"]: number["mean"] for number in fast_run(NAME)["numbers"]}
    assert 0.5 < numbers["8 layers, penalty: slope of D"] < 2
    assert numbers["8 layers, clipped at 0.1: slope of D"] > 100
    assert numbers["8 layers, clipped at 0.3: slope of D"] > 1e5


# ---------------------------------------------------------------------------------- exercises
@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when P has been differentiated by hand."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, "gradients of P, by hand and by the engine: gap")


def test_exercise_1_only_a_root_that_is_never_taken_of_zero_is_safe(lesson):
    x, W, b, a = (lesson[name] for name in ("x", "W", "b", "a"))
    batch = np.concatenate([np.zeros((1, 2)), x])  # flat at 0, where x W + b = b < 0

    def outer_root(squares):
        return ops.where(squares == 0.0, 0.0, squares.sqrt())

    def safe_root(squares):
        is_flat = squares == 0.0
        return ops.where(is_flat, 0.0, ops.where(is_flat, 1.0, squares).sqrt())

    def critic(x, w):
        return ops.relu(x @ w - mg.tensor(abs(b))) @ mg.tensor(a)

    shares = []
    for root in (ops.sqrt, outer_root, safe_root):
        points, w = (mg.tensor(z, requires_grad=True) for z in (batch, W))
        (g,) = mg.grad(critic(points, w).sum(), [points], create_graph=True)
        s = root((g * g).sum(axis=1))
        assert s.numpy()[0] == 0
        (by_W,) = mg.grad(((s - 1.0) ** 2).mean(), [w])
        shares.append(np.isnan(by_W.numpy()).mean())
    assert shares == [1, 1, 0]
    w = mg.tensor(W, requires_grad=True)
    points = mg.tensor(batch)
    P = mg.losses.gradient_penalty(lambda x: critic(x, w), points, points)
    assert np.allclose(mg.grad(P, [w])[0].numpy(), by_W.numpy())


def test_exercise_2_one_side_is_enough_where_the_slope_is_above_one():
    """A critic of slope s in one dimension, of two samples at distance w."""
    for lam, w in ((10.0, 0.8), (0.1, 0.8), (10.0, 0.0)):
        s = np.linspace(0, 20, 200_001)
        two, one = (lam * excess**2 - s * w for excess in (s - 1, np.maximum(s - 1, 0)))
        best = [s[np.flatnonzero(loss <= loss.min() + 1e-12)] for loss in (two, one)]
        if w:
            assert [x.mean() for x in best] == pytest.approx([1 + w / (2 * lam)] * 2, abs=1e-3)
        else:  # nothing to tell apart: one wants slope 1 all the same, the other is content below
            assert best[0] == pytest.approx(1, abs=1e-3)
            assert (best[1].min(), best[1].max()) == pytest.approx((0, 1), abs=1e-3)


def test_exercise_3_weights_of_001_shrink_every_gradient(rng):
    assert np.linalg.norm(np.full((64, 64), 0.01), 2) == pytest.approx(0.64)
    for c, factor in ((0.01, 0.057), (0.1, 0.57)):
        signs = c * rng.choice([-1, 1], size=(64, 64))
        g = rng.normal(size=(4000, 64))
        back = (g @ signs) * rng.choice([0, 1], size=g.shape)
        ratio = np.sqrt((back**2).sum() / (g**2).sum())
        assert ratio == pytest.approx(factor, rel=0.05)
        assert ratio == pytest.approx(c * math.sqrt(32), rel=0.05)
    assert pytest.approx(2e-9, rel=0.05) == 0.057**7
