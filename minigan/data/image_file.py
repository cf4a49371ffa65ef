"""Read one image file, of a known format and size, as uint8 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .dataset import DataError
from .limits import open_file

if TYPE_CHECKING:
    from PIL.Image import Image

# The only formats that Pillow may try. Some of its others run other programs (PostScript).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# A file with such a suffix must be an image; any other file is one if its content is.
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
ORIENTATION = 0x0112  # the EXIF tag
ROTATED = "rotated or mirrored as their EXIF data say"
REDUCED = "reduced from 16 bits to 8"
BLENDED = "transparent and blended with black"
GREY_MODES = ("1", "L", "LA")


class ImageFile:
    """An image file: its header, and after `read` its pixels.

        with ImageFile(path) as image:
            image.read()
        image.pixels

    - `is_image`: False for a file that has neither the content nor the suffix of an image; it
      cannot be read.
    - `size`: (width, height): before `read` as stored, then as rotated by the file's EXIF data.
    - `pixels`: uint8 (1, H, W) where the file is stored as grey, else (3, H, W), after `read`.
    - `largest`: the largest value of a 16-bit file, None for other files.
    - `conversions`: what was done to the pixels, of ROTATED, REDUCED and BLENDED, after `read`.

    Raises:
        DataError: a file with the suffix of an image is not one, or has too many pixels.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: BinaryIO = open_file(path)
        self.is_image = True
        self.largest: int | None = None
        self.conversions: list[str] = []
        self.pixels = np.empty((1, 0, 0), np.uint8)
        try:
            self._image = self._open()
            self.size: tuple[int, int] = self._image.size
            self.is_animated = getattr(self._image, "is_animated", False)
        except Exception as error:  # Each of Pillow's decoders raises errors of its own.
            self.file.close()
            self.is_image = path.suffix.lower() in SUFFIXES or _is_bomb(error)
            if self.is_image:
                raise self._data_error(error) from error

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    @property
    def channels(self) -> int:
        """The number of channels of the pixels, 1 before they are read."""
        return len(self.pixels)

    def read(self) -> None:
        """Read the pixels.

        Raises:
            DataError: the file is damaged, or its pixels have a dtype without a known range.
        """
        try:
            if self._image.format == "PNG":
                self._image.verify()  # compares the checksums, which decoding does not
                self._image = self._open()
            if self._image.getexif().get(ORIENTATION, 1) in range(2, 9):
                self.conversions.append(ROTATED)
            pixels = self._pixels_16_bit() if self._image.mode[0] == "I" else self._pixels()
        except Exception as error:
            raise self._data_error(error) from error
        self.pixels = pixels.transpose(2, 0, 1).copy()
        height, width = self.pixels.shape[1:]
        self.size = (width, height)
        del self._image

    def _pixels_16_bit(self) -> np.ndarray:
        """Return 16-bit pixels scaled to uint8, as convert("L") would clip them."""
        from PIL import ImageOps

        values = np.asarray(ImageOps.exif_transpose(self._image)).astype(np.int64)
        self.largest = int(values.max())
        if values.min() < 0 or self.largest > 65535:
            raise ValueError(f"pixels of {values.min()} to {self.largest}; 0 to 65535 are accepted")
        self.conversions.append(REDUCED)
        return np.rint(values / 257).astype(np.uint8)[:, :, None]

    def _pixels(self) -> np.ndarray:
        """Return uint8 (H, W, 1) of a grey image, else (H, W, 3)."""
        from PIL import Image, ImageOps

        image = self._image
        if image.mode == "F":
            raise ValueError(
                "its pixels are floats, which have no known range; integers are needed"
            )
        is_grey = image.mode in GREY_MODES
        if is_grey and not image.has_transparency_data:
            return np.asarray(ImageOps.exif_transpose(image).convert("L"))[..., None]
        is_palette = image.mode == "P"
        if image.has_transparency_data:
            colours = ImageOps.exif_transpose(image).convert("RGBA")
            if np.asarray(colours.getchannel("A")).min() < 255:
                self.conversions.append(BLENDED)
            black = Image.new("RGBA", colours.size, (0, 0, 0, 255))
            pixels = np.asarray(Image.alpha_composite(black, colours))[..., :3]
        else:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        if is_palette:
            is_grey = bool((pixels == pixels[..., :1]).all())
        return pixels[..., :1] if is_grey else pixels

    def _open(self) -> Image:
        from PIL import Image

        self.file.seek(0)
        return Image.open(self.file, formats=FORMATS)

    def _data_error(self, error: Exception) -> DataError:
        reason = str(error)
        if "cannot identify" in reason:
            reason = f"it is damaged, or none of {', '.join(FORMATS)}"
        return DataError(f"{self.path}: not an image that can be read ({reason})")


def _is_bomb(error: Exception) -> bool:
    from PIL import Image

    return isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning)
