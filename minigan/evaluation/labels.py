"""Choose real samples with the labels that generated ones have, and name classes in notes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..data import Dataset

MAX_NAMES = 8  # in a note


def rows_with_labels(
    labels: np.ndarray, wanted: np.ndarray, k: int = 0, usable: int | None = None
) -> np.ndarray:
    """Return different rows of labels, so that labels[rows] are the wanted ones.

    A class gives its next rows to each draw, and begins anew after its last one. One with fewer
    rows than are wanted gives all, and other classes give the rest.

    Args:
        labels: (N,) of all samples, in random order.
        wanted: (n,) with n <= N.
        k: the number of the draw.
        usable: only so many first rows are taken where that is enough; None: all.

    Returns:
        (n,) integers.
    """
    usable, rows = usable or len(labels), np.full(len(wanted), -1)
    for label in np.unique(wanted):
        places, found = np.flatnonzero(wanted == label), np.flatnonzero(labels == label)
        found = found[: max(len(places), np.searchsorted(found, usable))]
        places = places[: len(found)]
        rows[places] = _next(found, k, len(places))
    empty = np.flatnonzero(rows < 0)
    rows[empty] = _next(np.setdiff1d(np.arange(len(labels)), rows), k, len(empty))
    return rows


def _next(rows: np.ndarray, k: int, n: int) -> np.ndarray:
    """Return the k-th n of the rows, after the last of which the first follows."""
    return np.take(rows, np.arange(k * n, (k + 1) * n), mode="wrap") if n else rows[:0]


def note_other_labels(data: Dataset, rows: np.ndarray, wanted: np.ndarray) -> str:
    """Return a note on the rows of data that have not the wanted labels; "" if there are none."""
    assert data.labels is not None
    other = data.labels[rows] != wanted
    if not other.any():
        return ""
    n, names = len(wanted), class_names(data, np.unique(wanted[other]).tolist())
    return (
        f"real (of {n} samples): the training data have too few samples of class {names}, so"
        f" the labels of {int(other.sum())} of {n} are not those of generated ones: no exact floor"
    )


def class_names(data: Dataset, classes: Iterable[int]) -> str:
    """Return the names of classes, joined by commas; the first ones of many."""
    names = [str(k if data.class_names is None else data.class_names[k]) for k in classes]
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
