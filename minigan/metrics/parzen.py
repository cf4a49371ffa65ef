"""The Parzen-window estimate of a log-likelihood."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..utils.notices import Notice
from .neighbours import row_blocks, squared_distances
from .numbers import row_matrices

CANDIDATES = 10 ** np.linspace(-1, 0, 10)  # as Goodfellow et al. 2014, for data in [0, 1]


def parzen_log_likelihood(samples: Any, points: Any, sigma: float) -> np.ndarray:
    """Return log p of each point, in nats, where p is the mean of Gaussians around the samples.

        log (1/n) sum over i of N(point; sample_i, sigma^2 I)

    This is the estimate of Breuleux et al. 2011, by which Goodfellow et al. 2014 (table 1) report
    generators of digits with pixels in [0, 1]: scale images in [-1, 1] by (x + 1) / 2 first. It is
    a poor measure in many dimensions: the training set itself scores below blurred averages of it
    (Theis et al. 2016).

    Args:
        samples: (n, ...) generated samples, the centres.
        points: (m, ...) held-out real samples. All axes but the first are flattened.
        sigma: the standard deviation of each Gaussian; `parzen_bandwidth` finds it.

    Returns:
        (m,) float64. The mean is the estimate, `bootstrap(np.mean, ...)` its interval.

    Raises:
        TypeError: the samples are not real numbers.
        ValueError: there are no samples; they are not finite, or differ in size; sigma is not
            positive and finite.
    """
    centres, x = row_matrices("parzen_log_likelihood", samples, points)
    return _log_likelihoods(centres, x, [_positive("parzen_log_likelihood", sigma)])[0]


def parzen_bandwidth(
    samples: Any, validation: Any, candidates: Sequence[float] | None = None
) -> float:
    """Return the candidate sigma under which validation data have the largest log-likelihood.

    The distances are computed once for all candidates. The points on which the log-likelihood is
    then reported must be others.

    Args:
        samples: (n, ...) generated samples, the centres of the Gaussians.
        validation: (m, ...) real samples.
        candidates: standard deviations; None: ten from 0.1 to 1, equally spaced in log sigma.

    Raises:
        TypeError, ValueError: as `parzen_log_likelihood`; there are no candidates.

    Warns:
        Notice: the best candidate is the smallest or the largest.
    """
    name = "parzen_bandwidth"
    sigmas = [_positive(name, s) for s in (CANDIDATES if candidates is None else candidates)]
    if not sigmas:
        raise ValueError(f"{name}: there are no candidates")
    centres, x = row_matrices(name, samples, validation)
    best = sigmas[int(_log_likelihoods(centres, x, sigmas).mean(axis=1).argmax())]
    if len(sigmas) > 1 and best in (min(sigmas), max(sigmas)):
        text = (
            f"{name}: the best sigma, {best:.4g}, is at the end of the candidates from"
            f" {min(sigmas):.4g} to {max(sigmas):.4g}; one beyond them may be better"
        )
        warnings.warn(text, Notice, stacklevel=2)
    return best


def _positive(name: str, sigma: Any) -> float:
    if not 0 < sigma * abs(sigma) < math.inf:
        raise ValueError(f"{name}: sigma = {sigma} is not a positive, finite number")
    return float(sigma)


def _log_likelihoods(centres: np.ndarray, x: np.ndarray, sigmas: list[float]) -> np.ndarray:
    """Return (sigmas, m) log-likelihoods."""
    n, size = centres.shape
    result = np.empty((len(sigmas), len(x)))
    for block in row_blocks(len(x), n):
        squares = squared_distances(x[block], centres)
        least = squares.min(axis=1, keepdims=True)  # Its term is exp(0), so no sum is 0.
        squares -= least
        for i, sigma in enumerate(sigmas):
            scale = -0.5 / sigma**2
            sums = np.exp(squares * scale).sum(axis=1)
            constant = math.log(n) + size * math.log(sigma * math.sqrt(2 * math.pi))
            result[i, block] = least[:, 0] * scale + np.log(sums) - constant
    return result
