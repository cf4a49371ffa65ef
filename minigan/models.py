"""The generators and discriminators that `minigan train --model` knows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import nn


@dataclass(frozen=True)
class Model:
    """Two multilayer perceptrons: hidden widths, latent size, dropout in the discriminator."""

    about: str
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    latent_size: int
    dropout: float = 0.0

    def build(self, sample_shape: tuple[int, ...], latent_size: int) -> tuple[nn.Module, nn.Module]:
        """(generator, discriminator) for samples of that shape: images (C, H, W) or points (D,).

        Images lie in [-1, 1], so their generator ends in tanh; points have no bounds. The
        discriminator ends in a logit.
        """
        size = math.prod(sample_shape)
        image = len(sample_shape) == 3
        hidden = _hidden(latent_size, self.generator)
        end = [nn.Tanh(), nn.Reshape(*sample_shape)] if image else []
        generator = nn.Sequential(*hidden, nn.Dense(self.generator[-1], size), *end)
        start = [nn.Flatten()] if image else []
        hidden = _hidden(size, self.discriminator, self.dropout)
        discriminator = nn.Sequential(*start, *hidden, nn.Dense(self.discriminator[-1], 1))
        return generator, discriminator


def _hidden(size: int, widths: tuple[int, ...], dropout: float = 0.0) -> list[nn.Module]:
    """Dense, LeakyReLU(0.2) and dropout for each width."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Dense(size, width), nn.LeakyReLU(0.2)]
        layers += [nn.Dropout(dropout)] if dropout else []
        size = width
    return layers


MODELS = {
    "mlp": Model("the tutorials' MLP GAN", (256, 512), (512, 256), 100),
    "mlp-dropout": Model("the same, dropout 0.3 in D", (256, 512), (512, 256), 100, dropout=0.3),
    "mlp-wide": Model("two hidden layers of 1024", (1024, 1024), (1024, 1024), 100),
    "toy": Model("for points: two hidden layers of 128", (128, 128), (128, 128), 2),
}
