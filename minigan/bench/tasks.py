"""The training step of a task in minigan, and the arguments of the same step for the peers."""

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
from ..gan.losses import NonSaturating, Wasserstein
from ..gan.penalties import gradient_penalty
from ..gan.players import discriminate
from ..optim import Adam
from . import lower_bound
from .plan import DevicePlan, Task
from .timing import Call

LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)

# step(latent=None) -> (loss of D, loss of G); without a latent it draws one.
Step = Callable[..., tuple[Any, Any]]
Layers = list[tuple[str, dict[str, Any]]]  # the class name and the options of each layer


# ---------------------------------------------------------------------------------- for the peers
def describe_layers(net: nn.Sequential) -> Layers:
    """Return the layers of a network, for peers to build the same; its state dict has weights."""
    return [(type(layer).__name__, _layer_options(layer)) for layer in net]


def _layer_options(layer: nn.Module) -> dict[str, Any]:
    """Return the attributes that are no tensors, and whether a layer with weights has a bias."""
    options = {k: x for k, x in vars(layer).items() if not isinstance(x, (Tensor, NoneType))}
    options.pop("training", None)
    if isinstance(layer, nn.Dense):
        options["in_features"], options["out_features"] = layer.weight.shape
    if isinstance(layer, (nn.Dense, nn.Conv2d, nn.ConvTranspose2d)):
        options["bias"] = layer.bias is not None
    return options


def real_batch(task: Task, batch: int) -> np.ndarray:
    """Return (batch, *sample shape) numbers in (-1, 1), the same each time."""
    shape = (batch, *task.sample_shape)
    return np.tanh(np.random.default_rng(0).standard_normal(shape, np.float32))


def peer_arguments(task: Task, batch: int) -> tuple[Any, ...]:
    """Return the arguments of a peer's step: (G, D, real samples, separate, rate, betas, penalty).

    G and D are (layers, state dict) of new networks. If `separate`, D gets the real and the fake
    batch in two passes, because it has batch norm. `penalty` is that of the Task.
    """
    with use_device("cpu"):
        networks = task.build_networks()
        players = [(describe_layers(net), net.state_dict()) for net in networks]
    separate = nn.depends_on_batch(networks[1])
    return (*players, real_batch(task, batch), separate, LEARNING_RATE, BETAS, task.penalty)


# -------------------------------------------------------------------------------------------- step
def minigan_step(
    generator: nn.Sequential,
    discriminator: nn.Sequential,
    data: np.ndarray,
    penalty: float = 0.0,
    read: Callable[[Tensor], Any] = float,
    captured: bool = True,
) -> Step:
    """Return a function that trains D once, then G once, on the batch `data` of real samples.

    As in the Trainer, D gets the real and the fake batch in one pass unless it has batch norm, and
    G is trained on the fakes that D was trained on. `peers.pytorch.eager_step` does the same line
    by line. `penalty` is that of a Task; its points lie between real and fake samples at random, or
    in the middle where a latent is given, so that steps can be compared. `read` converts each loss
    for the caller; reading it as a number waits for the device.
    """
    device = generator.parameters()[0].device
    train_step = _build_train_step(generator, discriminator, tensor(data, device=device), penalty)
    train_step = capture(train_step) if captured else train_step

    def step(latent: np.ndarray | None = None) -> tuple[Any, Any]:
        loss_d, loss_g = train_step(None if latent is None else tensor(latent, device=device))
        return read(loss_d), read(loss_g)

    return step


def _build_train_step(
    generator: nn.Sequential, discriminator: nn.Sequential, real: Tensor, penalty: float
) -> Callable[[Tensor | None], tuple[Tensor, Tensor]]:
    n, latent_size = len(real), generator.parameters()[0].shape[0]
    loss = Wasserstein() if penalty else NonSaturating()
    optimizer_g = Adam(generator.parameters(), LEARNING_RATE, BETAS)
    optimizer_d = Adam(discriminator.parameters(), LEARNING_RATE, BETAS)

    def train_step(latent: Tensor | None) -> tuple[Tensor, Tensor]:
        z = random.normal((n, latent_size), device=real.device) if latent is None else latent
        fake = generator(z)
        logits = discriminate(discriminator, real, fake.detach())
        loss_d = loss.discriminator(logits[:n], logits[n:])
        if penalty:
            middle = (real + fake.detach()) / 2
            ends = (real, fake) if latent is None else (middle, middle)
            loss_d = loss_d + penalty * gradient_penalty(discriminator, *ends)
        optimizer_d.step(grad(loss_d, discriminator.parameters()))

        loss_g = loss.generator(discriminator(fake))
        optimizer_g.step(grad(loss_g, generator.parameters()))
        return loss_d, loss_g

    return train_step


# ----------------------------------------------------------------------------------------- devices
def device_cases(plan: DevicePlan) -> Iterator[dict[str, Any]]:
    """Yield each task and batch of `minigan bench --devices`.

    "work" is the multiply-adds of the step, "bytes" the size of weights, gradients and moments.
    """
    for name, task in plan.tasks.items():
        count = lower_bound.parameter_count(task)
        size = lower_bound.ADAM_ARRAYS * lower_bound.FLOAT_BYTES * count
        for batch in task.batches:
            work = lower_bound.multiply_adds(task, batch)
            yield {"task": name, "batch": batch, "work": work, "bytes": size}


def device_step(task: Task, batch: int, device: Device) -> Step:
    """Return minigan's step on a device; like a training run, it does not read the losses."""
    with use_device(device):
        networks = task.build_networks()
        data = real_batch(task, batch)
        return minigan_step(*networks, data, task.penalty, read=lambda loss: loss)


def peer_steps(task: Task, batch: int, pytorch: ModuleType, device: str) -> dict[str, Any]:
    """Return by name the makers of PyTorch's steps from equal weights on one of its devices."""
    makers: dict[str, Call] = pytorch.step_calls(peer_arguments(task, batch), device)
    return makers
