"""Read and write the pictures that `minigan translate` is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data import DataError
from ..data.dataset import from_bytes
from ..data.image_file import ImageFile, formats_by_suffix
from ..data.settings import Settings
from ..utils.figures import tile, to_pixels
from ..utils.grids import write_png
from .pictures import with_channels
from .tasks import repeat_pixels, with_hole

if TYPE_CHECKING:
    from .saved import SavedTranslation

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


def read_picture(path: Path, channels: int) -> tuple[np.ndarray, str]:
    """Return an image (1, channels, H, W) in [-1, 1], and what was done to make it fit, or "".

    Raises:
        DataError: the file cannot be read, or the channels can neither be averaged nor repeated.
    """
    with ImageFile(path, Settings()) as image:
        if not image.is_image:
            raise DataError(f"{path}: not an image")
        pixels = image.read()
        done = list(image.conversions)
    if len(pixels) != channels:
        if channels not in CHANNEL_NAMES:
            raise DataError(f"{path}: {len(pixels)} channels, where the net takes {channels}")
        kind = CHANNEL_NAMES[channels]
        done.append(f"taken as {kind}, as the net was trained on {kind} images")
    values = from_bytes(pixels)[None]
    return with_channels(values, channels), "; ".join(done)


def check_outline(path: Path, image: np.ndarray) -> None:
    """Raise DataError unless an image in [-1, 1] has black and white pixels only."""
    if not np.isin(image, (-1, 1)).all():
        raise DataError(
            f"{path}: not an outline: white lines on black, without grey, are what this run takes"
        )


def read_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask (1, 1, H, W), 1 where the picture is white, for images of a shape.

    Raises:
        DataError: the picture has another size, or other colours than black and white.
    """
    with ImageFile(path, Settings()) as image:
        if not image.is_image:
            raise DataError(f"{path}: not an image")
        pixels = image.read()
    if pixels.shape[1:] != shape[2:]:
        sizes = [f"{w}x{h}" for h, w in (pixels.shape[1:], shape[2:])]
        raise DataError(f"mask {path}: {sizes[0]} pixels, where the picture has {sizes[1]}")
    values = np.unique(pixels)
    if not set(values.tolist()) <= {0, 255} or (pixels != pixels[:1]).any():
        raise DataError(
            f"mask {path}: has other colours than black and white, such as"
            f" {values[len(values) // 2]} of 255; white is the hole, and a format without loss,"
            " such as PNG, keeps it so"
        )
    if not pixels.any():
        raise DataError(f"mask {path}: is black, so there is no hole to fill")
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
