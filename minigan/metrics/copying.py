"""Tests of whether a generator copies its training samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .neighbours import nearest_distances, row_blocks, squared_distances
from .numbers import row_matrices

CLOSEST = 10  # 1 / the share of generated samples that are looked at for a few copies among many


@dataclass(frozen=True)
class Memorization:
    """Distances of generated samples to training and to held-out data.

    A generator that has learnt the distribution, and not the samples, treats training and held-out
    data alike: `share` is then `expected_share` on average, and `z` is of mean 0 and standard
    deviation 1, exactly, whether its samples are good or bad, diverse or collapsed.

    Attributes:
        share: of generated samples whose nearest real sample is a training one. Where several
            real samples are equally near, as duplicates are, it is the share of training samples
            among them.
        expected_share: training samples / all real samples.
        excess: (share - expected_share) / (1 - expected_share): 0 without memorization, 1 if all
            generated samples are nearest to training ones.
        z: (share - expected_share) / its standard deviation over all divisions of the real data
            into training and held-out ones. Above 3 is memorization.
        closest_share, closest_z: the same of the tenth of generated samples that are closest to a
            real one, where a few copies among many samples show.
        nearer: the probability that a generated sample is nearer to the training data than a
            held-out one is; 0.5 for samples of the data's distribution.
        c_t: the statistic C_T of Meehan et al. 2020: that of Mann and Whitney for `nearer`, with
            a standard normal distribution; below -3 the samples are nearer to training data than
            real ones are, above 3 further away. Samples of a collapsed generator, in the middle of
            the data, are nearer without being copies, and blurred copies are further: `z` decides.
        to_train, to_held_out: (n,) distances of the generated samples to the nearest ones.
        floor: (m,) distances of the held-out samples to the nearest training ones.
    """

    share: float
    expected_share: float
    excess: float
    z: float
    closest_share: float
    closest_z: float
    nearer: float
    c_t: float
    to_train: np.ndarray = field(repr=False, compare=False)
    to_held_out: np.ndarray = field(repr=False, compare=False)
    floor: np.ndarray = field(repr=False, compare=False)


def memorization(fake: Any, train: Any, held_out: Any) -> Memorization:
    """Return whether generated samples lie nearer to the training than to held-out data.

    The numbers of training and held-out samples may differ: more samples have nearer neighbours,
    and `expected_share` counts with that.

    Args:
        fake: (n, ...) generated samples. train: (t, ...) all the samples that the generator was
            trained on. held_out: (m, ...) real samples of the same distribution that it was not.

    Raises:
        TypeError: the samples are not real numbers.
        ValueError: there are no samples of a kind; they are not finite, or differ in size.
    """
    x, real, other = row_matrices("memorization", fake, train, held_out)
    to_train, to_held_out, weight = _nearest(x, real, other)
    floor = nearest_distances(other, real)[0][:, 0]
    order = np.argsort(np.minimum(to_train, to_held_out), kind="stable")
    closest = _nearest(x[order[: -(-len(x) // CLOSEST)]], real, other)[2]
    expected = len(real) / (len(real) + len(other))
    (share, z), (closest_share, closest_z) = (_train_share(w, len(real)) for w in (weight, closest))
    nearer, c_t = _mann_whitney(to_train, floor)
    excess = (share - expected) / (1 - expected)
    tests = share, expected, excess, z, closest_share, closest_z, nearer, c_t
    return Memorization(*tests, to_train, to_held_out, floor)


def _nearest(
    x: np.ndarray, train: np.ndarray, held_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distances (n,) to the nearest samples of both, and the weights of real samples.

    The weight of a real sample, (t + m,) with training samples first, is the share of generated
    ones to which it is the nearest. A generated sample with several nearest ones gives each of them
    the same part. So the weights do not depend on how the real samples are divided.
    """
    count = len(train) + len(held_out)
    distances, weight = np.empty((2, len(x))), np.zeros(count)
    for block in row_blocks(len(x), count):
        parts = [squared_distances(x[block], y) for y in (train, held_out)]
        least = [squares.min(axis=1) for squares in parts]
        distances[:, block] = np.sqrt(least)
        # Distances to equal samples have equal bits, and so do those to mirrored points of a grid.
        is_nearest = [squares == np.minimum(*least)[:, None] for squares in parts]
        ties = is_nearest[0].sum(axis=1) + is_nearest[1].sum(axis=1)
        weight += np.concatenate([(1 / ties) @ mask for mask in is_nearest])
    return distances[0], distances[1], weight / len(x)


def _train_share(weight: np.ndarray, train: int) -> tuple[float, float]:
    """Return the share of samples that are nearest to training ones, and its standardized value."""
    count = len(weight)
    expected, share = train / count, float(weight[:train].sum())
    # `train` weights are drawn without replacement: the variance of their sum.
    variance = expected * (1 - expected) * count / (count - 1) * ((weight - 1 / count) ** 2).sum()
    # Where all real samples have the same weight, the share is always the same, but for rounding.
    return share, (share - expected) / math.sqrt(variance) if variance > 1e-20 else 0.0


def _mann_whitney(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return P(x < y) + P(x = y) / 2, and the standardized rank statistic, negative where x < y."""
    n, m = len(x), len(y)
    _, inverse, counts = np.unique(np.r_[x, y], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # Equal values have their mean rank.
    u = ranks[:n].sum() - n * (n + 1) / 2  # pairs with x > y
    ties = (counts**3 - counts).sum() / ((n + m) * max(1, n + m - 1))
    variance = n * m / 12 * (n + m + 1 - ties)
    z = (u - n * m / 2) / math.sqrt(variance) if variance > 0 else 0.0
    return float(1 - u / (n * m)), float(z)
