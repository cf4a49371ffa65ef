"""The tasks of images from images: what the generator is given, and what it has to make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..engine import random

if TYPE_CHECKING:
    from .config import TranslationConfig

STREAM = "damage"  # the random stream of holes and noise
OUTLINE = 0.5  # the least step between neighbouring pixels of an outline, where black is -1

Make = Callable[[np.ndarray, "TranslationConfig"], np.ndarray]


@dataclass(frozen=True)
class Task:
    """A kind of images from images.

    Attributes:
        about: a description for the command line.
        make: a function of images (n, C, H, W) in [-1, 1] and the config that returns the inputs,
            float32, with `added` channels more; None where inputs are given.
        added: the channels that inputs have beside those of the image.
        grey: whether inputs have one channel, whatever the images have.
        options: the options of the config that this task alone has.
    """

    about: str
    make: Make | None = None
    added: int = 0
    grey: bool = False
    options: tuple[str, ...] = ()

    def input_channels(self, channels: int) -> int:
        """Return the channels of the inputs made of images of so many channels."""
        return (1 if self.grey else channels) + self.added


# ------------------------------------------------------------------------------ inputs from images
def cut_holes(images: np.ndarray, config: TranslationConfig) -> np.ndarray:
    """Return images with a square hole set to 0, and a mask with 1 in it as one more channel.

    The hole's side is `config.hole` times the shorter side of the image; its place is random.
    """
    n, _, height, width = images.shape
    side = hole_side(height, width, config.hole)
    places = random.uniform((n, 2), stream=STREAM).numpy()
    top = (places[:, 0] * (height - side + 1)).astype(np.int64)
    left = (places[:, 1] * (width - side + 1)).astype(np.int64)
    rows = np.arange(height)[None] - top[:, None]
    columns = np.arange(width)[None] - left[:, None]
    is_row, is_column = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    masks = (is_row[:, :, None] & is_column[:, None]).astype(np.float32)
    return with_hole(images, masks[:, None])


def hole_side(height: int, width: int, hole: float) -> int:
    """Return the side of a hole in pixels, at least 1."""
    return max(1, round(hole * min(height, width)))


def with_hole(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the input of `InpaintingNet`, (n, C + 1, H, W), for masks (n, 1, H, W) of 0 and 1."""
    return np.concatenate([images * (1 - masks), masks], axis=1, dtype=np.float32)


def shrink(images: np.ndarray, factor: int) -> np.ndarray:
    """Return images (n, C, H / factor, W / factor): each pixel is the mean of a square."""
    n, channels, height, width = images.shape
    blocks = images.reshape(n, channels, height // factor, factor, width // factor, factor)
    return blocks.mean(axis=(3, 5), dtype=np.float32)


def repeat_pixels(images: np.ndarray, factor: int) -> np.ndarray:
    """Return images enlarged by a factor: each pixel becomes a square."""
    return images.repeat(factor, axis=2).repeat(factor, axis=3)


def _lower(images: np.ndarray, config: TranslationConfig) -> np.ndarray:
    return repeat_pixels(shrink(images, config.factor), config.factor)


def add_noise(images: np.ndarray, config: TranslationConfig) -> np.ndarray:
    """Return images with normal noise of the standard deviation `config.noise`, cut to [-1, 1].

    They are cut because a file of bytes cannot hold a pixel that is whiter than white.
    """
    noise = random.normal(images.shape, dtype="float32", stream=STREAM).numpy()
    return (images + np.float32(config.noise) * noise).clip(-1, 1)


def outline(images: np.ndarray, config: TranslationConfig | None = None) -> np.ndarray:
    """Return outlines (n, 1, H, W): 1 where the grey level steps to the next pixel, else -1."""
    grey = images.mean(axis=1, keepdims=True)
    down = np.abs(np.diff(grey, axis=2, append=grey[:, :, -1:]))
    right = np.abs(np.diff(grey, axis=3, append=grey[:, :, :, -1:]))
    return np.where(np.maximum(down, right) > OUTLINE, np.float32(1), np.float32(-1))


TASKS: dict[str, Task] = {
    "inpaint": Task("fill a hole", cut_holes, added=1, options=("hole",)),
    "super-resolution": Task("enlarge", _lower, options=("factor",)),
    "denoise": Task("remove noise", add_noise, options=("noise",)),
    "outline": Task("fill an outline in (pix2pix)", outline, grey=True),
    "pairs": Task("translate by pairs of images (pix2pix)", options=("target", "swap")),
    "unpaired": Task(
        "translate between two kinds of images, without pairs (CycleGAN)",
        options=("target", "swap", "cycle", "identity"),
    ),
}


# -------------------------------------------------------- the other kind of an unpaired training
def slant(images: np.ndarray, shear: float = 0.5) -> np.ndarray:
    """Return images whose rows are moved sideways, the upper ones to the right.

    A row moves by `shear` pixels for each row from the middle, with linear interpolation between
    pixels; what comes in from outside is black.
    """
    height, width = images.shape[2:]
    result = np.full_like(images, -1)
    for row in range(height):
        source = np.arange(width) - shear * ((height - 1) / 2 - row)
        left = np.floor(source).astype(np.int64)
        weight = (source - left).astype(images.dtype)
        padded = np.pad(images[:, :, row], ((0, 0), (0, 0), (1, 1)), constant_values=-1)
        first, second = (np.clip(left + k, -1, width) + 1 for k in (0, 1))
        result[:, :, row] = padded[..., first] * (1 - weight) + padded[..., second] * weight
    return result


# What `--target` accepts beside data: the other half of the images, changed in a way that is known,
# so that the truth of a translation is known too.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "slanted": slant,
    "inverted": lambda images: -images,
}
