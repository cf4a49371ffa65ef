"""The assignment of least total distance: shortest augmenting paths, distances on the fly.

Points lie in columns: x and y are (d, n), float64, C-contiguous. c(i, j) = |x_i - y_j|. `v` prices
the columns, and a row's price is u_i = min over j of c(i, j) - v_j. So u_i + v_j <= c(i, j), and an
assignment is optimal when every pair of it is an equality (Jonker and Volgenant 1987). `row[j]` and
`column[i]` are each other's inverse, -1 where free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..runtime.cpu.compiler import jit

CHUNK = 512  # columns at a time: their distances stay in the first-level cache
SMALL = 64  # points that need no start from fewer of them
BATCH = 32  # rows between two signs of progress


@jit
def _squares(out, x, y, i, first):
    """out[j] = |x_i - y_(first + j)|^2"""
    size = out.size
    out[:] = 0
    for k in range(x.shape[0]):
        at, row = x[k, i], y[k, first : first + size]
        for j in range(size):
            out[j] += (at - row[j]) * (at - row[j])


@jit
def _distance(x, y, i, j):
    """The same number as sqrt(_squares)."""
    total = 0.0
    for k in range(x.shape[0]):
        total += (x[k, i] - y[k, j]) * (x[k, i] - y[k, j])
    return np.sqrt(total)


@jit
def _relax(lowest, key, tree, squares, v, h, i):
    """key = min(key, distance - v - h); tree = i where that is less; lowest = min(lowest, key)."""
    for j in range(key.size):
        d = np.sqrt(squares[j]) - v[j] - h
        near = d < key[j]
        d = d if near else key[j]
        key[j] = d
        tree[j] = i if near else tree[j]
        lowest[j] = d if d < lowest[j] else lowest[j]


@jit
def _scan(key, tree, v, h, i, x, y, squares, lowest):
    """`_relax` of all columns by row i; the column whose key is the lowest then."""
    lowest[:] = np.inf
    for first in range(0, key.size, CHUNK):
        last = min(first + CHUNK, key.size)
        near = squares[: last - first]
        _squares(near, x, y, i, first)
        _relax(lowest, key[first:last], tree[first:last], near, v[first:last], h, i)
    j = lowest.argmin()
    best = lowest[j]
    while j + CHUNK < key.size and key[j] != best:
        j += CHUNK
    return j


@jit
def prices(u, nearest, x, y, v):
    """u_i = min over j of c(i, j) - v_j, and where that is."""
    key, tree = np.empty(v.size), np.empty(v.size, np.int64)
    squares, lowest = np.empty(CHUNK), np.empty(CHUNK)
    for i in range(u.size):
        key[:] = np.inf
        j = _scan(key, tree, v, 0.0, i, x, y, squares, lowest)
        u[i], nearest[i] = key[j], j


@jit
def augment(x, y, v, row, column, rows):
    """Match each of the free `rows`, along the shortest path to a free column (Dijkstra 1959)."""
    n = v.size
    key, price, tree = np.empty(n), np.empty(n), np.empty(n, np.int64)
    done, lengths = np.empty(n, np.int64), np.empty(n)
    squares, lowest = np.empty(CHUNK), np.empty(CHUNK)
    for start in rows:
        price[:] = v
        key[:] = np.inf
        count, i, h = 0, start, 0.0
        while True:
            j = _scan(key, tree, price, h, i, x, y, squares, lowest)
            length, i = key[j], row[j]
            if i < 0:
                break
            done[count], lengths[count] = j, length
            count += 1
            key[j], price[j] = np.inf, -np.inf  # whatever comes is no nearer
            h = _distance(x, y, i, j) - v[j] - length
        for k in range(count):
            v[done[k]] += lengths[k] - length
        while i != start:
            i = tree[j]
            row[j] = i
            column[i], j = j, column[i]


def _prices(x: np.ndarray, y: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    u, nearest = np.empty(x.shape[1]), np.empty(x.shape[1], np.int64)
    prices(u, nearest, x, y, v)
    return u, nearest


def assign(
    x: np.ndarray, y: np.ndarray, watch: Callable[[range], Iterable[int]] = iter
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(column, u, v) of the best assignment of the points x (d, n) to y (d, n); see above.

    The first prices are those of every fourth point, found in the same way. Then each row takes
    its cheapest column, where that is free, and the rest is augmented.
    """
    n = x.shape[1]
    some, u = x, np.zeros(n)
    if n > SMALL:
        some = np.ascontiguousarray(x[:, ::4])
        _, u, _ = assign(some, np.ascontiguousarray(y[:, ::4]))
    v, _ = _prices(y, some, u)
    _, nearest = _prices(x, y, v)
    row, column = np.full(n, -1), np.full(n, -1)
    taken, first = np.unique(nearest, return_index=True)
    row[taken], column[first] = first, taken
    free = np.flatnonzero(column < 0)
    for begin in watch(range(0, len(free), BATCH)):
        augment(x, y, v, row, column, free[begin : begin + BATCH])
    u, _ = _prices(x, y, v)
    return column, u, v
