"""Check the samples that a metric takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.dtypes import check_not_masked

LIMIT = 1e50  # Sums of sixth powers of smaller numbers do not overflow.


def real_numbers(name: str, values: Any) -> np.ndarray:
    """Return samples as an array of floats; integers, whose differences wrap, as float64.

    Raises:
        TypeError: they are not real numbers. ValueError: elements are masked.
    """
    check_not_masked(name, values)
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: samples of type {array.dtype}; real numbers are needed")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def rows(name: str, values: Any, least: int = 1) -> np.ndarray:
    """Return samples (n, ...) as a C-contiguous float64 matrix (n, d).

    Args:
        name: of the function that takes them, for messages.
        values: the samples; all axes but the first are flattened.
        least: the number of samples that are needed.

    Raises:
        TypeError: they are not real numbers.
        ValueError: there are fewer samples than `least`, or they hold no numbers, or NaN, or one
            beyond LIMIT; elements are masked.
    """
    array = real_numbers(name, values)
    if not array.ndim or len(array) < least or not array.size:
        raise ValueError(
            f"{name}: samples of shape {array.shape}; (n, ...) with n of at least {least} is needed"
        )
    matrix = np.ascontiguousarray(array.reshape(len(array), -1), np.float64)
    if not (matrix.min() >= -LIMIT and matrix.max() <= LIMIT):  # NaN is neither.
        good: np.ndarray = np.all(abs(matrix) <= LIMIT, axis=1)
        raise ValueError(
            f"{name}: {len(good) - good.sum()} of {len(good)} samples hold NaN, infinity or numbers"
            f" above {LIMIT:g}"
        )
    return matrix


def row_matrices(name: str, *samples: Any, least: int = 1) -> list[np.ndarray]:
    """Return several samples, each as `rows` does.

    Raises:
        TypeError, ValueError: as `rows`; or the samples differ in their numbers of coordinates.
    """
    matrices = [rows(name, x, least) for x in samples]
    if len({x.shape[1] for x in matrices}) > 1:
        shapes = " and ".join(str(np.shape(x)) for x in samples)
        raise ValueError(
            f"{name}: samples of shapes {shapes}; equal numbers of coordinates are needed"
        )
    return matrices


def whole_number(name: str, argument: str, value: Any, least: int, most: int | None = None) -> int:
    """Return an argument that is an integer of at least `least` and at most `most`.

    Raises:
        TypeError: it is no integer. ValueError: it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: {argument} = {value!r} is not an integer")
    if value < least or (most is not None and value > most):
        accepted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: {argument} = {value}; a number {accepted} is accepted")
    return int(value)
