"""The generators and discriminators of `minigan train --model`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from .. import nn
from ..engine import random
from ..engine.assign import assign
from ..engine.tensor import Tensor
from ..utils.registry import Registry
from .own import as_model

Shape = tuple[int, ...]
Networks = tuple[nn.Sequential, nn.Sequential]  # generator, discriminator


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


# ----------------------------------------------------------------------------- convolutional nets
def upsampling_plan(sample_shape: Shape) -> tuple[int, int]:
    """Return (side of the smallest feature map, number of doublings) for square images.

    The side of the images is 4 to 7 pixels, doubled once or more.

    Raises:
        ValueError: the samples are points, or images of another size.
    """
    side, doublings = sample_shape[-1], 0
    while side > 7 and side % 2 == 0:
        side, doublings = side // 2, doublings + 1
    is_square = len(sample_shape) == 3 and sample_shape[1] == sample_shape[2]
    if not is_square or not doublings or not 4 <= side <= 7:
        raise ValueError(
            "convolutional models make square images with sides of 4 to 7 times 2, 4, 8, .. (28, 32"
            f" or 64 pixels, say); samples of shape {sample_shape} are not"
        )
    return side, doublings


def _initialize_weights(net: nn.Sequential) -> nn.Sequential:
    """Draw weights from N(0, 0.02^2) and batch norm's from N(1, 0.02^2) (Radford et al. 2016)."""
    module: Any
    for module in net.modules():
        is_batch_norm = isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
        if is_batch_norm or isinstance(module, (nn.Dense, nn.Conv2d, nn.ConvTranspose2d)):
            weight = module.weight
            noise = random.normal(
                weight.shape, dtype=weight.dtype, device=weight.device, stream="init"
            )
            assign(weight, noise * 0.02 + float(is_batch_norm))
    return net


@dataclass(frozen=True)
class Dcgan:
    """DCGAN: convolutions of 4 x 4 pixels, stride 2, that halve or double the side.

    The number of channels is `width` at half the image's side and doubles whenever the side
    halves. Both networks have batch norm, the discriminator not in its first layer (Radford et al.
    2016). With `spectral`, all layers of the discriminator have spectral norm instead (Miyato et
    al. 2018). The generator's first layer is a matrix product, which is the same as the paper's
    transposed convolution of one pixel.
    """

    about: str
    width: int = 64
    latent_size: int = 100
    spectral: bool = False

    def build(
        self, sample_shape: Shape, latent_size: int, discriminator_shape: Shape | None = None
    ) -> Networks:
        side, doublings = upsampling_plan(sample_shape)
        widths = [self.width * 2**i for i in range(doublings)]
        generator = self._generator(latent_size, widths, side, sample_shape[0])
        channels = [(discriminator_shape or sample_shape)[0], *widths]
        return generator, self._discriminator(channels, side)

    def _generator(
        self, latent_size: int, widths: list[int], side: int, image_channels: int
    ) -> nn.Sequential:
        """Return the generator; `widths` are the channels from the largest feature map on."""
        layers: list[nn.Module] = [
            nn.Dense(latent_size, widths[-1] * side * side, bias=False),
            nn.Reshape(widths[-1], side, side),
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
        ]
        for inputs, outputs in pairwise(reversed(widths)):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        layers += [nn.ConvTranspose2d(self.width, image_channels, 4, 2, 1), nn.Tanh()]
        return _initialize_weights(nn.Sequential(*layers))

    def _discriminator(self, channels: list[int], side: int) -> nn.Sequential:
        """Return the discriminator; `channels` are those of the image and of all feature maps."""
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(channels)):
            has_batch_norm = i > 0 and not self.spectral
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not has_batch_norm)]
            layers += [nn.BatchNorm2d(outputs)] if has_batch_norm else []
            layers += [nn.LeakyReLU(0.2)]
        head = nn.Dense(channels[-1] * side * side, 1)
        net = _initialize_weights(nn.Sequential(*layers, nn.Flatten(), head))
        return nn.Sequential(*map(_add_spectral_norm, net)) if self.spectral else net


def _add_spectral_norm(layer: nn.Module) -> nn.Module:
    """Return the layer with spectral norm if it has a weight matrix, else the layer itself."""
    return nn.spectral_norm(layer) if hasattr(layer, "as_matrix") else layer


# ---------------------------------------------------------------------------------- residual nets
class UpBlock(nn.Module):
    """A residual block that doubles the side; the shortcut is a 1 x 1 convolution."""

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
        return self.main(x) + self.shortcut(x)


class DownBlock(nn.Module):
    """A residual block with spectral norm that halves the side.

    The first block of a discriminator has no ReLU in front. The shortcut pools before its 1 x 1
    convolution: the two commute, and there are fewer pixels then.
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
        return self.main(x) + self.shortcut(x)


class SumPixels(nn.Module):
    """Sum over the pixels: (n, c, h, w) to (n, c)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(axis=(2, 3))


@dataclass(frozen=True)
class ResNet:
    """Residual networks of `width` channels (Gulrajani et al. 2017; Miyato et al. 2018, table 4).

    The discriminator has spectral norm and sums over the remaining pixels.
    """

    about: str
    width: int = 64
    latent_size: int = 128

    def build(
        self, sample_shape: Shape, latent_size: int, discriminator_shape: Shape | None = None
    ) -> Networks:
        side, doublings = upsampling_plan(sample_shape)
        width = self.width
        generator = nn.Sequential(
            nn.Dense(latent_size, width * side * side),
            nn.Reshape(width, side, side),
            *(UpBlock(width, width) for _ in range(doublings)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, sample_shape[0], 3, 1, 1),
            nn.Tanh(),
        )
        discriminator = nn.Sequential(
            DownBlock((discriminator_shape or sample_shape)[0], width, first=True),
            *(DownBlock(width, width) for _ in range(doublings - 1)),
            nn.ReLU(),
            SumPixels(),
            nn.spectral_norm(nn.Dense(width, 1)),
        )
        return generator, discriminator


# The choices of `--model`.
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
register = Registry("model", MODELS, as_model)
