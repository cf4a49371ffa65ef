"""Agreement of clusters with classes, under the best one-to-one matching of the two."""

from __future__ import annotations

from typing import Any

import numpy as np

from .numbers import whole_number


def matched_agreement(clusters: Any, labels: Any) -> float:
    """Return the share of samples whose cluster is matched to their class.

        mg.metrics.matched_agreement([2, 2, 0, 1], [0, 0, 1, 1])  # 0.75

    Each cluster is matched to at most one class, and each class to at most one cluster, so that the
    share is largest (the assignment problem; "clustering accuracy" of the literature on clusters).
    For clusters drawn at random it is a little above one divided by the number of classes, because
    the matching is chosen from the same samples: compare with random clusters.

    Args:
        clusters, labels: (n,) integers from 0; their largest numbers may differ.

    Raises:
        TypeError: they are no integers. ValueError: they are negative, none, or not as many.
    """
    a, b = (np.asarray(x) for x in (clusters, labels))
    for name, x in (("clusters", a), ("labels", b)):
        if x.dtype.kind not in "iu":
            raise TypeError(f"matched_agreement: {name} are {x.dtype}; integers are needed")
        if x.ndim != 1 or not x.size or x.min() < 0:
            raise ValueError(
                f"matched_agreement: {name} of shape {x.shape}; (n,) numbers from 0 are needed"
            )
    if len(a) != len(b):
        raise ValueError(f"matched_agreement: {len(a)} clusters, but {len(b)} labels")
    size = whole_number("matched_agreement", "classes", int(max(a.max(), b.max())) + 1, 1)
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (a, b), 1)
    return float(counts[np.arange(size), _largest_assignment(counts)].sum() / len(a))


def _largest_assignment(values: np.ndarray) -> np.ndarray:
    """Return the column of each row of a square matrix, all different, of the largest sum.

    It adds a row at a time along a shortest augmenting path (Jonker and Volgenant 1987). The kernel
    of `wasserstein1` does the same, but for distances of points, which it computes itself.
    """
    cost = values.max() - values
    size = len(cost)
    u, v = np.zeros(size, cost.dtype), np.zeros(size, cost.dtype)  # cost[i, j] >= u[i] + v[j]
    row_of = np.full(size, -1)
    for start in range(size):
        lowest = np.full(size, np.iinfo(cost.dtype).max)  # reduced cost of the path to a column
        before = np.full(size, -1)  # the column before it on that path
        done = np.zeros(size, bool)
        row, column, length = start, -1, 0
        while row >= 0:
            reduced = length + cost[row] - u[row] - v
            closer = ~done & (reduced < lowest)
            lowest[closer], before[closer] = reduced[closer], column
            column = int(np.where(done, np.iinfo(cost.dtype).max, lowest).argmin())
            length = lowest[column]
            done[column] = True
            row = int(row_of[column])
        # The duals of what the search has reached move so that the path's reduced costs are 0.
        inner = done & (row_of >= 0)
        u[start] += length
        u[row_of[inner]] += length - lowest[inner]
        v[done] -= length - lowest[done]
        while column >= 0:
            row_of[column] = row_of[before[column]] if before[column] >= 0 else start
            column = int(before[column])
    columns = np.empty(size, np.int64)
    columns[row_of] = np.arange(size)
    return columns
