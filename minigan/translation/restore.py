"""Repair images without a net: the baselines that the nets must surpass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .tasks import add_noise

if TYPE_CHECKING:
    from .trainer import TranslationTrainer

ROWS = 500  # images that are read at a time, and those on which the width of the blur is chosen
BLURS = tuple(0.3 + 0.1 * i for i in range(38))  # its standard deviations, in pixels
CURVE = 3  # the degree of the curve of the grey level that follows it
SWEEPS = 400  # over a hole that is filled smoothly


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


def fill_smoothly(images: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return images whose hole, where `mask` is 1, continues the colours of its border.

    In the hole each pixel is the mean of its four neighbours (Laplace's equation), by SWEEPS of
    Jacobi's method, which begins with the mean of the known pixels.
    """
    known = images * (1 - mask)
    counts = np.maximum((1 - mask).sum(axis=(2, 3), keepdims=True), 1)
    filled = known + mask * (known.sum(axis=(2, 3), keepdims=True) / counts)
    for _ in range(SWEEPS):
        padded = np.pad(filled, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
        sums = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
        sums = sums + padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]
        filled = known + mask * sums / 4
    return filled


def _smooth_fill(trainer: TranslationTrainer, inputs: np.ndarray) -> np.ndarray:
    return fill_smoothly(inputs[:, :-1], inputs[:, -1:])


def _best_blur(trainer: TranslationTrainer, inputs: np.ndarray) -> np.ndarray:
    """Return the inputs, blurred, then with the grey level changed by a curve.

    The width of the blur and the polynomial are those with the least squared error on training
    images. The curve undoes what cutting noise to [-1, 1] does: it makes black brighter.
    """
    from ..engine import random

    data = trainer.images.data
    images = data.rows(np.arange(min(len(data), ROWS)))
    with random.use_generator(random.Generator(0)):
        noisy = add_noise(images, trainer.config)
    found = []
    for sigma in BLURS:
        # In float32 polyfit would drop terms of the curve.
        blurred = blur(noisy.astype(np.float64), sigma)
        curve = np.polyfit(blurred.ravel(), images.ravel(), CURVE)
        found.append((float(((np.polyval(curve, blurred) - images) ** 2).mean()), sigma, curve))
    _, sigma, curve = min(found, key=lambda x: x[0])
    return np.polyval(curve, blur(inputs, sigma)).clip(-1, 1)


# By task, the methods without a net: functions of the trainer and of inputs that return images.
BASELINES: dict[str, dict[str, Callable[[TranslationTrainer, np.ndarray], np.ndarray]]] = {
    "inpaint": {"mean fill": _mean_fill, "smooth fill": _smooth_fill},
    "super-resolution": {"bicubic": _bicubic},
    "denoise": {"blur and curve": _best_blur},
}
