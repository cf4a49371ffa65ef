"""The gauges that the doctor's rules use: columns of the metrics, and numbers derived from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..training.gauge_functions import rank_error
from ..training.gauges import GAUGES
from .record import Record, is_own

SPECTRAL = ("sngan", "resnet")  # models whose discriminator has spectral norm
LARGEST_ERROR = rank_error(64, 16)  # of the memorization, with the fewest samples
DISTANCE, FLOOR = "sliced_wasserstein_n", "_floor"


@dataclass(frozen=True)
class Series:
    """A gauge over a training.

    Attributes:
        unit: its unit.
        about: what it is.
        values: a function of a Record that returns it at each line, NaN where there is none.
    """

    unit: str
    about: str
    values: Callable[[Record], np.ndarray]


def _accuracy(record: Record) -> np.ndarray:
    return (record.column("d_real") + record.column("d_fake")) / 2


def _quality(record: Record) -> np.ndarray:
    """Return the distance of samples to held-out data, divided by that of real samples."""
    for name in record.names:
        if name.startswith(DISTANCE) and not name.endswith(FLOOR):
            return record.column(name) / record.column(name + FLOOR)
    return np.full(len(record.rows), np.nan)


def _separation(record: Record) -> np.ndarray:
    """Return the gap of D's outputs, relative to their deviation: 2 for two separate values."""
    gap, deviation = record.column("logit_gap"), record.column("logit_deviation")
    return np.divide(gap, deviation, out=gap * 0, where=deviation > 0)


def _range_covered(record: Record) -> np.ndarray:
    """Return the part of the range of real numbers that generated ones reach."""
    low, high = record.column("fake_low"), record.column("fake_high")
    real_low, real_high = record.column("real_low"), record.column("real_high")
    common = np.maximum(np.minimum(high, real_high) - np.maximum(low, real_low), 0)
    width = real_high - real_low
    return np.divide(common, width, out=np.full_like(width, np.nan), where=width > 0)


def _off_center(record: Record) -> np.ndarray:
    """Return how far the middle of the data's range is from 0, relative to its width."""
    low, high = record.column("real_low"), record.column("real_high")
    width = high - low
    middle = abs(low + high) / 2
    return np.divide(middle, width, out=np.full_like(width, np.nan), where=width > 0)


def _outside(record: Record) -> np.ndarray:
    """Return how far D's outputs reach out of [0, 1]."""
    low, high = record.column("logit_low"), record.column("logit_high")
    return np.maximum(np.maximum(-low, high - 1), 0)


def _rate(record: Record) -> np.ndarray:
    """Return the larger of both learning rates, each relative to its highest so far."""
    rates = []
    for player in "dg":
        rate = record.column(f"lr_{player}")
        peak = np.fmax.accumulate(rate)
        rates.append(np.divide(rate, peak, out=np.full_like(rate, np.nan), where=peak > 0))
    return np.fmax(*rates)


def _dead(record: Record) -> np.ndarray:
    return np.fmax(record.column("dead_d"), record.column("dead_g"))


def _growth(record: Record) -> np.ndarray:
    """Return the largest growth of weights and activations, relative to the first values.

    Gradients are not among them: a healthy D's grow a hundredfold from its flat beginning.
    """
    ratios = [np.full(len(record.rows), np.nan)]
    for kind in ("weight", "activation"):
        for player in "dg":
            x = record.column(f"{kind}_{player}")
            start = x[np.isfinite(x)][:3]
            if len(start) and (scale := float(np.median(start))) > 0:
                ratios.append(x / scale)
    return np.fmax.reduce(ratios)


def _diversity_trend(record: Record) -> np.ndarray:
    """Return the diversity relative to its median in the middle third: above 1 while it rises."""
    diversity = record.column("diversity")
    middle = diversity[len(diversity) // 3 : max(1, 2 * len(diversity) // 3)]
    middle = middle[np.isfinite(middle)]
    if not len(middle) or not np.median(middle) > 0:
        return np.full(len(diversity), np.nan)
    return diversity / np.median(middle)


def _quality_trend(record: Record) -> np.ndarray:
    """Return the quality relative to its last value in the first half: below 1 while it falls."""
    quality = _quality(record)
    start = quality[: len(quality) // 2]
    start = start[np.isfinite(start)]
    return quality / start[-1] if len(start) else np.full(len(quality), np.nan)


def _memorization_errors(record: Record) -> np.ndarray:
    """Return the excess of the memorization over 0.5, in its standard errors.

    Runs of older versions do not have the error, and the largest one stands for it.
    """
    error = record.column("memorization_error")
    error = np.where(np.isnan(error), LARGEST_ERROR, error)
    return (record.column("memorization") - 0.5) / error


def has_bound(options: Mapping[str, Any]) -> bool:
    """Return whether a penalty, clipping or spectral norm bounds the slope of D."""
    is_spectral = options["model"] in SPECTRAL
    return options["penalty"] != "none" or options["clip_weights"] > 0 or is_spectral


def _critic_bound(record: Record) -> np.ndarray:
    """Return 1 or 0; NaN where nets of the user's own may have spectral norm."""
    if has_bound(record.options):
        return np.ones(len(record.rows))
    return np.full(len(record.rows), np.nan if is_own(record.options) else 0.0)


def _gradient_ratio(record: Record) -> np.ndarray:
    """Return the norm of G's gradient, relative to the largest of the first lines."""
    x = record.column("grad_norm_g")
    start = x[np.isfinite(x)][: max(3, len(x) // 10)]
    return x / start.max() if len(start) and start.max() > 0 else np.full(len(x), np.nan)


DERIVED: dict[str, Series] = {
    "accuracy": Series(
        "share", "real and generated samples that D gets right; 0.5 at equilibrium", _accuracy
    ),
    "separation": Series(
        "ratio",
        "D's mean output of real minus that of generated samples, relative to the deviation of all",
        _separation,
    ),
    "quality": Series(
        "ratio",
        "sliced Wasserstein distance of samples to held-out data, divided by that of real samples",
        _quality,
    ),
    "range_covered": Series(
        "share", "part of the range of real numbers that generated ones reach", _range_covered
    ),
    "off_center": Series(
        "ratio", "distance of the middle of the data from 0, relative to their range", _off_center
    ),
    "outside": Series("logits", "how far D's outputs reach out of [0, 1]", _outside),
    "learning_rate": Series("ratio", "learning rates, relative to their highest", _rate),
    "dead": Series("share of units", "constant units of the layer with the most", _dead),
    "diversity_trend": Series(
        "ratio", "the diversity, relative to that in the middle of the training", _diversity_trend
    ),
    "growth": Series("ratio", "size of weights or activations, relative to the first", _growth),
    "quality_trend": Series(
        "ratio", "the quality, relative to that at half of the training", _quality_trend
    ),
    "memorization_errors": Series(
        "standard errors",
        "the memorization minus 0.5, in its standard errors",
        _memorization_errors,
    ),
    "critic_bound": Series(
        "0 or 1",
        "whether a penalty, clipping or spectral norm bounds the slope of D",
        _critic_bound,
    ),
    "gradient": Series("ratio", "norm of G's gradient, relative to the first", _gradient_ratio),
}


def _column(name: str) -> Callable[[Record], np.ndarray]:
    return lambda record: record.column(name)


SERIES: dict[str, Series] = {
    **{name: Series(x.unit, x.about, _column(name)) for name, x in GAUGES.items()},
    **DERIVED,
}
