"""Repair images without a net: the baselines that the nets must surpass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .tasks import add_noise

if TYPE_CHECKING:
    from .trainer import TranslationTrainer

ROWS = 500  # images that are read at a time, and those on which the width of the blur is chosen
BLURS = tuple(0.3 + 0.1 * i for i in range(18))  # its standard deviations, in pixels


def fill_with_mean(images: np.ndarray, mask: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return images whose hole, where `mask` is 1, shows the mean image (C, H, W) of the data."""
    return images * (1 - mask) + mean * mask


def bicubic(images: np.ndarray, factor: int) -> np.ndarray:
    """Return images (n, C, H, W) enlarged by bicubic interpolation, cut to [-1, 1]."""
    from PIL import Image

    height, width = images.shape[2:]
    size = (width * factor, height * factor)
    planes = [
        np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC))
        for plane in np.ascontiguousarray(images, np.float32).reshape(-1, height, width)
    ]
    return np.stack(planes).reshape(*images.shape[:2], *size[::-1]).clip(-1, 1)


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Return images (n, C, H, W) after a Gaussian filter; beyond the edge its pixels go on."""
    radius = max(1, round(3 * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(images.dtype)
    for axis in (2, 3):
        pads = [(0, 0)] * 4
        pads[axis] = (radius, radius)
        padded, n = np.pad(images, pads, mode="edge"), images.shape[axis]
        parts = [np.take(padded, np.arange(k, k + n), axis=axis) for k in range(len(weights))]
        images = sum(w * part for w, part in zip(weights, parts, strict=True))
    return images


def _mean_fill(trainer: TranslationTrainer, inputs: np.ndarray) -> np.ndarray:
    data = trainer.images.data
    starts = range(0, len(data), ROWS)
    parts = [data.rows(slice(i, i + ROWS)).sum(axis=0, dtype=np.float64) for i in starts]
    mean = np.sum(parts, axis=0) / len(data)
    return fill_with_mean(inputs[:, :-1], inputs[:, -1:], mean)


def _bicubic(trainer: TranslationTrainer, inputs: np.ndarray) -> np.ndarray:
    factor = trainer.config.factor
    return bicubic(inputs[:, :, ::factor, ::factor], factor)


def _best_blur(trainer: TranslationTrainer, inputs: np.ndarray) -> np.ndarray:
    """Return the inputs, blurred by the width with the least squared error on training images."""
    from ..engine import random

    data = trainer.images.data
    images = data.rows(np.arange(min(len(data), ROWS)))
    with random.use_generator(random.Generator(0)):
        noisy = add_noise(images, trainer.config)
    errors = [float(((blur(noisy, sigma) - images) ** 2).mean()) for sigma in BLURS]
    return blur(inputs, BLURS[int(np.argmin(errors))])


# By task, the methods without a net: functions of the trainer and of inputs that return images.
BASELINES: dict[str, dict[str, Callable[[TranslationTrainer, np.ndarray], np.ndarray]]] = {
    "inpaint": {"mean fill": _mean_fill},
    "super-resolution": {"bicubic": _bicubic},
    "denoise": {"best blur": _best_blur},
}
