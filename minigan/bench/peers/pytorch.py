"""The training step of `bench.tasks` in PyTorch: eager, and compiled as one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vjp
from torch.nn.functional import softplus

State = Mapping[str, np.ndarray]
Layers = Sequence[tuple[str, Mapping[str, Any]]]
Player = tuple[Layers, State]
# step(latent=None) -> (loss of D, loss of G), and a function that returns both networks' states.
StepAndStates = tuple[Callable[..., tuple[Any, Any]], Callable[[], list[State]]]

get_threads, set_threads = torch.get_num_threads, torch.set_num_threads

# PyTorch's layer for each class of minigan, made from the options of `tasks.describe_layers`.
LAYERS: dict[str, Callable[..., nn.Module]] = {
    "Dense": nn.Linear,
    "Conv2d": nn.Conv2d,
    "ConvTranspose2d": nn.ConvTranspose2d,
    "BatchNorm2d": nn.BatchNorm2d,
    "LeakyReLU": lambda slope: nn.LeakyReLU(slope, inplace=True),
    "ReLU": partial(nn.ReLU, inplace=True),
    "Tanh": nn.Tanh,
    "Flatten": nn.Flatten,
    "Reshape": lambda shape: nn.Unflatten(1, tuple(shape)),
}


def network(layers: Layers, device: str = "cpu") -> nn.Sequential:
    """Return a network of these layers; on a CPU with channels last, which is faster there."""
    net = nn.Sequential(*(LAYERS[name](**options) for name, options in layers)).to(device)
    if device == "cpu":
        nn.utils.convert_conv2d_weight_memory_format(net, torch.channels_last)
    return net


def load_network(player: Player, device: str) -> nn.Sequential:
    """Return a network with the weights of a minigan state dict."""
    net = network(player[0], device)
    state = {k: torch.from_numpy(_transpose_matrix(x).copy()) for k, x in player[1].items()}
    net.load_state_dict(state)
    for layer in net:
        if isinstance(layer, nn.BatchNorm2d):
            # vjp does not accept this count, and nothing reads it.
            layer.num_batches_tracked = None
    return net


def _transpose_matrix(x: Any) -> Any:
    """Return a Dense weight, (in, out) in minigan and (out, in) in PyTorch, in the other order."""
    return x.T if x.ndim == 2 else x


def states(*networks: nn.Module) -> list[State]:
    """Return each network's minigan state dict."""
    return [
        {k: _transpose_matrix(x.cpu().numpy()) for k, x in net.state_dict().items()}
        for net in networks
    ]


def real_and_fake_logits(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, separate: bool
) -> Any:
    """Return the logits of both batches, in one pass or, because of batch norm, in two."""
    if separate:
        return discriminator(real), discriminator(fake)
    return discriminator(torch.cat([real, fake])).chunk(2)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, wasserstein: bool) -> Tensor:
    """Return the non-saturating GAN's loss of D, or the WGAN's."""
    if wasserstein:
        return fake_logits.mean() - real_logits.mean()
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def generator_loss(fake_logits: Tensor, wasserstein: bool) -> Tensor:
    """Return the non-saturating GAN's loss of G, or the WGAN's."""
    return -fake_logits.mean() if wasserstein else softplus(-fake_logits).mean()


def interpolate(real: Tensor, fake: Tensor, middle: bool) -> Tensor:
    """Return points between real and fake samples, at random or in the middle."""
    shape = (len(real), *(1,) * (real.ndim - 1))
    alpha = 0.5 if middle else torch.rand(shape, device=real.device)
    return real + alpha * (fake - real)


def penalty_of(gradients: Tensor) -> Tensor:
    """Return the mean of (|gradient| - 1)^2."""
    return ((gradients.flatten(1).norm(dim=1) - 1) ** 2).mean()


def eager_step(
    player_g: Player, player_d: Player, *arguments: Any, device: str = "cpu", **options: Any
) -> StepAndStates:
    """Return the step of `train_eagerly` from the weights of minigan's networks."""
    generator, discriminator = (load_network(player, device) for player in (player_g, player_d))
    step = train_eagerly(generator, discriminator, *arguments, device=device, **options)
    return step, partial(states, generator, discriminator)


def train_eagerly(
    generator: nn.Sequential,
    discriminator: nn.Sequential,
    data: np.ndarray,
    separate: bool,
    lr: float,
    betas: tuple[float, float],
    penalty: float = 0.0,
    *,
    device: str = "cpu",
    read: Callable[[Tensor], Any] = Tensor.item,
    **adam: bool,
) -> Callable[..., tuple[Any, Any]]:
    """Return the step of `tasks.minigan_step` as a function; `adam` are options of Adam.

    The backward pass of G's loss names G's weights, so that PyTorch, like minigan, computes no
    gradients of D's weights there, as a plain `loss_g.backward()` would.
    """
    n, real = len(data), torch.from_numpy(data).to(device)
    weights_g = list(generator.parameters())
    latent_size = weights_g[0].shape[1]
    optimizer_g = torch.optim.Adam(weights_g, lr, betas, **adam)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr, betas, **adam)

    def step(latent: np.ndarray | None = None) -> tuple[Any, Any]:
        if latent is None:
            z = torch.randn(n, latent_size, device=device)
        else:
            z = torch.from_numpy(latent).to(device)
        fake = generator(z)
        logits = real_and_fake_logits(discriminator, real, fake.detach(), separate)
        real_logits, fake_logits = logits
        loss_d = discriminator_loss(real_logits, fake_logits, penalty > 0)
        if penalty:
            x = interpolate(real, fake.detach(), latent is not None).requires_grad_()
            (gradients,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
            loss_d = loss_d + penalty * penalty_of(gradients)
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward()
        optimizer_d.step()

        loss_g = generator_loss(discriminator(fake), penalty > 0)
        optimizer_g.zero_grad(set_to_none=True)
        loss_g.backward(inputs=weights_g)
        optimizer_g.step()
        return read(loss_d.detach()), read(loss_g.detach())

    return step


class Adam:
    """The update of torch.optim.Adam for named tensors, in operations that can be compiled."""

    def __init__(
        self, weights: Mapping[str, Tensor], lr: float, betas: tuple[float, float]
    ) -> None:
        self.weights, self.lr, self.betas = weights, lr, betas
        self.mean = {k: torch.zeros_like(x) for k, x in weights.items()}
        self.square = {k: torch.zeros_like(x) for k, x in weights.items()}
        # Of shape (1,), since compiled code reads an old value of a zero-dimensional tensor.
        device = next(iter(weights.values())).device
        self.count = torch.zeros(1, dtype=torch.float64, device=device)

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        beta1, beta2 = self.betas
        self.count.add_(1)
        step_size = (self.lr / (1 - beta1**self.count)).float()
        root = (1 - beta2**self.count).sqrt().float()
        for k, g in gradients.items():
            self.mean[k].lerp_(g, 1 - beta1)
            self.square[k].mul_(beta2).addcmul_(g, g, value=1 - beta2)
            self.weights[k].sub_(step_size * self.mean[k] / (self.square[k].sqrt() / root + 1e-8))


def compiled_step(
    player_g: Player,
    player_d: Player,
    data: np.ndarray,
    separate: bool,
    lr: float,
    betas: tuple[float, float],
    penalty: float = 0.0,
    *,
    device: str = "cpu",
    read: Callable[[Tensor], Any] = Tensor.item,
) -> StepAndStates:
    """Return `eager_step` compiled as one graph with gradients and updates, which is fastest."""
    generator, discriminator = (load_network(player, device) for player in (player_g, player_d))
    n, real = len(data), torch.from_numpy(data).to(device)
    latent_size = player_g[0][0][1]["in_features"]
    weights_g, weights_d = (
        {k: x.detach() for k, x in net.requires_grad_(False).named_parameters()}
        for net in (generator, discriminator)
    )
    optimizer_g, optimizer_d = Adam(weights_g, lr, betas), Adam(weights_d, lr, betas)

    def train_step(latent: Tensor | None) -> tuple[Tensor, Tensor]:
        z = torch.randn(n, latent_size, device=device) if latent is None else latent
        # The type checker does not know how many values vjp returns.
        fake, generator_vjp, *_ = vjp(lambda w: functional_call(generator, w, (z,)), weights_g)

        def loss_of_weights(weights: dict[str, Tensor]) -> Tensor:
            net = partial(functional_call, discriminator, weights)
            real_logits, fake_logits = real_and_fake_logits(net, real, fake, separate)
            loss = discriminator_loss(real_logits, fake_logits, penalty > 0)
            if penalty:
                x = interpolate(real, fake, latent is not None)
                loss = loss + penalty * penalty_of(grad(lambda x: net(x).sum())(x))
            return loss

        gradients, loss_d = grad_and_value(loss_of_weights)(weights_d)
        optimizer_d.step(gradients)

        gradient, loss_g = grad_and_value(lambda x: generator_loss(discriminator(x), penalty > 0))(
            fake
        )
        optimizer_g.step(generator_vjp(gradient)[0])
        return loss_d, loss_g

    # Each task and batch compiles the function once more; the default limit is 8.
    torch._dynamo.config.cache_size_limit = 64
    compiled = torch.compile(train_step, fullgraph=True, dynamic=False)

    def step(latent: np.ndarray | None = None) -> tuple[Any, Any]:
        loss_d, loss_g = compiled(None if latent is None else torch.from_numpy(latent).to(device))
        return read(loss_d), read(loss_g)

    return step, partial(states, generator, discriminator)


STEPS: dict[str, Callable[..., StepAndStates]] = {
    "PyTorch": eager_step,
    "PyTorch, fused Adam": partial(eager_step, fused=True),
    "PyTorch, compiled": compiled_step,
}
