"""The GANs whose training steps are measured: what they are, their data, and minigan's step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType, NoneType
from typing import Any

import numpy as np

from .. import nn
from ..engine import random
from ..engine.autograd import grad
from ..engine.capture import capture
from ..engine.device import Device, use_device
from ..engine.tensor import Tensor, tensor
from ..gan.losses import NonSaturating
from ..gan.players import judge
from ..optim import Adam
from . import floor
from .plan import DevicePlan, Game
from .timing import Call

LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)

# step(latent=None) -> (loss of D, loss of G); without a latent it draws one.
Step = Callable[..., tuple[Any, Any]]
Layers = list[tuple[str, dict[str, Any]]]  # by name, and what each is made of


# -------------------------------------------------------------------------------------------- game
def layers(net: nn.Sequential) -> Layers:
    """The net in words and numbers, for peers to build the same; weights are in its state dict."""
    return [(type(layer).__name__, _options(layer)) for layer in net]


def _options(layer: nn.Module) -> dict[str, Any]:
    """Its attributes that are no tensors, and whether it has a bias where that is a choice."""
    found = {k: x for k, x in vars(layer).items() if not isinstance(x, (Tensor, NoneType))}
    found.pop("training", None)
    if isinstance(layer, nn.Dense):
        found["in_features"], found["out_features"] = layer.weight.shape
    if isinstance(layer, (nn.Dense, nn.Conv2d, nn.ConvTranspose2d)):
        found["bias"] = layer.bias is not None
    return found


def real_batch(game: Game, batch: int) -> np.ndarray:
    """Numbers in (-1, 1), the same each time."""
    shape = (batch, *game.sample_shape)
    return np.tanh(np.random.default_rng(0).standard_normal(shape, np.float32))


# -------------------------------------------------------------------------------------------- step
def minigan_step(
    generator: nn.Sequential,
    discriminator: nn.Sequential,
    data: np.ndarray,
    read: Callable[[Tensor], Any] = float,
    captured: bool = True,
) -> Step:
    """A function that trains both on the batch `data` of samples: D once, then G once.

    The real and the fake batch pass D as the Trainer's do: as one, unless D has batch norm. G's
    turn takes the fakes that D has just seen. What it does is line for line what
    `peers.pytorch.eager_step` does. `read` makes what it returns of the losses: to read them as
    numbers, it has to wait for the device.
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
        logits = judge(discriminator, real, fake.detach())
        loss_d = loss.discriminator(logits[:n], logits[n:])
        optimizer_d.step(grad(loss_d, discriminator.parameters()))

        loss_g = loss.generator(discriminator(fake))
        optimizer_g.step(grad(loss_g, generator.parameters()))
        return loss_d, loss_g

    return play


def peer_arguments(game: Game, batch: int) -> tuple[Any, ...]:
    """What every peer's step is made of: new nets and their states, the data, and how to train."""
    with use_device("cpu"):
        nets = game.nets()
        players = [(layers(net), net.state_dict()) for net in nets]
    apart = nn.depends_on_batch(nets[1])
    return (*players, real_batch(game, batch), apart, LEARNING_RATE, BETAS)


# ----------------------------------------------------------------------------------------- devices
def cases(plan: DevicePlan) -> Iterator[dict[str, Any]]:
    """What `minigan bench --devices` measures: game, batch, and how work and memory compare.

    work: the products' multiply-adds; bytes: the weights, their gradients and two moments.
    """
    for name, game in plan.games.items():
        size = floor.KEPT * floor.FLOAT * floor.parameters(game)
        for batch in game.batches:
            work = floor.multiply_adds(game, batch)
            yield {"game": name, "batch": batch, "work": work, "bytes": size}


def ready(game: Game, batch: int, device: Device) -> Step:
    """A step on the device; it leaves the losses there, as a run does but where it logs them."""
    with use_device(device):
        return minigan_step(*game.nets(), real_batch(game, batch), read=lambda loss: loss)


def peers(game: Game, batch: int, pytorch: ModuleType, device: str) -> dict[str, Any]:
    """By name, what makes PyTorch's steps from equal weights on its device of that name."""
    makers: dict[str, Call] = pytorch.step_calls(peer_arguments(game, batch), device)
    return makers
