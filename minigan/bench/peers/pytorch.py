"""The training step of `bench.steps`, in PyTorch, eager."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


def perceptron(state: Mapping[str, np.ndarray], slope: float, *end: nn.Module) -> nn.Sequential:
    """The net of a minigan state dict: Dense layers with LeakyReLU between them."""
    layers: list[nn.Module] = []
    for name, value in state.items():
        if name.endswith("weight"):
            layers += [nn.Linear(*value.shape), nn.LeakyReLU(slope)]
    net = nn.Sequential(*layers[:-1], *end)
    # minigan's weights are (in, out), PyTorch's (out, in).
    net.load_state_dict({k: torch.from_numpy(x.T.copy()) for k, x in state.items()})
    return net


def pytorch_step(
    state_g: Mapping[str, np.ndarray],
    state_d: Mapping[str, np.ndarray],
    data: np.ndarray,
    fused: bool,
    slope: float,
    lr: float,
    betas: tuple[float, float],
) -> Callable[..., tuple[float, float]]:
    """`steps.minigan_step`, line for line, from equal weights.

    `fused` chooses the one-kernel Adam; otherwise it is what `torch.optim.Adam(...)` gives. The
    generator's backward pass names its inputs, so that PyTorch, too, makes no gradients for D's
    weights there, which a plain `loss_g.backward()` would.
    """
    generator = perceptron(state_g, slope, nn.Tanh())
    discriminator = perceptron(state_d, slope)
    n, real = len(data), torch.from_numpy(data)
    latent_size = state_g["0.weight"].shape[0]
    weights_g = list(generator.parameters())
    optimizer_g = torch.optim.Adam(weights_g, lr, betas, fused=fused or None)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr, betas, fused=fused or None)

    def step(latent: np.ndarray | None = None) -> tuple[float, float]:
        z = torch.randn(n, latent_size) if latent is None else torch.from_numpy(latent)
        fake: Tensor = generator(z)
        logits = discriminator(torch.cat([real, fake.detach()]))
        loss_d = softplus(-logits[:n]).mean() + softplus(logits[n:]).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward()
        optimizer_d.step()

        loss_g = softplus(-discriminator(fake)).mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss_g.backward(inputs=weights_g)
        optimizer_g.step()
        return loss_d.item(), loss_g.item()

    return step
