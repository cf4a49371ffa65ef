"""Convolutional generators and discriminators of images: DCGAN and residual nets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .. import nn
from ..engine import random
from ..engine.assign import assign
from ..engine.tensor import Tensor

Shape = tuple[int, ...]
Networks = tuple[nn.Sequential, nn.Sequential]  # generator, discriminator

MIN_SIDE, MAX_PIXELS = 4, 320  # of the smallest feature map


# ------------------------------------------------------------------------------------------- sizes
def upsampling_plan(sample_shape: Shape) -> tuple[int, int, int]:
    """Return (height, width, number of doublings): the smallest feature map of images (C, H, W).

    The image is halved while both sides are even and the smaller one is above 7. It is accepted if
    it was halved twice, or once to a side of 7 at most, and if the smallest map has sides of 4 at
    least and 320 pixels at most, as each of them has weights of its own in the generator's first
    layer. So 28 x 28 begins at 7 x 7, 64 x 48 at 8 x 6, 160 x 120 at 20 x 15.

    Raises:
        ValueError: the samples are points, or images of another size; the message names the nearest
            sizes that are accepted.
    """
    if len(sample_shape) != 3:
        raise ValueError(
            f"convolutional models make images (C, H, W); samples of shape {sample_shape} are not"
        )
    height, width = sample_shape[1:]
    plan = _halve(height, width)
    if not _is_accepted(*plan):
        sizes = [f"{w}x{h}" for h, w in _nearest_sizes(height, width)]
        raise ValueError(
            f"images of {width}x{height} pixels: convolutional models halve both sides twice or"
            f" more, to a smallest map with sides of at least {MIN_SIDE} and at most {MAX_PIXELS}"
            f" pixels; nearest sizes that they take: {', '.join(sizes)} (--size {sizes[0]}); the"
            " models mlp, mlp-dropout and mlp-wide take any size"
        )
    return plan


def _halve(height: int, width: int) -> tuple[int, int, int]:
    """Return (height, width) after all halvings, and their number."""
    halvings = 0
    while min(height, width) > 7 and height % 2 == width % 2 == 0:
        height, width, halvings = height // 2, width // 2, halvings + 1
    return height, width, halvings


def _is_accepted(height: int, width: int, halvings: int) -> bool:
    """Return whether nets can begin at this smallest map."""
    is_halved = halvings >= 2 or (halvings == 1 and min(height, width) <= 7)
    return is_halved and min(height, width) >= MIN_SIDE and height * width <= MAX_PIXELS


def _nearest_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return the two accepted (height, width) that are nearest in size and in proportions."""
    found = set()
    for k in range(1, max(height, width).bit_length() + 1):
        for h in (height >> k, (height >> k) + 1):
            for w in (width >> k, (width >> k) + 1):
                short = min(max(min(h, w), MIN_SIDE), math.isqrt(MAX_PIXELS))
                long = min(max(h, w, MIN_SIDE), MAX_PIXELS // short)
                size = (long << k, short << k) if h > w else (short << k, long << k)
                if _is_accepted(*_halve(*size)):
                    found.add(size)

    def change(size: tuple[int, int]) -> float:
        tall, wide = math.log(size[0] / height), math.log(size[1] / width)
        return abs(tall) + abs(wide) + abs(tall - wide)

    return sorted(sorted(found), key=change)[:2]


# ------------------------------------------------------------------------------------------- DCGAN
def _draw_small_weights(net: nn.Sequential) -> nn.Sequential:
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


def _draw_he_weights(net: nn.Sequential) -> nn.Sequential:
    """Draw weights that keep the size of activations, N(0, 2 / fan-in) (He et al. 2015).

    The last layer, which no ReLU follows, has N(0, 1 / fan-in). A transposed convolution of stride
    s has 1 / s^2 of its kernel's elements in each output pixel. Biases begin at 0.
    """
    kinds = (nn.Dense, nn.Conv2d, nn.ConvTranspose2d)
    layers: list[Any] = [module for module in net.modules() if isinstance(module, kinds)]
    for layer in layers:
        weight = layer.weight
        fan_in = math.prod(weight.shape[1:])
        if isinstance(layer, nn.Dense):
            fan_in = weight.shape[0]
        elif isinstance(layer, nn.ConvTranspose2d):
            fan_in = weight.shape[0] * math.prod(weight.shape[2:]) // math.prod(layer.stride)
        noise = random.normal(weight.shape, dtype=weight.dtype, device=weight.device, stream="init")
        assign(weight, noise * math.sqrt((1 if layer is layers[-1] else 2) / fan_in))
        if layer.bias is not None:
            assign(layer.bias, layer.bias.detach() * 0.0)
    return net


@dataclass(frozen=True)
class Dcgan:
    """DCGAN: convolutions of 4 x 4 pixels, stride 2, that halve or double the sides.

    The number of channels is `width` at half the image's size and doubles whenever the sides
    halve. The generator's first layer is a matrix product, which is the same as the paper's
    transposed convolution of one pixel. The generator has batch norm. The discriminator has, by
    `norm`:

    - "batch": batch norm, but not in its first layer (Radford et al. 2016).
    - "spectral": spectral norm in all layers (Miyato et al. 2018).
    - "none": no norm, for gradient penalties, which need its slope as it is (Gulrajani et al.
      2017). Both nets have He's initial weights then, as nothing else sets the size of its
      activations, and LeakyReLU.

    Attributes:
        about: a description for the command line.
        width: the channels at half the image's size.
        latent_size: of the generator's input, if nothing else is chosen.
        norm: of the discriminator.
    """

    about: str
    width: int = 64
    latent_size: int = 100
    norm: str = "batch"

    def build(
        self, sample_shape: Shape, latent_size: int, discriminator_shape: Shape | None = None
    ) -> Networks:
        *smallest, doublings = upsampling_plan(sample_shape)
        widths = [self.width * 2**i for i in range(doublings)]
        generator = self._generator(latent_size, widths, smallest, sample_shape[0])
        channels = [(discriminator_shape or sample_shape)[0], *widths]
        return generator, self._discriminator(channels, math.prod(smallest))

    def _generator(
        self, latent_size: int, widths: list[int], smallest: list[int], image_channels: int
    ) -> nn.Sequential:
        """Return the generator; `widths` are the channels from the largest feature map on."""
        layers: list[nn.Module] = [
            nn.Dense(latent_size, widths[-1] * math.prod(smallest), bias=False),
            nn.Reshape(widths[-1], *smallest),
            nn.BatchNorm2d(widths[-1]),
            self._activation(),
        ]
        for inputs, outputs in pairwise(reversed(widths)):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), self._activation()]
        layers += [nn.ConvTranspose2d(self.width, image_channels, 4, 2, 1), nn.Tanh()]
        return self._initialize(nn.Sequential(*layers))

    def _discriminator(self, channels: list[int], pixels: int) -> nn.Sequential:
        """Return the discriminator.

        `channels` are those of the image and of all feature maps, `pixels` those of the smallest.
        """
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(channels)):
            has_batch_norm = i > 0 and self.norm == "batch"
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not has_batch_norm)]
            layers += [nn.BatchNorm2d(outputs)] if has_batch_norm else []
            layers += [nn.LeakyReLU(0.2)]
        head = nn.Dense(channels[-1] * pixels, 1)
        net = self._initialize(nn.Sequential(*layers, nn.Flatten(), head))
        return nn.Sequential(*map(_add_spectral_norm, net)) if self.norm == "spectral" else net

    def _activation(self) -> nn.Module:
        """Return the activation of the generator's hidden layers."""
        return nn.LeakyReLU(0.2) if self.norm == "none" else nn.ReLU()

    def _initialize(self, net: nn.Sequential) -> nn.Sequential:
        """Draw new weights; the net itself is returned."""
        return _draw_he_weights(net) if self.norm == "none" else _draw_small_weights(net)


def _add_spectral_norm(layer: nn.Module) -> nn.Module:
    """Return the layer with spectral norm if it has a weight matrix, else the layer itself."""
    return nn.spectral_norm(layer) if hasattr(layer, "as_matrix") else layer


# ----------------------------------------------------------------------------------- residual nets
class UpBlock(nn.Module):
    """A residual block that doubles the side; the shortcut is a 1 x 1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.main = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            # Upsampling was a layer here: the weights below keep their names, which are numbers.
            nn.Identity(),
            nn.UpsampleConv2d(inputs, outputs, 3),
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
        convolutions = [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.ConvAvgPool2d(outputs, outputs, 3)]
        start, end = map(nn.spectral_norm, convolutions)
        self.main = nn.Sequential(*([] if first else [nn.ReLU()]), start, nn.ReLU(), end)
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
        *smallest, doublings = upsampling_plan(sample_shape)
        width = self.width
        generator = nn.Sequential(
            nn.Dense(latent_size, width * math.prod(smallest)),
            nn.Reshape(width, *smallest),
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
