"""Differentiable augmentation (DiffAugment) of the discriminator's inputs, for small data sets.

The transforms are those of Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN
training", as in the authors' code. Real and generated images are augmented in the steps of both
players, and the generator's gradient flows through the transforms:

    loss_d = loss.discriminator(D(diff_augment(real)), D(diff_augment(fake.detach())))
    loss_g = loss.generator(D(diff_augment(fake)))

The random numbers come from the stream "augment" and are drawn on the device, one set per image,
so a captured step draws new ones in each replay. Every transform is a linear function of the image,
so it can be differentiated any number of times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import ops
from ..engine import random
from ..engine.tensor import Tensor, require_tensors, tensor
from ..ops.shape import integers
from ..utils.names import choose

Transform = Callable[[Tensor], Tensor]


def diff_augment(x: Tensor, policy: str = "color,translation,cutout") -> Tensor:
    """Return the images x, each transformed at random and independently of the others.

    Args:
        x: (n, channels, height, width), float32 or float64, usually in [-1, 1]; the result may
            exceed that range.
        policy: names from POLICIES, separated by commas and applied in that order: "color"
            (brightness, saturation and contrast), "translation", "cutout". "" changes nothing.

    Raises:
        TypeError: x is not a tensor of floats, or the policy not a string.
        ValueError: x does not have four axes, or a name is unknown.
    """
    if not isinstance(policy, str):
        raise TypeError(f"diff_augment: policy is {type(policy).__name__}, not a string")
    _check_images("diff_augment", x)
    names = [name.strip() for name in policy.split(",")] if policy else []
    for transforms in [choose("augmentation", name, POLICIES) for name in names]:
        for transform in transforms:
            x = transform(x)
    return x


def _check_images(name: str, x: Tensor) -> None:
    """Raise TypeError or ValueError unless x is a tensor of images of floats."""
    require_tensors(name, x)
    if x.dtype.kind != "f":
        raise TypeError(f"{name}: the images are {x.dtype}, not float32 or float64")
    if x.ndim != 4:
        raise ValueError(
            f"{name}: input {x.shape}; images (n, channels, height, width) are needed, and"
            " points have no such transforms"
        )


# ---------------------------------------------------------------------------------------- color
def brightness(x: Tensor) -> Tensor:
    """Add u to each image, u uniform in [-0.5, 0.5)."""
    return x + _uniform_per_image(x, -0.5, 0.5)


def saturation(x: Tensor) -> Tensor:
    """Scale each pixel's channels about their mean by u, uniform in [0, 2) per image.

    An image with one channel is left unchanged, up to rounding.
    """
    return _scale_about_mean(x, _uniform_per_image(x, 0, 2), axis=1)


def contrast(x: Tensor) -> Tensor:
    """Scale each image about its mean by u, uniform in [0.5, 1.5)."""
    return _scale_about_mean(x, _uniform_per_image(x, 0.5, 1.5), axis=(1, 2, 3))


def _scale_about_mean(x: Tensor, factor: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    mean = x.mean(axis=axis, keepdims=True)
    return (x - mean) * factor + mean


# ------------------------------------------------------------------------------------- geometry
def translation(x: Tensor) -> Tensor:
    """Shift each image by up to 1/8 of its height and of its width, in whole pixels.

    Pixels that enter at the border are 0, as in the paper; in images of [-1, 1] that is gray.
    """
    down, right = (int(size / 8 + 0.5) for size in x.shape[2:])
    return shift(x, (down, right))


def shift(x: Tensor, pixels: int | tuple[int, int], fill: float = 0.0) -> Tensor:
    """Shift each image by a whole number of pixels, down or up and to the right or left.

    The numbers are uniform in -pixels, ..., pixels, independent for each image and each axis. To
    train a classifier of digits on shifted images:

        train_classifier(images, labels, 10, augment=lambda x: shift(x, 2, fill=-1.0))

    Args:
        x: (n, channels, height, width), float32 or float64.
        pixels: the largest shift, or that of rows and that of columns.
        fill: the value of pixels that enter at the border; -1 is black in images of [-1, 1].

    Raises:
        TypeError: x is not a tensor of floats, or `pixels` is no integer.
        ValueError: x does not have four axes, or `pixels` is negative.
    """
    _check_images("shift", x)
    limits = integers("shift", "pixels", pixels if isinstance(pixels, tuple) else (pixels, pixels))
    if len(limits) != 2 or min(limits) < 0:
        raise ValueError(
            f"shift: pixels = {pixels}; a number of pixels >= 0, or one for rows and one for"
            " columns, is needed"
        )
    for axis, limit in zip((2, 3), limits, strict=True):
        size = x.shape[axis]
        widths = [(0, 0)] * 4
        widths[axis] = (1, 1)
        # Source positions are clipped to the one pixel of padding before and after the image.
        source = _positions(x, axis) + _integer_per_image(x, -limit, limit)
        index = ops.clip(source + 1.0, 0, size + 1)
        x = ops.gather(ops.pad(x, widths, fill), index.to(dtype="int64"), axis)
    return x


def cutout(x: Tensor) -> Tensor:
    """Set a random rectangle of half the height and half the width of each image to 0.

    The center can be at any pixel, so a part of the rectangle may lie outside the image.
    """
    return x * (1.0 - _cutout_mask(x, 2) * _cutout_mask(x, 3))


def _cutout_mask(x: Tensor, axis: int) -> Tensor:
    """Return 1 at the positions along the axis that the rectangle covers, 0 elsewhere."""
    size = x.shape[axis]
    length = int(size / 2 + 0.5)
    # As in the authors' code, a rectangle of even length has one more possible center than there
    # are pixels, since its center lies between two pixels.
    start = _integer_per_image(x, 0, size - length % 2) - float(length // 2)
    center = start + (length - 1) / 2
    distance = abs(_positions(x, axis) - center)
    return (distance < length / 2).to(dtype=x.dtype)


def _positions(x: Tensor, axis: int) -> Tensor:
    """Return 0, 1, 2, ... along the axis, in a shape that broadcasts to x."""
    shape = [1] * 4
    shape[axis] = x.shape[axis]
    positions = np.arange(x.shape[axis]).reshape(shape)
    return tensor(positions, dtype=x.dtype, device=x.device)


# --------------------------------------------------------------------------------- random numbers
def _uniform_per_image(x: Tensor, low: float, high: float) -> Tensor:
    """Return one uniform number in [low, high) per image, (n, 1, 1, 1)."""
    shape = (x.shape[0], 1, 1, 1)
    return random.uniform(shape, low, high, x.dtype, x.device, "augment")


def _integer_per_image(x: Tensor, low: int, high: int) -> Tensor:
    """Return one integer in [low, high], both included, per image, (n, 1, 1, 1), in x's dtype."""
    offset = _uniform_per_image(x, 0, high - low + 1).to(dtype="int64")
    return offset.to(dtype=x.dtype) + float(low)


# The choices of `--augment`, each with its transforms in order.
POLICIES: dict[str, tuple[Transform, ...]] = {
    "color": (brightness, saturation, contrast),
    "translation": (translation,),
    "cutout": (cutout,),
}
