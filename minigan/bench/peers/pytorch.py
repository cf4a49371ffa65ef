"""The training step of `bench.tasks` in PyTorch: eager, and compiled as one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vjp
from torch.nn.functional import avg_pool2d, interpolate, normalize, softplus

State = Mapping[str, np.ndarray]
Description = tuple[str, Mapping[str, Any], Mapping[str, Any]]  # as `tasks.describe` makes it
Player = tuple[Description, State]
# step(latent=None) -> (loss of D, loss of G), and a function that returns both networks' states.
StepAndStates = tuple[Callable[..., tuple[Any, Any]], Callable[[], list[State]]]

get_threads, set_threads = torch.get_num_threads, torch.set_num_threads


# ---------------------------------------------------------------------------------------- networks
class SpectralNorm(nn.Module):
    """A layer with weight / sigma, like PyTorch's parametrization `spectral_norm`.

    The power iteration is a method of its own: a function under vjp must not change buffers.
    """

    u: Tensor
    v: Tensor

    def __init__(self, module: Any, steps: int, eps: float) -> None:
        super().__init__()
        self.module, self.steps, self.eps = module, steps, eps
        matrix = self.matrix()
        self.register_buffer("u", torch.empty(matrix.shape[0]))
        self.register_buffer("v", torch.empty(matrix.shape[1]))

    def matrix(self) -> Tensor:
        weight: Tensor = self.module.weight
        return weight.t() if isinstance(self.module, nn.Embedding) else weight.flatten(1)

    def iterate(self) -> None:
        """Do the power iterations of a forward pass in train mode."""
        w = self.matrix().detach()
        for _ in range(self.steps):
            self.v.copy_(normalize(self.u @ w, dim=0, eps=self.eps))
            self.u.copy_(normalize(w @ self.v, dim=0, eps=self.eps))

    def forward(self, x: Tensor) -> Tensor:
        # The next iteration changes u and v, which the gradient needs as they are now.
        sigma = torch.dot(self.u.clone(), self.matrix() @ self.v.clone())
        weight = {"weight": self.module.weight / sigma}
        y: Tensor = functional_call(self.module, weight, (x,))
        return y


def power_iterations(net: nn.Module) -> None:
    """Do the power iterations of one forward pass of a network in train mode."""
    for module in net.modules():
        if isinstance(module, SpectralNorm):
            module.iterate()


class Residual(nn.Module):
    def __init__(self, main: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut
        if isinstance(main[0], nn.ReLU):
            main[0].inplace = False  # The shortcut has the same input.

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x) + self.shortcut(x)
        return y


class UpsampleConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(interpolate(x, scale_factor=2))


class ConvAvgPool2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(super().forward(x), 2)


class SumPixels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3))


class ConditionalGenerator(nn.Module):
    def __init__(self, embedding: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.embedding, self.net = embedding, net

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        y: Tensor = self.net(torch.cat([latent, self.embedding(labels)], 1))
        return y


class ConcatDiscriminator(nn.Module):
    def __init__(self, net: nn.Module, embedding: nn.Module, plane: nn.Module) -> None:
        super().__init__()
        self.net, self.embedding, self.plane = net, embedding, plane

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y: Tensor = self.net(torch.cat([x, self.plane(self.embedding(labels))], 1))
        return y


class ProjectionDiscriminator(nn.Module):
    def __init__(self, net: nn.Sequential, embedding: nn.Module) -> None:
        super().__init__()
        self.net, self.embedding = net, embedding

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        *layers, head = self.net
        for layer in layers:
            x = layer(x)
        y: Tensor = head(x) + (self.embedding(labels) * x).sum(1, keepdim=True)
        return y


# PyTorch's module for each class of minigan, made from its options and its children.
MODULES: dict[str, Callable[..., nn.Module]] = {
    "AvgPool2d": nn.AvgPool2d,
    "BatchNorm2d": nn.BatchNorm2d,
    "ConcatDiscriminator": ConcatDiscriminator,
    "ConditionalGenerator": ConditionalGenerator,
    "Conv2d": nn.Conv2d,
    "ConvAvgPool2d": ConvAvgPool2d,
    "ConvTranspose2d": nn.ConvTranspose2d,
    "Dense": nn.Linear,
    "DownBlock": Residual,
    "Embedding": nn.Embedding,
    "Flatten": nn.Flatten,
    "Identity": nn.Identity,
    "LeakyReLU": lambda slope: nn.LeakyReLU(slope, inplace=True),
    "ProjectionDiscriminator": ProjectionDiscriminator,
    "ReLU": partial(nn.ReLU, inplace=True),
    "Reshape": lambda shape: nn.Unflatten(1, tuple(shape)),
    "Sequential": lambda **layers: nn.Sequential(*layers.values()),
    "SpectralNorm": SpectralNorm,
    "SumPixels": SumPixels,
    "Tanh": nn.Tanh,
    "UpBlock": Residual,
    "Upsample": lambda scale: nn.Upsample(scale_factor=scale),
    "UpsampleConv2d": UpsampleConv2d,
}


def network(description: Description, device: str = "cpu") -> nn.Module:
    """Return the described network; on a CPU with channels last, which is faster there."""
    net = _module(description).to(device)
    if device == "cpu":
        nn.utils.convert_conv2d_weight_memory_format(net, torch.channels_last)
    return net


def _module(description: Description) -> nn.Module:
    name, options, children = description
    return MODULES[name](**options, **{key: _module(x) for key, x in children.items()})


def load_network(player: Player, device: str) -> nn.Module:
    """Return a network with the weights of a minigan state dict."""
    net = network(player[0], device)
    matrices = _dense_weights(net)
    state = {k: x.T if k in matrices else x for k, x in player[1].items()}
    net.load_state_dict({k: torch.from_numpy(x.copy()) for k, x in state.items()})
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # vjp does not accept this count, and nothing reads it.
            layer.num_batches_tracked = None
    return net


def _dense_weights(net: nn.Module) -> set[str]:
    """Return the names of the Dense weights: (in, out) in minigan, (out, in) in PyTorch."""
    return {f"{k}.weight" for k, layer in net.named_modules() if isinstance(layer, nn.Linear)}


def states(*networks: nn.Module) -> list[State]:
    """Return each network's minigan state dict."""
    result: list[State] = []
    for net in networks:
        matrices = _dense_weights(net)
        state = {k: x.cpu().numpy() for k, x in net.state_dict().items()}
        result.append({k: x.T if k in matrices else x for k, x in state.items()})
    return result


# -------------------------------------------------------------------------------------------- step
def real_and_fake_logits(
    discriminator: Callable[..., Tensor],
    real: Tensor,
    fake: Tensor,
    labels: Sequence[Tensor],
    separate: bool,
) -> Any:
    """Return the logits of both batches, in one pass or, because of batch norm, in two."""
    if separate:
        return discriminator(real, *labels), discriminator(fake, *labels)
    both = (torch.cat([x, x]) for x in labels)
    return discriminator(torch.cat([real, fake]), *both).chunk(2)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, wasserstein: bool) -> Tensor:
    """Return the non-saturating GAN's loss of D, or the WGAN's."""
    if wasserstein:
        return fake_logits.mean() - real_logits.mean()
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def generator_loss(fake_logits: Tensor, wasserstein: bool) -> Tensor:
    """Return the non-saturating GAN's loss of G, or the WGAN's."""
    return -fake_logits.mean() if wasserstein else softplus(-fake_logits).mean()


def penalty_points(real: Tensor, fake: Tensor, middle: bool) -> Tensor:
    """Return points between real and fake samples, at random or in the middle."""
    shape = (len(real), *(1,) * (real.ndim - 1))
    alpha = 0.5 if middle else torch.rand(shape, device=real.device)
    return real + alpha * (fake - real)


def penalty_of(gradients: Tensor) -> Tensor:
    """Return the mean of (|gradient| - 1)^2."""
    return ((gradients.flatten(1).norm(dim=1) - 1) ** 2).mean()


def eager_step(
    player_g: Player, player_d: Player, *, device: str = "cpu", **options: Any
) -> StepAndStates:
    """Return the step of `train_eagerly` from the weights of minigan's networks."""
    generator, discriminator = (load_network(player, device) for player in (player_g, player_d))
    step = train_eagerly(generator, discriminator, device=device, **options)
    return step, partial(states, generator, discriminator)


def train_eagerly(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    latent_size: int,
    data: np.ndarray,
    labels: Sequence[np.ndarray],
    separate: bool,
    lr: float,
    betas: tuple[float, float],
    penalty: float,
    device: str = "cpu",
    read: Callable[[Tensor], Any] = Tensor.item,
    **adam: bool,
) -> Callable[..., tuple[Any, Any]]:
    """Return the step of `tasks.minigan_step` as a function; `adam` are options of Adam.

    The backward pass of G's loss names G's weights, so that PyTorch, like minigan, computes no
    gradients of D's weights there, as a plain `loss_g.backward()` would.
    """
    n, real = len(data), torch.from_numpy(data).to(device)
    classes = [torch.from_numpy(x).to(device) for x in labels]
    weights_g = list(generator.parameters())
    optimizer_g = torch.optim.Adam(weights_g, lr, betas, **adam)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr, betas, **adam)

    def step(latent: np.ndarray | None = None) -> tuple[Any, Any]:
        if latent is None:
            z = torch.randn(n, latent_size, device=device)
        else:
            z = torch.from_numpy(latent).to(device)
        fake = generator(z, *classes)
        power_iterations(discriminator)
        logits = real_and_fake_logits(discriminator, real, fake.detach(), classes, separate)
        real_logits, fake_logits = logits
        loss_d = discriminator_loss(real_logits, fake_logits, penalty > 0)
        if penalty:
            x = penalty_points(real, fake.detach(), latent is not None).requires_grad_()
            (gradients,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
            loss_d = loss_d + penalty * penalty_of(gradients)
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward()
        optimizer_d.step()

        power_iterations(discriminator)
        loss_g = generator_loss(discriminator(fake, *classes), penalty > 0)
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
    *,
    latent_size: int,
    data: np.ndarray,
    labels: Sequence[np.ndarray],
    separate: bool,
    lr: float,
    betas: tuple[float, float],
    penalty: float,
    device: str = "cpu",
    read: Callable[[Tensor], Any] = Tensor.item,
) -> StepAndStates:
    """Return `eager_step` compiled as one graph with gradients and updates, which is fastest."""
    generator, discriminator = (load_network(player, device) for player in (player_g, player_d))
    n, real = len(data), torch.from_numpy(data).to(device)
    classes = [torch.from_numpy(x).to(device) for x in labels]
    weights_g, weights_d = (
        {k: x.detach() for k, x in net.requires_grad_(False).named_parameters()}
        for net in (generator, discriminator)
    )
    optimizer_g, optimizer_d = Adam(weights_g, lr, betas), Adam(weights_d, lr, betas)

    def train_step(latent: Tensor | None) -> tuple[Tensor, Tensor]:
        z = torch.randn(n, latent_size, device=device) if latent is None else latent
        # The type checker does not know how many values vjp returns.
        fake, generator_vjp, *_ = vjp(
            lambda w: functional_call(generator, w, (z, *classes)), weights_g
        )
        power_iterations(discriminator)

        def loss_of_weights(weights: dict[str, Tensor]) -> Tensor:

            def net(*inputs: Tensor) -> Tensor:
                logits: Tensor = functional_call(discriminator, weights, inputs)
                return logits

            real_logits, fake_logits = real_and_fake_logits(net, real, fake, classes, separate)
            loss = discriminator_loss(real_logits, fake_logits, penalty > 0)
            if penalty:
                x = penalty_points(real, fake, latent is not None)
                loss = loss + penalty * penalty_of(grad(lambda x: net(x).sum())(x))
            return loss

        gradients, loss_d = grad_and_value(loss_of_weights)(weights_d)
        optimizer_d.step(gradients)

        power_iterations(discriminator)
        gradient, loss_g = grad_and_value(
            lambda x: generator_loss(discriminator(x, *classes), penalty > 0)
        )(fake)
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
