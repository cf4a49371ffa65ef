"""The birthday-paradox test of diversity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .neighbours import nearest_distances, row_blocks, squared_distances
from .numbers import row_matrices


@dataclass(frozen=True)
class Birthday:
    """Near duplicates among generated samples, and among as many real ones.

    Attributes:
        samples: how many of each were compared.
        threshold: the distance up to which two samples are near duplicates.
        pairs, real_pairs: near duplicates among all samples (samples - 1) / 2 pairs.
        support, real_support: 1 / the share of pairs that are near duplicates: so many equally
            frequent samples would have as many. It is infinite where there are none, which says
            no more than that the support is above about samples^2 / 6 (95 %).
        batch: the number of generated samples among which there is a near duplicate with
            probability 1/2, sqrt(2 log 2 support); infinite as the support is.
    """

    samples: int
    threshold: float
    pairs: int
    real_pairs: int
    support: float
    real_support: float
    batch: float


def birthday(samples: Any, real: Any, quantile: float = 0.02) -> Birthday:
    """Return how many near duplicates there are among samples, and the support that this means.

    Arora and Zhang (2017): of N equally frequent samples, about sqrt(N) drawn ones hold a
    duplicate. They look for duplicates by eye. Here two samples are near duplicates if they are
    nearer than all but a share `quantile` of the different real samples are to their nearest
    neighbour among them; and all pairs are counted, not one per batch. Repeated real samples, such
    as blank images, so do not make the threshold 0, at which only exact duplicates count.

    Its limits: the support is an effective one, 1 / sum of squared probabilities, so below the
    number of different samples where some are frequent. Distances are of what is passed in: of
    pixels, a shifted copy is no duplicate. Where `support` is about `real_support`, the
    generator is as diverse as the real samples at this threshold, and no more is known.

    Args:
        samples: (n, ...) generated samples, drawn independently.
        real: (m, ...) real samples. The first min(n, m) of both are compared.
        quantile: the share of the different real samples that have a near duplicate.

    Raises:
        TypeError: the samples are not real numbers.
        ValueError: there are fewer than two samples; they are not finite, or differ in size; the
            quantile is not in (0, 1).
    """
    if not 0 < quantile < 1:
        raise ValueError(f"birthday: quantile = {quantile} is not between 0 and 1")
    x, y = row_matrices("birthday", samples, real, least=2)
    n = min(len(x), len(y))
    x, y = x[:n], y[:n]
    threshold = float(np.quantile(_nearest_of_different(y), quantile, method="higher"))
    pairs, real_pairs = (_count_pairs(a, threshold) for a in (x, y))
    support, real_support = (n * (n - 1) / 2 / p if p else math.inf for p in (pairs, real_pairs))
    batch = math.sqrt(2 * math.log(2) * support)
    return Birthday(n, threshold, pairs, real_pairs, support, real_support, batch)


def _nearest_of_different(x: np.ndarray) -> np.ndarray:
    """Return the distance of each different row to the nearest other one; [0] if all are equal."""
    nearest = nearest_distances(x, x, exclude_self=True)[0][:, 0]
    if nearest.all():
        return nearest
    # Adding 0 makes -0.0, whose bytes differ, 0.0.
    different = x[list({row.tobytes(): i for i, row in enumerate(x + 0.0)}.values())]
    if len(different) == 1:
        return np.zeros(1)
    return nearest_distances(different, different, exclude_self=True)[0][:, 0]


def _count_pairs(x: np.ndarray, threshold: float) -> int:
    """Return the number of pairs i < j of samples whose distance is at most the threshold."""
    near = sum(
        int((np.sqrt(squared_distances(x[block], x)) <= threshold).sum())
        for block in row_blocks(len(x), len(x))
    )
    return (near - len(x)) // 2
