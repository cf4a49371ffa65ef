"""Read one image file, of a format that is accepted, as uint8 pixels."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .checks import DataError
from .limits import open_file
from .resize import is_enlarged, resize_image
from .settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

# The formats that are recognized by their first bytes, whatever the file's name is.
COMMON_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# The formats that Pillow opens, and this library does not, with the reasons.
EXCLUDED_FORMATS = {
    "EPS": "a program, which Pillow runs in Ghostscript",
    "IPTC": "a container of a file of any format, EPS too",
    "FPX": "a container that Pillow reads with another package",
    "MIC": "a container that Pillow reads with another package",
    "WMF": "drawing commands, which Pillow renders on Windows only",
    "MPEG": "a film, of which Pillow reads the size only",
    "FITS": "measurements without a known range",
    "BUFR": "measurements, which Pillow does not decode",
    "GRIB": "measurements, which Pillow does not decode",
    "HDF5": "arrays, which Pillow does not decode",
}
ACCEPTED = "PNG, JPEG, WEBP, TIFF or another format of Pillow"  # for messages
ORIENTATION = 0x0112  # the EXIF tag
ROTATED = "rotated or mirrored as their EXIF data say"
REDUCED = "reduced from 16 bits to 8"
BLENDED = "transparent, and blended with the background (--background sets its colour)"
RECOLOURED = "converted to RGB from another colour space, such as CMYK"
ENLARGED = "smaller than --size, and enlarged"
GREY_MODES = ("1", "L", "LA", "La")
RGB_MODES = ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA")


@cache
def formats_by_suffix() -> dict[str, str]:
    """Return the accepted formats by suffix, ".png" and so on; a file with one must be an image."""
    from PIL import Image

    Image.init()
    suffixes = {
        suffix: name
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in EXCLUDED_FORMATS
    }
    return {**suffixes, ".mpo": "JPEG"}  # Photos of some cameras, which Pillow opens as JPEG.


class ImageFile:
    """An image file: its header, its pixels, and how they were converted.

        with ImageFile(path, settings) as image:
            pixels = image.read()

    - `is_image`: False for a file that has neither the content nor the suffix of an image; it
      cannot be read.
    - `size`: (width, height) as stored.
    - `largest`: the largest value of a 16-bit file, None for other files.
    - `conversions`: what was done to the pixels, of ROTATED and the others, after `read`.

    Raises:
        DataError: a file with the suffix of an image is not one, or has too many pixels.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings = path, settings
        self.file: BinaryIO = open_file(path)
        self.is_image = True
        self.largest: int | None = None
        self.conversions: list[str] = []
        try:
            self._image = self._open()
            self.size: tuple[int, int] = self._image.size
            self.is_animated: bool = getattr(self._image, "is_animated", False)
        except Exception as error:  # Each of Pillow's decoders raises errors of its own.
            self.file.close()
            self.is_image = path.suffix.lower() in formats_by_suffix() or _is_bomb(error)
            if self.is_image:
                raise self._data_error(error) from error

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    @property
    def has_colours(self) -> bool | None:
        """Whether `read` will return three channels; None where the pixels decide."""
        mode, settings = self._image.mode, self.settings
        if settings.grey:
            return False
        if settings.pads_with_colour:
            return True
        is_blended = self._image.has_transparency_data and settings.has_coloured_background
        if mode in ("P", "PA") or (is_blended and mode in GREY_MODES):
            return None
        return mode not in GREY_MODES and mode[0] != "I"

    def read(self) -> np.ndarray:
        """Return the pixels, uint8 (1, H, W) of a grey image, else (3, H, W).

        Raises:
            DataError: the file is damaged, or its pixels have a dtype without a known range.
        """
        try:
            if self._image.format == "PNG":
                self._image.verify()  # compares the checksums, which decoding does not
                self._image = self._open()
            if self._image.getexif().get(ORIENTATION, 1) in range(2, 9):
                self.conversions.append(ROTATED)
            image = self._grey_of_16_bit() if self._image.mode[0] == "I" else self._grey_or_rgb()
            if is_enlarged(image.size, self.settings):
                self.conversions.append(ENLARGED)
            pixels = np.asarray(resize_image(image, self.settings))
        except Exception as error:
            raise self._data_error(error) from error
        del self._image
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _grey_of_16_bit(self) -> Image:
        """Return 16-bit pixels scaled to 8 bits; convert("L") would clip them."""
        from PIL import Image, ImageOps

        values = np.asarray(ImageOps.exif_transpose(self._image)).astype(np.int64)
        self.largest = int(values.max())
        if values.min() < 0 or self.largest > 65535:
            raise ValueError(f"pixels of {values.min()} to {self.largest}; 0 to 65535 are accepted")
        self.conversions.append(REDUCED)
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))

    def _grey_or_rgb(self) -> Image:
        """Return an image of mode L if it is stored as grey or has grey colours only, else RGB."""
        from PIL import Image, ImageOps

        mode, is_transparent = self._image.mode, self._image.has_transparency_data
        if mode == "F":
            raise ValueError(
                "its pixels are floats, which have no known range; integers are needed"
            )
        image = ImageOps.exif_transpose(self._image)
        if mode in GREY_MODES and not is_transparent:
            return image.convert("L")
        if mode not in (*GREY_MODES, *RGB_MODES):
            self.conversions.append(RECOLOURED)
        if is_transparent:
            image = image.convert("RGBA")
            if np.asarray(image.getchannel("A")).min() < 255:
                self.conversions.append(BLENDED)
            background = Image.new("RGBA", image.size, (*self.settings.background, 255))
            image = Image.alpha_composite(background, image)
        image = image.convert("RGB")
        if mode in (*GREY_MODES, "P", "PA"):
            pixels = np.asarray(image)
            if (pixels == pixels[..., :1]).all():
                return image.getchannel("R")
        return image

    def _open(self) -> Image:
        from PIL import Image

        formats = list(COMMON_FORMATS)
        if own := formats_by_suffix().get(self.path.suffix.lower()):
            formats.append(own)
        self.file.seek(0)
        return Image.open(self.file, formats=formats)

    def _data_error(self, error: Exception) -> DataError:
        reason = str(error)
        if "cannot identify" in reason:
            reason = f"it is damaged, or not of {ACCEPTED}"
        return DataError(f"{self.path}: not an image that can be read ({reason})")


def _is_bomb(error: Exception) -> bool:
    from PIL import Image

    return isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning)
