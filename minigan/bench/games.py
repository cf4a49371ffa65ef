"""The GANs whose training steps are measured: their nets, their data, and minigan's step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from .. import nn, ops, random
from ..autograd import grad
from ..capture import capture
from ..device import Device, use_device
from ..losses import NonSaturating
from ..optim import Adam
from ..tensor import Tensor, tensor
from .plan import DevicePlan, Game
from .timing import Call

SLOPE, LEARNING_RATE, BETAS = 0.2, 2e-4, (0.5, 0.999)

# step(latent=None) -> (loss of D, loss of G); without a latent it draws one.
Step = Callable[..., tuple[Any, Any]]


# -------------------------------------------------------------------------------------------- game
def perceptron(widths: Sequence[int], *end: nn.Module) -> nn.Sequential:
    """Dense layers with LeakyReLU(0.2) between them."""
    layers: list[nn.Module] = []
    for size, width in pairwise(widths):
        layers += [nn.Dense(size, width), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1], *end)


def nets(game: Game) -> tuple[nn.Sequential, nn.Sequential]:
    """(generator, discriminator), newly initialised."""
    end = [nn.Tanh()] if game.bounded else []
    return perceptron(game.generator, *end), perceptron(game.discriminator)


def real_batch(game: Game, batch: int) -> np.ndarray:
    """Numbers in (-1, 1), the same each time."""
    shape = (batch, game.discriminator[0])
    return np.tanh(np.random.default_rng(0).standard_normal(shape, np.float32))


# -------------------------------------------------------------------------------------------- step
def minigan_step(
    generator: nn.Sequential,
    discriminator: nn.Sequential,
    data: np.ndarray,
    read: Callable[[Tensor], Any] = float,
    captured: bool = True,
) -> Step:
    """A function that trains both on the batch `data` (n, features): D once, then G once.

    The real and the fake batch pass D as one; G's turn takes the fakes that D has just seen. What
    it does is line for line what `peers.pytorch.eager_step` does. `read` makes what it returns
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


def peer_arguments(game: Game, batch: int) -> tuple[Any, ...]:
    """What every peer's step is made of: new nets' states, the data, and how to train."""
    with use_device("cpu"):
        states = [net.state_dict() for net in nets(game)]
    return (*states, real_batch(game, batch), game.bounded, SLOPE, LEARNING_RATE, BETAS)


# ----------------------------------------------------------------------------------------- devices
def cases(plan: DevicePlan) -> Iterator[dict[str, Any]]:
    """What `minigan bench --devices` measures: game, batch, and how work and memory compare.

    work: multiplications, once forward; bytes: the weights, their gradients and two moments.
    """
    for name, game in plan.games.items():
        layers = [*pairwise(game.generator), *pairwise(game.discriminator)]
        weights = sum(size * width for size, width in layers)
        for batch in game.batches:
            yield {"game": name, "batch": batch, "work": weights * batch, "bytes": 16 * weights}


def ready(game: Game, batch: int, device: Device) -> Step:
    """A step on the device; it leaves the losses there, as a run does but where it logs them."""
    with use_device(device):
        return minigan_step(*nets(game), real_batch(game, batch), read=lambda loss: loss)


def peers(game: Game, batch: int, pytorch: ModuleType, device: str) -> dict[str, Any]:
    """By name, what makes PyTorch's steps from equal weights on its device of that name."""
    makers: dict[str, Call] = pytorch.step_calls(peer_arguments(game, batch), device)
    return makers
