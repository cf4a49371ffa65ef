"""The table of the measures that `minigan evaluate` takes of a run's samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..metrics import density_coverage, out_of_range, precision_recall
from . import functions
from .estimate import Estimate
from .samples import Setting

DRAWS = 5  # independent draws of samples behind each mean and its interval
MIXTURE_SAMPLES = 2500
MAX_TRAIN_NUMBERS = 2**27  # in the training samples, which take 1 GiB as float64


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
            average is what samples, and, without a classifier, by `minigan train --seeds`.
        needs_net: whether a classifier is needed whatever the data are; to train it takes time.
        combine: the estimate from the values of draws of so many samples; None: their mean.
        floor: the value for real data where it is not that of training samples.
    """

    name: str
    label: str
    function: functions.Function
    better: str | None = None
    applies: Callable[[Setting], bool] = lambda setting: True
    lacks: Callable[[Setting], str] = lambda setting: ""
    most: Callable[[Setting], int] = lambda setting: setting.count
    fixed: int | None = None
    draws: int = DRAWS
    quick: bool = False
    needs_net: bool = False
    combine: Callable[[Sequence[float], int], Estimate] | None = None
    floor: Callable[[Setting], float] | None = None

    def count(self, setting: Setting) -> int:
        """Return the number of samples that are measured."""
        return self.fixed or max(1, min(setting.count, self.most(setting)))

    def misses(self) -> str:
        """Return which data it is for, for a message on other ones."""
        return f"it is for {NEEDS.get(self.applies, 'other data')}"


# ----------------------------------------------------------------- which data have what is measured
def is_mixture(setting: Setting) -> bool:
    """Return whether the data are a mixture of Gaussians of known parameters."""
    return setting.train.modes is not None and setting.train.sigma is not None


def is_plane(setting: Setting) -> bool:
    """Return whether the data are points of the plane."""
    return setting.train.sample_shape == (2,)


def is_image(setting: Setting) -> bool:
    """Return whether the data are images."""
    return setting.is_image


def has_conditions(setting: Setting) -> bool:
    """Return whether the generator is given one of several classes."""
    return setting.is_conditional and setting.has_classes


NEEDS: dict[Callable[[Setting], bool], str] = {
    is_mixture: "mixtures of Gaussians of known parameters",
    is_plane: "points of the plane",
    is_image: "images",
    has_conditions: "conditional runs of data of two or more classes",
}


def no_features(setting: Setting) -> str:
    """Return why images have no features."""
    if not setting.is_image or setting.has_classes:
        return ""
    return "features need a classifier, and the images have no labels of two or more classes"


def too_large(setting: Setting) -> str:
    """Return why nearest training samples are not searched."""
    numbers = len(setting.train) * math.prod(setting.train.sample_shape)
    if numbers <= MAX_TRAIN_NUMBERS:
        return ""
    return f"the training data have {numbers:,} numbers, more than {MAX_TRAIN_NUMBERS:,}"


def all_equal(setting: Setting) -> str:
    """Return why a density of points has no width."""
    if setting.is_image or setting.deviation > 0:
        return ""
    return "all training samples are equal, so their density has no width"


MEASURES = (
    Measure(
        "sliced_wasserstein", "sliced Wasserstein distance", functions.sliced, "low", quick=True
    ),
    Measure(
        "wasserstein1",
        "exact Wasserstein distance",
        functions.exact_wasserstein,
        "low",
        most=at_most(1000, 200),
    ),
    Measure("frechet", "Frechet distance", functions.frechet, "low", lacks=no_features),
    Measure(
        "kernel_distance",
        "kernel distance",
        functions.kernel,
        "low",
        lacks=no_features,
        most=at_most(2000, 2000),
    ),
    *(
        Measure(
            name,
            label,
            functions.mixture(name),
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
        Measure(
            name, label, functions.overlap(metric, name), "high", lacks=no_features, most=OVERLAP
        )
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
        functions.inception,
        "high",
        applies=is_image,
        lacks=no_features,
    ),
    Measure(
        "label_agreement",
        "samples classified as their label",
        functions.agreement,
        "high",
        applies=has_conditions,
        quick=True,
        needs_net=True,
        floor=functions.accuracy,
    ),
    Measure(
        "label_agreement_permuted",
        "the same with labels permuted: chance",
        functions.permuted_agreement,
        applies=has_conditions,
        quick=True,
        needs_net=True,
        floor=functions.chance,
    ),
    Measure(
        "jensen_shannon",
        "Jensen-Shannon divergence (nats)",
        functions.divergence,
        "low",
        applies=is_plane,
    ),
    Measure(
        "parzen",
        "Parzen log-likelihood (nats)",
        functions.parzen,
        "high",
        lacks=all_equal,
        most=functions.parzen_samples,
    ),
    Measure(
        "memorization_z",
        "memorization z (above 3: copies)",
        functions.memorization_z,
        lacks=too_large,
        most=functions.memorization_samples,
        draws=1,
        floor=functions.memorization_of_real,
    ),
    Measure(
        "birthday_support",
        "different samples, by near duplicates",
        functions.birthday_support,
        "high",
        most=at_most(1000, 1000),
        combine=functions.combine_supports,
    ),
    Measure(
        "out_of_range",
        "share of numbers out of [-1, 1]",
        lambda x, setting: out_of_range(x.values),
        "low",
        applies=is_image,
        quick=True,
    ),
)
