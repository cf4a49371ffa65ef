"""Differentiable augmentation: a discriminator that sees changed images, so that few last longer.

The transforms are those of Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN
training", in the version of its authors' code. Real and generated images go through them in both
players' turns, and the generator's gradient goes through them too:

    loss_d = loss.discriminator(D(diff_augment(real)), D(diff_augment(fake.detach())))
    loss_g = loss.generator(D(diff_augment(fake)))

Every image has draws of its own, from the stream "augment", made and used on the device, so that a
captured step draws anew in each replay. Each transform is linear in the image but for its mean, so
it can be differentiated any number of times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import ops
from ..engine import random
from ..engine.tensor import Tensor, require_tensors, tensor
from ..utils.names import choose

Transform = Callable[[Tensor], Tensor]


def diff_augment(x: Tensor, policy: str = "color,translation,cutout") -> Tensor:
    """Each image of x (n, channels, height, width) changed at random, differently each.

    Args:
        x: images, float32 or float64, in [-1, 1] say; the result may go beyond.
        policy: names of POLICIES, done in this order, separated by commas; "" changes nothing.
            "color": brightness, saturation and contrast; "translation"; "cutout".

    Raises:
        TypeError: x is no tensor of floats, or policy no string.
        ValueError: x has not four axes; a name is unknown.
    """
    require_tensors("diff_augment", x)
    if not isinstance(policy, str):
        raise TypeError(f"diff_augment: policy is {type(policy).__name__}, not a string")
    if x.dtype.kind != "f":
        raise TypeError(f"diff_augment: the images are {x.dtype}, not float32 or float64")
    if x.ndim != 4:
        raise ValueError(
            f"diff_augment: input {x.shape}; images (n, channels, height, width) are needed, and"
            " points have no such transforms"
        )
    names = [name.strip() for name in policy.split(",")] if policy else []
    for transforms in [choose("augmentation", name, POLICIES) for name in names]:
        for transform in transforms:
            x = transform(x)
    return x


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    """(n, 1, 1, 1): a number for each image."""
    shape = (x.shape[0], 1, 1, 1)
    return random.uniform(shape, low, high, x.dtype, x.device, "augment")


def _integer(x: Tensor, low: int, high: int) -> Tensor:
    """(n, 1, 1, 1): a whole number of low to high, both included, for each image."""
    floors = ops.cast(_uniform(x, 0, high - low + 1), dtype=np.dtype("int64"))
    return ops.add(ops.cast(floors, dtype=x.dtype), float(low))


def _places(x: Tensor, axis: int) -> Tensor:
    """0, 1, 2, ... along that axis of an image, in a shape that broadcasts to x."""
    shape = [1] * 4
    shape[axis] = x.shape[axis]
    places = np.arange(x.shape[axis]).reshape(shape)
    return tensor(places, dtype=x.dtype, device=x.device)


def _scaled(x: Tensor, factor: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """mean + factor (x - mean), the mean taken over these axes."""
    mean = ops.mean(x, axis=axis, keepdims=True)
    return ops.add(ops.multiply(ops.subtract(x, mean), factor), mean)


def brightness(x: Tensor) -> Tensor:
    """x + u, u uniform in [-0.5, 0.5) for each image."""
    return ops.add(x, _uniform(x, -0.5, 0.5))


def saturation(x: Tensor) -> Tensor:
    """Each pixel's channels about their mean, times u, uniform in [0, 2) for each image.

    An image of one channel stays what it is, to rounding.
    """
    return _scaled(x, _uniform(x, 0, 2), axis=1)


def contrast(x: Tensor) -> Tensor:
    """Each image about its mean, times u, uniform in [0.5, 1.5)."""
    return _scaled(x, _uniform(x, 0.5, 1.5), axis=(1, 2, 3))


def translation(x: Tensor) -> Tensor:
    """Each image moved by up to 1/8 of its height and of its width, in whole pixels.

    What comes in at the border is 0, as in the paper, which is grey in images of [-1, 1].
    """
    for axis in (2, 3):
        size = x.shape[axis]
        reach = int(size / 8 + 0.5)
        widths = [(0, 0)] * 4
        widths[axis] = (1, 1)
        # Of the image with a zero before and after: places beyond its ends are those zeros.
        source = ops.add(_places(x, axis), _integer(x, -reach, reach))
        index = ops.clip(ops.add(source, 1.0), 0, size + 1)
        x = ops.gather(ops.pad(x, widths), ops.cast(index, dtype=np.dtype("int64")), axis)
    return x


def cutout(x: Tensor) -> Tensor:
    """A rectangle of half the height and half the width of each image set to 0, at random.

    Its centre is anywhere in the image, so that part of it may lie outside. As in `translation`, 0
    is grey in images of [-1, 1].
    """
    return ops.multiply(x, ops.subtract(1.0, ops.multiply(_within(x, 2), _within(x, 3))))


def _within(x: Tensor, axis: int) -> Tensor:
    """1 at the places along an axis that are in the part to cut out, else 0."""
    size = x.shape[axis]
    part = int(size / 2 + 0.5)
    # The authors' bounds: the centre of an even part lies between pixels, so there is one more.
    first = ops.subtract(_integer(x, 0, size - part % 2), float(part // 2))
    middle = ops.add(first, (part - 1) / 2)
    apart = ops.abs(ops.subtract(_places(x, axis), middle))
    return ops.cast(ops.less(apart, part / 2), dtype=x.dtype)


POLICIES: dict[str, tuple[Transform, ...]] = {
    "color": (brightness, saturation, contrast),
    "translation": (translation,),
    "cutout": (cutout,),
}
