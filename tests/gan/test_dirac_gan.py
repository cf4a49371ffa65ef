"""The Dirac-GAN, the smallest GAN: known radii and eigenvalues, by the engine's own gradients.

The data are one point, 0; the generator makes one point, theta; the discriminator is
D(x) = -psi x (Mescheder, Geiger and Nowozin 2018, definition 2.1; the minus, because there D is
high on fakes and here on real samples). All start at theta = psi = 1 and take 500 steps of h = 0.2,
as in the authors' notebook, whose gradients are written by hand. What simultaneous and alternating
steps, losses and penalties do to training can be read off from how far from (0, 0) they end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan import ops
from minigan.gan.losses import LOSSES, GANLoss, gradient_penalty, r1_penalty

Penalty = Callable[[Any, mg.Tensor, mg.Tensor], mg.Tensor]
Pair = tuple[mg.Tensor, mg.Tensor]
H = 0.2
# Who is updated, in which order: 0 the generator, 1 the discriminator.
ORDERS: dict[str, tuple[tuple[int, ...], ...]] = {
    "simultaneous": ((0, 1),),
    "generator first": ((0,), (1,)),
    "discriminator first": ((1,), (0,)),
}
ORDER = pytest.mark.parametrize("order", ORDERS)


@dataclass(frozen=True)
class Game:
    """A loss, what is added to the discriminator's, and bounds that psi is clipped to."""

    loss: GANLoss
    penalty: Penalty | None = None
    clip: float | None = None
    consensus: float = 0.0  # times |gradients|^2 / 2, added to both losses (Mescheder et al. 2017)

    def gradients(self, theta: mg.Tensor, psi: mg.Tensor) -> Pair:
        """(generator's loss by theta, discriminator's loss by psi), differentiable again."""
        # Copies: where one was computed from the other, the partial derivative is still meant.
        theta, psi = theta * 1.0, psi * 1.0

        def discriminator(x: mg.Tensor) -> mg.Tensor:
            return ops.negative(x * psi)

        real, fake = mg.tensor([[0.0]], "float64"), ops.reshape(theta, 1, 1)
        on_real, on_fake = discriminator(real), discriminator(fake)
        loss_g = self.loss.generator(on_fake, on_real)
        loss_d = self.loss.discriminator(on_real, on_fake)
        if self.penalty is not None:
            loss_d = loss_d + self.penalty(discriminator, real, fake)
        if self.consensus:
            both = self._slopes(loss_g, loss_d, theta, psi)
            squares = (both[0] * both[0] + both[1] * both[1]) * (self.consensus / 2)
            loss_g, loss_d = loss_g + squares, loss_d + squares
        return self._slopes(loss_g, loss_d, theta, psi)

    @staticmethod
    def _slopes(loss_g: mg.Tensor, loss_d: mg.Tensor, theta: mg.Tensor, psi: mg.Tensor) -> Pair:
        (g,) = mg.grad(loss_g, [theta], create_graph=True)
        (d,) = mg.grad(loss_d, [psi], create_graph=True)
        assert g is not None
        assert d is not None
        return g, d


def simulate(game: Game, order: str, steps: int = 500, h: float = H) -> np.ndarray:
    """(steps + 1, 2): theta and psi from (1, 1) on, each stepped by an `SGD` of its own."""
    theta, psi = (mg.tensor(1.0, "float64", requires_grad=True) for _ in range(2))
    optimizers = [mg.optim.SGD([p], lr=h) for p in (theta, psi)]

    def step() -> None:
        for updated in ORDERS[order]:
            gradients = game.gradients(theta, psi)
            for i in updated:
                optimizers[i].step([gradients[i]])
        if game.clip is not None:
            mg.optim.assign(psi, ops.clip(psi.detach(), -game.clip, game.clip))

    captured = mg.capture(step)
    path = [(theta.item(), psi.item())]
    for _ in range(steps):
        captured()
        path.append((theta.item(), psi.item()))
    return np.array(path)


def step_map(game: Game, order: str, theta: mg.Tensor, psi: mg.Tensor, h: float = H) -> Pair:
    """The same step as a function, which can be differentiated; `clip` is left out."""
    for updated in ORDERS[order]:
        g, d = game.gradients(theta, psi)
        theta, psi = (
            (theta - g * h if 0 in updated else theta),
            (psi - d * h if 1 in updated else psi),
        )
    return theta, psi


def eigenvalues(f: Callable[[mg.Tensor, mg.Tensor], Pair], device: str = "cpu") -> np.ndarray:
    """Of the Jacobian of f at the equilibrium (0, 0)."""
    with mg.use_device(device):
        origin = [mg.tensor(0.0, "float64", requires_grad=True) for _ in range(2)]
        columns = mg.jacobian(mg.stack(f(*origin)), origin)
    return np.linalg.eigvals(np.stack([column.numpy() for column in columns], axis=1))


def r1(gamma: float) -> Penalty:
    return lambda d, real, fake: r1_penalty(d, real) * (gamma / 2)


def slope_of_one(weight: float) -> Penalty:
    """The notebook's field has -weight (|psi| - 1) sign psi: half of it times the mean square."""
    return lambda d, real, fake: gradient_penalty(d, real, fake) * (weight / 2)


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
    trace, determinant = 2 - H * gamma, 1 - H * gamma + H**2 / 4
    if order != "simultaneous":  # the second player sees where the first one went
        trace, determinant = trace - H**2 / 4, determinant - H**2 / 4
    root = np.sqrt(trace**2 / 4 - determinant + 0j)
    expected = np.array([trace / 2 + root, trace / 2 - root])
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
