"""Write images as a grid with the names of their classes, as one PNG."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ..kernels.runtime.files import atomic_write
from .figures import MAX_CYCLE, tile
from .notices import Notice

CELL = 56  # the least height of an image in a grid, in pixels
BACKGROUND, INK = 48, 235  # shades of the captions; the first is that of the lines in `tile`
FONT_SIZE, MARGIN = 13, 3  # in pixels
MAX_LENGTH = 130  # of a vertical caption, in pixels
LAST_RESORT = "Last Resort"
NO_FONT = "no font of this machine has all characters of the class names; numbers are shown"


def image_grid(
    images: np.ndarray,
    path: Path,
    columns: int = 8,
    captions: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG of images as `draw_grid` draws them.

    Args:
        images, columns, captions: see `draw_grid`.
        path: the file to write.
        metadata: texts that the PNG holds, by keyword.
    """
    write_png(draw_grid(images, columns, captions), path, metadata)


def draw_grid(
    images: np.ndarray, columns: int = 8, captions: Sequence[str] | None = None
) -> Image.Image:
    """Return a picture of images (n, C, H, W) in [-1, 1], C = 1 to 4, each at least CELL high.

    Captions that are the same in each column are written once, above it; others above each image.

    Args:
        images: the images.
        columns: the number of images in a row.
        captions: a text for each image; None: no captions.
    """
    scale = cell_scale(images.shape[2])
    bands: list[Image.Image] = []
    if captions is not None and is_periodic(captions, columns):
        width, step = scale * images.shape[3], scale * (images.shape[3] + 1)
        heads = captions[:columns]
        bands.append(_strip(heads, scale, width, step, scale + columns * step, vertical=True))
        captions = None
    rows = range(0, len(images), columns) if captions is not None else [0]
    for start in rows:
        end = len(images) if captions is None else start + columns
        sheet = Image.fromarray(tile(images[start:end], columns))
        size = (sheet.width * scale, sheet.height * scale)
        enlarged = sheet.resize(size, Image.Resampling.NEAREST)
        if captions is not None:
            width, step = scale * images.shape[3], scale * (images.shape[3] + 1)
            bands.append(_strip(captions[start:end], scale, width, step, enlarged.width))
        bands.append(enlarged)
    return _stack(bands)


def write_png(picture: Image.Image, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a picture as a PNG that holds texts by keyword."""
    info = PngInfo()
    for name, text in (metadata or {}).items():
        info.add_text(name, text)
    atomic_write(path, lambda file: picture.save(file, format="PNG", pnginfo=info))


def cell_scale(height: int) -> int:
    """Return the integer by which an image of this height is enlarged in a grid."""
    return max(1, math.ceil(CELL / height))


def is_periodic(captions: Sequence[str], columns: int) -> bool:
    """Return whether each column of a grid has one caption."""
    return all(text == captions[i % columns] for i, text in enumerate(captions))


def grid_columns(n: int, height: int, width: int, cycle: int = 1) -> int:
    """Return the number of columns that makes a grid nearly square, with few empty cells.

    Args:
        n: the number of images.
        height, width: of an image.
        cycle: the number of labels that the images have in turn. Up to MAX_CYCLE labels get
            columns of their own, so the number of columns is a multiple of theirs.
    """
    unit = cycle if 1 <= cycle <= MAX_CYCLE else 1

    def cost(columns: int) -> tuple[float, int]:
        rows = math.ceil(n / columns)
        aspect = columns * width / (rows * height)
        return max(aspect, 1 / aspect) * columns * rows, -columns

    return min(min(range(unit, max(n, unit) + 1, unit), key=cost), n)


# ------------------------------------------------------------------------------------- captions
def font_for(texts: Sequence[str]) -> str | None:
    """Return the path of a font that has all characters of these texts: DejaVu Sans if it has.

    Where there is none, emit a Notice, once, and return None.
    """
    return _font_for("".join(sorted(set("".join(texts) + "…"))))


@cache
def _font_for(text: str) -> str | None:
    from matplotlib import get_data_path
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    usual = str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    # Those of matplotlib have no Chinese; the machine's may. "Last Resort" has a box for each.
    others = sorted(x.fname for x in fontManager.ttflist if not x.name.startswith(LAST_RESORT))
    paths = [usual, *others]
    needed = {ord(x) for x in text} - {ord(" ")}
    for path in paths:
        try:
            if needed <= FT2Font(path).get_charmap().keys():
                return path
        except (OSError, RuntimeError):  # a font that was removed, or that FreeType cannot read
            continue
    warnings.warn(NO_FONT, Notice, stacklevel=2)
    return None


def _strip(
    texts: Sequence[str], left: int, width: int, step: int, total: int, vertical: bool = False
) -> Image.Image:
    """Return captions of cells of this width, every `step` pixels, as a strip of `total` pixels.

    With `vertical` they are rotated where one is wider than its cell. What is too long is cut, and
    ends in an ellipsis.
    """
    path = font_for(texts)
    assert path is not None, "the caller asks whether there is a font"
    font = _font(path)
    rotated = vertical and any(font.getlength(text) > width for text in texts)
    texts = [_cut(text, font, MAX_LENGTH if rotated else width) for text in texts]
    line = FONT_SIZE + 2 * MARGIN
    height = round(max(map(font.getlength, texts))) + 2 * MARGIN if rotated else line
    strip = Image.new("L", (total, height), BACKGROUND)
    for i, text in enumerate(texts):
        length = math.ceil(font.getlength(text))
        word = Image.new("L", (max(1, length), line), BACKGROUND)
        ImageDraw.Draw(word).text((0, line / 2), text, INK, font, anchor="lm")
        word = word.rotate(90, expand=True) if rotated else word
        x = left + i * step + (width - word.width) // 2
        strip.paste(word, (x, height - MARGIN - word.height if rotated else 0))
    return strip


def caption_line(text: str, width: int) -> Image.Image:
    """Return a text as a line of this width in pixels, in the style of the captions."""
    path = font_for([text])
    line = Image.new("L", (width, FONT_SIZE + 2 * MARGIN), BACKGROUND)
    if path is not None:
        place = (MARGIN, line.height / 2)
        ImageDraw.Draw(line).text(place, text, INK, _font(path), anchor="lm")
    return line


@cache
def _font(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, FONT_SIZE)


def _cut(text: str, font: ImageFont.FreeTypeFont, length: float) -> str:
    """Return the text, cut to a length in pixels, with an ellipsis where it was cut.

    Names in a list often differ at their ends, so both ends stay.
    """
    result, kept = text, len(text)
    while kept and font.getlength(result) > length:
        kept -= 1
        result = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return result


def _stack(bands: Sequence[Image.Image]) -> Image.Image:
    """Return pictures of one width below each other, in the mode of the last one."""
    if len(bands) == 1:
        return bands[0]
    height = sum(band.height for band in bands)
    result = Image.new(bands[-1].mode, (bands[-1].width, height))
    top = 0
    for band in bands:
        result.paste(band.convert(result.mode), (0, top))
        top += band.height
    return result
