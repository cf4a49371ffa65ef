"""Make images of one size, or grey: those that Pillow opened, and arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .checks import DataError
from .dataset import Dataset, from_bytes
from .limits import check_memory
from .settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601, as Pillow's convert("L"))


def resize_image(image: Image, settings: Settings) -> Image:
    """Return an image, of mode L or RGB, with the size and the colours of the settings."""
    if settings.grey:
        image = image.convert("L")
    elif settings.pads_with_colour:
        image = image.convert("RGB")
    fill = settings.background if image.mode == "RGB" else round(_luminance(settings.background))
    return _fit(image, settings, fill)


def is_enlarged(size: tuple[int, int], settings: Settings) -> bool:
    """Return whether resizing an image of this (width, height) enlarges it."""
    if settings.size is None:
        return False
    scales = [gets / had for gets, had in zip(settings.size, size, strict=True)]
    return (min if settings.fit == "pad" else max)(scales) > 1


def resize_dataset(data: Dataset, settings: Settings) -> Dataset:
    """Return a data set whose images have the size and the colours of the settings.

    Raises:
        DataError: it has points; or see `resize_array`.
    """
    images = resize_array(data.name, data.stored, settings)
    return data if images is data.stored else replace(data, stored=images)


def resize_array(name: str, images: np.ndarray, settings: Settings) -> np.ndarray:
    """Return images (N, C, H, W), uint8 or float32 in [-1, 1], with that size and those colours.

    Raises:
        DataError: these are points, their number of channels is not accepted, or the result takes
            more than `max_gb`.
    """
    if settings.size is None and not settings.grey:
        return images
    if images.ndim != 4:
        option = "grey" if settings.size is None else "size"
        raise DataError(f"{name}: {option} is for images, and these are points")
    count, channels, height, width = images.shape
    if channels not in (1, 3) and (settings.grey or settings.pads_with_colour):
        option = "grey" if settings.grey else "a background that is not grey"
        raise DataError(f"{name}: {option} is for images of 1 or 3 channels, not of {channels}")
    if settings.grey:
        channels = 1
    elif settings.pads_with_colour:
        channels = 3
    width, height = settings.size or (width, height)
    dtype = np.dtype(np.uint8 if images.dtype == np.uint8 else np.float32)
    resized_shape = (count, channels, height, width)
    check_memory(name, resized_shape, settings.max_gb, dtype.itemsize)
    resized = np.empty(resized_shape, dtype)
    for source, target in zip(images, resized, strict=True):
        planes = _as_grey(source) if settings.grey else source
        for channel in range(channels):
            target[channel] = _resize_plane(planes[channel % len(planes)], channel, settings)
    return resized


def _as_grey(image: np.ndarray) -> np.ndarray:
    """Convert an image (C, H, W) of 1 or 3 channels to one channel."""
    from PIL import Image

    if len(image) == 1:
        return image
    if image.dtype == np.uint8:
        colours = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        return np.asarray(colours.convert("L"))[None]
    weights = np.array(LUMINANCE, np.float32)[:, None, None]
    return (weights * image).sum(0, keepdims=True, dtype=np.float32).clip(-1, 1)


def _resize_plane(plane: np.ndarray, channel: int, settings: Settings) -> np.ndarray:
    """Return a channel (H, W) of an image, resized as the settings say, in its dtype.

    Pillow resizes the channels of an image one by one too.
    """
    from PIL import Image

    background = settings.background
    is_coloured = settings.pads_with_colour and not settings.grey
    fill = background[channel] if is_coloured else round(_luminance(background))
    if plane.dtype == np.uint8:
        return np.asarray(_fit(Image.fromarray(np.ascontiguousarray(plane)), settings, fill))
    level = float(from_bytes(np.array(fill, np.uint8)))
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    # The filter overshoots at edges, where Pillow clips bytes, but not floats.
    return np.asarray(_fit(image, settings, level)).clip(-1, 1)


def _fit(image: Image, settings: Settings, fill: float | tuple[int, int, int]) -> Image:
    """Return an image of the size of the settings, resized with antialiasing (Lanczos)."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    if settings.size is None:
        return image
    if settings.fit == "pad":
        return ImageOps.pad(image, settings.size, Resampling.LANCZOS, color=fill)  # type: ignore[arg-type]
    if settings.fit == "stretch":
        return image.resize(settings.size, Resampling.LANCZOS)
    return ImageOps.fit(image, settings.size, Resampling.LANCZOS)


def _luminance(colour: tuple[int, int, int]) -> float:
    return sum(weight * part for weight, part in zip(LUMINANCE, colour, strict=True))
