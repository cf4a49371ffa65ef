"""The Jensen-Shannon divergence of the histograms of points."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..utils.notices import Notice
from .numbers import row_matrices, whole_number

MAX_BINS = 1 << 20


def jensen_shannon(x: Any, y: Any, bins: int = 32) -> float:
    """Return the Jensen-Shannon divergence in nats of the histograms of x and y, in [0, log 2].

        (KL(P || M) + KL(Q || M)) / 2 with M = (P + Q) / 2    (Lin 1991)

    It is log 2 = 0.693 where no cell holds samples of both. The value that an optimal discriminator
    of the original GAN has is 2 JS - log 4 (Goodfellow et al. 2014).

    The grid has `bins` equal intervals along each axis, from the least to the largest coordinate of
    y, the real data. Samples of x outside of it lie in cells of their own around it. So an outlier
    of x counts as an outlier, and does not stretch the grid. Cells are not stored, only the
    occupied ones, in any dimension. Two samples of one distribution have a divergence of about
    (occupied cells - 1) (1/n + 1/m) / 8: compare it with that of real samples.

    Args:
        x: (n, ...) generated points. y: (m, ...) real points, which span the grid.
        bins: intervals along each axis.

    Raises:
        TypeError: the samples are not real numbers.
        ValueError: there are no samples; they are not finite, or differ in size.

    Warns:
        Notice: most occupied cells hold a single sample, so that the divergence is near log 2
            whatever the distributions are.
    """
    bins = whole_number("jensen_shannon", "bins", bins, 1, MAX_BINS)
    a, b = row_matrices("jensen_shannon", x, y)
    low, high = b.min(axis=0), b.max(axis=0)
    cells = np.concatenate([_cells(points, low, high, bins) for points in (a, b)])
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    count = cell.max() + 1
    if count > (len(a) + len(b)) / 2:
        text = (
            f"jensen_shannon: {len(a) + len(b)} samples lie in {count} cells, too few for a"
            f" divergence; fewer bins than {bins}, or more samples, are needed"
        )
        warnings.warn(text, Notice, stacklevel=2)
    p = np.bincount(cell[: len(a)], minlength=count) / len(a)
    q = np.bincount(cell[len(a) :], minlength=count) / len(b)
    middle = (p + q) / 2
    terms = [s[s > 0] * np.log(s[s > 0] / middle[s > 0]) for s in (p, q)]
    return float(max(0.0, sum(t.sum() for t in terms) / 2))


def _cells(points: np.ndarray, low: np.ndarray, high: np.ndarray, bins: int) -> np.ndarray:
    """Return the cell of each point, (n, d) integers from -1 (below) to `bins` (above)."""
    width = np.where(high > low, high - low, 1)
    with np.errstate(over="ignore"):
        position = np.floor((points - low) / width * bins)
    position = np.minimum(position, bins - 1)  # The largest coordinate is in the last cell.
    return np.select([points < low, points > high], [-1, bins], position).astype(np.int64)
