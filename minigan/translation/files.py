"""Read and write the pictures that `minigan translate` is given."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data import DataError, DataWarning
from ..data.arrays import scale
from ..data.dataset import from_bytes
from ..data.image_file import BLENDED, ImageFile, formats_by_suffix
from ..data.resize import resize_array
from ..data.settings import Settings, parse_background, parse_range
from ..utils.figures import tile, to_pixels
from ..utils.grids import write_png
from .pictures import with_channels
from .tasks import repeat_pixels, with_hole

if TYPE_CHECKING:
    from .saved import SavedTranslation

BLENDED_HERE = "transparent, and blended with the background colour of the training"
MOST_OF_IT = 0.5  # the share of a mask above which a hole is questioned
CHANNEL_NAMES = {1: "grey", 3: "colour"}


def find_pictures(paths: list[Path], out: Path) -> list[tuple[Path, Path]]:
    """Return the image files among paths and in folders, each with the file to write.

    Raises:
        ValueError: a path does not exist, a folder has no image, two would be written to one file,
            or a file to write exists.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(x for x in path.iterdir() if x.suffix.lower() in formats_by_suffix())
            if not inside:
                raise ValueError(f"{path}: no image in this folder")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise ValueError(f"{path}: there is no such file or folder")
    jobs = [(path, out / f"{path.stem}.png") for path in found]
    targets = [target for _, target in jobs]
    for i, (path, target) in enumerate(jobs):
        if target in targets[:i]:
            other = jobs[targets.index(target)][0]
            raise ValueError(f"{other} and {path} would both be written to {target}")
        if target.exists():
            raise ValueError(f"{target} exists; another --out is needed")
    out.mkdir(parents=True, exist_ok=True)
    return jobs


def read_picture(path: Path, net: SavedTranslation) -> tuple[np.ndarray, str]:
    """Return an image (1, C, H, W) as those that a net was trained on, and what was done to it.

    It is made grey, blended with the background and scaled as the training's images were. The text
    on what was done is "" where nothing was.

    Raises:
        DataError: the file cannot be read, or the net takes other channels.
    """
    channels, config = net.image_channels, net.config
    if channels not in CHANNEL_NAMES:
        raise DataError(f"{path}: this net takes {channels} channels, which no picture has")
    settings = Settings(
        background=parse_background(config.background), value_range=parse_range(config.value_range)
    )
    with ImageFile(path, settings) as image:
        if not image.is_image:
            raise DataError(f"{path}: not an image")
        pixels = image.read()
        done = [BLENDED_HERE if x == BLENDED else x for x in image.conversions]
        if image.is_animated:
            done.append("the first image of an animation")
    values = pixels[None]
    if len(pixels) != channels:
        kind = CHANNEL_NAMES[channels]
        done.append(f"taken as {kind}, as the net was trained on {kind} images")
        if channels == 1:
            values = resize_array(str(path), values, Settings(grey=True))
    if settings.value_range is not None:
        values = scale(str(path), values, settings, done)
    values = from_bytes(values) if values.dtype == np.uint8 else values.astype(np.float32)
    return with_channels(values, channels), "; ".join(done)


def read_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask (1, 1, H, W), 1 where the picture is white, for images of a shape.

    Raises:
        DataError: the picture has another size, or other colours than black and white.
    """
    with ImageFile(path, Settings()) as image:
        if not image.is_image:
            raise DataError(f"{path}: not an image")
        pixels = image.read()
        is_transparent = BLENDED in image.conversions
    if is_transparent:
        raise DataError(
            f"mask {path}: is transparent; an opaque picture, white on black, is needed"
        )
    if pixels.shape[1:] != shape[2:]:
        sizes = [f"{w}x{h}" for h, w in (pixels.shape[1:], shape[2:])]
        raise DataError(f"mask {path}: {sizes[0]} pixels, where the picture has {sizes[1]}")
    others = pixels[(pixels != 0) & (pixels != 255)]
    if others.size or (pixels != pixels[:1]).any():
        example = f"such as grey {others[0]} of 255" if others.size else "such as pure red or blue"
        raise DataError(
            f"mask {path}: has other colours than black and white, {example}; white is the hole,"
            " and a format without loss, such as PNG, keeps it so"
        )
    if not pixels.any():
        raise DataError(f"mask {path}: is black, so there is no hole to fill")
    share = float((pixels[0] > 0).mean())
    if share > MOST_OF_IT:
        text = f"mask {path}: {share:.0%} of it is white, and is filled; is it inverted?"
        warnings.warn(text, DataWarning, stacklevel=2)
    return (pixels[None, :1] / 255).astype(np.float32)


def write_picture(
    target: Path, columns: list[np.ndarray], mask: np.ndarray | None, net: SavedTranslation
) -> None:
    """Write a PNG of an image, or of several of the same size beside each other."""
    from PIL import Image

    height, width = columns[-1].shape[2:]
    if len(columns) > 1 and mask is not None:
        columns = [with_hole(columns[0], mask)[:, :-1], *columns[1:]]
    channels = columns[-1].shape[1]
    fitted = [_fit(x, height, width, channels) for x in columns]
    pixels = tile(np.concatenate(fitted), len(fitted)) if len(fitted) > 1 else _single(fitted[0])
    metadata = {"Software": "minigan", "run": net.folder.name, "step": str(net.step)}
    write_png(Image.fromarray(pixels), target, metadata)


def _fit(images: np.ndarray, height: int, width: int, channels: int) -> np.ndarray:
    factor = height // images.shape[2]
    return with_channels(repeat_pixels(images, factor), channels)[:, :, :height, :width]


def _single(images: np.ndarray) -> np.ndarray:
    pixels = to_pixels(images)[0]
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels
