"""The kernel distance: the maximum mean discrepancy with a polynomial kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from .neighbours import row_blocks
from .numbers import row_matrices, whole_number


def kernel_distance(x: Any, y: Any, degree: int = 3) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy of x and y.

        mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean of k(x_i, y_j)
        k(a, b) = (a . b / d + 1)^degree

    On the features of an Inception network it is the KID (Binkowski et al. 2018, with degree 3).
    As a U-statistic (Gretton et al. 2012, eq. 3) its expectation is 0 for samples of one
    distribution, of any number, so about half of such values are negative. It compares the moments
    up to `degree` alone.

    Args:
        x, y: (n, ...) and (m, ...) features or points; all axes but the first are flattened.
        degree: of the polynomial, 1 or more.

    Raises:
        TypeError: the samples are not real numbers, or the degree is no integer.
        ValueError: there are fewer than two samples; samples are not finite, or differ in size.
    """
    degree = whole_number("kernel_distance", "degree", degree, 1)
    a, b = row_matrices("kernel_distance", x, y, least=2)
    return _discrepancy(a, b, degree)


def kernel_distance_blocks(x: Any, y: Any, blocks: int = 20, degree: int = 3) -> np.ndarray:
    """Return the kernel distances (blocks,) of disjoint blocks of x and y.

    They are independent, and each is unbiased. So their mean is an estimate that takes 1/blocks of
    the time, and `bootstrap` gives its interval (block estimates: Zaremba et al. 2013):

        bootstrap(np.mean, kernel_distance_blocks(x, y))

    Args:
        x, y, degree: as for `kernel_distance`. Samples are taken in order, and what is left of a
            division by `blocks` is not used.
        blocks: how many, so that each has two samples or more.

    Raises:
        TypeError, ValueError: as `kernel_distance`; or there are too many blocks.
    """
    degree = whole_number("kernel_distance_blocks", "degree", degree, 1)
    a, b = row_matrices("kernel_distance_blocks", x, y, least=2)
    blocks = whole_number("kernel_distance_blocks", "blocks", blocks, 1, min(len(a), len(b)) // 2)
    n, m = len(a) // blocks, len(b) // blocks
    return np.array(
        [
            _discrepancy(a[i * n : (i + 1) * n], b[i * m : (i + 1) * m], degree)
            for i in range(blocks)
        ]
    )


def _discrepancy(a: np.ndarray, b: np.ndarray, degree: int) -> float:
    n, m = len(a), len(b)
    own = [
        (_row_sums(c, c, degree) - _kernel((c * c).sum(axis=1), c.shape[1], degree)).sum()
        / (len(c) * (len(c) - 1))
        for c in (a, b)
    ]
    return float(own[0] + own[1] - 2 * _row_sums(a, b, degree).sum() / (n * m))


def _kernel(products: np.ndarray, size: int, degree: int) -> np.ndarray:
    return (products / size + 1) ** degree


def _row_sums(a: np.ndarray, b: np.ndarray, degree: int) -> np.ndarray:
    """Return (n,), the sum over j of k(a_i, b_j)."""
    from ..kernels.matmul.cpu import matmul

    sums = np.empty(len(a))
    for block in row_blocks(len(a), len(b)):
        sums[block] = _kernel(matmul(a[block], b.T), a.shape[1], degree).sum(axis=1)
    return sums
