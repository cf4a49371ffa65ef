"""Load MNIST and Fashion-MNIST from their published IDX files, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..kernels.runtime.files import cache_root
from . import download
from .checks import DataError
from .dataset import Dataset
from .limits import check_memory, open_file

STEMS = {"train": "train", "test": "t10k"}
DIMENSIONS = {"images": 3, "labels": 1}
SIDES = (28, 28)
CHUNK_BYTES = 1 << 20
Files = dict[str, Path]  # by "images" and "labels"


def load_mnist(
    name: str,
    split: str,
    data_dir: str | os.PathLike[str] | None,
    progress: bool,
    max_gb: float = math.inf,
) -> Dataset:
    """Return the images (1, 28, 28) and labels 0 to 9 of a set.

    The files are searched in `data_dir` alone if it is given; otherwise in the folder MINIGAN_DATA,
    then in the cache, into which missing files are downloaded. In each of these, a folder named
    after the set is searched first. Existing files are never changed.

    Raises:
        FileNotFoundError: there are no such files.
        DataError: they are corrupt, or do not fit together.
    """
    files = _find_files(name, split, data_dir, progress)
    images = read_idx(files["images"], "images", max_gb)
    labels = read_idx(files["labels"], "labels", max_gb)
    if len(images) != len(labels):
        raise DataError(
            f"{files['labels']}: {len(labels)} labels for the {len(images)} images of "
            f"{files['images'].name}"
        )
    if labels.max(initial=0) > 9:
        first = int(np.argmax(labels > 9))
        raise DataError(f"{files['labels']}: label {labels[first]} at {first}, must be 0 to 9")
    return Dataset(name, images[:, None], labels, 10)


def read_idx(path: Path, kind: str, max_gb: float = math.inf) -> np.ndarray:
    """Return the uint8 array of an IDX file of "images" (N, 28, 28) or "labels" (N,).

    The format (LeCun's MNIST page): two zero bytes, the type (8 is uint8), the number of
    dimensions, each dimension as a big-endian int32, the data. Gzip is recognized by the first
    bytes, not by the name: browsers unpack a download and keep its name. At most one
    byte more than the header declares is unpacked; reaching the end also verifies gzip's checksum.

    Raises:
        DataError: it is not such a file, is damaged, or takes more than `max_gb`.
    """
    with open_file(path) as file:
        is_packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) if is_packed else file as content:
                shape = _idx_shape(path, content.read(4 + 4 * DIMENSIONS[kind]), kind)
                check_memory(path, shape, max_gb, 1)
                expected = math.prod(shape)
                data = _read(content, expected + 1)
        except (OSError, EOFError, zlib.error) as error:
            reason = "broken gzip file" if is_packed else "cannot be read"
            raise DataError(f"{path}: {reason} ({error})") from error
    if len(data) < expected:
        raise DataError(
            f"{path}: truncated, {len(data)} bytes of data where {shape} takes {expected}"
        )
    if len(data) > expected:
        raise DataError(f"{path}: has trailing bytes after the {expected} of data, {shape}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read(file: gzip.GzipFile | BinaryIO, limit: int) -> bytearray:
    """Return up to `limit` bytes; `file.read(limit)` would take memory for all of them at once."""
    data = bytearray()
    while chunk := file.read(min(CHUNK_BYTES, limit - len(data))):
        data += chunk
    return data


def _idx_shape(path: Path, header: bytes, kind: str) -> tuple[int, ...]:
    """Return the shape in the header of an IDX file; DataError unless it fits the kind."""
    if header[:3] != b"\0\0\x08" or len(header) < 4:
        raise DataError(f"{path}: not an IDX file of bytes, it begins with {header[:4]!r}")
    dimensions = header[3]
    if dimensions != DIMENSIONS[kind]:
        actual = {3: "images", 1: "labels"}.get(dimensions, "something else")
        raise DataError(
            f"{path}: should hold {kind} (idx{DIMENSIONS[kind]}), holds {actual} (idx{dimensions})"
        )
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path}: truncated in its header, {len(header)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4", dimensions, 4))
    if kind == "images" and shape[1:] != SIDES:
        raise DataError(f"{path}: images of {shape[1:]} pixels, not {SIDES}")
    if 0 in shape:
        raise DataError(f"{path}: empty, of shape {shape}")
    return shape


# ------------------------------------------------------------------------------------- search
def _find_files(
    name: str, split: str, data_dir: str | os.PathLike[str] | None, progress: bool
) -> Files:
    if data_dir is not None:
        return _files_in(data_dir, "data_dir", name, split)
    reason = ""
    if variable := os.environ.get("MINIGAN_DATA"):
        try:
            return _files_in(variable, "MINIGAN_DATA", name, split)
        except _NoFilesError as error:
            reason = f"; {error}"
    cache = cache_root() / "data"
    files = _look_in(cache, name, split)
    missing = [kind for kind in DIMENSIONS if kind not in files]
    published = {kind: _names(split, kind)[0] for kind in missing}
    if missing:
        try:
            download.fetch(name, list(published.values()), cache / name, progress)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}{reason}") from None
    return files | {kind: cache / name / file for kind, file in published.items()}


class _NoFilesError(FileNotFoundError):
    """A folder has neither of the two files, so that the next folder is searched."""


def _files_in(path: str | os.PathLike[str], source: str, name: str, split: str) -> Files:
    """Return both files in a folder; `source` names the setting of its path, for errors."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: {source} is {folder}, which is not a folder")
    files = _look_in(folder, name, split)
    missing = [file for kind in DIMENSIONS if kind not in files for file in _names(split, kind)]
    if missing:
        raise (FileNotFoundError if files else _NoFilesError)(
            f"{name} ({split}): neither {folder} ({source}) nor its folder {name} has any of "
            f"{', '.join(missing)}"
        )
    return files


def _names(split: str, kind: str) -> list[str]:
    """Return the possible file names: as published, unpacked, and as in some archives."""
    stem, idx = STEMS[split], f"idx{DIMENSIONS[kind]}-ubyte"
    plain = [f"{stem}-{kind}-{idx}", f"{stem}-{kind}.{idx}"]
    return [f"{file}{suffix}" for file in plain for suffix in (".gz", "")]


def _look_in(root: Path, name: str, split: str) -> Files:
    """Return both files from the set's folder in `root` or from `root`; else those that exist."""
    partial: Files = {}
    for folder in (root / name, root):
        files: Files = {}
        for kind in DIMENSIONS:
            paths = [folder / file for file in _names(split, kind) if (folder / file).is_file()]
            if paths:
                files[kind] = paths[0]
        if folder == root:
            for path in files.values():
                _refuse_another_set(path, name)
        if len(files) == 2:
            return files
        partial = partial or files
    return partial


def _refuse_another_set(path: Path, name: str) -> None:
    """Raise DataError for a file of another set, since the sets' files have the same names."""
    digest = download.file_md5(path)
    for other, source in download.SOURCES.items():
        if other != name and digest in source.md5.values():
            raise DataError(
                f"{path}: belongs to {other}, not to {name}; keep each set in a folder of its name"
            )
