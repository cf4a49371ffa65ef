"""Nets that grow: trained on small images first, then on larger ones (Karras et al. 2018).

All parts exist from the beginning, and both nets always take and make images of the full size: at a
lower resolution the generator's images are enlarged, and the discriminator averages blocks of
pixels first. So samples, measures and penalties need not know of it. (A gradient with respect to
the full image is spread over the pixels of a block: where sides are 1 / k of the full ones, a
squared slope, as in R1, is 1 / k^2 of that with respect to the small image.)
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .. import nn, ops
from ..engine.assign import assign
from ..engine.tensor import Tensor, tensor
from ..utils.notices import Notice
from .convolutional import Networks, Shape, upsampling_plan

MAX_WIDTH = 128  # channels


class Growing(nn.Module):
    """The base class of nets with a part for each resolution, of which the lower ones are used.

    The buffer `growth` is what a checkpoint holds: l at resolution number l, and l - 1 + alpha
    while it is faded in. The parts that are used are a choice of the host, so a captured step is
    recorded anew when they change; alpha is read on the device.

    Attributes:
        last: the number of the full resolution, counted from 0.
        level: the number of the resolution that is used or faded in.
        is_fading: whether it is faded in.
    """

    def __init__(self, last: int) -> None:
        self.last = self.level = last
        self.is_fading = False
        self.growth = tensor(float(last), dtype="float32")

    def grow(self, growth: float) -> None:
        """Set the growth, from 0 to `last`."""
        value = tensor(growth, dtype=self.growth.dtype, device=self.growth.device)
        assign(self.growth, value)
        self._choose_parts(float(np.float32(growth)))

    def read_growth(self) -> None:
        """Choose the parts by the buffer, after a state was loaded."""
        self._choose_parts(self.growth.item())

    def _choose_parts(self, growth: float) -> None:
        level = min(math.ceil(growth), self.last)
        if (level, growth < level) != (self.level, self.is_fading):
            self.level, self.is_fading = level, growth < level

    def fade(self, old: Tensor, new: Tensor) -> Tensor:
        """Return (1 - alpha) old + alpha new."""
        alpha = self.growth - float(self.level - 1)
        return old + (new - old) * alpha


def growing_parts(*nets: nn.Module) -> list[Growing]:
    """Return the parts of the nets that grow; [] for nets of another model."""
    return [x for net in nets for x in net.modules() if isinstance(x, Growing)]


def growth_at(step: int, grow_steps: int, last: int) -> float:
    """Return the growth at a step, counted from 0; with `grow_steps` = 0 it is `last`.

    Each resolution is faded in over `grow_steps` steps, and is then trained for as many before the
    next one.
    """
    if not grow_steps:
        return float(last)
    done = step // grow_steps  # of the phases: the smallest images, a fade, the new ones, a fade
    fading = done % 2
    alpha = (step - done * grow_steps) / grow_steps if fading else 0.0
    return min(float(last), (done + 1) // 2 - fading + alpha)


def default_grow_steps(steps: int, sample_shape: Shape) -> int:
    """Return how many steps a phase has, so that the full resolution has two phases at the end."""
    return max(1, steps // (2 * upsampling_plan(sample_shape)[2] + 2))


def warn_of_slow_growth(steps: int, grow_steps: int, sample_shape: Shape) -> None:
    """Emit a Notice if the nets do not reach the full resolution in a training."""
    end = 2 * upsampling_plan(sample_shape)[2] * grow_steps
    if end >= steps:
        text = (
            f"grow_steps = {grow_steps}: the nets reach the full size after {end} steps, and the"
            f" training has {steps}"
        )
        warnings.warn(text, Notice, stacklevel=4)


# --------------------------------------------------------------------------------------- the nets
def _convolution(inputs: int, outputs: int) -> nn.Module:
    return nn.equalized_lr(nn.Conv2d(inputs, outputs, 3, 1, 1))


class GrowingGenerator(Growing):
    """A generator whose first channels are `widths[0]` on the smallest map, `widths[l]` on map l.

    Each map has two convolutions with LeakyReLU and pixel norm; the first of them follows an
    enlargement. A convolution of one pixel makes the image of a map. Images are faded before tanh.
    """

    def __init__(
        self, latent_size: int, smallest: tuple[int, int], widths: list[int], channels: int
    ) -> None:
        super().__init__(len(widths) - 1)
        first = nn.Dense(latent_size, widths[0] * math.prod(smallest))
        self.base = nn.Sequential(
            nn.PixelNorm(),
            # The paper's code has this gain where a latent becomes a map of 4 x 4 pixels.
            nn.equalized_lr(first, math.sqrt(2) / 4),
            nn.Reshape(widths[0], *smallest),
            *(nn.LeakyReLU(0.2), nn.PixelNorm()),
            *(_convolution(widths[0], widths[0]), nn.LeakyReLU(0.2), nn.PixelNorm()),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.equalized_lr(nn.UpsampleConv2d(inputs, outputs, 3)),
                *(nn.LeakyReLU(0.2), nn.PixelNorm()),
                *(_convolution(outputs, outputs), nn.LeakyReLU(0.2), nn.PixelNorm()),
            )
            for inputs, outputs in pairwise(widths)
        )
        self.to_image = nn.ModuleList(
            nn.equalized_lr(nn.Conv2d(width, channels, 1), gain=1) for width in widths
        )

    def forward(self, latent: Tensor) -> Tensor:
        x = before = self.base(latent)
        for block in list(self.blocks)[: self.level]:
            before, x = x, block(x)
        image = self.to_image[self.level](x)
        if self.is_fading:
            old = self.to_image[self.level - 1](before)
            image = self.fade(ops.upsample_nearest(old, 2), image)
        return _enlarge(ops.tanh(image), 2 ** (self.last - self.level))


class GrowingFeatures(Growing):
    """The discriminator up to the smallest map, which has `widths[0]` channels.

    A convolution of one pixel makes a map of an image. Two convolutions with LeakyReLU and an
    average of 2 x 2 pixels lead from a map to the next smaller one.
    """

    def __init__(self, widths: list[int], channels: int) -> None:
        super().__init__(len(widths) - 1)
        self.from_image = nn.ModuleList(
            nn.Sequential(nn.equalized_lr(nn.Conv2d(channels, width, 1)), nn.LeakyReLU(0.2))
            for width in widths
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(_convolution(inputs, inputs), nn.LeakyReLU(0.2)),
                *(_convolution(inputs, outputs), nn.LeakyReLU(0.2), nn.AvgPool2d(2)),
            )
            for outputs, inputs in pairwise(widths)
        )

    def forward(self, image: Tensor) -> Tensor:
        level = self.level
        image = _shrink(image, 2 ** (self.last - level))
        x = self.from_image[level](image)
        for k in range(level, 0, -1):
            x = self.blocks[k - 1](x)
            if self.is_fading and k == level:
                x = self.fade(self.from_image[k - 1](_shrink(image, 2)), x)
        return x

    def fade_real(self, image: Tensor) -> Tensor:
        """Return real images faded as generated ones are: with those of the lower resolution.

        Images are of the full size; what is finer than the present resolution is averaged later.
        """
        if not self.is_fading:
            return image
        block = 2 ** (self.last - self.level + 1)
        return self.fade(_enlarge(_shrink(image, block), block), image)


def _enlarge(image: Tensor, times: int) -> Tensor:
    return image if times == 1 else ops.upsample_nearest(image, times)


def _shrink(image: Tensor, times: int) -> Tensor:
    return image if times == 1 else ops.avg_pool2d(image, times)


@dataclass(frozen=True)
class Progressive:
    """Growing nets for images that can be halved: see `upsampling_plan`.

    The channels are `width` at the full size, and double, up to MAX_WIDTH, whenever the sides
    halve. All weights have an equalized learning rate, and the discriminator compares the samples
    of a batch by their standard deviation. A new net has its full resolution.
    """

    about: str
    width: int = 8
    latent_size: int = 64

    def build(
        self, sample_shape: Shape, latent_size: int, discriminator_shape: Shape | None = None
    ) -> Networks:
        height, width, doublings = upsampling_plan(sample_shape)
        widths = [min(MAX_WIDTH, self.width << k) for k in range(doublings, -1, -1)]
        first = widths[0]
        net: Any = GrowingGenerator(latent_size, (height, width), widths, sample_shape[0])
        discriminator = nn.Sequential(
            GrowingFeatures(widths, (discriminator_shape or sample_shape)[0]),
            nn.MinibatchStdDev(),
            *(_convolution(first + 1, first), nn.LeakyReLU(0.2), nn.Flatten()),
            *(nn.equalized_lr(nn.Dense(first * height * width, first)), nn.LeakyReLU(0.2)),
            nn.equalized_lr(nn.Dense(first, 1), gain=1),
        )
        return nn.Sequential(net), discriminator
