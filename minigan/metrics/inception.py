"""The inception score: are samples classified surely, and are all classes among them?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .numbers import rows

SUM_TOLERANCE = 1e-3  # of the sum of a row; float16 probabilities of 1,000 classes keep within it


def inception_score(probabilities: Any) -> float:
    """Return exp of the mean KL divergence of p(class | sample) from p(class), in [1, classes].

    It is 1 where all samples have the same probabilities, and `classes` where every sample has one
    class for sure and all classes are equally many (Salimans et al. 2016). It uses no real data,
    and takes no account of diversity within a class. Here p(class | sample) is that of minigan's
    classifier, so values do not compare with those of an Inception network.

    Args:
        probabilities: (n, classes), each row of sum 1; rounding of the sums is divided out.

    Raises:
        TypeError: they are not real numbers.
        ValueError: there are no rows, a number is negative or not finite, or a row does not sum to
            1, as logits do not.
    """
    p = rows("inception_score", probabilities)
    if np.ndim(probabilities) != 2:
        raise ValueError(
            f"inception_score: probabilities of shape {np.shape(probabilities)}; (n, classes) is"
            " needed"
        )
    sums = p.sum(axis=1, keepdims=True)
    if p.min() < 0 or abs(sums - 1).max() > SUM_TOLERANCE:
        worst = abs(sums - 1).argmax()
        raise ValueError(
            f"inception_score: the smallest number is {p.min():.6g} and row {worst} sums to"
            f" {sums[worst, 0]:.6g}; probabilities (a softmax of logits) are needed"
        )
    p = p / sums
    marginal = p.mean(axis=0)
    positive = p > 0  # 0 log 0 = 0; the marginal of a class is positive where a probability is.
    ratios = np.divide(p, marginal, out=np.ones_like(p), where=positive)
    return math.exp((p * np.log(ratios)).sum(axis=1).mean())
