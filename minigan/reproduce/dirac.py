"""The Dirac-GAN, the smallest GAN: where 500 steps lead, and the eigenvalues of one step.

The data are one point, 0; the generator makes one point, theta; the discriminator is
D(x) = -psi x (Mescheder, Geiger and Nowozin 2018, definition 2.1; the minus, because there D is
high on fakes and here on real samples). All start at theta = psi = 1 and take steps of h = 0.2, as
in the authors' notebook, whose gradients are written by hand; here they are the engine's. So are
the Jacobians of a step, which hold second derivatives of the losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import ops
from ..engine.autograd import grad, jacobian
from ..engine.capture import capture
from ..engine.device import use_device
from ..engine.tensor import Tensor, tensor
from ..gan.losses import LOSSES, GANLoss, gradient_penalty, r1_penalty
from ..optim import SGD, assign
from ..utils.figures import BLUE, GREEN, GREY, ORANGE, PINK, figure
from .experiment import Case, CaseResult, Experiment, Goal, Measure, Outcome

Penalty = Callable[[Any, Tensor, Tensor], Tensor]
Pair = tuple[Tensor, Tensor]
H = 0.2
# Who is updated, in which order: 0 the generator, 1 the discriminator.
ORDERS: dict[str, tuple[tuple[int, ...], ...]] = {
    "simultaneous": ((0, 1),),
    "generator first": ((0,), (1,)),
    "discriminator first": ((1,), (0,)),
}


@dataclass(frozen=True)
class Game:
    """A loss, what is added to the discriminator's, and bounds that psi is clipped to.

    `consensus` times |gradients|^2 / 2 is added to both losses (Mescheder et al. 2017).
    """

    loss: GANLoss
    penalty: Penalty | None = None
    clip: float | None = None
    consensus: float = 0.0

    def gradients(self, theta: Tensor, psi: Tensor) -> Pair:
        """Return the generator's loss by theta and the discriminator's by psi, as a graph."""
        # Copies: where one was computed from the other, the partial derivative is still meant.
        theta, psi = theta * 1.0, psi * 1.0

        def discriminator(x: Tensor) -> Tensor:
            return -(x * psi)

        real, fake = tensor([[0.0]], "float64"), theta.reshape(1, 1)
        on_real, on_fake = discriminator(real), discriminator(fake)
        loss_g = self.loss.generator(on_fake, on_real)
        loss_d = self.loss.discriminator(on_real, on_fake)
        if self.penalty is not None:
            loss_d = loss_d + self.penalty(discriminator, real, fake)
        if self.consensus:
            both = _slopes(loss_g, loss_d, theta, psi)
            squares = (both[0] * both[0] + both[1] * both[1]) * (self.consensus / 2)
            loss_g, loss_d = loss_g + squares, loss_d + squares
        return _slopes(loss_g, loss_d, theta, psi)


def _slopes(loss_g: Tensor, loss_d: Tensor, theta: Tensor, psi: Tensor) -> Pair:
    (g,) = grad(loss_g, [theta], create_graph=True)
    (d,) = grad(loss_d, [psi], create_graph=True)
    return g, d


def r1(gamma: float) -> Penalty:
    """Return gamma / 2 times the squared slope at the data."""
    return lambda d, real, fake: r1_penalty(d, real) * (gamma / 2)


def slope_of_one(weight: float) -> Penalty:
    """Return the penalty of a WGAN-GP; the notebook's field has -weight (|psi| - 1) sign psi."""
    return lambda d, real, fake: gradient_penalty(d, real, fake) * (weight / 2)


def simulate(game: Game, order: str, steps: int = 500, h: float = H) -> np.ndarray:
    """Return theta and psi, (steps + 1, 2), from (1, 1) on, each stepped by an `SGD` of its own."""
    theta, psi = (tensor(1.0, "float64", requires_grad=True) for _ in range(2))
    optimizers = [SGD([p], lr=h) for p in (theta, psi)]

    def step() -> None:
        for updated in ORDERS[order]:
            gradients = game.gradients(theta, psi)
            for i in updated:
                optimizers[i].step([gradients[i]])
        if game.clip is not None:
            assign(psi, ops.clip(psi.detach(), -game.clip, game.clip))

    captured = capture(step)
    path = [(theta.item(), psi.item())]
    for _ in range(steps):
        captured()
        path.append((theta.item(), psi.item()))
    return np.array(path)


def step_map(game: Game, order: str, theta: Tensor, psi: Tensor, h: float = H) -> Pair:
    """Return theta and psi after a step, as a graph that can be differentiated, without `clip`."""
    for updated in ORDERS[order]:
        g, d = game.gradients(theta, psi)
        theta, psi = (
            (theta - g * h if 0 in updated else theta),
            (psi - d * h if 1 in updated else psi),
        )
    return theta, psi


def eigenvalues(f: Callable[[Tensor, Tensor], Pair], device: str = "cpu") -> np.ndarray:
    """Return the eigenvalues of the Jacobian of f at the equilibrium (0, 0)."""
    with use_device(device):
        origin = [tensor(0.0, "float64", requires_grad=True) for _ in range(2)]
        columns = jacobian(ops.stack(f(*origin)), origin)
    return np.linalg.eigvals(np.stack([column.numpy() for column in columns], axis=1))


def exact_eigenvalues(gamma: float, order: str, h: float = H) -> np.ndarray:
    """Return the eigenvalues of a step with R1 in closed form; both losses have one slope at 0."""
    trace, determinant = 2 - h * gamma, 1 - h * gamma + h**2 / 4
    if order != "simultaneous":  # the second player meets where the first one went
        trace, determinant = trace - h**2 / 4, determinant - h**2 / 4
    root = np.sqrt(trace**2 / 4 - determinant + 0j)
    return np.array([trace / 2 + root, trace / 2 - root])


# ----------------------------------------------------------------------------------- the experiment
GAMMAS = (0.0, 0.3, 1.0, 2.0)
GAMES: dict[str, dict[str, Any]] = {
    "GAN": {"loss": "minimax"},
    "NSGAN": {"loss": "nonsaturating"},
    "WGAN, clipped": {"loss": "wasserstein", "clip": 1.0},
    "WGAN-GP": {"loss": "wasserstein", "slope_of_one": 0.7},
    **{f"GAN, R1 {gamma:g}": {"loss": "minimax", "r1": gamma} for gamma in GAMMAS[1:]},
}
# After 500 steps, by gradients written by hand: simultaneous, and the generator first.
RADII = {
    "GAN": (3.09695, 1.42102),
    "NSGAN": (0.64021, 0.28392),
    "WGAN, clipped": (1.00215, 1.02412),
    "WGAN-GP": (1.80179, 1.22107),
}
MEASURES = {
    "radius": Measure("radius", 5),
    "modulus": Measure("largest modulus", 6),
    "smaller": Measure("the other one", 6),
}


def make_game(config: Mapping[str, Any]) -> Game:
    """Return the game that a row of GAMES describes."""
    penalty = r1(config["r1"]) if "r1" in config else None
    if "slope_of_one" in config:
        penalty = slope_of_one(config["slope_of_one"])
    return Game(LOSSES[config["loss"]](), penalty, config.get("clip"))


def measure(config: Mapping[str, Any], seed: int) -> Outcome:
    """Take the steps, and differentiate one; nothing is random.

    Args:
        config: a row of GAMES, with "order", "steps" and "h".
        seed: is not used.
    """
    game, order, h = make_game(config), config["order"], config["h"]
    path = simulate(game, order, config["steps"], h)
    values = {"radius": float(np.hypot(*path[-1]))}
    arrays = {"path": path}
    if config["loss"] != "wasserstein":  # WGANs have no smooth step at (0, 0)
        found = eigenvalues(lambda theta, psi: step_map(game, order, theta, psi, h))
        large, small = sorted(np.abs(found), reverse=True)
        values |= {"modulus": large, "smaller": small}
        arrays["eigenvalues"] = found
    return Outcome(values, arrays)


def _cases() -> dict[str, Case]:
    cases = {}
    for name, options in GAMES.items():
        for i, order in enumerate(("simultaneous", "generator first")):
            goals = {"radius": Goal(high=1e-4)}
            if name in RADII:
                radius = RADII[name][i]
                goals = {"radius": Goal(radius - 1e-5, radius + 1e-5)}
            if options["loss"] != "wasserstein":
                gamma = options.get("r1", 0.0)
                exact = np.abs(exact_eigenvalues(gamma, order)).max()
                # A double root moves by the root of the matrix's rounding.
                bound = 1e-7 if (gamma, i) == (1.0, 0) else 1e-9
                goals["modulus"] = Goal(exact - bound, exact + bound)
            config = {**options, "order": order, "steps": 500, "h": H}
            cases[f"{name}, {order}"] = Case(measure, config, goals, seeds=1)
    return cases


def _known() -> dict[str, dict[str, str]]:
    """Return the cells that are known without the engine, by row."""
    rows: dict[str, dict[str, str]] = {}
    for name, case in _cases().items():
        config = case.config
        radii = RADII.get(name.removesuffix(f", {config['order']}"))
        cells = {"radius": f"{radii[config['order'] != 'simultaneous']:.5f}" if radii else "< 1e-4"}
        if config["loss"] != "wasserstein":
            moduli = np.abs(exact_eigenvalues(config.get("r1", 0.0), config["order"]))
            cells |= {"modulus": f"{moduli.max():.6f}", "smaller": f"{moduli.min():.6f}"}
        rows[f"{name}: known"] = cells
    return rows


# ------------------------------------------------------------------------------------------- figure
COLOURS = dict(zip(GAMMAS, (PINK, BLUE, GREEN, ORANGE), strict=True))


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: eigenvalues of a step with R1 beside the unit circle, and radii by the step."""
    with figure(path, 13, 4.6) as drawing:
        *planes, right = drawing.subplots(1, 3, width_ratios=(1, 1, 1.2))
        for axes, order in zip(planes, ("simultaneous", "generator first"), strict=True):
            _draw_plane(axes, order, results)
        for result in results:
            if "r1" in result.config or "clip" in result.config:
                continue
            order = result.config["order"]
            style = "-" if order == "simultaneous" else "--"
            name = result.name.split(",")[0]
            colour = {"GAN": PINK, "NSGAN": BLUE, "WGAN-GP": GREEN}[name]
            radii = np.hypot(*result.arrays[0]["path"].T)
            label = name if style == "-" else None
            right.plot(radii, style, color=colour, lw=1.2, label=label)
        right.set(xlabel="step", xlim=(0, 500), ylim=(0, 3.3), title="Radius (dashed: G first)")
        right.legend(loc="upper left")


def _draw_plane(axes: Any, order: str, results: Sequence[CaseResult]) -> None:
    """Draw eigenvalues of a step: gamma from 0 to 2 in closed form, and those of autograd."""
    circle = np.exp(1j * np.linspace(-0.5, 0.5, 200))
    axes.plot(circle.real, circle.imag, color="black", lw=1, ls=":")
    curve = np.array([exact_eigenvalues(gamma, order) for gamma in np.linspace(0, 2, 2001)])
    axes.plot(curve.real, curve.imag, ".", color=GREY, ms=2)
    for result in results:
        if result.config["order"] == order and result.config["loss"] == "minimax":
            gamma = result.config.get("r1", 0.0)
            found = result.arrays[0]["eigenvalues"].astype(complex)
            label = f"$\\gamma$ = {gamma:g}"
            axes.plot(found.real, found.imag, "o", color=COLOURS[gamma], ms=7, label=label)
    axes.set(xlim=(0.58, 1.04), ylim=(-0.23, 0.23), aspect="equal", title=f"A step, {order}")
    axes.set(xlabel="real part", ylabel="imaginary part")
    axes.legend(loc="upper left", fontsize=10)


DIRAC = Experiment(
    about="the Dirac-GAN: radii after 500 steps, eigenvalues of one step (Mescheder et al. 2018)",
    source="radii by the authors' gradients, written by hand, in numpy; moduli in closed form",
    minutes=0.1,
    cases=_cases(),
    measures=MEASURES,
    published=_known(),
    draw=draw,
    caption=(
        "Left and middle: eigenvalues of the Jacobian of one step with R1 (dots: by autograd;"
        " grey: closed form, gamma from 0 to 2). Outside of the dotted unit circle, steps lead away"
        " from the equilibrium."
    ),
)
