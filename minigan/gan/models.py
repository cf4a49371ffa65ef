"""The generators and discriminators that `minigan train --model` knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from .. import nn, ops
from ..engine import random
from ..engine.assign import assign
from ..engine.tensor import Tensor

Shape = tuple[int, ...]
Nets = tuple[nn.Sequential, nn.Sequential]


class Model(Protocol):
    """A pair of nets that fit each other, for any samples that they can take."""

    @property
    def about(self) -> str: ...

    @property
    def latent_size(self) -> int: ...

    def build(
        self, sample_shape: Shape, latent_size: int, judged_shape: Shape | None = None
    ) -> Nets:
        """(generator, discriminator) for samples of that shape: images (C, H, W) or points (D,).

        Images lie in [-1, 1], so their generator ends in tanh; points have no bounds. The
        discriminator takes `judged_shape`, where that is another (packed samples, or a plane that
        tells the label), and ends in a layer that makes a logit of its features (n, features).

        Raises:
            ValueError: samples that the nets cannot take.
        """
        ...


# ------------------------------------------------------------------------- multilayer perceptrons
@dataclass(frozen=True)
class Perceptrons:
    """Two multilayer perceptrons: hidden widths, latent size, dropout in the discriminator.

    `slope` is that of the generator's LeakyReLUs; the discriminator's have 0.2.
    """

    about: str
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    latent_size: int
    dropout: float = 0.0
    slope: float = 0.2

    def build(
        self, sample_shape: Shape, latent_size: int, judged_shape: Shape | None = None
    ) -> Nets:
        size = math.prod(sample_shape)
        image = len(sample_shape) == 3
        hidden = _hidden(latent_size, self.generator, slope=self.slope)
        end = [nn.Tanh(), nn.Reshape(*sample_shape)] if image else []
        generator = nn.Sequential(*hidden, nn.Dense(self.generator[-1], size), *end)
        start = [nn.Flatten()] if image else []
        hidden = _hidden(math.prod(judged_shape or sample_shape), self.discriminator, self.dropout)
        discriminator = nn.Sequential(*start, *hidden, nn.Dense(self.discriminator[-1], 1))
        return generator, discriminator


def _hidden(
    size: int, widths: tuple[int, ...], dropout: float = 0.0, slope: float = 0.2
) -> list[nn.Module]:
    """Dense, LeakyReLU (ReLU, where the slope is 0) and dropout for each width."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Dense(size, width), nn.LeakyReLU(slope) if slope else nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        size = width
    return layers


# ------------------------------------------------------------------------------- convolutional nets
def halvings(sample_shape: Shape) -> tuple[int, int]:
    """(smallest side, how often it doubles): the side is 4 to 7 pixels times 2, 4, 8, ...

    Raises:
        ValueError: points, or images of other sides.
    """
    side, doubled = sample_shape[-1], 0
    while side > 7 and side % 2 == 0:
        side, doubled = side // 2, doubled + 1
    square = len(sample_shape) == 3 and sample_shape[1] == sample_shape[2]
    if not square or not doubled or not 4 <= side <= 7:
        raise ValueError(
            "convolutional models make square images with sides of 4 to 7 times 2, 4, 8, .. (28, 32"
            f" or 64 pixels, say); samples of shape {sample_shape} are not"
        )
    return side, doubled


def _draw_weights(net: nn.Sequential) -> nn.Sequential:
    """Weights from N(0, 0.02^2), scales of batch norm from N(1, 0.02^2) (Radford et al. 2016)."""
    module: Any
    for module in net.modules():
        normalizes = isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
        if normalizes or isinstance(module, (nn.Dense, nn.Conv2d, nn.ConvTranspose2d)):
            weight = module.weight
            noise = random.normal(
                weight.shape, dtype=weight.dtype, device=weight.device, stream="init"
            )
            assign(weight, ops.add(ops.multiply(noise, 0.02), float(normalizes)))
    return net


@dataclass(frozen=True)
class Dcgan:
    """Convolutions of 4 x 4 pixels, stride 2, that halve or double the side (Radford et al. 2016).

    The channels double as the side halves, from `width` on. Both nets have batch norm, the
    discriminator not in its first layer; with `spectral` it has spectral norm instead, in all of
    them (Miyato et al. 2018). The generator's first layer, which the paper writes as a transposed
    convolution of one pixel, is the matrix product that this is.
    """

    about: str
    width: int = 64
    latent_size: int = 100
    spectral: bool = False

    def build(
        self, sample_shape: Shape, latent_size: int, judged_shape: Shape | None = None
    ) -> Nets:
        side, doubled = halvings(sample_shape)
        channels = [self.width * 2**i for i in range(doubled)]
        most, small = channels[-1], channels[-1] * side * side
        layers: list[nn.Module] = [
            nn.Dense(latent_size, small, bias=False),
            nn.Reshape(most, side, side),
            nn.BatchNorm2d(most),
            nn.ReLU(),
        ]
        for wide, narrow in zip(channels[:0:-1], channels[-2::-1], strict=True):
            layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(narrow), nn.ReLU()]
        layers += [nn.ConvTranspose2d(self.width, sample_shape[0], 4, 2, 1), nn.Tanh()]
        generator = _draw_weights(nn.Sequential(*layers))
        seen = (judged_shape or sample_shape)[0]
        return generator, self._discriminator([seen, *channels], small)

    def _discriminator(self, channels: list[int], small: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(channels)):
            plain = i == 0 or self.spectral
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=plain)]
            layers += [] if plain else [nn.BatchNorm2d(after)]
            layers += [nn.LeakyReLU(0.2)]
        net = _draw_weights(nn.Sequential(*layers, nn.Flatten(), nn.Dense(small, 1)))
        return nn.Sequential(*map(_normalized, net)) if self.spectral else net


def _normalized(layer: nn.Module) -> nn.Module:
    return nn.spectral_norm(layer) if hasattr(layer, "as_matrix") else layer


class UpBlock(nn.Module):
    """A residual block that doubles the side: BN, ReLU, twice; the shortcut is a 1 x 1 conv."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.main = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Upsample(2),
            nn.Conv2d(inputs, outputs, 3, 1, 1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.Upsample(2))

    def forward(self, x: Tensor) -> Tensor:
        return ops.add(self.main(x), self.shortcut(x))


class DownBlock(nn.Module):
    """A residual block that halves the side, spectrally normalised; `first` begins with x as it is.

    A convolution of 1 x 1 pixels and a mean of pixels commute, so the shortcut pools first.
    """

    def __init__(self, inputs: int, outputs: int, first: bool = False) -> None:
        convolutions = [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)]
        start, end = map(nn.spectral_norm, convolutions)
        layers = [*([] if first else [nn.ReLU()]), start, nn.ReLU(), end, nn.AvgPool2d(2)]
        self.main = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2), nn.spectral_norm(nn.Conv2d(inputs, outputs, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        return ops.add(self.main(x), self.shortcut(x))


class SumPixels(nn.Module):
    """(n, c, h, w) -> (n, c)"""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sum(x, axis=(2, 3))


@dataclass(frozen=True)
class ResNet:
    """Residual nets of `width` channels (Gulrajani et al. 2017; Miyato et al. 2018, table 4).

    The discriminator is spectrally normalised, and sums over the pixels that are left.
    """

    about: str
    width: int = 64
    latent_size: int = 128

    def build(
        self, sample_shape: Shape, latent_size: int, judged_shape: Shape | None = None
    ) -> Nets:
        side, doubled = halvings(sample_shape)
        width = self.width
        generator = nn.Sequential(
            nn.Dense(latent_size, width * side * side),
            nn.Reshape(width, side, side),
            *(UpBlock(width, width) for _ in range(doubled)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, sample_shape[0], 3, 1, 1),
            nn.Tanh(),
        )
        discriminator = nn.Sequential(
            DownBlock((judged_shape or sample_shape)[0], width, first=True),
            *(DownBlock(width, width) for _ in range(doubled - 1)),
            nn.ReLU(),
            SumPixels(),
            nn.spectral_norm(nn.Dense(width, 1)),
        )
        return generator, discriminator


MODELS: dict[str, Model] = {
    "mlp": Perceptrons("the tutorials' MLP GAN", (256, 512), (512, 256), 100),
    "mlp-dropout": Perceptrons("the same, dropout 0.3 in D", (256, 512), (512, 256), 100, 0.3),
    "mlp-wide": Perceptrons("two hidden layers of 1024", (1024, 1024), (1024, 1024), 100),
    "toy": Perceptrons("for points: two hidden layers of 128", (128, 128), (128, 128), 2),
    "toy-relu": Perceptrons("the same, ReLU in G", (128, 128), (128, 128), 2, slope=0.0),
    "toy-wide": Perceptrons("two hidden layers of 256", (256, 256), (256, 256), 64, slope=0.0),
    "dcgan": Dcgan("convolutions of stride 2, batch norm in both nets"),
    "sngan": Dcgan("the same, D with spectral norm in the place of batch norm", spectral=True),
    "resnet": ResNet("residual nets, batch norm in G, spectral norm in D"),
}
