"""Generate points in the plane whose distribution is known exactly."""

from __future__ import annotations

import numpy as np

from .dataset import Dataset, generators


def ring(size: int, seed: int, split: str = "train", progress: bool = False) -> Dataset:
    """Return 8 Gaussians of sigma 0.01 on the unit circle.

    They are those of Lin et al. 2018 (PacGAN), section 4.1.
    """
    # linspace(0, 2 pi, 8) would repeat the first angle: seven modes, one of them twice as likely.
    angles = np.arange(8) * (2 * np.pi / 8)
    modes = np.stack([np.cos(angles), np.sin(angles)], 1)
    return _mixture("ring", modes, 0.01, size=size, seed=seed, split=split)


def grid(size: int, seed: int, split: str = "train", progress: bool = False) -> Dataset:
    """Return 25 Gaussians of sigma 0.05 on {-4, -2, 0, 2, 4} squared (PacGAN, section 4.1)."""
    side = np.arange(-4.0, 5.0, 2.0)
    modes = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    return _mixture("grid", modes, 0.05, size=size, seed=seed, split=split)


def swiss_roll(size: int, seed: int, split: str = "train", progress: bool = False) -> Dataset:
    """Return (t (cos t, sin t) + 0.25 noise) / 7.5, with t uniform in [1.5 pi, 4.5 pi).

    This is the spiral of Gulrajani et al. 2017 (WGAN-GP, figure 1 and its gan_toy.py).
    """
    angles, noise = generators(seed, 2, split)
    t = 1.5 * np.pi * (1 + 2 * angles.random((size, 1)))
    spiral = t * np.concatenate([np.cos(t), np.sin(t)], 1)
    return Dataset("swiss-roll", (spiral + 0.25 * noise.standard_normal((size, 2))) / 7.5)


def _mixture(
    name: str, modes: np.ndarray, sigma: float, *, size: int, seed: int, split: str
) -> Dataset:
    choices, noise = generators(seed, 2, split)
    labels = choices.integers(len(modes), size=size)
    values = modes[labels] + sigma * noise.standard_normal((size, 2))
    return Dataset(name, values, labels, len(modes), modes, sigma)
