"""The training step of a task in minigan, and the arguments of the same step for the peers."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, NoneType
from typing import Any

import numpy as np

from .. import nn
from ..engine import random
from ..engine.autograd import grad
from ..engine.capture import capture
from ..engine.device import Device, use_device
from ..engine.tensor import Tensor, tensor
from ..gan.losses import NonSaturating, Wasserstein
from ..gan.penalties import gradient_penalty
from ..gan.players import discriminate
from ..optim import Adam
from .plan import CLASSES, Task
from .timing import Call

LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)

# step(latent=None) -> (loss of D, loss of G); without a latent it draws one.
Step = Callable[..., tuple[Any, Any]]
# The class name, the options and the children, by name, of a module.
Description = tuple[str, dict[str, Any], dict[str, Any]]


# ---------------------------------------------------------------------------------- for the peers
def describe(module: nn.Module) -> Description:
    """Return (class name, options, children), from which peers build the same module."""
    children = {name: describe(child) for name, child in module.children()}
    no_options = (Tensor, nn.Module, NoneType)
    options = {key: x for key, x in vars(module).items() if not isinstance(x, no_options)}
    options.pop("training", None)
    if isinstance(module, (nn.Dense, nn.Conv2d, nn.ConvTranspose2d)):
        options["bias"] = module.bias is not None
    if isinstance(module, nn.Embedding):
        options["num_embeddings"], options["embedding_dim"] = module.weight.shape
    return type(module).__name__, options, children


def real_batch(task: Task, batch: int) -> np.ndarray:
    """Return (batch, *sample shape) numbers in (-1, 1), the same each time."""
    shape = (batch, *task.sample_shape)
    return np.tanh(np.random.default_rng(0).standard_normal(shape, np.float32))


def label_batch(task: Task, batch: int) -> list[np.ndarray]:
    """Return [labels (batch,)] of a conditional task, [] of another."""
    return [] if task.condition == "none" else [np.arange(batch) % CLASSES]


def peer_arguments(task: Task, batch: int) -> dict[str, Any]:
    """Return the arguments of a peer's step by name.

    - player_g, player_d: (description, state dict) of new networks
    - latent_size, data, labels, penalty: those of the task
    - separate: whether D gets the real and the fake batch in two passes, as it has batch norm
    - lr, betas: of Adam
    """
    with use_device("cpu"):
        networks = task.build_networks()
        player_g, player_d = [(describe(net), net.state_dict()) for net in networks]
    separate = nn.depends_on_batch(networks[1])
    has_spectral_norm = any(isinstance(x, nn.SpectralNorm) for x in networks[1].modules())
    if has_spectral_norm and (separate or task.penalty):
        raise NotImplementedError("peers do one power iteration for a step of D, minigan several")
    return {
        "player_g": player_g,
        "player_d": player_d,
        "latent_size": task.model.latent_size,
        "data": real_batch(task, batch),
        "labels": label_batch(task, batch),
        "separate": separate,
        "lr": LEARNING_RATE,
        "betas": BETAS,
        "penalty": task.penalty,
    }


# -------------------------------------------------------------------------------------------- step
def minigan_step(
    task: Task,
    networks: tuple[nn.Module, nn.Module],
    batch: int,
    *,
    read: Callable[[Tensor], Any] = float,
    captured: bool = True,
) -> Step:
    """Return a function that trains D once, then G once, on one batch of real samples.

    As in the Trainer, D gets the real and the fake batch in one pass unless it has batch norm, and
    G is trained on the fakes that D was trained on. `peers.pytorch.eager_step` does the same line
    by line. The points of a penalty lie between real and fake samples at random, or in the middle
    where a latent is given, so that steps can be compared. `read` converts each loss for the
    caller; reading it as a number waits for the device.

    Args:
        task: the GAN.
        networks: generator and discriminator, on the device that they are trained on.
        batch: the number of samples.
    """
    device = networks[0].parameters()[0].device
    train_step = _build_train_step(task, *networks, batch)
    train_step = capture(train_step) if captured else train_step

    def step(latent: np.ndarray | None = None) -> tuple[Any, Any]:
        loss_d, loss_g = train_step(None if latent is None else tensor(latent, device=device))
        return read(loss_d), read(loss_g)

    return step


def _build_train_step(
    task: Task, generator: nn.Module, discriminator: nn.Module, batch: int
) -> Callable[[Tensor | None], tuple[Tensor, Tensor]]:
    device = generator.parameters()[0].device
    real = tensor(real_batch(task, batch), device=device)
    labels = [tensor(x, device=device) for x in label_batch(task, batch)]
    loss = Wasserstein() if task.penalty else NonSaturating()
    optimizer_g = Adam(generator.parameters(), LEARNING_RATE, BETAS)
    optimizer_d = Adam(discriminator.parameters(), LEARNING_RATE, BETAS)

    def train_step(latent: Tensor | None) -> tuple[Tensor, Tensor]:
        z = latent
        if z is None:
            z = random.normal((batch, task.model.latent_size), device=device)
        fake = generator(z, *labels)
        logits = discriminate(discriminator, real, fake.detach(), *labels)
        loss_d = loss.discriminator(logits[:batch], logits[batch:])
        if task.penalty:
            middle = (real + fake.detach()) / 2
            ends = (real, fake) if latent is None else (middle, middle)
            loss_d = loss_d + task.penalty * gradient_penalty(discriminator, *ends)
        optimizer_d.step(grad(loss_d, discriminator.parameters()))

        loss_g = loss.generator(discriminator(fake, *labels))
        optimizer_g.step(grad(loss_g, generator.parameters()))
        return loss_d, loss_g

    return train_step


# ----------------------------------------------------------------------------------------- devices
def device_step(task: Task, batch: int, device: Device, captured: bool = True) -> Step:
    """Return minigan's step on a device; like a training run, it does not read the losses."""
    with use_device(device):
        networks = task.build_networks()
        return minigan_step(task, networks, batch, read=lambda loss: loss, captured=captured)


def peer_steps(task: Task, batch: int, peer: ModuleType, device: str) -> dict[str, Any]:
    """Return by name the makers of a peer's steps from equal weights on one of its devices."""
    makers: dict[str, Call] = peer.step_calls(peer_arguments(task, batch), device)
    return makers
