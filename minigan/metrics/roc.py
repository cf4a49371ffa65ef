"""The area under the ROC curve of a detector."""

from __future__ import annotations

from typing import Any

import numpy as np

from .numbers import real_numbers


def roc_auc(negative: Any, positive: Any) -> float:
    """Return the probability that a positive's score is above a negative's; ties count half.

    1 is a perfect detector, 1/2 one that guesses, 0 one that is always wrong. It is the area under
    the ROC curve, and the Mann-Whitney U over the number of pairs (Hanley and McNeil 1982).

    Args:
        negative, positive: (n,) and (m,) scores, say of clean and of adversarial samples.

    Raises:
        TypeError: scores are not real numbers.
        ValueError: scores are not of shape (n,) with n of at least 1, or are NaN.
    """
    a, b = real_numbers("roc_auc", negative), real_numbers("roc_auc", positive)
    for scores in (a, b):
        if scores.ndim != 1 or not scores.size or np.isnan(scores).any():
            raise ValueError(
                f"roc_auc: scores of shape {scores.shape}, {np.isnan(scores).sum()} of them NaN;"
                " (n,) with n of at least 1, and no NaN, is needed"
            )
    ordered = np.sort(a)
    below = np.searchsorted(ordered, b, "left") + np.searchsorted(ordered, b, "right")
    return float(below.mean() / (2 * len(a)))
