"""The Frechet distance of two Gaussians that are fitted to samples."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..utils.notices import Notice
from .numbers import row_matrices


def frechet_distance(x: Any, y: Any) -> float:
    """Return the squared Frechet distance of the Gaussians N(m1, C1) and N(m2, C2) of x and y.

        |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2)

    This is the squared 2-Wasserstein distance of the Gaussians (Dowson and Landau 1982). On the
    features of an Inception network it is the FID (Heusel et al. 2017); values on other features
    do not compare with an FID.

    No square root of a matrix is taken. With C1 = A^T A and C2 = B^T B from their eigenvalues,
    the eigenvalues of the symmetric matrix A C2 A^T are those of C1 C2, and they are the squared
    singular values of A B^T. So the trace is the sum of these singular values: it is real, singular
    covariances need no term on their diagonals, and no digits are lost by squaring.

    The distance of n samples of one distribution is not 0 but about a constant / n: compare it
    with that of two real samples of the same size.

    Args:
        x, y: (n, ...) and (m, ...) features or points; all axes but the first are flattened.

    Raises:
        TypeError: the samples are not real numbers.
        ValueError: there are fewer than two samples, which have no covariance; samples are not
            finite, or differ in size.

    Warns:
        Notice: there are no more samples than coordinates, so that a covariance does not have full
            rank whatever the distribution, and the distance is much too large.
    """
    from ..kernels.matmul.cpu import matmul

    a, b = row_matrices("frechet_distance", x, y, least=2)
    count, size = min(len(a), len(b)), a.shape[1]
    if count <= size:
        text = (
            f"frechet_distance: {count} samples of {size} coordinates are too few for a covariance"
            " of full rank, so the distance is too large; compare it only with that of as many"
            " real samples"
        )
        warnings.warn(text, Notice, stacklevel=2)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    root_a, root_b = _root(a - mean_a), _root(b - mean_b)
    shift = ((mean_a - mean_b) ** 2).sum()
    traces = (root_a**2).sum() + (root_b**2).sum()
    product = np.linalg.svd(matmul(root_a, root_b.T), compute_uv=False).sum()
    return float(max(0.0, shift + traces - 2 * product))  # Rounding may leave -1e-16.


def _root(centred: np.ndarray) -> np.ndarray:
    """Return A (d, d) with A^T A = C, the covariance of samples whose mean is 0."""
    from ..kernels.matmul.cpu import matmul

    covariance = matmul(centred.T, centred) / (len(centred) - 1)
    values, vectors = np.linalg.eigh(covariance)
    # Eigenvalues below the rounding error of the largest are 0, which eigh returns as +-1e-17.
    values[values < len(values) * np.finfo(np.float64).eps * values[-1]] = 0
    return np.sqrt(values)[:, None] * vectors.T
