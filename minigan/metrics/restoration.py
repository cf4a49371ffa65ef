"""Compare images with the truth: peak signal-to-noise ratio, and the energy of fine detail."""

from __future__ import annotations

import math

import numpy as np

from .numbers import real_numbers

PEAK = 2.0  # the range of images in [-1, 1]
FINE = 0.25  # cycles per pixel, half of the highest frequency: a period of four pixels
LEAST_SHARE = 1e-12  # of the energy of all frequencies; less is rounding
IMAGE_AXES = 4


def psnr(images: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the peak signal-to-noise ratio of images in [-1, 1], in decibels: higher is better.

    It is 10 log10(4 / e), where e is the mean squared error over all pixels of all images; the mean
    of the images' own ratios, which is often reported, is another number. Twice the root mean
    square error costs 6 dB; equal images have infinity.

        mg.metrics.psnr(repaired, truth, holes)

    Args:
        images, truth: (n, C, H, W).
        mask: (n, 1, H, W) of 0 and 1; only pixels with 1 count. None: all.

    Raises:
        TypeError: the images are not real numbers.
        ValueError: the shapes differ, or no pixel counts.
    """
    x, y = _pair("psnr", images, truth)
    errors = (x - y) ** 2
    if mask is not None:
        weights = np.broadcast_to(np.asarray(mask, np.float64), errors.shape)
        if not weights.any():
            raise ValueError("psnr: the mask leaves no pixel")
        error = float((errors * weights).sum() / weights.sum())
    else:
        error = float(errors.mean())
    return math.inf if error == 0 else 10 * math.log10(PEAK**2 / error)


def sharpness(images: np.ndarray, truth: np.ndarray) -> float:
    """Return the energy of fine detail in images, divided by that in the truth: 1 where equal.

    The energy is the mean squared amplitude of the Fourier coefficients with a period below four
    pixels. Each image is mirrored at its edges first: repeated as it is, it would have a step
    there, which is fine detail. Blurred images have a ratio below 1, noisy ones above. The images
    need not be pairs.

    Args:
        images, truth: (n, C, H, W) and (m, C, H, W).

    Raises:
        TypeError: the images are not real numbers.
        ValueError: the shapes of an image differ, or the truth has no fine detail.
    """
    x, y = (real_numbers("sharpness", a) for a in (images, truth))
    if x.ndim != IMAGE_AXES or x.shape[1:] != y.shape[1:] or not len(x) or not len(y):
        raise ValueError(
            f"sharpness: images of shapes {x.shape} and {y.shape}; (n, C, H, W) needed"
        )
    if not has_fine_detail(y):
        raise ValueError("sharpness: the true images have no fine detail")
    return _fine_energy(x) / _fine_energy(y)


def has_fine_detail(images: np.ndarray) -> bool:
    """Return whether images (n, C, H, W) have energy of fine detail, beyond rounding."""
    return _fine_energy(images) > LEAST_SHARE * float(np.square(images, dtype=np.float64).mean())


def _fine_energy(images: np.ndarray) -> float:
    """Return the mean energy of a coefficient with a period below four pixels, per pixel."""
    half = np.concatenate([images, images[:, :, ::-1]], axis=2, dtype=np.float64)
    mirrored = np.concatenate([half, half[..., ::-1]], axis=3)
    height, width = mirrored.shape[2:]
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    spectrum = np.abs(np.fft.fft2(mirrored)) ** 2 / (height * width)
    return float(spectrum[..., radius > FINE].mean())


def _pair(name: str, images: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = (np.asarray(real_numbers(name, a), np.float64) for a in (images, truth))
    if x.shape != y.shape or not x.size:
        raise ValueError(f"{name}: images of shapes {x.shape} and {y.shape}; equal ones are needed")
    return x, y
