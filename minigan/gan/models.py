"""The generators and discriminators of `minigan train --model`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from .. import nn
from ..utils.registry import Registry
from .convolutional import Dcgan, Networks, ResNet, Shape
from .own import as_model
from .progressive import Progressive


class Model(Protocol):
    """A generator and a discriminator that belong together, for every sample shape they support."""

    @property
    def about(self) -> str: ...

    @property
    def latent_size(self) -> int: ...

    def build(
        self, sample_shape: Shape, latent_size: int, discriminator_shape: Shape | None = None
    ) -> Networks:
        """Return (generator, discriminator) with new parameters from the stream "init".

        The generator maps (n, latent_size) to (n, *sample_shape). Images (C, H, W) are in [-1, 1],
        so their generator ends in tanh; points (D,) have no bounds. The discriminator's last layer
        makes one logit from features (n, features).

        Args:
            sample_shape: (C, H, W) or (D,).
            latent_size: of the generator's input.
            discriminator_shape: of the discriminator's input, if it is not sample_shape: packed
                samples, or a label that is concatenated to a sample.

        Raises:
            ValueError: the networks do not support samples of this shape.
        """
        ...


# ------------------------------------------------------------------------- multilayer perceptrons
@dataclass(frozen=True)
class Perceptrons:
    """Two multilayer perceptrons with LeakyReLU.

    Attributes:
        about: a description for the command line.
        generator, discriminator: widths of the hidden layers.
        latent_size: of the generator's input, if nothing else is chosen.
        dropout: its probability in the discriminator.
        slope: of the generator's LeakyReLU, 0 for ReLU; in the discriminator it is 0.2.
    """

    about: str
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    latent_size: int
    dropout: float = 0.0
    slope: float = 0.2

    def build(
        self, sample_shape: Shape, latent_size: int, discriminator_shape: Shape | None = None
    ) -> Networks:
        is_image = len(sample_shape) == 3
        generator = nn.Sequential(
            *_hidden_layers(latent_size, self.generator, slope=self.slope),
            nn.Dense(self.generator[-1], math.prod(sample_shape)),
            *([nn.Tanh(), nn.Reshape(*sample_shape)] if is_image else []),
        )
        inputs = math.prod(discriminator_shape or sample_shape)
        discriminator = nn.Sequential(
            *([nn.Flatten()] if is_image else []),
            *_hidden_layers(inputs, self.discriminator, self.dropout),
            nn.Dense(self.discriminator[-1], 1),
        )
        return generator, discriminator


def _hidden_layers(
    inputs: int, widths: tuple[int, ...], dropout: float = 0.0, slope: float = 0.2
) -> list[nn.Module]:
    """Return Dense, LeakyReLU (ReLU for a slope of 0) and dropout for each width."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Dense(inputs, width), nn.LeakyReLU(slope) if slope else nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        inputs = width
    return layers


# The choices of `--model`.
MODELS: dict[str, Model] = {
    "mlp": Perceptrons("the tutorials' MLP GAN", (256, 512), (512, 256), 100),
    "mlp-dropout": Perceptrons("the same, dropout 0.3 in D", (256, 512), (512, 256), 100, 0.3),
    "mlp-wide": Perceptrons("two hidden layers of 1024", (1024, 1024), (1024, 1024), 100),
    "toy": Perceptrons("for points: two hidden layers of 128", (128, 128), (128, 128), 2),
    "toy-relu": Perceptrons("the same, ReLU in G", (128, 128), (128, 128), 2, slope=0.0),
    "toy-wide": Perceptrons("two hidden layers of 256", (256, 256), (256, 256), 64, slope=0.0),
    "dcgan": Dcgan("convolutions of stride 2, batch norm in both nets"),
    "sngan": Dcgan("the same, D with spectral norm in the place of batch norm", norm="spectral"),
    "narrow": Dcgan("half of dcgan's channels, no norm in D: for penalties", 32, 64, norm="none"),
    "resnet": ResNet("residual nets, batch norm in G, spectral norm in D"),
    "progressive": Progressive("nets that grow from small images to the full size"),
}
register = Registry("model", MODELS, as_model)
