"""Precision, recall, density and coverage: overlaps of balls around real and generated samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .neighbours import nearest_distances, row_blocks, squared_distances
from .numbers import row_matrices, whole_number


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares in [0, 1] (Kynkaanniemi et al. 2019).

    Attributes:
        precision: of generated samples that lie in a ball of a real one: are they realistic?
        recall: of real samples that lie in a ball of a generated one: are all of them covered?
        realistic, covered: (m,) and (n,) bool, whose means they are. `bootstrap(np.mean,
            realistic)` is an interval of the precision that searches no neighbours again.
    """

    precision: float
    recall: float
    realistic: np.ndarray = field(repr=False, compare=False)
    covered: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class DensityCoverage:
    """Measures that outliers of the real data do not dominate (Naeem et al. 2020).

    Attributes:
        density: the mean number of balls of real samples in which a generated one lies, divided by
            k; 1 in expectation for samples of the data's distribution, and not bounded by 1.
        coverage: the share in [0, 1] of real samples whose ball holds a generated one.
        densities, covered: (m,) floats and (n,) bool, whose means they are.
    """

    density: float
    coverage: float
    densities: np.ndarray = field(repr=False, compare=False)
    covered: np.ndarray = field(repr=False, compare=False)


def precision_recall(real: Any, fake: Any, k: int = 3) -> PrecisionRecall:
    """Return how many generated samples lie among the real ones, and real among generated ones.

    The ball of a sample reaches to its k-th nearest neighbour in the same set.

    Args:
        real, fake: (n, ...) and (m, ...) features, or samples of few dimensions.
        k: the neighbour that is the radius of a ball.

    Raises:
        TypeError: the samples are not real numbers.
        ValueError: there are not more than k samples; they are not finite, or differ in size.
    """
    k = whole_number("precision_recall", "k", k, 1)
    a, b = row_matrices("precision_recall", real, fake, least=k + 1)
    real_radii, fake_radii = _radii(a, k), _radii(b, k)
    realistic, covered = np.empty(len(b), bool), np.zeros(len(a), bool)
    for block in row_blocks(len(b), len(a)):
        # Radii are square roots of such squares, so that a sample at the radius is inside.
        distances = np.sqrt(squared_distances(b[block], a))
        realistic[block] = (distances <= real_radii).any(axis=1)
        covered |= (distances <= fake_radii[block, None]).any(axis=0)
    return PrecisionRecall(float(realistic.mean()), float(covered.mean()), realistic, covered)


def density_coverage(real: Any, fake: Any, k: int = 5) -> DensityCoverage:
    """Return how densely generated samples lie among the real ones, and how many they cover.

    The ball of a real sample reaches to its k-th nearest real neighbour. `expected_coverage` is
    the coverage by samples of the data's own distribution.

    Args:
        real, fake: (n, ...) and (m, ...) features, or samples of few dimensions.
        k: the neighbour that is the radius of a ball.

    Raises:
        TypeError: the samples are not real numbers.
        ValueError: there are not more than k real samples; samples are not finite, or differ in
            size.
    """
    k = whole_number("density_coverage", "k", k, 1)
    a, b = row_matrices("density_coverage", real, fake)
    if len(a) <= k:
        raise ValueError(f"density_coverage: {len(a)} real samples; more than k = {k} are needed")
    radii = _radii(a, k)
    densities, covered = np.empty(len(b)), np.zeros(len(a), bool)
    for block in row_blocks(len(b), len(a)):
        inside = np.sqrt(squared_distances(b[block], a)) <= radii
        densities[block] = inside.sum(axis=1) / k
        covered |= inside.any(axis=0)
    return DensityCoverage(float(densities.mean()), float(covered.mean()), densities, covered)


def expected_coverage(real: int, fake: int, k: int = 5) -> float:
    """Return the expected coverage where `fake` samples are of the distribution of `real` ones.

        1 - product over i = 1 .. k of (real - i) / (real + fake - i)

    That is the probability that not all k nearest of the other real + fake - 1 samples are real; it
    holds for every continuous distribution (Naeem et al. 2020).

    Raises:
        TypeError: an argument is no integer. ValueError: it is not positive, or k >= real.
    """
    name = "expected_coverage"
    real, fake = (whole_number(name, n, x, 1) for n, x in (("real", real), ("fake", fake)))
    i = np.arange(1, whole_number(name, "k", k, 1) + 1)
    if real <= k:
        raise ValueError(f"{name}: real = {real}; more than k = {k} are needed")
    return float(1 - np.prod((real - i) / (real + fake - i)))


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """Return the distance of each sample to its k-th nearest neighbour."""
    return nearest_distances(x, x, k, exclude_self=True)[0][:, -1]
