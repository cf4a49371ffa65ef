"""Check the arrays of a data set."""

from __future__ import annotations

import numpy as np

from ..utils.notices import Notice


class DataError(ValueError):
    """Data exist but cannot be used; the message names the file and the reason."""


class DataWarning(Notice):
    """A note on a data set: data that are not used, or how ambiguous data were interpreted."""


def check_values(name: str, values: np.ndarray) -> None:
    """Raise DataError unless this is an array of images or of points, each value accepted."""
    if values.ndim not in (2, 4) or 0 in values.shape[1:]:
        raise DataError(f"{name}: shape {values.shape} is neither (N, C, H, W) nor (N, D)")
    if values.dtype == np.uint8:
        return
    low, high = values.min(initial=0), values.max(initial=0)
    if not np.isfinite([low, high]).all():  # NaN is the minimum where there is one.
        invalid = ~np.isfinite(values)
        first = tuple(int(i) for i in np.argwhere(invalid)[0])
        raise DataError(
            f"{name}: {np.count_nonzero(invalid)} of {values.size} values are NaN or infinite "
            f"in float32, the first at {first}"
        )
    if values.ndim == 4 and not -1 <= low <= high <= 1:
        raise DataError(f"{name}: images must lie in [-1, 1], these lie in [{low:g}, {high:g}]")


def check_labels(name: str, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the labels as int64; DataError unless they are `count` nonnegative integers."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise DataError(
            f"{name}: labels are {labels.dtype} of shape {labels.shape}, "
            f"must be integers of shape ({count},)"
            + (" (--remap-labels numbers them)" if labels.shape == (count,) else "")
        )
    if labels.max(initial=0) > np.iinfo(np.int64).max:
        raise DataError(f"{name}: label {labels.max()}, more than int64 holds")
    labels = np.ascontiguousarray(labels, np.int64)
    if labels.min(initial=0) < 0:
        first = int(np.argmax(labels < 0))
        raise DataError(
            f"{name}: label {labels[first]} at {first}, must be at least 0 (--remap-labels numbers"
            " the labels of an .npz)"
        )
    return labels


def count_classes(name: str, labels: np.ndarray) -> tuple[int, str]:
    """Return the largest label plus one, and a note on classes without a sample.

    Raises:
        DataError: more than nine in ten of these classes have no sample.
    """
    count = int(labels.max(initial=-1)) + 1
    distinct = np.unique(labels)
    if count > 10 * len(distinct):
        raise DataError(
            f"{name}: labels up to {count - 1}, but only {len(distinct)} different ones:"
            f" --remap-labels numbers those of an .npz, --classes {count} keeps them as they are"
        )
    if len(distinct) == count:
        return count, ""
    absent = np.setdiff1d(np.arange(count), distinct)
    shown = ", ".join(map(str, absent[:3])) + (", ..." if len(absent) > 3 else "")
    return count, f"{name}: {len(absent)} of {count} classes have no sample (label {shown})"
