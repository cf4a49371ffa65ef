"""Lesson 09: the answers to its exercises, and its numbers by gradients written by hand."""

import math

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg

NAME = "09_dirac_gan"
pytestmark = pytest.mark.slow
H = 0.2
MODULI = {  # of a step with R1, by gamma: simultaneous, alternating
    0.0: (1.004988, 1.000000),
    0.3: (0.974679, 0.969536),
    1.0: (0.900000, 0.927016),
    2.0: (0.973205, 0.973955),
}


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined before its last figure."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="GAN: largest moduli - those predicted")


def sigmoid(t):
    return 1 / (1 + math.exp(-t))


# Velocities (of theta, of psi).
FIELDS = {
    "GAN": (lambda t, s: s * sigmoid(s * t), lambda t, s: -t * sigmoid(s * t)),
    "NSGAN": (lambda t, s: s * sigmoid(-s * t), lambda t, s: -t * sigmoid(s * t)),
    "WGAN, clipped": (lambda t, s: s, lambda t, s: -t),
    "WGAN-GP": (
        lambda t, s: s,
        lambda t, s: -t - 0.7 * (abs(s) - 1) * math.copysign(1, s),
    ),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("alternating", [False, True])
def test_the_known_radii_follow_from_gradients_by_hand(lesson, name, alternating):
    velocity_g, velocity_d = FIELDS[name]
    theta, psi = 1.0, -1.0
    for _ in range(500):
        new = theta + H * velocity_g(theta, psi)
        psi += H * velocity_d(new if alternating else theta, psi)
        psi = min(1.0, max(-1.0, psi)) if "clipped" in name else psi
        theta = new
    radius = math.hypot(theta, psi)
    assert radius == pytest.approx(lesson["KNOWN"][name][alternating], abs=6e-6)
    assert radius == pytest.approx(lesson["ends"][name][alternating], abs=1e-9)


def test_both_wasserstein_gans_never_settle(lesson):
    for name in ("WGAN, clipped", "WGAN-GP"):
        for path in lesson["orbits"][name]:
            assert np.hypot(*path[-100:].T).min() > 0.5


@pytest.mark.parametrize("gamma", MODULI)
def test_the_moduli_of_a_step(lesson, gamma):
    trace, determinant = 2 - H * gamma, 1 - H * gamma + H**2 / 4
    for alternating, known in enumerate(MODULI[gamma]):
        root = np.sqrt(trace**2 / 4 - determinant + 0j)
        exact = max(abs(trace / 2 + root), abs(trace / 2 - root))
        found = lesson["largest_modulus"](alternating=alternating, **lesson["r1"](gamma))
        assert found == pytest.approx(exact, abs=1e-9)
        assert found == pytest.approx(known, abs=1e-6)
        trace, determinant = trace - H**2 / 4, determinant - H**2 / 4


def test_r1_is_best_at_critical_damping(lesson):
    simultaneous, alternating = lesson["moduli"]
    assert lesson["gammas"][np.argmin(simultaneous)] == pytest.approx(1)
    assert lesson["gammas"][np.argmin(alternating)] == pytest.approx(0.95)
    assert [min(simultaneous), min(alternating)] == pytest.approx([0.9, 0.9], abs=1e-6)


def test_gaussian_noise_is_the_same_friction(lesson):
    """The lesson's noise has two values; here it is Gaussian, with the same variance."""
    n, dn = np.linspace(-7, 7, 2001, retstep=True)
    weights = np.exp(-n * n / 2) / math.sqrt(2 * math.pi) * dn
    n = 0.7 * n

    def loss(psi):
        return (weights * (np.logaddexp(0, -psi * n) + np.logaddexp(0, psi * n))).sum()

    curvature = (loss(1e-3) - 2 * loss(0.0) + loss(-1e-3)) / 1e-6
    assert curvature == pytest.approx(0.7**2 / 2, rel=1e-5)


def test_a_gradient_through_the_step_of_the_other_damps():
    """What the last planted bug does: D descends psi (theta + h psi / 2) / 2, by psi."""
    step = np.array([[1, H / 2], [-H / 2, 1 - H**2 / 2]])
    moduli = abs(np.linalg.eigvals(step))
    assert moduli.max() == pytest.approx(math.sqrt(1 - H**2 / 4))


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_smaller_steps_still_go_outwards(lesson):
    radius = np.hypot(*lesson["orbit"](5000, h=0.02)[-1])
    assert radius == pytest.approx(1.74, abs=0.005)
    assert radius > math.sqrt(2)
    assert lesson["ends"]["GAN"][0] == pytest.approx(3.10, abs=0.005)


def test_exercise_2_friction_can_be_too_large_for_the_step(lesson):
    critical = (2 + H**2 / 8) / H
    assert critical == pytest.approx(10.025)
    r1, largest_modulus = lesson["r1"], lesson["largest_modulus"]
    assert largest_modulus(**r1(critical - 0.01)) < 1 < largest_modulus(**r1(critical + 0.01))
    assert np.hypot(*lesson["orbit"](40, **r1(12.0))[-1]) > 100


def test_exercise_3_nsgan_circles_where_push_and_pull_are_equal(lesson):
    orbit, nsgan = lesson["orbit"], {"gan": mg.losses.NonSaturating()}
    assert lesson["ends"]["NSGAN"][0] == pytest.approx(0.640, abs=5e-4)
    radii = np.hypot(*orbit(5000, **nsgan)[-500:].T)
    assert radii[-1] == pytest.approx(0.624, abs=5e-4)
    assert radii.mean() == pytest.approx(math.sqrt(2 * H), rel=0.03)
    for steps in (500, 5000):
        radius = np.hypot(*orbit(steps, alternating=True, **nsgan)[-1])
        assert radius == pytest.approx(math.sqrt(8 / (H * steps)), rel=0.03)
    assert lesson["largest_modulus"](**nsgan) == pytest.approx(math.sqrt(1 + H**2 / 4), abs=1e-9)
