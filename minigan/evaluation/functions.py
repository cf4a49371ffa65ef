"""The functions of samples that the table of measures has: metrics of a draw and held-out data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..metrics import (
    birthday,
    frechet_distance,
    inception_score,
    jensen_shannon,
    kernel_distance,
    memorization,
    mixture_quality,
    parzen_bandwidth,
    parzen_log_likelihood,
    sliced_wasserstein,
    wasserstein1,
)
from .estimate import Estimate
from .samples import Samples, Setting

MAX_CENTRES = 1000  # of Parzen windows
MAX_COMPARED = 1000  # samples whose nearest training samples are searched
PAIR_BUDGET = 2**33  # numbers in the differences of generated and all training samples

Function = Callable[[Samples, Setting], float]


def sliced(x: Samples, setting: Setting) -> float:
    """Return the sliced Wasserstein distance to as many held-out samples."""
    real = setting.real.values[: len(x)]
    return sliced_wasserstein(x.values, real, setting.projections, seed=x.draw)


def exact_wasserstein(x: Samples, setting: Setting) -> float:
    """Return the exact Wasserstein distance to as many held-out samples."""
    return wasserstein1(x.values, setting.real.values[: len(x)])


def frechet(x: Samples, setting: Setting) -> float:
    """Return the Frechet distance of features to those of as many held-out samples."""
    return frechet_distance(x.features, setting.real.head(len(x)).features)


def kernel(x: Samples, setting: Setting) -> float:
    """Return the kernel distance of features to those of as many held-out samples."""
    return kernel_distance(x.features, setting.real.head(len(x)).features)


def mixture(name: str) -> Function:
    """Return the function of samples that returns a field of `MixtureQuality`."""

    def measure(x: Samples, setting: Setting) -> float:
        data = setting.train
        assert data.modes is not None
        assert data.sigma is not None
        modes, sigma = data.modes, data.sigma
        quality = x.once(lambda: mixture_quality(x.values, modes, sigma), "mixture")
        return float(getattr(quality, name))

    return measure


def overlap(metric: Callable[..., object], name: str) -> Function:
    """Return the function of samples that returns a field of a result of an overlap metric."""

    def measure(x: Samples, setting: Setting) -> float:
        real = setting.real.head(len(x))
        result = x.once(lambda: metric(real.features, x.features), metric)
        return float(getattr(result, name))

    return measure


def inception(x: Samples, setting: Setting) -> float:
    """Return the inception-style score, by the probabilities of the data's classifier."""
    return inception_score(x.probabilities)


def divergence(x: Samples, setting: Setting) -> float:
    """Return the divergence on a grid of about ten samples a cell, at most 32 by 32."""
    bins = min(32, max(2, round((len(x) / 10) ** 0.5)))
    return jensen_shannon(x.values, setting.real.values[: len(x)], bins)


def parzen_samples(setting: Setting) -> int:
    """Return how many samples are centres: so few that no real one is a validation sample."""
    return min(MAX_CENTRES, setting.usable)


def parzen(x: Samples, setting: Setting) -> float:
    """Return the mean log-likelihood of held-out samples, of images with pixels in [0, 1]."""
    arrays = [x.values, setting.validation, setting.real.values[: len(x)]]
    candidates = None
    if setting.is_image:
        arrays = [(values + 1) / 2 for values in arrays]
    else:
        candidates = list(np.geomspace(0.003, 3, 13) * setting.deviation)
    sigma = parzen_bandwidth(arrays[0], arrays[1], candidates)
    return float(parzen_log_likelihood(arrays[0], arrays[2], sigma).mean())


def memorization_z(x: Samples, setting: Setting) -> float:
    """Return how surely samples are nearer to training than to held-out data."""
    held_out = _halves(setting)[1][: len(x)]
    return memorization(x.values, setting.train_values, held_out).z


def memorization_of_real(setting: Setting) -> float:
    """Return the value for held-out samples in the place of generated ones."""
    fake, held_out = (half[: memorization_samples(setting)] for half in _halves(setting))
    return memorization(fake, setting.train_values, held_out).z


def _halves(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    values = setting.real.values
    return values[: len(values) // 2], values[len(values) // 2 :]


def memorization_samples(setting: Setting) -> int:
    """Return how many samples are compared with all training samples."""
    return min(setting.count // 2, MAX_COMPARED, PAIR_BUDGET // setting.train_values.size)


def birthday_support(x: Samples, setting: Setting) -> float:
    """Return the number of different samples that near duplicates stand for."""
    return birthday(x.values, setting.real.values[: len(x)]).support


def combine_supports(values: Sequence[float], n: int) -> Estimate:
    """Return the support by the near duplicates of all draws together.

    It is the harmonic mean, as a draw has 1 / support near duplicates a pair; a draw without any
    has an infinite support. The error is that of the mean of 1 / support, times support^2.

    Args:
        values: the support of each draw. n: the number of samples in a draw.

    Raises:
        ValueError: no draw has near duplicates. The message has the bound that follows: among
            P pairs, none is equal in at most 5 % of cases if the support is below P / ln(20).
    """
    rate = Estimate.of([1 / value for value in values])
    if rate.mean == 0:
        least = int(len(values) * n * (n - 1) / 2 / math.log(20))
        raise ValueError(
            f"no near duplicates in {len(values)} draws of {n} samples: more than {least:,}"
            " different samples (with 95 % confidence), and no estimate"
        )
    return Estimate(1 / rate.mean, rate.error / rate.mean**2, rate.draws)


def agreement(x: Samples, setting: Setting) -> float:
    """Return the share of samples that are classified as their label."""
    assert x.labels is not None
    return float((x.probabilities.argmax(axis=1) == x.labels).mean())


def permuted_agreement(x: Samples, setting: Setting) -> float:
    """Return the same with permuted labels."""
    assert x.labels is not None
    labels = np.random.Generator(np.random.Philox(0)).permutation(x.labels)
    return float((x.probabilities.argmax(axis=1) == labels).mean())


def accuracy(setting: Setting) -> float:
    """Return the accuracy of the classifier on held-out samples."""
    return setting.net.accuracy


def chance(setting: Setting) -> float:
    """Return the agreement of labels with permuted ones."""
    labels = setting.real.labels
    assert labels is not None
    return float(((np.bincount(labels) / len(labels)) ** 2).sum())
