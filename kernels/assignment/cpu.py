"""Compute the assignment of least total distance, by shortest augmenting paths.

Points are columns: x and y are (d, n), float64, C-contiguous. Their distances c(i, j) = |x_i - y_j|
are computed when they are needed, not stored. `v` holds the dual variables of the columns, and
u_i = min over j of c(i, j) - v_j are those of the rows. So u_i + v_j <= c(i, j), and an assignment
is optimal when every pair of it is an equality (Jonker and Volgenant 1987). The matched row of a
column is row[j], the matched column of a row column[i], -1 where unmatched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..runtime.cpu.compiler import jit

CHUNK_COLUMNS = 512  # columns scanned at once: their distances stay in the first-level cache
MIN_COARSE_POINTS = 64  # With more points, the dual variables start from a quarter of the points.
BATCH_ROWS = 32  # rows between two updates of a progress bar


@jit
def _squares(out, x, y, i, first):
    """Compute out[j] = |x_i - y_(first + j)|^2."""
    size = out.size
    out[:] = 0
    for k in range(x.shape[0]):
        coordinate, row = x[k, i], y[k, first : first + size]
        for j in range(size):
            out[j] += (coordinate - row[j]) * (coordinate - row[j])


@jit
def _distance(x, y, i, j):
    """Return |x_i - y_j|, with the bits of the square root of `_squares`."""
    total = 0.0
    for k in range(x.shape[0]):
        total += (x[k, i] - y[k, j]) * (x[k, i] - y[k, j])
    return np.sqrt(total)


@jit
def _relax(lowest, key, tree, squares, v, h, i):
    """Relax a chunk of columns by row i (Dijkstra): key = min(key, distance - v - h).

    tree[j] = i where the key has decreased; lowest = min(lowest, key), by position in the chunk.
    """
    for j in range(key.size):
        d = np.sqrt(squares[j]) - v[j] - h
        is_less = d < key[j]
        d = d if is_less else key[j]
        key[j] = d
        tree[j] = i if is_less else tree[j]
        lowest[j] = d if d < lowest[j] else lowest[j]


@jit
def _scan(key, tree, v, h, i, x, y, squares, lowest):
    """Relax all columns by row i; return the column with the lowest key."""
    lowest[:] = np.inf
    for first in range(0, key.size, CHUNK_COLUMNS):
        last = min(first + CHUNK_COLUMNS, key.size)
        chunk = squares[: last - first]
        _squares(chunk, x, y, i, first)
        _relax(lowest, key[first:last], tree[first:last], chunk, v[first:last], h, i)
    j = lowest.argmin()
    lowest_key = lowest[j]
    while j + CHUNK_COLUMNS < key.size and key[j] != lowest_key:
        j += CHUNK_COLUMNS
    return j


@jit
def compute_duals(u, nearest, x, y, v):
    """Compute u_i = min over j of c(i, j) - v_j, and the column of the minimum, nearest[i]."""
    key, tree = np.empty(v.size), np.empty(v.size, np.int64)
    squares, lowest = np.empty(CHUNK_COLUMNS), np.empty(CHUNK_COLUMNS)
    for i in range(u.size):
        key[:] = np.inf
        j = _scan(key, tree, v, 0.0, i, x, y, squares, lowest)
        u[i], nearest[i] = key[j], j


@jit
def augment(x, y, v, row, column, rows):
    """Match each of the free `rows` along the shortest path to a free column (Dijkstra 1959)."""
    n = v.size
    key, duals, tree = np.empty(n), np.empty(n), np.empty(n, np.int64)
    scanned, lengths = np.empty(n, np.int64), np.empty(n)
    squares, lowest = np.empty(CHUNK_COLUMNS), np.empty(CHUNK_COLUMNS)
    for start in rows:
        duals[:] = v
        key[:] = np.inf
        count, i, h = 0, start, 0.0
        while True:
            j = _scan(key, tree, duals, h, i, x, y, squares, lowest)
            length, i = key[j], row[j]
            if i < 0:
                break
            scanned[count], lengths[count] = j, length
            count += 1
            key[j], duals[j] = np.inf, -np.inf  # No later key of this column is lower.
            h = _distance(x, y, i, j) - v[j] - length
        for k in range(count):
            v[scanned[k]] += lengths[k] - length
        while i != start:
            i = tree[j]
            row[j] = i
            column[i], j = j, column[i]


def _row_duals(x: np.ndarray, y: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return u and the nearest column of each row: see `compute_duals`."""
    u, nearest = np.empty(x.shape[1]), np.empty(x.shape[1], np.int64)
    compute_duals(u, nearest, x, y, v)
    return u, nearest


def assign(
    x: np.ndarray, y: np.ndarray, show_progress: Callable[[range], Iterable[int]] = iter
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (column, u, v) of the optimal assignment of the points x (d, n) to y (d, n).

    The initial dual variables are those of every fourth point, computed in the same way. Then each
    row is matched to its nearest column, if that is free, and the other rows are augmented.

    Args:
        x, y: the points, (d, n).
        show_progress: wraps the range of batches of rows, such as in a progress bar.
    """
    n = x.shape[1]
    coarse_x, u = x, np.zeros(n)
    if n > MIN_COARSE_POINTS:
        coarse_x = np.ascontiguousarray(x[:, ::4])
        _, u, _ = assign(coarse_x, np.ascontiguousarray(y[:, ::4]))
    v, _ = _row_duals(y, coarse_x, u)
    _, nearest = _row_duals(x, y, v)
    row, column = np.full(n, -1), np.full(n, -1)
    columns, rows = np.unique(nearest, return_index=True)
    row[columns], column[rows] = rows, columns
    free = np.flatnonzero(column < 0)
    for begin in show_progress(range(0, len(free), BATCH_ROWS)):
        augment(x, y, v, row, column, free[begin : begin + BATCH_ROWS])
    u, _ = _row_duals(x, y, v)
    return column, u, v
