"""The Dirac-GAN, the smallest GAN: known radii and eigenvalues, by the engine's own gradients.

What simultaneous and alternating steps, losses and penalties do to training can be read off from
how far from (0, 0) 500 steps end. `minigan.reproduce.dirac` has the game.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan.gan.losses import LOSSES, GANLoss
from minigan.reproduce.dirac import (
    ORDERS,
    Game,
    Pair,
    eigenvalues,
    exact_eigenvalues,
    r1,
    simulate,
    slope_of_one,
    step_map,
)

ORDER = pytest.mark.parametrize("order", ORDERS)
minimax, nonsaturating, wasserstein = (
    LOSSES[name]() for name in ("minimax", "nonsaturating", "wasserstein")
)


# ---------------------------------------------------------------------- where 500 steps lead to
RADII = [
    (Game(minimax), (3.09695, 1.42102, 1.41260)),  # out; around and around
    (Game(nonsaturating), (0.64021, 0.28392, 0.27063)),  # in, slower and slower
    (Game(wasserstein, clip=1.0), (1.00215, 1.02412, None)),
    (Game(wasserstein, slope_of_one(0.7)), (1.80179, 1.22107, None)),
]


@pytest.mark.parametrize(("game", "radii"), RADII)
def test_radii_after_500_steps(game: Game, radii: tuple[float | None, ...]) -> None:
    for order, radius in zip(ORDERS, radii, strict=True):
        if radius is not None:
            actual = np.hypot(*simulate(game, order)[-1])
            assert actual == pytest.approx(radius, rel=0, abs=1e-5), order


@ORDER
@pytest.mark.parametrize("gamma", [0.3, 1.0])
@pytest.mark.parametrize("loss", [minimax, nonsaturating])
def test_the_slope_at_the_data_makes_it_converge(loss: GANLoss, gamma: float, order: str) -> None:
    assert np.hypot(*simulate(Game(loss, r1(gamma)), order)[-1]) < 1e-4


def test_lipschitz_critics_never_settle() -> None:
    """Clipped, or held at slope 1, D is not flat where the generator is right: it moves on."""
    for game in (Game(wasserstein, clip=1.0), Game(wasserstein, slope_of_one(0.7))):
        for order in ORDERS:
            radii = np.hypot(*simulate(game, order)[-100:].T)
            assert radii.min() > 0.5


# -------------------------------------------------------------------------------- eigenvalues
GAMMAS = pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])


def _same(actual: np.ndarray, expected: np.ndarray, bound: float) -> None:
    """As sets, by sum and product, which are smooth functions of the matrix at a double root too.

    There an eigenvalue is not: an error e of the matrix moves it by about sqrt(e).
    """
    assert abs(actual.sum() - expected.sum()) < bound
    assert abs(actual.prod() - expected.prod()) < bound


@DEVICES
@GAMMAS
@pytest.mark.parametrize("loss", [minimax, nonsaturating])
def test_eigenvalues_of_the_field(device: str, loss: GANLoss, gamma: float) -> None:
    """-gamma / 2 +- sqrt(gamma^2 / 4 - 1 / 4), of both losses: at 0 they have one slope."""

    def field(theta: mg.Tensor, psi: mg.Tensor) -> Pair:
        g, d = Game(loss, r1(gamma)).gradients(theta, psi)
        return -g, -d

    root = np.sqrt(gamma**2 / 4 - 0.25 + 0j)
    _same(eigenvalues(field, device), np.array([root, -root]) - gamma / 2, 1e-12)


MODULI = {  # of the steps, largest first: simultaneous, alternating
    0.0: ((1.004988, 1.004988), (1.0, 1.0)),
    0.3: ((0.974679, 0.974679), (0.969536, 0.969536)),
    1.0: ((0.9, 0.9), (0.927016, 0.862984)),
    2.0: ((0.973205, 0.626795), (0.973955, 0.616045)),
}


@GAMMAS
@ORDER
def test_eigenvalues_of_a_step(gamma: float, order: str) -> None:
    """Above 1 in size, steps lead away from the equilibrium, however small h is."""
    game = Game(minimax, r1(gamma))
    actual = eigenvalues(lambda theta, psi: step_map(game, order, theta, psi))
    expected = exact_eigenvalues(gamma, order)
    root = (expected[0] - expected[1]) / 2
    _same(actual, expected, 1e-12)
    # Simple roots have a condition of about 1 / |root|. At the double one (gamma = 1, simultaneous)
    # the matrix's rounding of some 1e-16 may become an error of 1e-8.
    bound = 1e-9 if abs(root) > 1e-6 else 1e-7
    for order_of in (np.max, np.min):
        assert abs(order_of(np.abs(actual)) - order_of(np.abs(expected))) < bound
    table = MODULI[gamma][order != "simultaneous"]
    assert sorted(np.abs(actual), reverse=True) == pytest.approx(table, rel=0, abs=1e-6)


def test_consensus_turns_the_field_inward() -> None:
    """-gamma / 4 +- i / 2 (Mescheder et al. 2017): the gradient of a gradient, and its Jacobian."""

    def field(theta: mg.Tensor, psi: mg.Tensor) -> Pair:
        g, d = Game(minimax, consensus=1.0).gradients(theta, psi)
        return -g, -d

    _same(eigenvalues(field), np.array([-0.25 + 0.5j, -0.25 - 0.5j]), 1e-12)
    assert np.hypot(*simulate(Game(minimax, consensus=1.0), "simultaneous")[-1]) < 1e-4


@ORDER
def test_the_step_map_is_the_step(order: str) -> None:
    for game in (Game(minimax, r1(0.3)), Game(nonsaturating), Game(wasserstein, slope_of_one(0.7))):
        theta, psi = (mg.tensor(1.0, "float64", requires_grad=True) for _ in range(2))
        actual = [x.item() for x in step_map(game, order, theta, psi)]
        assert actual == pytest.approx(simulate(game, order, steps=1)[-1], rel=1e-14)
