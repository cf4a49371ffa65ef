"""Distances of all pairs of samples, a block of rows at a time, and the nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .numbers import row_matrices, whole_number

BLOCK_NUMBERS = 1 << 21  # the distances that exist at a time: 16 MiB


def row_blocks(n: int, m: int) -> Iterator[slice]:
    """Yield the blocks of rows of an (n, m) matrix, each of about BLOCK_NUMBERS numbers."""
    size = max(1, BLOCK_NUMBERS // max(1, m))
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (n, m), |x_i - y_j|^2 to rounding, for float64 matrices (n, d) and (m, d)."""
    from ..kernels.distance import squares  # imports numba

    return squares.squared_distances(x, y)


def nearest_distances(
    x: Any, y: Any, k: int = 1, exclude_self: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of each sample of x to its k nearest samples of y, and which they are.

    Distances are Euclidean. They are sums of squared differences in float64, not |x|^2 - 2 x y +
    |y|^2, which loses the digits of near duplicates. Memory is that of x and y in float64, and
    about 100 MB.

    Args:
        x, y: (n, ...) and (m, ...) samples; all axes but the first are flattened.
        k: how many neighbours.
        exclude_self: y is x, and a sample is not a neighbour of itself.

    Returns:
        Distances (n, k), ascending, and indices in y (n, k), int64. Of samples at equal distances
        the ones of smallest index come first; which of them are among the k is not defined.

    Raises:
        TypeError: the samples are not real numbers.
        ValueError: y has fewer than k samples (k + 1 with `exclude_self`); samples are not finite,
            or differ in size; `exclude_self` with x and y of different lengths.
    """
    a, b = row_matrices("nearest_distances", x, y)
    if exclude_self and len(a) != len(b):
        raise ValueError(
            f"nearest_distances: exclude_self means that x is y, but they have {len(a)} and"
            f" {len(b)} samples"
        )
    k = whole_number("nearest_distances", "k", k, 1, len(b) - exclude_self)
    distances, indices = np.empty((len(a), k)), np.empty((len(a), k), np.int64)
    for block in row_blocks(len(a), len(b)):
        squares = squared_distances(a[block], b)
        if exclude_self:
            squares[np.arange(len(squares)), np.arange(block.start, block.stop)] = np.inf
        near = np.sort(np.argpartition(squares, k - 1, axis=1)[:, :k], axis=1)
        values = np.take_along_axis(squares, near, axis=1)
        order = np.argsort(values, axis=1, kind="stable")
        distances[block] = np.sqrt(np.take_along_axis(values, order, axis=1))
        indices[block] = np.take_along_axis(near, order, axis=1)
    return distances, indices
