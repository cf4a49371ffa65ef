"""The table of the measures that `minigan evaluate` takes of a run's samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..metrics import (
    birthday,
    density_coverage,
    frechet_distance,
    inception_score,
    jensen_shannon,
    kernel_distance,
    memorization,
    mixture_quality,
    out_of_range,
    parzen_bandwidth,
    parzen_log_likelihood,
    precision_recall,
    sliced_wasserstein,
    wasserstein1,
)
from .samples import Samples, Setting

DRAWS = 5  # independent draws of samples behind each mean and its interval
MIXTURE_SAMPLES = 2500
MAX_COMPARED = 1000  # samples whose nearest training samples are searched
PAIR_BUDGET = 2**33  # numbers in the differences of generated and all training samples

Function = Callable[[Samples, Setting], float]


def at_most(points: int, images: int) -> Callable[[Setting], int]:
    """Return a function that returns the most samples of points or of images."""
    return lambda setting: images if setting.is_image else points


OVERLAP = at_most(1000, 1000)


@dataclass(frozen=True)
class Measure:
    """A measure of samples against held-out data.

    Attributes:
        name: of the measure, before the number of samples.
        label: in a table.
        function: of the samples and what they are compared with.
        better: "low" or "high"; None where neither is.
        applies: whether the data have what is measured; if not, nothing is said.
        lacks: the reason for which it is left out of a table, or "".
        most: the most samples, as more would take long.
        fixed: the number of samples whatever the data are; None: as many as held-out ones.
        draws: the most independent draws of samples.
        quick: whether it takes little time, so that it is also measured of G itself where its
            average is what samples, and by `minigan train --seeds`.
        floor: the value for real data where it is not that of training samples.
    """

    name: str
    label: str
    function: Function
    better: str | None = None
    applies: Callable[[Setting], bool] = lambda setting: True
    lacks: Callable[[Setting], str] = lambda setting: ""
    most: Callable[[Setting], int] = lambda setting: setting.count
    fixed: int | None = None
    draws: int = DRAWS
    quick: bool = False
    floor: Callable[[Setting], float] | None = None

    def count(self, setting: Setting) -> int:
        """Return the number of samples that are measured."""
        return self.fixed or max(1, min(setting.count, self.most(setting)))


# ----------------------------------------------------------------- which data have what is measured
def is_mixture(setting: Setting) -> bool:
    """Return whether the data are a mixture of Gaussians of known parameters."""
    return setting.train.modes is not None and setting.train.sigma is not None


def is_plane(setting: Setting) -> bool:
    """Return whether the data are points of the plane."""
    return setting.train.sample_shape == (2,)


def has_conditions(setting: Setting) -> bool:
    """Return whether the generator is given one of several classes."""
    return setting.is_conditional and setting.has_classes


def no_features(setting: Setting) -> str:
    """Return why images have no features."""
    if not setting.is_image or setting.has_classes:
        return ""
    return "features need a classifier, and the images have no labels of two or more classes"


# ----------------------------------------------------------------------------- functions of samples
def _sliced(x: Samples, setting: Setting) -> float:
    real = setting.real.values[: len(x)]
    return sliced_wasserstein(x.values, real, setting.projections, seed=x.draw)


def _exact(x: Samples, setting: Setting) -> float:
    return wasserstein1(x.values, setting.real.values[: len(x)])


def _frechet(x: Samples, setting: Setting) -> float:
    return frechet_distance(x.features, setting.real.head(len(x)).features)


def _kernel(x: Samples, setting: Setting) -> float:
    return kernel_distance(x.features, setting.real.head(len(x)).features)


def _mixture(name: str) -> Function:
    def measure(x: Samples, setting: Setting) -> float:
        data = setting.train
        assert data.modes is not None
        assert data.sigma is not None
        modes, sigma = data.modes, data.sigma
        quality = x.once(lambda: mixture_quality(x.values, modes, sigma), "mixture")
        return float(getattr(quality, name))

    return measure


def _overlap(metric: Callable[..., object], name: str) -> Function:
    def measure(x: Samples, setting: Setting) -> float:
        real = setting.real.head(len(x))
        result = x.once(lambda: metric(real.features, x.features), metric)
        return float(getattr(result, name))

    return measure


def _inception(x: Samples, setting: Setting) -> float:
    return inception_score(x.probabilities)


def _divergence(x: Samples, setting: Setting) -> float:
    """Return the divergence on a grid of about ten samples a cell, at most 32 by 32."""
    bins = min(32, max(2, round((len(x) / 10) ** 0.5)))
    return jensen_shannon(x.values, setting.real.values[: len(x)], bins)


def _parzen(x: Samples, setting: Setting) -> float:
    """Return the mean log-likelihood of held-out samples, of images with pixels in [0, 1]."""
    arrays = [x.values, setting.validation, setting.real.values[: len(x)]]
    candidates = None
    if setting.is_image:
        arrays = [(values + 1) / 2 for values in arrays]
    else:
        candidates = list(np.geomspace(0.003, 3, 13) * max(1e-9, float(arrays[1].std())))
    sigma = parzen_bandwidth(arrays[0], arrays[1], candidates)
    return float(parzen_log_likelihood(arrays[0], arrays[2], sigma).mean())


def _memorization(x: Samples, setting: Setting) -> float:
    held_out = _halves(setting)[1][: len(x)]
    return memorization(x.values, setting.train_values, held_out).z


def _memorization_of_real(setting: Setting) -> float:
    """Return the value for held-out samples in the place of generated ones."""
    fake, held_out = (half[: _memorization_samples(setting)] for half in _halves(setting))
    return memorization(fake, setting.train_values, held_out).z


def _halves(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    values = setting.real.values
    return values[: len(values) // 2], values[len(values) // 2 :]


def _memorization_samples(setting: Setting) -> int:
    return min(setting.count // 2, MAX_COMPARED, PAIR_BUDGET // setting.train_values.size)


def _birthday(x: Samples, setting: Setting) -> float:
    return birthday(x.values, setting.real.values[: len(x)]).support


def _agreement(x: Samples, setting: Setting) -> float:
    assert x.labels is not None
    return float((x.probabilities.argmax(axis=1) == x.labels).mean())


def _permuted_agreement(x: Samples, setting: Setting) -> float:
    assert x.labels is not None
    labels = np.random.Generator(np.random.Philox(0)).permutation(x.labels)
    return float((x.probabilities.argmax(axis=1) == labels).mean())


def _accuracy(setting: Setting) -> float:
    return setting.net.accuracy


def _chance(setting: Setting) -> float:
    """Return the agreement of labels with permuted ones."""
    labels = setting.real.labels
    assert labels is not None
    return float(((np.bincount(labels) / len(labels)) ** 2).sum())


MEASURES = (
    Measure("sliced_wasserstein", "sliced Wasserstein distance", _sliced, "low", quick=True),
    Measure("wasserstein1", "exact Wasserstein distance", _exact, "low", most=at_most(1000, 200)),
    Measure("frechet", "Frechet distance", _frechet, "low", lacks=no_features),
    Measure(
        "kernel_distance",
        "kernel distance",
        _kernel,
        "low",
        lacks=no_features,
        most=at_most(2000, 2000),
    ),
    *(
        Measure(
            name,
            label,
            _mixture(name),
            better,
            applies=is_mixture,
            fixed=MIXTURE_SAMPLES,
            quick=True,
        )
        for name, label, better in (
            ("modes", "modes covered", "high"),
            ("high_quality", "share within 3 sigma of a mode", "high"),
            ("reverse_kl", "reverse KL of the modes (nats)", "low"),
            ("kl", "KL of modes and outliers (nats)", "low"),
        )
    ),
    *(
        Measure(name, label, _overlap(metric, name), "high", lacks=no_features, most=OVERLAP)
        for name, label, metric in (
            ("precision", "precision: fakes near real samples", precision_recall),
            ("recall", "recall: real samples near fakes", precision_recall),
            ("density", "density of fakes near real samples", density_coverage),
            ("coverage", "coverage: real samples with a fake", density_coverage),
        )
    ),
    Measure(
        "inception_score",
        "inception-style score",
        _inception,
        "high",
        applies=lambda setting: setting.is_image,
        lacks=no_features,
    ),
    Measure(
        "label_agreement",
        "samples classified as their label",
        _agreement,
        "high",
        applies=has_conditions,
        quick=True,
        floor=_accuracy,
    ),
    Measure(
        "label_agreement_permuted",
        "the same with labels permuted: chance",
        _permuted_agreement,
        applies=has_conditions,
        quick=True,
        floor=_chance,
    ),
    Measure(
        "jensen_shannon",
        "Jensen-Shannon divergence (nats)",
        _divergence,
        "low",
        applies=is_plane,
    ),
    Measure(
        "parzen",
        "Parzen log-likelihood (nats)",
        _parzen,
        "high",
        most=at_most(1000, 1000),
    ),
    Measure(
        "memorization_z",
        "memorization z (above 3: copies)",
        _memorization,
        most=_memorization_samples,
        draws=1,
        floor=_memorization_of_real,
    ),
    Measure(
        "birthday_support",
        "different samples, by near duplicates",
        _birthday,
        "high",
        most=at_most(1000, 1000),
    ),
    Measure(
        "out_of_range",
        "share of numbers out of [-1, 1]",
        lambda x, setting: out_of_range(x.values),
        "low",
        applies=lambda setting: setting.is_image,
        quick=True,
    ),
)
