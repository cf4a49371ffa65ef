"""`minigan bench step`: one training step of the MLP GAN, beside the same step in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from .. import nn, ops, random
from ..autograd import grad
from ..capture import capture
from ..losses import NonSaturating
from ..optim import Adam
from ..tensor import Tensor, tensor
from .plan import Plan
from .table import cells, number, render
from .timing import Group, Spread, geometric_mean, ratio

SLOPE, LEARNING_RATE, BETAS = 0.2, 2e-4, (0.5, 0.999)
EAGER = "minigan, eager"
PEERS = {"PyTorch": False, "PyTorch, fused Adam": True}  # name: is Adam fused?

# step(latent=None) -> (loss of D, loss of G); without a latent it draws one.
Step = Callable[..., tuple[Any, Any]]


def perceptron(widths: Sequence[int], *end: nn.Module) -> nn.Sequential:
    """Dense layers with LeakyReLU(0.2) between them."""
    layers: list[nn.Module] = []
    for size, width in pairwise(widths):
        layers += [nn.Dense(size, width), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1], *end)


def gan(plan: Plan) -> tuple[nn.Sequential, nn.Sequential]:
    """(generator, discriminator), newly initialised."""
    return perceptron(plan.generator, nn.Tanh()), perceptron(plan.discriminator)


def minigan_step(
    generator: nn.Sequential,
    discriminator: nn.Sequential,
    data: np.ndarray,
    read: Callable[[Tensor], Any] = float,
    captured: bool = True,
) -> Step:
    """A function that trains both on the batch `data` (n, features): D once, then G once.

    The real and the fake batch pass D as one; G's turn takes the fakes that D has just seen. What
    it does is line for line what `peers.pytorch.pytorch_step` does. `read` makes what it returns
    of the losses: to read them as numbers, it has to wait for the device.
    """
    device = generator.parameters()[0].device
    play = _turns(generator, discriminator, tensor(data, device=device))
    play = capture(play) if captured else play

    def step(latent: np.ndarray | None = None) -> tuple[Any, Any]:
        loss_d, loss_g = play(None if latent is None else tensor(latent, device=device))
        return read(loss_d), read(loss_g)

    return step


def _turns(
    generator: nn.Sequential, discriminator: nn.Sequential, real: Tensor
) -> Callable[[Tensor | None], tuple[Tensor, Tensor]]:
    n, latent_size = len(real), generator.parameters()[0].shape[0]
    loss = NonSaturating()
    optimizer_g = Adam(generator.parameters(), LEARNING_RATE, BETAS)
    optimizer_d = Adam(discriminator.parameters(), LEARNING_RATE, BETAS)

    def play(latent: Tensor | None) -> tuple[Tensor, Tensor]:
        z = random.normal((n, latent_size), device=real.device) if latent is None else latent
        fake = generator(z)
        logits = discriminator(ops.concatenate([real, fake.detach()]))
        loss_d = loss.discriminator(logits[:n], logits[n:])
        optimizer_d.step(grad(loss_d, discriminator.parameters()))

        loss_g = loss.generator(discriminator(fake))
        optimizer_g.step(grad(loss_g, generator.parameters()))
        return loss_d, loss_g

    return play


def contenders(plan: Plan, batch: int, pytorch: ModuleType | None) -> dict[str, Step]:
    """By name, steps that begin with equal weights and train on equal data."""
    generator, discriminator = gan(plan)
    values = np.random.default_rng(0).standard_normal((batch, plan.discriminator[0]), np.float32)
    data = np.tanh(values)
    steps: dict[str, Step] = {}
    if pytorch is not None:
        states = generator.state_dict(), discriminator.state_dict()
        for name, fused in PEERS.items():
            steps[name] = pytorch.pytorch_step(*states, data, fused, SLOPE, LEARNING_RATE, BETAS)
    own = {
        "minigan": minigan_step(generator, discriminator, data),
        EAGER: minigan_step(*gan(plan), data, captured=False),
    }
    return {**own, **steps}


def groups(plan: Plan, pytorch: ModuleType | None) -> list[Group]:
    """One group per batch size; without PyTorch, minigan runs alone."""
    return [
        Group(
            [{"batch": batch}],
            {name: [step] for name, step in contenders(plan, batch, pytorch).items()},
            plan.step_seconds,
        )
        for batch in plan.batches
    ]


# ------------------------------------------------------------------------------------------ report
def report(cases: Sequence[Mapping[str, Any]]) -> str:
    """A table and the ratios' means, from what `measure` gave."""
    rounds = len(cases[0]["seconds"]["minigan"])
    title = (
        "step: one training step of the MLP GAN, both players, float32, ms\n"
        f"median and quartiles of {rounds} rounds; ratio = time / minigan's captured step's, higher"
        " is better"
    )
    rows = [row for case in cases for row in _rows(case)]
    heads = ["batch", "", "ms", "25..75 %", "ratio", "25..75 %"]
    means = []
    for name in PEERS:
        if name in cases[0]["seconds"]:
            ratios = [ratio(case, name).median for case in cases]
            means.append(f"{name}: geometric mean {number(geometric_mean(ratios))}")
            means[-1] += f", minimum {number(min(ratios))}"
    summary = "\nratio to " + "; to ".join(means) if means else ""
    return f"{title}\n\n{render(heads, rows, left=2)}{summary}"


def _rows(case: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name in ("minigan", EAGER, *PEERS):
        first = str(case["batch"]) if name == "minigan" else ""
        if name not in case["seconds"]:
            rows.append([first, name, "not installed", "", "", ""])
            continue
        times = cells(Spread.of(1e3 * np.array(case["seconds"][name])))
        against = ["", ""] if name == "minigan" else cells(ratio(case, name))
        rows.append([first, name, *times, *against])
    return rows
