"""Lesson 12: the answers to its exercises."""

import numpy as np
import pytest
from lesson_helpers import fast_run, run_cells, source

import minigan as mg
from minigan import nn, ops

NAME = "12_lipschitz"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def numbers():
    return {number["what"]: number["mean"] for number in fast_run(NAME)["numbers"]}


def test_its_other_figure_is_drawn():
    assert f"{NAME}-slopes.png" in fast_run(NAME)["files"]


def test_the_slope_with_spectral_norm_is_at_most_one(numbers):
    assert 0.9 < numbers["spectral norm: largest slope after 1000 steps"] < 1.01
    assert numbers["plain: largest slope after 1000 steps"] > 10
    assert numbers["R1: slope at the real points"] < 1


def test_the_direction_converges_half_as_fast_as_sigma(numbers):
    assert numbers["direction: factor per step / rho^2"] == pytest.approx(1, abs=0.02)


def test_its_own_weights_grow(numbers):
    assert numbers["spectral norm: sigma of its own weights, end / start"] > 2


def test_each_change_alone_does_no_harm_in_the_fast_run_too(numbers):
    for row in ("2 latents", "64 latents", "2 latents, rates x 3"):
        assert numbers[f"{row}: modes"] >= 20


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_a_convolution_stretches_more_than_its_matrix(rng):
    w = np.ones((16, 16, 3, 3))
    weight, v = mg.tensor(w), rng.normal(size=(1, 16, 16, 16))
    for _ in range(300):
        u = ops.conv2d(mg.tensor(v / np.linalg.norm(v)), weight, None, 1, 1).numpy()
        v = ops.conv_transpose2d(mg.tensor(u), weight, None, 1, 1).numpy()
    ratio = np.linalg.norm(u) / np.linalg.norm(w.reshape(16, 144), 2)
    assert ratio == pytest.approx(2.93, abs=0.01)


def test_exercise_2_equal_singular_values_do_not_disturb_the_estimate(rng):
    left, _, right = np.linalg.svd(rng.normal(size=(8, 8)))
    W = left @ np.diag([2, 2, 1, 1, 1, 1, 1, 1]) @ right
    v = rng.normal(size=8)
    start = right[:2] @ v
    for _ in range(40):
        v /= np.linalg.norm(v)
        estimate = np.linalg.norm(W @ v)
        v = W.T @ (W @ v)
    assert estimate == pytest.approx(2, rel=1e-12)
    v /= np.linalg.norm(v)
    assert np.allclose(right[:2] @ v, start / np.linalg.norm(start))


def test_exercise_3_long_weights_have_short_gradients():
    mg.manual_seed(0)
    layer = nn.spectral_norm(nn.Dense(6, 4, bias=False, dtype="float64"), steps=100)
    weight = layer.module.weight
    x, target = (mg.random.normal((32, n), dtype="float64") for n in (6, 4))

    def gradient():
        return mg.grad(ops.mean((layer(x) - target) ** 2), [weight])[0].numpy()

    now = gradient()
    assert abs((now * weight.numpy()).sum()) < 1e-12  # no gradient along the weights
    optimizer = mg.optim.SGD([weight], lr=0.1)
    before = weight.numpy()
    optimizer.step(mg.grad(ops.mean((layer(x) - target) ** 2), [weight]))
    longer = (weight.numpy() ** 2).sum() - (before**2).sum()
    assert longer == pytest.approx(0.1**2 * (now**2).sum(), rel=1e-6)
    layer.load_state_dict(layer.state_dict() | {"module.weight": 10 * before})
    assert np.allclose(10 * gradient(), now)


def test_the_lesson_shows_what_its_figure_claims(tmp_path):
    until = "weights times 1000: change of D"
    lesson = run_cells(source(NAME), NAME, tmp_path, until)
    outputs = lesson["nets"]["R1"](mg.tensor([[-1.0], [1.0]], "float32")).numpy()[:, 0]
    assert outputs[0] < 0 < outputs[1]
