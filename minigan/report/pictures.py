"""Read the pictures of a run, and encode them again, small enough for a report.

A run folder may come from anywhere: a PNG is decoded within a limit of its size, and what a report
holds are new files made of its pixels.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels.runtime.files import read_bounded
from ..training.run_folder import REALS, sample_pictures
from ..utils.animation import evenly
from ..utils.figures import tile
from ..utils.grids import CELL, cell_scale

if TYPE_CHECKING:
    from PIL import Image

MAX_STEPS = 24  # pictures of samples of a run
MAX_FILE_BYTES, MAX_PIXELS = 1 << 25, 1 << 24  # of a picture that is read
MAX_SCALE = CELL  # by which a grid of images of a pixel would be enlarged
SHARE_OF_REALS = 0.1  # of the bytes of a run's pictures


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Attributes:
        step: of the training.
        uri: a data URI of its file.
        width, height: the size in pixels in which it is shown.
        scale: how many pixels are shown for one of the file, in each direction.
    """

    step: int
    uri: str
    width: int
    height: int
    scale: int = 1


@dataclass
class Album:
    """The pictures of a run, in ascending order of steps; `total` is how many there are."""

    samples: list[Picture] = field(default_factory=list)
    reals: Picture | None = None
    total: int = 0
    lossy: bool = False
    problems: list[str] = field(default_factory=list)


def read_album(folder: Path, limit: int) -> Album:
    """Return the pictures of samples, evenly chosen, and that of real samples.

    Args:
        folder: the run's folder.
        limit: the bytes of all data URIs together.
    """
    album = Album()
    paths = sample_pictures(folder)
    album.total = len(paths)
    steps = list(paths)
    chosen = [steps[i] for i in evenly(len(steps), MAX_STEPS)]
    size = int(limit * (1 - SHARE_OF_REALS)) // max(1, len(chosen))
    for step in chosen:
        picture = _read(paths[step], step, size, album)
        album.samples += [] if picture is None else [picture]
    if (folder / REALS).exists():
        album.reals = _read(folder / REALS, 0, int(limit * SHARE_OF_REALS), album)
    return album


def _read(path: Path, step: int, limit: int, album: Album) -> Picture | None:
    """Return a picture of a file; None, and a note in the album, if it cannot be read."""
    try:
        picture, is_lossy = encode(decode(path), limit, step)
    except Exception as error:  # Each of Pillow's decoders raises errors of its own.
        reason = str(error).replace(str(path), path.name)
        album.problems.append(f"{path.name} is left out: it cannot be read ({reason}).")
        return None
    album.lossy |= is_lossy
    return picture


def decode(path: Path) -> Image.Image:
    """Return the pixels of a PNG, in mode L or RGB; its texts and profiles are dropped."""
    from PIL import Image

    content = io.BytesIO(read_bounded(path, MAX_FILE_BYTES))
    image = Image.open(content, formats=("PNG",))
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
    image.verify()  # compares the checksums, which decoding does not
    image = Image.open(content, formats=("PNG",))
    return Image.fromarray(np.asarray(_flatten(image)))


def _flatten(image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB, in front of white where it is transparent."""
    from PIL import Image

    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def encode(picture: Image.Image, limit: int, step: int = 0) -> tuple[Picture, bool]:
    """Return a picture whose data URI has at most `limit` bytes, and whether pixels changed.

    PNG is tried first, then JPEG of falling quality, which is then made smaller until it fits. An
    image that was enlarged by repeating its pixels is stored as it was before.
    """
    from PIL import Image

    pixels = np.asarray(picture)
    scale = _enlargement(pixels)
    image = Image.fromarray(pixels[::scale, ::scale])
    uri, is_lossy = _uri(image, "PNG"), False
    for quality in (90, 75):
        if len(uri) > limit:
            uri, is_lossy = _uri(image, "JPEG", quality=quality), True
    small = image
    while len(uri) > limit and min(small.size) > 64:
        small = small.resize((small.width * 3 // 4, small.height * 3 // 4))
        uri = _uri(small, "JPEG", quality=75)
    return Picture(step, uri, *picture.size, scale), is_lossy


def _enlargement(pixels: np.ndarray) -> int:
    """Return the largest number by which an image was enlarged by repeating its pixels."""
    height, width = pixels.shape[:2]
    for scale in range(MAX_SCALE, 1, -1):
        if height % scale == 0 and width % scale == 0:
            small = pixels[::scale, ::scale]
            if np.array_equal(small.repeat(scale, 0).repeat(scale, 1), pixels):
                return scale
    return 1


def encode_grid(images: np.ndarray, columns: int, limit: int) -> Picture:
    """Return a picture of images (n, C, H, W) in [-1, 1], each pixel as large as in a grid."""
    from PIL import Image

    sheet = _flatten(Image.fromarray(tile(images, columns)))
    scale = cell_scale(images.shape[2])
    size = (sheet.width * scale, sheet.height * scale)
    return encode(sheet.resize(size, Image.Resampling.NEAREST), limit)[0]


def _uri(image: Image.Image, kind: str, **settings: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
