"""Interpret an array as samples and labels; refuse an ambiguous one.

Every error names the option that settles it, and an interpretation that may surprise becomes a
note.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .checks import DataError
from .limits import check_memory
from .resize import resize_array
from .settings import Settings

MIN_PIXELS = 8  # fewer coordinates per sample are never taken for the pixels of an image


# --------------------------------------------------------------------------------------- samples
def as_samples(name: str, array: np.ndarray, settings: Settings, notes: list[str]) -> np.ndarray:
    """Return images (N, C, H, W), uint8 or floats in [-1, 1], or points (N, D) as they are.

    Notes are added to `notes`.

    Raises:
        DataError: the array is neither, or ambiguous.
    """
    if 0 in array.shape:
        raise DataError(f"{name} is empty, of shape {array.shape}")
    if settings.sample_shape is not None:
        array = _reshape(name, array, settings.sample_shape)
    elif array.ndim == 2:
        _check_points(name, array, notes)
    elif array.ndim > 2:
        array = _as_images(name, array, notes)
    if array.ndim == 4:
        return resize_array(name, scale(name, array, settings, notes), settings)
    if settings.value_range is not None:
        raise DataError(f"{name}: value_range is for images, and these are points")
    if array.dtype.kind == "b":
        raise DataError(f"{name} is bool, must be numbers")
    resize_array(name, array, settings)  # raises
    check_memory(name, array.shape, settings.max_gb)
    _check_precision(name, array, notes)
    return array


def _check_precision(name: str, points: np.ndarray, notes: list[str]) -> None:
    """Add a note where float32 does not hold what distinguishes the points."""
    if points.dtype.kind in "ui":
        if max(abs(int(points.min())), abs(int(points.max()))) > 2**24:
            notes.append(f"{name}: integers above 2^24 are rounded to float32")
    elif points.ndim == 2 and points.dtype.itemsize > 4:
        with np.errstate(over="ignore", invalid="ignore"):  # Dataset reports what is not finite.
            lost = np.abs(points - points.astype(np.float32)).max(axis=0)
            extent = np.ptp(points, axis=0)
        columns = np.flatnonzero((extent > 0) & (lost > 1e-3 * extent))
        if columns.size:
            i = columns[0]
            notes.append(
                f"{name}: float32 rounds column {i} by up to {lost[i]:.2g}, and its values lie"
                f" within {extent[i]:.2g}: subtract their mean, or scale them"
            )


def _reshape(name: str, array: np.ndarray, sample_shape: tuple[int, ...]) -> np.ndarray:
    """Return the array as samples of a shape: from that shape, channels last, or flat."""
    last = (*sample_shape[1:], sample_shape[0])  # (H, W, C) of (C, H, W)
    for batch in (array, array[None]):  # The array is a batch, or one sample.
        shape = batch.shape[1:]
        flat = (math.prod(sample_shape),)
        if shape in (sample_shape, flat) or (sample_shape[0] == 1 and shape == last[:2]):
            return batch.reshape(len(batch), *sample_shape)
        if len(sample_shape) == 3 and shape == last:
            return batch.transpose(0, 3, 1, 2)
    text = ",".join(map(str, sample_shape))
    raise DataError(f"{name} of shape {array.shape} holds no samples of sample_shape {text}")


def _check_points(name: str, array: np.ndarray, notes: list[str]) -> None:
    """Raise DataError for bytes (N, D) that may be images; add a note for other such numbers."""
    count, width = array.shape
    if width < MIN_PIXELS:
        return
    text = f"{name} of shape {array.shape}"
    channels = next((c for c in (1, 3) if _is_square(width, c)), None)
    side = math.isqrt(width // (channels or 1))
    if array.dtype == np.uint8:
        example = f"{channels},{side},{side}" if channels else f"1,{count},{width}"
        raise DataError(
            f"{text} holds bytes, which may be points or images: --sample-shape {width} takes"
            f" rows as points, --sample-shape C,H,W (such as {example}) as images"
        )
    if channels and side >= MIN_PIXELS:
        notes.append(
            f"{text}: interpreted as {count} points, not images (--sample-shape"
            f" {channels},{side},{side} makes them images)"
        )
    elif count == width:
        notes.append(
            f"{text}: interpreted as {count} points, not one image (--sample-shape"
            f" 1,{count},{width} makes it one)"
        )


def _is_square(width: int, channels: int) -> bool:
    return width % channels == 0 and math.isqrt(width // channels) ** 2 * channels == width


def _as_images(name: str, array: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return images (N, C, H, W); where either axis can be C, the first one is."""
    shape, text = array.shape, f"{name} of shape {array.shape}"
    if array.ndim == 3:
        count, height, width = shape
        if width in (1, 3, 4) and height > 4:
            raise DataError(
                f"{text} may be one image or {count}: --sample-shape {width},{count},{height}"
                f" takes it as one, --sample-shape 1,{height},{width} as {count} grey ones"
            )
        if count in (3, 4):
            notes.append(
                f"{text}: interpreted as {count} grey images (--sample-shape"
                f" {count},{height},{width} makes it one)"
            )
        return array[:, None]
    if array.ndim == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3):
        notes.append(f"{text}: interpreted as {shape[1]}x{shape[2]} images, channels last")
        return array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or not 1 <= shape[1] <= 4:
        raise DataError(
            f"{text} is not (N, H, W), (N, H, W, C) with 1 or 3 channels, (N, C, H, W) with 1 to 4,"
            " or (N, D); --sample-shape C,H,W settles it"
        )
    if shape[3] in (1, 3) and shape[2] > 4:
        notes.append(
            f"{text}: interpreted as {shape[2]}x{shape[3]} images, channels first (--sample-shape"
            f" {shape[3]},{shape[1]},{shape[2]}: channels last)"
        )
    return array


# ---------------------------------------------------------------------------------------- values
def scale(name: str, array: np.ndarray, settings: Settings, notes: list[str]) -> np.ndarray:
    """Return images as uint8 from 0 to 255, or as floats in [-1, 1].

    `settings.value_range` holds the values that become -1 and 1 instead.

    Raises:
        DataError: the values do not lie in the range, or suggest another one.
    """
    value_range = settings.value_range
    low, high = array.min(), array.max()
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            low, high = np.float32(low), np.float32(high)  # 1 + 1e-16 is 1 in float32
        if not np.isfinite([low, high]).all():
            return array  # Dataset counts and locates the values that are not finite.
    if value_range is None:
        if array.dtype == np.uint8:
            _check_bytes(name, int(high), notes)
            return array
        if array.dtype.kind == "f":
            _check_floats(name, float(low), float(high))
            return array
        if array.dtype.kind != "b":
            raise DataError(
                f"{name} is {array.dtype}, images must be uint8 or floats in [-1, 1];"
                " --value-range LOW,HIGH scales other numbers"
            )
        value_range = (0, 1)
    if low < value_range[0] or high > value_range[1]:
        text = ",".join(f"{x:g}" for x in value_range)
        raise DataError(f"{name}: values lie in [{low:g}, {high:g}], outside value_range {text}")
    if array.dtype == np.uint8 and value_range == (0, 255):
        return array
    check_memory(name, array.shape, settings.max_gb)
    start, extent = value_range[0], value_range[1] - value_range[0]
    values = np.empty(array.shape, np.float32)
    for sample, scaled in zip(array, values, strict=True):
        scaled[:] = (sample.astype(np.float64) - start) * 2 / extent - 1
    return values


def _check_bytes(name: str, high: int, notes: list[str]) -> None:
    if high == 1:
        raise DataError(
            f"{name}: all bytes are 0 or 1: --value-range 0,1 takes 1 as white, --value-range 0,255"
            " as nearly black"
        )
    if 0 < high < 128:
        notes.append(
            f"{name}: bytes of 0 to {high} are interpreted as dark, out of 255 (--value-range"
            f" 0,{high} makes {high} white)"
        )


def _check_floats(name: str, low: float, high: float) -> None:
    if not -1 <= low <= high <= 1:
        example = "0,255" if low >= 0 and 1 < high <= 255 else f"{low:.9g},{high:.9g}"
        raise DataError(
            f"{name}: images must lie in [-1, 1], these lie in [{low:.9g}, {high:.9g}];"
            f" --value-range=LOW,HIGH scales them, such as {example}"
        )
    if low >= 0 and high > 0:
        raise DataError(
            f"{name}: all values lie in [0, 1]: --value-range 0,1 takes 0 as black,"
            " --value-range=-1,1 as grey"
        )


# ---------------------------------------------------------------------------------------- labels
def as_labels(
    name: str, labels: np.ndarray, settings: Settings, others: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, int | None, tuple[str, ...] | None, str]:
    """Return the labels, the number and the names of the classes, and a note.

    With `remap_labels` the labels that occur, here or in `others` (those of other splits), are
    numbered from 0 in ascending order, and become the names of the classes.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:  # as in Keras
        labels = labels[:, 0]
    if not settings.remap_labels or labels.dtype.kind not in "buif" or labels.ndim != 1:
        return labels, settings.classes, None, ""
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError(f"{name}: some labels are NaN or infinite")
    numbers = [labels, *(x.ravel() for x in others if x.dtype.kind in "buif")]
    if len({x.dtype.kind for x in numbers}) > 1 and all(map(_are_whole, numbers)):
        numbers = [x.astype(np.int64) for x in numbers]  # 5 and 5.0 are one label.
    distinct, index = np.unique(np.concatenate(numbers), return_inverse=True)
    if distinct.dtype.kind == "f" and not np.isfinite(distinct).all():
        raise DataError(f"{name}: some labels of another split are NaN or infinite")
    names = tuple(map(str, distinct))
    shown = ", ".join(names) if len(names) <= 5 else f"{names[0]}, {names[1]}, ... {names[-1]}"
    note = f"{name}: labels {shown} became 0 to {len(names) - 1}"
    if settings.classes is not None and settings.classes != len(names):
        raise DataError(f"{name}: {len(names)} different labels, but classes = {settings.classes}")
    return index[: len(labels)].reshape(-1), len(names), names, note


def _are_whole(labels: np.ndarray) -> bool:
    return bool(((labels == np.floor(labels)) & (np.abs(labels) < 2**63)).all())
