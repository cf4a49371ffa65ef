"""The arithmetic of the gauges of a training: functions of arrays, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..engine.tensor import no_grad, tensor

CONSTANT = 1e-6  # a unit whose values differ by less, relative to its layer's largest, is constant


def deviation(samples: np.ndarray) -> float:
    """Return the root mean square deviation of samples (n, d) from their mean, per number.

    It is sqrt(tr C / d) with the unbiased covariance C, so that it is also the root mean square
    distance of two samples, divided by sqrt(2 d).
    """
    x = samples.astype(np.float64)
    return math.sqrt(x.var(axis=0, ddof=1).mean()) if len(x) > 1 else 0.0


def deviation_within_classes(samples: np.ndarray, labels: np.ndarray) -> float:
    """Return the same of samples (n, d) from the mean of their class; 0 without two of a class."""
    x = samples.astype(np.float64)
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    freedom = len(x) - len(counts)
    if not freedom:
        return 0.0
    residuals = x - class_means(x, index, len(counts))[index]
    return math.sqrt((residuals**2).sum() / freedom / x.shape[1])


def class_means(samples: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the means (classes, d) of samples (n, d); NaN for a class without samples."""
    sums = np.zeros((classes, samples.shape[1]))
    np.add.at(sums, labels, samples)
    counts = np.bincount(labels, minlength=classes)[:, None]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances (n, m) of samples x (n, d) and y (m, d).

    Not by the kernel of `mg.metrics.nearest_distances`, as a training on the device `reference`
    runs without numba. The product is ours and not numpy's: after a product the threads of a BLAS
    stay busy for tens of milliseconds, in which they take the cores from the training.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    center = y.mean(axis=0)  # The products below lose digits of numbers far from 0.
    x, y = x - center, y - center
    with no_grad():
        products = (tensor(x, "float64") @ tensor(y, "float64").T).numpy()
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * products
    return np.sqrt(np.maximum(squares, 0))


def nearest_ratio(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Return how much farther real samples have to the nearest fake than fakes to the nearest real.

    mean_x min_f |x - f| / mean_f min_x |x - f| of as many real samples x as fakes f. It is 1 for
    equal distributions, and large where fakes miss parts of the data. None if a fake distance is 0.
    """
    n = min(len(real), len(fake))
    matrix = distances(real[:n], fake[:n])
    from_fake = matrix.min(axis=0).mean()
    return float(matrix.min(axis=1).mean() / from_fake) if from_fake > 0 else None


def share_above(x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of pairs in which a number of x is above one of y; equal ones count half.

    This is the Mann-Whitney statistic, and the area under the ROC curve.
    """
    a, b = x.astype(np.float64)[:, None], y.astype(np.float64)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def rank_error(n: int, m: int) -> float:
    """Return the standard error of `share_above` for n and m numbers of one distribution.

    It is that of the Mann-Whitney statistic: sqrt((n + m + 1) / (12 n m)).
    """
    return math.sqrt((n + m + 1) / (12 * n * m))


def class_agreement(samples: np.ndarray, labels: np.ndarray, means: np.ndarray) -> float:
    """Return the share of samples (n, d) whose nearest class mean is that of their label."""
    return float((_nearest_class(samples, means) == labels).mean())


def chance_agreement(samples: np.ndarray, labels: np.ndarray, means: np.ndarray) -> float:
    """Return the expected share if the labels were shuffled."""
    classes = len(means)
    found = np.bincount(_nearest_class(samples, means), minlength=classes)
    return float(found @ np.bincount(labels, minlength=classes) / len(samples) ** 2)


def _nearest_class(samples: np.ndarray, means: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(np.isfinite(means).all(axis=1))
    return known[distances(samples, means[known]).argmin(axis=1)]


def unit_range(activations: np.ndarray) -> np.ndarray:
    """Return the lowest and the highest value (2, units) of each unit of a layer.

    A unit is a column of (n, units), a channel of (n, channels, ...).
    """
    axes = (0, *range(2, activations.ndim))
    return np.stack([activations.min(axis=axes), activations.max(axis=axes)])


def dead_share(ranges: Sequence[np.ndarray]) -> float | None:
    """Return the largest share, over layers, of units that are constant; None without a layer.

    Args:
        ranges: (2, units) of each layer, of `unit_range`.
    """
    shares = []
    for low, high in ranges:
        limit = CONSTANT * max(abs(low).max(), abs(high).max())
        shares.append(float((high - low <= limit).mean()))
    return max(shares, default=None)


def cosine(x: np.ndarray, y: np.ndarray) -> float | None:
    """Return the cosine of the angle between two vectors; None if one is 0."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    norms = math.sqrt((x @ x) * (y @ y))
    return float(x @ y / norms) if norms > 0 else None


def root_mean_square(x: np.ndarray) -> float:
    """Return the root of the mean of the squares of all numbers."""
    return math.sqrt((x.astype(np.float64) ** 2).mean()) if x.size else 0.0
