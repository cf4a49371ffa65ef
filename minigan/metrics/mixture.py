"""Modes of a mixture of Gaussians: how many are covered, how well, how evenly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MixtureQuality:
    """What VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al. 2018, table 1) report.

    `modes`: modes with at least one high-quality sample. `high_quality`: the share of samples
    within 3 sigma of the nearest mode; a draw from the mixture itself reaches 0.9889 in two
    dimensions. `reverse_kl`: nats from the high-quality samples' histogram to the uniform one.
    `kl`: the same of all samples, with one more bin for those that are off the modes, to what a
    draw from the mixture itself has in these bins; collapse and blur both raise it.
    """

    modes: int
    high_quality: float
    reverse_kl: float
    kl: float


def mixture_quality(samples: np.ndarray, modes: np.ndarray, sigma: float) -> MixtureQuality:
    """Quality of samples (n, d) of a uniform mixture of Gaussians N(modes[i], sigma^2 I).

    Raises:
        ValueError: there is no sample, or samples and modes differ in dimension.
    """
    if samples.ndim != 2 or not len(samples) or samples.shape[1:] != modes.shape[1:]:
        raise ValueError(
            f"mixture_quality: samples of shape {samples.shape} and modes of shape {modes.shape};"
            " (n, d) with n > 0 and (modes, d) are needed"
        )
    squared = ((samples[:, None, :] - modes[None, :, :]) ** 2).sum(axis=2)
    nearest = squared.argmin(axis=1)
    good = squared[np.arange(len(samples)), nearest] < (3 * sigma) ** 2
    counts = np.bincount(nearest[good], minlength=len(modes))
    off = outside(3, samples.shape[1])
    target = np.append(np.full(len(modes), (1 - off) / len(modes)), off)
    kl = _kl(np.append(counts, len(good) - good.sum()), target)
    uniform = np.full(len(modes), 1 / len(modes))
    reverse_kl = _kl(counts, uniform) if good.any() else math.inf
    return MixtureQuality(int((counts > 0).sum()), float(good.mean()), reverse_kl, kl)


def _kl(counts: np.ndarray, target: np.ndarray) -> float:
    """Nats from the histogram of these counts to the target; empty bins add nothing."""
    share = counts / counts.sum()
    filled = share > 0
    return float((share[filled] * np.log(share[filled] / target[filled])).sum())


def outside(radius: float, dimension: int) -> float:
    """The probability that a standard normal point lies further than `radius` from its mean.

    That is the chi-squared tail Q(d/2, r^2/2), by the recursion from d to d + 2.
    """
    x = radius**2 / 2
    start = 2 - dimension % 2  # one dimension or two
    tail = math.exp(-x) if start == 2 else math.erfc(math.sqrt(x))
    for d in range(start, dimension, 2):
        tail += math.exp(d / 2 * math.log(x) - x - math.lgamma(d / 2 + 1))
    return tail
