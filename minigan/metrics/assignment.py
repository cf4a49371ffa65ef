"""The 1-Wasserstein distance of two samples, exactly."""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-9  # of the points' extent: how far the two sides of the duality may be apart


def wasserstein1(x: np.ndarray, y: np.ndarray, progress: bool = False) -> float:
    """min over permutations p of mean |x_i - y_p(i)|: the exact W1 of the two empirical measures.

    The ground cost is the Euclidean distance. The best assignment is found by shortest augmenting
    paths (Jonker and Volgenant 1987), and certified: its prices fulfil u_i + v_j <= |x_i - y_j|, so
    mean u + mean v is no more than W1 (Kantorovich's duality), and the two are found to agree.
    Distances are computed as they are needed, so memory is O(n d), and time about n^2 to n^3:
    8,192 points of the plane take some ten seconds on one core. On a line it sorts. Points along a
    line in more dimensions are its slowest case: hardly any pairing is much worse than the best.

    W1 of two samples of one distribution is not 0; it shrinks with n, as n^(-1/d) for d > 2
    (Fournier and Guillin 2015). Compare it with that of two real samples of the same size.

    Args:
        x, y: (n, ...) arrays of equal shape; all axes but the first are flattened.
        progress: show a line on stderr where it takes longer than two seconds.

    Returns:
        The distance, in the unit of the coordinates; NaN where a coordinate is not finite.

    Raises:
        ValueError: the shapes differ, or there is no sample.
        ArithmeticError: the certificate fails, and so the answer cannot be trusted.
    """
    from tqdm import tqdm

    from ..kernels.assignment.cpu import assign
    from ..utils.progress import bar_look

    x, y = np.asarray(x), np.asarray(y)
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
    _, exponent = np.frexp(abs(points).max())  # of 2: squares neither overflow nor vanish
    points = np.ldexp(points, -exponent)
    look = {"desc": "W1", "leave": False, "delay": 2, "disable": not progress, **bar_look()}
    column, u, v = assign(points[0], points[1], watch=lambda batches: tqdm(batches, **look))
    gaps = points[0] - points[1][:, column]
    found = np.sqrt((gaps * gaps).sum(axis=0)).mean()
    error = abs(found - u.mean() - v.mean())
    if not error <= ROUNDING * np.ptp(points, axis=(0, 2)).max():
        raise ArithmeticError(
            f"wasserstein1: an assignment of cost {found} is {error} off its prices"
        )
    return float(np.ldexp(found, exponent))
