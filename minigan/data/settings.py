"""The options of a user's own data, and how their text is read."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..utils.names import choose
from .dataset import whole_number
from .limits import MAX_GB

FITS = ("crop", "pad", "stretch")  # how an image is resized; the first is the default
MAX_SIDE = 4096  # pixels


@dataclass(frozen=True)
class Settings:
    """How to interpret a user's own data; None: as the data suggest.

    - `sample_shape`: the shape of a sample, (C, H, W) or (D,), or as text "1,28,28".
    - `value_range`: the numbers that mean black and white, (low, high), or as text "0,255".
    - `classes`: the number of classes. `remap_labels`: whether to renumber the labels from 0.
    - `max_gb`: the limit of the samples in memory, in 1e9 bytes.
    - `size`: the (width, height) to which all images are resized; `fit`: how, one of FITS.
    - `grey`: whether to make images grey. `background`: (red, green, blue) behind transparent ones.
    - `skip_broken`: whether to go on without image files that cannot be read.
    """

    sample_shape: tuple[int, ...] | None = None
    value_range: tuple[float, float] | None = None
    classes: int | None = None
    remap_labels: bool = False
    max_gb: float = MAX_GB
    size: tuple[int, int] | None = None
    fit: str = FITS[0]
    grey: bool = False
    background: tuple[int, int, int] = (0, 0, 0)
    skip_broken: bool = False

    @property
    def pads_with_colour(self) -> bool:
        """Whether the background is seen beside the images, and is not grey."""
        return self.size is not None and self.fit == "pad" and self.has_coloured_background

    @property
    def has_coloured_background(self) -> bool:
        """Whether the background is not grey."""
        return len(set(self.background)) > 1


OPTIONS = tuple(field.name for field in fields(Settings))  # of `load` and of `Config` alike


def parse_settings(
    *,
    sample_shape: str | Sequence[int] | None = None,
    value_range: str | Sequence[float] | None = None,
    classes: int | None = None,
    remap_labels: bool = False,
    max_gb: float = MAX_GB,
    size: str | int | Sequence[int] | None = None,
    fit: str = FITS[0],
    grey: bool = False,
    background: str = "black",
    skip_broken: bool = False,
) -> Settings:
    """Return the Settings of the options of `minigan.data.load`, which describes them.

    Raises:
        ValueError: a value is not accepted.
    """
    if not max_gb > 0:
        raise ValueError(f"max_gb {max_gb!r}: must be a positive number")
    check_fit(fit, size)
    return Settings(
        sample_shape=parse_shape(sample_shape),
        value_range=parse_range(value_range),
        classes=None if classes is None else whole_number("classes", classes, least=1),
        remap_labels=remap_labels,
        max_gb=max_gb,
        size=parse_size(size),
        fit=fit,
        grey=grey,
        background=parse_background(background),
        skip_broken=skip_broken,
    )


def parse_shape(value: str | Sequence[int] | None) -> tuple[int, ...] | None:
    """Return a shape, (C, H, W) or (D,), from "C,H,W", "D" or integers.

    Raises:
        ValueError: the value is not such a shape.
    """
    if value is None:
        return None
    numbers = _numbers(value)
    if len(numbers) not in (1, 3) or any(x < 1 or x != int(x) for x in numbers):
        raise ValueError(
            f"sample_shape = {value!r} is neither C,H,W, such as 1,28,28, nor a number D"
        )
    return tuple(map(int, numbers))


def parse_range(value: str | Sequence[float] | None) -> tuple[float, float] | None:
    """Return the range (low, high) from "low,high" or two numbers.

    Raises:
        ValueError: the value is not such a range.
    """
    if value is None:
        return None
    numbers = _numbers(value)
    if len(numbers) != 2 or not 0 < numbers[1] - numbers[0] < math.inf:
        raise ValueError(f"value_range = {value!r} is not two numbers low,high, such as 0,255")
    return numbers[0], numbers[1]


def parse_size(value: str | int | Sequence[int] | None) -> tuple[int, int] | None:
    """Return (width, height) from "WIDTHxHEIGHT" or two integers; a square from one.

    Raises:
        ValueError: the value is not such a size.
    """
    if value is None:
        return None
    try:
        parts = value.lower().split("x") if isinstance(value, str) else list(np.atleast_1d(value))
        numbers = [int(part) if isinstance(part, str) else operator.index(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 2) or not all(1 <= n <= MAX_SIDE for n in numbers):
        raise ValueError(
            f"size = {value!r} is neither a number of pixels, such as 64, nor WIDTHxHEIGHT, such as"
            f" 96x64, each of 1 to {MAX_SIDE}"
        )
    return numbers[0], numbers[-1]


def check_fit(fit: str, size: object) -> None:
    """Raise ValueError unless `fit` is one of FITS, and there is a size if it is not the first."""
    choose("fit", fit, dict.fromkeys(FITS))
    if fit != FITS[0] and size is None:
        raise ValueError(f"fit = {fit!r} without a size, such as --size 64")


def refuse_folder_options(name: str, settings: Settings) -> None:
    """Raise ValueError where options of a folder of images are set for other data."""
    if settings.skip_broken:
        raise ValueError(f"{name}: skip_broken is for a folder of images")
    is_seen = settings.size is not None and settings.fit == "pad"
    if settings.background != Settings.background and not is_seen:
        raise ValueError(
            f"{name}: background is for a folder of images, or for --size with --fit pad"
        )


def parse_background(value: str) -> tuple[int, int, int]:
    """Return (red, green, blue) of a colour that Pillow's ImageColor knows.

    Raises:
        ValueError: it knows no such colour, or the colour is transparent.
    """
    from PIL import ImageColor

    try:
        red, green, blue, *alpha = ImageColor.getrgb(value)
        known = alpha in ([], [255])
    except (AttributeError, TypeError, ValueError):
        known = False
    if not known:
        raise ValueError(
            f"background = {value!r} is not an opaque colour, such as white, #ff8000 or"
            " rgb(255,128,0)"
        )
    return red, green, blue


def _numbers(value: str | Sequence[float]) -> list[float]:
    """Return the value as finite numbers, or [] if it is anything else."""
    try:
        parts = value.split(",") if isinstance(value, str) else list(value)
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError, OverflowError):
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
