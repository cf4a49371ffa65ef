"""Lesson 11: the answers to its exercises."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import ops
from minigan.kernels.assignment.cpu import assign

NAME = "11_wgan_gp"
pytestmark = pytest.mark.slow


# ---------------------------------------------------------------------------------- exercises
@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when W1 is known."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="W1 on a line: by sorting")


def test_exercise_1_a_relus_slope_is_flat_so_b_gets_nothing(lesson):
    x, W, b, a = (lesson[name] for name in ("x", "W", "b", "a"))
    weights = [mg.tensor(z, requires_grad=True) for z in (W, b, a)]

    def critic(x):
        return ops.relu(x @ weights[0] + weights[1]) @ weights[2]

    s = lesson["slopes"](critic, mg.tensor(x))
    P = ((s - 1.0) ** 2).mean()
    by_W, by_b, by_a = mg.grad(P, weights, allow_unused=True)
    is_active = (x @ W + b > 0) * 1.0
    g = (a[:, 0] * is_active) @ W.T
    length = np.linalg.norm(g, axis=1, keepdims=True)
    q = 2 * (length - 1) / length * g / len(x)
    assert np.allclose(by_W.numpy(), q.T @ (a[:, 0] * is_active), atol=1e-12)  # one term of two
    assert np.allclose(by_a.numpy()[:, 0], (q @ W * is_active).sum(axis=0), atol=1e-12)
    assert by_b is None or not by_b.numpy().any()  # but D(fake) - D(real) moves it
    (moved,) = mg.grad(critic(mg.tensor(x)).mean(), weights[1:2])
    assert moved.numpy().any()


def test_exercise_2_prices_are_a_critic_of_slope_one(lesson):
    real, fake = (x.numpy().astype(float) for x in lesson["points"](lesson["RING"], 300, 7))
    _, u, v = assign(real.T.copy(), fake.T.copy())
    prices, positions = np.concatenate([u, -v]), np.concatenate([real, fake])
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    assert (abs(prices[:, None] - prices[None]) - distances).max() < 1e-12
    assert u.mean() + v.mean() == pytest.approx(mg.metrics.wasserstein1(real, fake), rel=1e-12)


def test_exercise_3_one_side_is_enough_where_the_slope_is_above_one():
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
