"""The exact 1-Wasserstein distance of two samples."""

from __future__ import annotations

from functools import partial

import numpy as np

from .numbers import real_numbers

MAX_DUALITY_GAP = 1e-9  # as a fraction of the range of the coordinates


def wasserstein1(x: np.ndarray, y: np.ndarray, progress: bool = False) -> float:
    """Return the exact W1 of two samples: the minimum over permutations p of mean |x_i - y_p(i)|.

    Distances are Euclidean. The optimal assignment is found by shortest augmenting paths (Jonker
    and Volgenant 1987) and verified by Kantorovich's duality: the dual variables satisfy
    u_i + v_j <= |x_i - y_j|, so mean u + mean v is a lower bound of W1, and it must equal the cost
    of the assignment. Distances are computed when they are needed: memory is O(n d), time O(n^2)
    to O(n^3). 8,192 points of the plane take about ten seconds on one core. In one dimension the
    samples are sorted instead. The slowest case is points along a line in a higher dimension,
    where many assignments cost nearly as little as the optimal one.

    W1 of two samples from one distribution is not 0; it decreases as n^(-1/d) for d > 2 (Fournier
    and Guillin 2015). Compare it with W1 of two real samples of the same size:

        distance = mg.metrics.wasserstein1(generated, real[:n])
        floor = mg.metrics.wasserstein1(real[n : 2 * n], real[:n])

    Args:
        x, y: (n, ...) arrays of equal shape; all axes but the first are flattened.
        progress: show a progress bar on stderr if it takes longer than two seconds.

    Returns:
        The distance in the unit of the coordinates; NaN if a coordinate is not finite.

    Raises:
        ValueError: the shapes differ, or there are no samples.
        ArithmeticError: the cost and its lower bound differ, so the result is not reliable.
    """
    from ..kernels.assignment.cpu import assign
    from ..utils.progress import progress_bar

    x, y = (real_numbers("wasserstein1", a) for a in (x, y))
    if x.shape != y.shape or not x.ndim or not x.size:
        raise ValueError(
            f"wasserstein1: samples of shapes {x.shape} and {y.shape}; equal shapes (n, d) with at"
            " least one sample are needed"
        )
    points = np.stack([np.asarray(a, np.float64).reshape(len(a), -1).T for a in (x, y)])
    if not np.isfinite(points).all():
        return float("nan")
    if len(points[0]) == 1:
        return float(abs(np.diff(np.sort(points, axis=2), axis=0)).mean())
    # Scaled by a power of 2, which is exact, squares neither overflow nor underflow.
    _, exponent = np.frexp(abs(points).max())
    points = np.ldexp(points, -exponent)
    bar = partial(progress_bar, desc="W1", leave=False, delay=2, show=progress)
    column, u, v = assign(points[0], points[1], show_progress=bar)
    differences = points[0] - points[1][:, column]
    cost = np.sqrt((differences * differences).sum(axis=0)).mean()
    gap = abs(cost - u.mean() - v.mean())
    if not gap <= MAX_DUALITY_GAP * np.ptp(points, axis=(0, 2)).max():
        raise ArithmeticError(
            f"wasserstein1: the cost of the assignment, {cost}, differs from its lower bound by"
            f" {gap}"
        )
    return float(np.ldexp(cost, exponent))
