"""The class Dataset: samples, their labels, and known parameters of their distribution."""

from __future__ import annotations

import hashlib
import math
import operator
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..utils.names import printable
from .checks import DataError, DataWarning, check_labels, check_values, count_classes

SPLITS = ("train", "test")
BLOCK_VALUES = 1 << 20  # the numbers that are converted to float32 at a time for a digest


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (N, C, H, W) in [-1, 1] (not [0, 1]) or points (N, D), float32, every value finite.

        data = Dataset("mine", points)
        train, held_out = data.holdout(0.1)
        data.rows([3, 5])  # two samples, float32

    Images of uint8, from 0 (black) to 255 (white), stay uint8 in `stored`, which may lie in a
    mapped file; `values` and `rows` return them as float32 in [-1, 1]. The parts that `subset`,
    `sample` and `holdout` return share these bytes: `index` (N,) holds the rows of `stored` that
    are theirs, or None for all. All other samples are stored as float32.

    `labels` is int64 (N,) with entries 0 .. `classes` - 1, or None. Mixtures of Gaussians with
    known parameters also have their centres `modes` (M, D) and their standard deviation `sigma`.
    `class_names` are the names of the classes, such as those of the folders of images, or None.
    `notes` are lines on what is not used of a user's files, and on how they were interpreted.

    Raises:
        DataError: the arrays do not fit together, or hold NaN or infinity.
    """

    name: str
    stored: np.ndarray
    labels: np.ndarray | None = None
    classes: int | None = None
    modes: np.ndarray | None = None
    sigma: float | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    index: np.ndarray | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # The class is frozen, and only this method writes fields.
        stored = np.asarray(self.stored)
        if stored.dtype.kind not in "biuf":
            raise DataError(f"{self.name}: the samples are {stored.dtype}, must be numbers")
        is_bytes = stored.dtype == np.uint8 and stored.ndim == 4
        with np.errstate(over="ignore"):  # check_values reports what overflows in float32.
            stored = np.ascontiguousarray(stored, np.uint8 if is_bytes else np.float32)
        set_field(self, "stored", stored)
        check_values(self.name, stored)
        if self.labels is not None:
            set_field(self, "labels", check_labels(self.name, self.labels, len(self)))
            if self.classes is not None:
                set_field(self, "classes", whole_number("classes", self.classes, least=0))
            classes = self.classes
            if classes is None:
                count, note = count_classes(self.name, self.labels)
                set_field(self, "classes", count)
                set_field(self, "notes", (*self.notes, *([note] if note else [])))
            elif self.labels.max(initial=-1) >= classes:
                raise DataError(
                    f"{self.name}: label {self.labels.max()} is not below classes = {classes}"
                )
        set_field(self, "notes", tuple(map(printable, self.notes)))
        if self.class_names is not None:
            set_field(self, "class_names", tuple(self.class_names))
            if len(self.class_names) != (self.classes or 0):
                raise DataError(
                    f"{self.name}: {len(self.class_names)} class names for {self.classes} classes"
                )

    def __repr__(self) -> str:
        labels = "" if self.labels is None else f", {self.classes} classes"
        return f"Dataset({self.name!r}, {len(self)} samples of shape {self.sample_shape}{labels})"

    def __len__(self) -> int:
        return len(self.stored) if self.index is None else len(self.index)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of a sample: (C, H, W) or (D,)."""
        return self.stored.shape[1:]

    @property
    def is_image(self) -> bool:
        """Whether the samples are images, not points."""
        return self.stored.ndim == 4

    @property
    def values(self) -> np.ndarray:
        """All samples as float32; those that are stored as uint8 are converted at each call."""
        is_stored = self.index is None and self.stored.dtype == np.float32
        return self.stored if is_stored else self.rows(slice(None))

    def rows(
        self, indices: Sequence[int] | np.ndarray | slice, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the samples at `indices` (integers 0 .. N-1, or a slice) as float32.

        `out` is memory of that shape into which bytes are converted.
        """
        if self.index is not None:
            indices = self.index[indices]
        rows = self.stored[indices]
        return from_bytes(rows, out) if rows.dtype == np.uint8 else rows

    def warn_of_range(self) -> None:
        """Emit a DataWarning where images seem to be scaled to [0, 1], so that black is grey.

        Bytes scaled to [-1, 1] have no value 0, and those scaled to [0, 1] begin with it.
        """
        if not self.is_image or not len(self):
            return
        if self.stored.dtype == np.uint8:
            if self.stored.max() == 1:
                text = f"{self.name}: all bytes are 0 or 1, which is nearly black: 255 is white"
                warnings.warn(text, DataWarning, stacklevel=3)
        elif self.stored.min() == 0 < self.stored.max():
            text = f"{self.name}: all values lie in [0, 1], where images lie in [-1, 1]: 0 is grey"
            warnings.warn(f"{text}; 2 * x - 1 makes it black", DataWarning, stacklevel=3)

    def warn_of_equal_samples(self) -> None:
        """Emit a DataWarning where all samples are equal, so that there is nothing to learn."""
        index = range(len(self)) if self.index is None else self.index
        if len(self) > 1 and all(
            np.array_equal(self.stored[i], self.stored[index[0]]) for i in index
        ):
            text = f"{self.name}: all {len(self):,} samples are equal"
            warnings.warn(text, DataWarning, stacklevel=3)

    def digest(self) -> dict[str, Any]:
        """Return what identifies the samples, in JSON types, to detect later that they changed.

        `values` and `labels` are SHA-256 (in hex) of the little-endian float32 and int64 in row
        order; `labels` and `class_names` are None where there are none.
        """
        return {
            "samples": len(self),
            "shape": list(self.sample_shape),
            "values": _sha256(self._blocks(), "<f4"),
            "labels": None if self.labels is None else _sha256([self.labels], "<i8"),
            "class_names": None if self.class_names is None else list(self.class_names),
        }

    def _blocks(self) -> Iterator[np.ndarray]:
        """Yield all samples as float32, BLOCK_VALUES numbers at a time."""
        size = max(1, BLOCK_VALUES // math.prod(self.sample_shape))
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))

    def subset(self, indices: Sequence[int] | np.ndarray) -> Dataset:
        """Return the samples at `indices` (integers 0 .. N-1), in that order.

        Samples of float32 are copied, those of uint8 are not.
        """
        rows = np.asarray(indices)
        if rows.size == 0:
            rows = rows.reshape(-1).astype(np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(
                f"subset takes a row of integers, not {rows.dtype} of shape {rows.shape}"
            )
        outside = rows[(rows < 0) | (rows >= len(self))]
        if outside.size:
            raise ValueError(f"subset index {outside[0]} is not one of 0 .. {len(self) - 1}")
        labels = None if self.labels is None else self.labels[rows]
        if self.stored.dtype != np.uint8:
            return replace(self, stored=self.stored[rows], labels=labels)
        index = rows.astype(np.int64) if self.index is None else self.index[rows]
        return replace(self, index=index, labels=labels)

    def sample(self, n: int, seed: int) -> Dataset:
        """Return n different samples drawn by `seed`, in their original order.

        The samples of a smaller n are among those of a larger one.

        Raises:
            ValueError: there are fewer than n.
        """
        if n > len(self):
            raise ValueError(f"samples {n}: {self.name} has {len(self)} samples")
        (generator,) = generators(seed, 1)
        return self.subset(np.sort(generator.permutation(len(self))[:n]))

    def holdout(self, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Split the samples by `seed` into (train, held out), each in its original order.

        round(fraction * N) samples are held out.

        Raises:
            ValueError: the fraction is not in [0, 1), or above 0 and leaves a part without samples.
        """
        if not 0 <= fraction < 1:
            raise ValueError(f"holdout fraction {fraction}: must be at least 0 and below 1")
        count = round(fraction * len(self))
        if fraction > 0 and not 0 < count < len(self):
            raise ValueError(
                f"holdout fraction {fraction} of {len(self)} samples holds out {count}: "
                "both parts need at least one"
            )
        (generator,) = generators(seed, 1)
        order = generator.permutation(len(self))
        return self.subset(np.sort(order[count:])), self.subset(np.sort(order[:count]))


def generators(seed: int, count: int, split: str = "train") -> list[np.random.Generator]:
    """Return `count` independent generators, the same for a (seed, split) on every machine."""
    sequence = np.random.SeedSequence((seed, SPLITS.index(split)))
    return [np.random.Generator(np.random.Philox(child)) for child in sequence.spawn(count)]


def from_bytes(pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return uint8 pixels as float32 in [-1, 1]: 0 becomes -1 and 255 becomes 1, exactly."""
    values = np.divide(pixels, np.float32(127.5), out=out, dtype=np.float32)
    values -= np.float32(1)
    return values


def whole_number(name: str, value: object, least: int) -> int:
    """Return `value` as an int; ValueError unless it is an integer of at least `least`."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # or TypeError
    except TypeError:
        raise ValueError(f"{name} {value!r}: must be a whole number") from None
    if number < least:
        raise ValueError(f"{name} {number}: must be at least {least}")
    return number


def _sha256(blocks: Iterable[np.ndarray], dtype: str) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(np.ascontiguousarray(block, dtype).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
