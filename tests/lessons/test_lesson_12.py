"""Lesson 12: the answers to its exercises."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import nn, ops

NAME = "12_lipschitz"
UNDIVIDED = "layer.module.weight.numpy(), stride"
pytestmark = pytest.mark.slow


# ---------------------------------------------------------------------------------- exercises
@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when the Dirac-GAN has been trained."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, "gamma 0.0: radius after 500 steps")


def test_exercise_1_the_error_falls_by_the_fourth_power_of_the_ratio(lesson, rng):
    sigmas = np.linalg.svd(lesson["W"], compute_uv=False)
    a_step = (lesson["error"][-1] / lesson["error"][-21]) ** (1 / 20)
    assert a_step == pytest.approx((sigmas[1] / sigmas[0]) ** 4, rel=0.01)

    left, _, right = np.linalg.svd(rng.normal(size=(8, 8)))
    W = left @ np.diag([2, 2, 1, 1, 1, 1, 1, 1]) @ right  # two are the largest
    sigmas = lesson["power_iteration"](lambda v: W @ v, lambda u: W.T @ u, rng.normal(size=8), 40)
    assert sigmas[-1] == pytest.approx(2, rel=1e-12)


def test_exercise_2_a_gradient_at_right_angles_lengthens_the_weights():
    mg.manual_seed(0)
    layer = nn.spectral_norm(nn.Dense(6, 4, bias=False, dtype="float64"))
    weight = layer.module.weight
    x, target = (mg.random.normal((32, n), dtype="float64") for n in (6, 4))
    optimizer = mg.optim.SGD([weight], lr=0.1)

    def gradient():
        return mg.grad(ops.mean((layer(x) - target) ** 2), [weight])[0]

    for _ in range(50):
        before, g = weight.numpy(), gradient()
        assert abs((g.numpy() * before).sum()) < 1e-12
        optimizer.step([g])
        longer = (weight.numpy() ** 2).sum() - (before**2).sum()
        assert longer == pytest.approx(0.1**2 * (g.numpy() ** 2).sum(), rel=1e-6)
        assert longer > 0
    layer.eval()
    now = gradient().numpy()
    layer.load_state_dict(layer.state_dict() | {"module.weight": 10 * weight.numpy()})
    assert np.allclose(10 * gradient().numpy(), now)  # long weights have short gradients


def test_exercise_3_a_penalty_can_be_too_large_for_the_step(lesson):
    def modulus(gamma, h=0.2):
        root = np.sqrt(gamma**2 / 4 - 1 / 4 + 0j)
        return max(abs(1 + h * (-gamma / 2 + sign * root)) for sign in (-1, 1))

    path = np.hypot(*lesson["orbits"][0.3].T)
    measured = (path[-1] / path[250]) ** (1 / 250)
    assert measured == pytest.approx(modulus(0.3), abs=1e-3)
    gammas = np.arange(0.05, 12, 0.01)
    best = gammas[np.argmin([modulus(gamma) for gamma in gammas])]
    assert best == pytest.approx(1, abs=0.011)
    assert modulus(best) == pytest.approx(0.9, abs=0.002)
    assert modulus(10) < 1 < modulus(10.1)  # at h gamma = 2 + h^2 / 8 one eigenvalue is -1
    assert np.hypot(*lesson["orbit"](12.0, steps=40)[-1]) > 100
