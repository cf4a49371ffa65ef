"""The training step of `bench.games`, in PyTorch: eager, and compiled as one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vjp
from torch.nn.functional import softplus

State = Mapping[str, np.ndarray]
# step(latent=None) -> (loss of D, loss of G), and what gives both players' states.
Made = tuple[Callable[..., tuple[Any, Any]], Callable[[], list[State]]]

get_threads, set_threads = torch.get_num_threads, torch.set_num_threads


def perceptron(state: State, slope: float, *end: nn.Module) -> nn.Sequential:
    """The net of a minigan state dict: Dense layers with LeakyReLU between them."""
    layers: list[nn.Module] = []
    for name, value in state.items():
        if name.endswith("weight"):
            layers += [nn.Linear(*value.shape), nn.LeakyReLU(slope)]
    net = nn.Sequential(*layers[:-1], *end)
    # minigan's weights are (in, out), PyTorch's (out, in).
    net.load_state_dict({k: torch.from_numpy(x.T.copy()) for k, x in state.items()})
    return net


def states(*players: nn.Module) -> list[State]:
    """Each player's minigan state dict."""
    return [{k: x.cpu().numpy().T for k, x in net.state_dict().items()} for net in players]


def eager_step(
    state_g: State,
    state_d: State,
    data: np.ndarray,
    bounded: bool,
    slope: float,
    lr: float,
    betas: tuple[float, float],
    *,
    device: str = "cpu",
    read: Callable[[Tensor], Any] = Tensor.item,
    **adam: bool,
) -> Made:
    """`games.minigan_step`, line for line, from equal weights; `adam` are options of Adam.

    The generator's backward pass names its inputs, so that PyTorch, too, makes no gradients for D's
    weights there, which a plain `loss_g.backward()` would.
    """
    generator = perceptron(state_g, slope, *[nn.Tanh()] * bounded).to(device)
    discriminator = perceptron(state_d, slope).to(device)
    n, real = len(data), torch.from_numpy(data).to(device)
    latent_size = state_g["0.weight"].shape[0]
    weights_g = list(generator.parameters())
    optimizer_g = torch.optim.Adam(weights_g, lr, betas, **adam)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr, betas, **adam)

    def step(latent: np.ndarray | None = None) -> tuple[Any, Any]:
        if latent is None:
            z = torch.randn(n, latent_size, device=device)
        else:
            z = torch.from_numpy(latent).to(device)
        fake = generator(z)
        logits = discriminator(torch.cat([real, fake.detach()]))
        loss_d = softplus(-logits[:n]).mean() + softplus(logits[n:]).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward()
        optimizer_d.step()

        loss_g = softplus(-discriminator(fake)).mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss_g.backward(inputs=weights_g)
        optimizer_g.step()
        return read(loss_d.detach()), read(loss_g.detach())

    return step, partial(states, generator, discriminator)


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
    state_g: State,
    state_d: State,
    data: np.ndarray,
    bounded: bool,
    slope: float,
    lr: float,
    betas: tuple[float, float],
    *,
    device: str = "cpu",
    read: Callable[[Tensor], Any] = Tensor.item,
) -> Made:
    """`eager_step` as one graph, gradients and updates included: faster than compiled in parts."""
    generator = perceptron(state_g, slope, *[nn.Tanh()] * bounded).to(device)
    discriminator = perceptron(state_d, slope).to(device)
    n, real = len(data), torch.from_numpy(data).to(device)
    latent_size = state_g["0.weight"].shape[0]
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
            logits = functional_call(discriminator, weights, (torch.cat([real, fake]),))
            return softplus(-logits[:n]).mean() + softplus(logits[n:]).mean()

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
