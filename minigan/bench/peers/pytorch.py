"""The training step of `bench.games`, in PyTorch: eager, and compiled as one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vjp
from torch.nn.functional import softplus

State = Mapping[str, np.ndarray]
Layers = Sequence[tuple[str, Mapping[str, Any]]]
Player = tuple[Layers, State]
# step(latent=None) -> (loss of D, loss of G), and what gives both players' states.
Made = tuple[Callable[..., tuple[Any, Any]], Callable[[], list[State]]]

get_threads, set_threads = torch.get_num_threads, torch.set_num_threads


# By minigan's name of a layer, what makes it from what `games.layers` says of it.
KINDS: dict[str, Callable[..., nn.Module]] = {
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
    """PyTorch's net of these layers; on a CPU, images have their channels last: it is faster."""
    net = nn.Sequential(*(KINDS[kind](**options) for kind, options in layers)).to(device)
    if device == "cpu":
        nn.utils.convert_conv2d_weight_memory_format(net, torch.channels_last)
    return net


def trained(player: Player, device: str) -> nn.Sequential:
    """The net with a minigan state dict's numbers."""
    net = network(player[0], device)
    net.load_state_dict({k: torch.from_numpy(_turned(x).copy()) for k, x in player[1].items()})
    for layer in net:
        if isinstance(layer, nn.BatchNorm2d):  # a count that nothing reads, and vjp does not take
            layer.num_batches_tracked = None
    return net


def _turned(x: Any) -> Any:
    """A Dense layer's weight is (in, out) here and (out, in) there; all else is the same."""
    return x.T if x.ndim == 2 else x


def states(*players: nn.Module) -> list[State]:
    """Each player's minigan state dict."""
    return [{k: _turned(x.cpu().numpy()) for k, x in net.state_dict().items()} for net in players]


def judge(discriminate: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, apart: bool) -> Any:
    """The logits of both batches, in one pass or, where each has its own moments, in two."""
    if apart:
        return discriminate(real), discriminate(fake)
    return discriminate(torch.cat([real, fake])).chunk(2)


def eager_step(
    player_g: Player, player_d: Player, *given: Any, device: str = "cpu", **options: Any
) -> Made:
    """`eager_play` from equal weights."""
    generator, discriminator = (trained(player, device) for player in (player_g, player_d))
    step = eager_play(generator, discriminator, *given, device=device, **options)
    return step, partial(states, generator, discriminator)


def eager_play(
    generator: nn.Sequential,
    discriminator: nn.Sequential,
    data: np.ndarray,
    apart: bool,
    lr: float,
    betas: tuple[float, float],
    *,
    device: str = "cpu",
    read: Callable[[Tensor], Any] = Tensor.item,
    **adam: bool,
) -> Callable[..., tuple[Any, Any]]:
    """`games.minigan_step`, line for line; `adam` are options of Adam.

    The generator's backward pass names its inputs, so that PyTorch, too, makes no gradients for D's
    weights there, which a plain `loss_g.backward()` would.
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
        of_real, of_fake = judge(discriminator, real, fake.detach(), apart)
        loss_d = softplus(-of_real).mean() + softplus(of_fake).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward()
        optimizer_d.step()

        loss_g = softplus(-discriminator(fake)).mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss_g.backward(inputs=weights_g)
        optimizer_g.step()
        return read(loss_d.detach()), read(loss_g.detach())

    return step


class Adam:
    """torch.optim.Adam's update, for named tensors, in operations that can be compiled."""

    def __init__(
        self, weights: Mapping[str, Tensor], lr: float, betas: tuple[float, float]
    ) -> None:
        self.weights, self.lr, self.betas = weights, lr, betas
        self.mean = {k: torch.zeros_like(x) for k, x in weights.items()}
        self.square = {k: torch.zeros_like(x) for k, x in weights.items()}
        # One element, not none: of a tensor without axes, compiled code reads an old value.
        device = next(iter(weights.values())).device
        self.count = torch.zeros(1, dtype=torch.float64, device=device)

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        beta1, beta2 = self.betas
        self.count.add_(1)
        size = (self.lr / (1 - beta1**self.count)).float()
        root = (1 - beta2**self.count).sqrt().float()
        for k, g in gradients.items():
            self.mean[k].lerp_(g, 1 - beta1)
            self.square[k].mul_(beta2).addcmul_(g, g, value=1 - beta2)
            self.weights[k].sub_(size * self.mean[k] / (self.square[k].sqrt() / root + 1e-8))


def compiled_step(
    player_g: Player,
    player_d: Player,
    data: np.ndarray,
    apart: bool,
    lr: float,
    betas: tuple[float, float],
    *,
    device: str = "cpu",
    read: Callable[[Tensor], Any] = Tensor.item,
) -> Made:
    """`eager_step` as one graph, gradients and updates included: faster than compiled in parts."""
    generator, discriminator = (trained(player, device) for player in (player_g, player_d))
    n, real = len(data), torch.from_numpy(data).to(device)
    latent_size = player_g[0][0][1]["in_features"]
    weights_g, weights_d = (
        {k: x.detach() for k, x in net.requires_grad_(False).named_parameters()}
        for net in (generator, discriminator)
    )
    optimizer_g, optimizer_d = Adam(weights_g, lr, betas), Adam(weights_d, lr, betas)

    def play(latent: Tensor | None) -> tuple[Tensor, Tensor]:
        z = torch.randn(n, latent_size, device=device) if latent is None else latent
        # As one output of two, to a type checker: vjp may also give what is not differentiated.
        fake, pull_back, *_ = vjp(lambda w: functional_call(generator, w, (z,)), weights_g)

        def discriminate(weights: dict[str, Tensor]) -> Tensor:
            net = partial(functional_call, discriminator, weights)
            of_real, of_fake = judge(net, real, fake, apart)
            return softplus(-of_real).mean() + softplus(of_fake).mean()

        gradients, loss_d = grad_and_value(discriminate)(weights_d)
        optimizer_d.step(gradients)

        gradient, loss_g = grad_and_value(lambda x: softplus(-discriminator(x)).mean())(fake)
        optimizer_g.step(pull_back(gradient)[0])
        return loss_d, loss_g

    # What may be compiled of one function: each game and batch is one more.
    torch._dynamo.config.cache_size_limit = 64
    compiled = torch.compile(play, fullgraph=True, dynamic=False)

    def step(latent: np.ndarray | None = None) -> tuple[Any, Any]:
        loss_d, loss_g = compiled(None if latent is None else torch.from_numpy(latent).to(device))
        return read(loss_d), read(loss_g)

    return step, partial(states, generator, discriminator)


STEPS: dict[str, Callable[..., Made]] = {
    "PyTorch": eager_step,
    "PyTorch, fused Adam": partial(eager_step, fused=True),
    "PyTorch, compiled": compiled_step,
}
