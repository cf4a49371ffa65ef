"""Quality of samples of a mixture of Gaussians: mode coverage, sample quality, KL divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .numbers import real_numbers


@dataclass(frozen=True)
class MixtureQuality:
    """The measures of VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al. 2018, table 1).

    Attributes:
        modes: the number of modes with at least one high-quality sample.
        high_quality: the share of samples within 3 sigma of the nearest mode. For samples of the
            mixture itself it is 0.9889 in two dimensions.
        reverse_kl: KL divergence in nats of the high-quality samples' histogram over the modes
            from the uniform distribution.
        kl: KL divergence in nats of the histogram of all samples, with one more bin for those that
            are not high-quality, from that of the mixture itself. Missing modes and blurred ones
            both increase it.
    """

    modes: int
    high_quality: float
    reverse_kl: float
    kl: float


def mixture_quality(samples: np.ndarray, modes: np.ndarray, sigma: float) -> MixtureQuality:
    """Measure samples against a uniform mixture of Gaussians N(modes[i], sigma^2 I).

        ring = mg.data.load("ring")
        print(mg.metrics.mixture_quality(samples, ring.modes, ring.sigma))

    Args:
        samples: (n, d). modes: (k, d), the means. sigma: the standard deviation of each mode.

    Raises:
        ValueError: there are no samples or modes, they differ in dimension, or sigma is not
            positive and finite.
    """
    samples, modes = (
        real_numbers("mixture_quality", x).astype(np.float64) for x in (samples, modes)
    )
    if not 0 < sigma < math.inf:
        raise ValueError(f"mixture_quality: sigma = {sigma} is not a positive, finite number")
    if (
        samples.ndim != 2
        or not len(samples)
        or not len(modes)
        or samples.shape[1:] != modes.shape[1:]
    ):
        raise ValueError(
            f"mixture_quality: samples of shape {samples.shape} and modes of shape {modes.shape};"
            " (n, d) with n > 0 and (modes, d) are needed"
        )
    # In units of sigma, squares near a mode neither overflow nor underflow; infinity is far.
    with np.errstate(over="ignore"):
        scaled = (samples[:, None, :] - modes[None, :, :]) / sigma
        squared_distances = (scaled**2).sum(axis=2)
    nearest = squared_distances.argmin(axis=1)
    is_good = squared_distances[np.arange(len(samples)), nearest] < 3**2
    counts = np.bincount(nearest[is_good], minlength=len(modes))
    tail = tail_probability(3, samples.shape[1])
    target = np.append(np.full(len(modes), (1 - tail) / len(modes)), tail)
    kl = _kl_divergence(np.append(counts, len(is_good) - is_good.sum()), target)
    uniform = np.full(len(modes), 1 / len(modes))
    reverse_kl = _kl_divergence(counts, uniform) if is_good.any() else math.inf
    return MixtureQuality(int((counts > 0).sum()), float(is_good.mean()), reverse_kl, kl)


def _kl_divergence(counts: np.ndarray, target: np.ndarray) -> float:
    """Return the KL divergence in nats of a histogram from the target; empty bins add 0."""
    shares = counts / counts.sum()
    filled = shares > 0
    return float((shares[filled] * np.log(shares[filled] / target[filled])).sum())


def tail_probability(radius: float, dimension: int) -> float:
    """Return the probability that a standard normal point is further than `radius` from its mean.

    This is the chi-squared tail Q(d/2, r^2/2), computed by the recursion from d to d + 2.
    """
    x = radius**2 / 2
    start = 2 - dimension % 2  # 1 or 2
    tail = math.exp(-x) if start == 2 else math.erfc(math.sqrt(x))
    for d in range(start, dimension, 2):
        tail += math.exp(d / 2 * math.log(x) - x - math.lgamma(d / 2 + 1))
    return tail
