"""Read the image files of a folder as one array, in memory or in a file of the cache."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.names import list_names, printable
from . import pixel_cache
from .checks import DataError
from .image_file import ACCEPTED, BLENDED, ENLARGED, RECOLOURED, REDUCED, ROTATED, ImageFile
from .scan import Scan, examples
from .settings import FITS, Settings

AS_COLOURS = "stored as grey and used as RGB, as others have colours"
BROKEN = "that cannot be read"
NO_IMAGE = f"not of {ACCEPTED}"
UNREADABLE = (DataError, FileNotFoundError)  # the errors of ImageFile


@dataclass(frozen=True)
class ImageRecord:
    """What is known of an image that was read, in JSON types; see `ImageFile`.

    `path` is relative to the folder.
    """

    path: str
    channels: int
    is_animated: bool
    largest: int | None
    conversions: Sequence[str]


def read_images(
    scan: Scan, settings: Settings, notes: list[str], progress: bool
) -> tuple[np.ndarray, list[Path]]:
    """Return the pixels of all images, uint8 (N, C, H, W), and the paths of their files.

    Pixels of more than `max_gb` lie in a file of the cache, which is mapped into memory.

    Raises:
        DataError: a file cannot be read, sizes differ, there is no image, or the cache is full.
    """
    cached = pixel_cache.cache_path(scan, settings)
    found = pixel_cache.load(cached, settings.max_gb)
    if found is None:
        reader = Reader(scan, settings, progress)
        if math.prod(reader.shape) <= settings.max_gb * 1e9:
            found = reader.to_memory(), reader.info()
        else:
            found = pixel_cache.write(cached, scan.folder, reader, settings.max_gb)
    pixels, info = found
    for reason, names in info["unused"].items():
        scan.unused[reason] = [scan.folder / name for name in names]
    records = [ImageRecord(**fields) for fields in info["images"]]
    _describe(scan.folder, records, notes)
    if isinstance(pixels, np.memmap):
        notes.append(
            f"{scan.folder}: the pixels take {pixels.nbytes / 1e9:.3g} GB, more than max_gb ="
            f" {settings.max_gb:g}, and are read from {cached}, which you can delete"
        )
    return pixels, [scan.folder / record.path for record in records]


class Reader:
    """A reader of the images in a folder: first of their headers, then of their pixels.

    - `shape`: (N, C, H, W), which counts files that turn out to be broken too.
    - `records`: the images that were read.
    """

    def __init__(self, scan: Scan, settings: Settings, progress: bool) -> None:
        self.scan, self.settings, self.progress = scan, settings, progress
        self.records: list[ImageRecord] = []
        self.paths: list[Path] = []
        scan.unused |= {BROKEN: [], NO_IMAGE: []}
        with _bombs_refused():
            channels = 3 if self._read_headers() else 1
            self.shape = (len(self.paths), channels, *self._height_and_width())

    def to_memory(self) -> np.ndarray:
        """Return the pixels of all images."""
        pixels = np.empty(self.shape, np.uint8)  # takes no memory before it is written to
        count = 0
        for count, image in enumerate(self.images(), 1):
            pixels[count - 1] = image
        return pixels[:count]

    def info(self) -> dict[str, Any]:
        """Return what is known of the images, and the names of unused files, in JSON types."""
        unused = {
            reason: [str(path.relative_to(self.scan.folder)) for path in self.scan.unused[reason]]
            for reason in (BROKEN, NO_IMAGE)
        }
        return {"images": [asdict(record) for record in self.records], "unused": unused}

    def images(self) -> Iterator[np.ndarray]:
        """Yield the pixels of each image, (C or 1, H, W), and add to `records`.

        Raises:
            DataError: a file cannot be read, or has another size; or none can be read.
        """
        for path in self._bar(self.paths):
            with _bombs_refused():
                try:
                    with ImageFile(path, self.settings) as image:
                        pixels = image.read()
                except UNREADABLE as error:
                    self._skip(path, error)
                    continue
            if pixels.shape[1:] != self.shape[2:]:
                first = self.scan.folder / self.records[0].path
                raise _other_size(first, self.shape[:1:-1], path, pixels.shape[:0:-1])
            self.records.append(
                ImageRecord(
                    str(path.relative_to(self.scan.folder)),
                    len(pixels),
                    image.is_animated,
                    image.largest,
                    image.conversions,
                )
            )
            yield pixels
        if not self.records:
            raise self._no_images()
        _check_16_bit(self.scan.folder, self.records)

    def _read_headers(self) -> bool:
        """Find the files that are images; return whether any has colours."""
        first: tuple[Path, tuple[int, int]] | None = None
        has_colours, undecided = False, []
        for path in self._bar(self.scan.files, " (headers)"):
            try:
                with ImageFile(path, self.settings) as image:
                    if not image.is_image:
                        self.scan.skip(NO_IMAGE, path)
                        continue
                    colours = image.has_colours
            except UNREADABLE as error:
                self._skip(path, error)
                continue
            self.paths.append(path)
            has_colours = has_colours or colours is True
            undecided += [path] if colours is None else []
            first = first or (path, image.size)
            # Both are as stored; a rotation by EXIF data may exchange width and height.
            if self.settings.size is None and sorted(image.size) != sorted(first[1]):
                raise _other_size(*first, path, image.size)
        return has_colours or any(len(pixels) == 3 for pixels in self._readable(undecided))

    def _height_and_width(self) -> tuple[int, int]:
        """Return those of the first image that can be read, or of the settings."""
        if self.settings.size:
            return self.settings.size[1], self.settings.size[0]
        for pixels in self._readable(self.paths):
            return pixels.shape[1], pixels.shape[2]
        raise self._no_images()

    def _readable(self, paths: Sequence[Path]) -> Iterator[np.ndarray]:
        """Yield the pixels of those images that can be read."""
        for path in paths:
            try:
                with ImageFile(path, self.settings) as image:
                    yield image.read()
            except UNREADABLE as error:
                if not self.settings.skip_broken:
                    self._skip(path, error)

    def _skip(self, path: Path, error: Exception) -> None:
        """Record a file as broken, if such files are skipped; raise DataError if not."""
        if not self.settings.skip_broken:
            raise DataError(f"{error}; --skip-broken goes on without such files") from error
        self.scan.skip(BROKEN, path)

    def _no_images(self) -> DataError:
        unused = self.scan.describe_unused()
        text = f"{self.scan.folder}: no images in it ({ACCEPTED})"
        return DataError(f"{text}; not used: {unused}" if unused else text)

    def _bar(self, paths: Sequence[Path], what: str = "") -> Any:
        from ..utils.progress import progress_bar

        text = printable(self.scan.folder.name) + what
        return progress_bar(paths, desc=text, unit="file", show=self.progress)


@contextlib.contextmanager
def _bombs_refused() -> Iterator[None]:
    """Make Pillow's warning of an image of very many pixels an error in a `with` block."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _other_size(
    first: Path, size: Sequence[int], other: Path, other_size: Sequence[int]
) -> DataError:
    (w, h), (width, height) = size, other_size
    return DataError(
        f"images must be of one size: {first} is {w}x{h}, {other} is {width}x{height}; --size 64"
        f" makes them so (--fit {list_names(FITS)})"
    )


def _describe(folder: Path, records: Sequence[ImageRecord], notes: list[str]) -> None:
    """Add notes on how files were converted."""
    animated = [x.path for x in records if x.is_animated]
    if animated:
        notes.append(
            f"{folder}: only the first image is used of each file with several:"
            f" {len(animated)} ({examples(animated)})"
        )
    grey = [x.path for x in records if x.channels == 1]
    converted = {AS_COLOURS: grey if len(grey) < len(records) else []}
    for conversion in (ROTATED, REDUCED, RECOLOURED, BLENDED, ENLARGED):
        converted[conversion] = [x.path for x in records if conversion in x.conversions]
    for text, names in converted.items():
        if names:
            notes.append(f"{folder}: images {text}: {len(names)} ({examples(names)})")


def _check_16_bit(folder: Path, records: Sequence[ImageRecord]) -> None:
    """Raise DataError where 16-bit files use 8 bits only."""
    largest = max((x.largest for x in records if x.largest is not None), default=0)
    if 0 < largest < 256:
        raise DataError(
            f"{folder}: 16-bit pixels from 0 to {largest}, of 65535, are nearly black; if {largest}"
            " means white, save the images with 8 bits"
        )
