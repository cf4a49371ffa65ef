"""Load MNIST and Fashion-MNIST from their published IDX files, plain or gzipped."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path

import numpy as np

from ..kernels.runtime.files import cache_root
from . import download
from .dataset import DataError, Dataset, from_bytes

STEMS = {"train": "train", "test": "t10k"}
DIMENSIONS = {"images": 3, "labels": 1}
Files = dict[str, Path]  # by "images" and "labels"


def load_mnist(
    name: str, split: str, data_dir: str | os.PathLike[str] | None, progress: bool
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
    images = read_idx(files["images"], "images")
    labels = read_idx(files["labels"], "labels")
    if images.shape[1:] != (28, 28):
        raise DataError(f"{files['images']}: images of {images.shape[1:]} pixels, not (28, 28)")
    if len(images) != len(labels):
        raise DataError(
            f"{files['labels']}: {len(labels)} labels for the {len(images)} images of "
            f"{files['images'].name}"
        )
    if labels.max(initial=0) > 9:
        first = int(np.argmax(labels > 9))
        raise DataError(f"{files['labels']}: label {labels[first]} at {first}, must be 0 to 9")
    return Dataset(name, from_bytes(images[:, None]), labels, 10)


def read_idx(path: Path, kind: str) -> np.ndarray:
    """Return the uint8 array of an IDX file of "images" (3 dimensions) or "labels" (1).

    The format (LeCun's MNIST page): two zero bytes, the type (8 is uint8), the number of
    dimensions, each dimension as a big-endian int32, the data. Gzip is recognized by the first
    bytes, not by the name: browsers unpack a download and keep its name.

    Raises:
        DataError: it is no such file, or is truncated.
    """
    content = _content(path)
    if content[:3] != b"\0\0\x08" or len(content) < 4:
        raise DataError(f"{path}: not an IDX file of bytes, it begins with {content[:4]!r}")
    dimensions = content[3]
    if dimensions != DIMENSIONS[kind]:
        actual = {3: "images", 1: "labels"}.get(dimensions, "something else")
        raise DataError(
            f"{path}: should hold {kind} (idx{DIMENSIONS[kind]}), holds {actual} (idx{dimensions})"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path}: truncated in its header, {len(content)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", dimensions, 4))
    expected, actual_size = math.prod(shape), len(content) - start
    if actual_size != expected:
        fault = "truncated" if actual_size < expected else "has trailing bytes"
        raise DataError(
            f"{path}: {fault}, {actual_size} bytes of data where {shape} takes {expected}"
        )
    if expected == 0:
        raise DataError(f"{path}: empty, of shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: broken gzip file ({error})") from error


# ------------------------------------------------------------------------------------- search
def _find_files(
    name: str, split: str, data_dir: str | os.PathLike[str] | None, progress: bool
) -> Files:
    if data_dir is not None:
        return _files_in(data_dir, "data_dir", name, split)
    if variable := os.environ.get("MINIGAN_DATA"):
        with contextlib.suppress(_NoFilesError):
            return _files_in(variable, "MINIGAN_DATA", name, split)
    cache = cache_root() / "data"
    files = _look_in(cache, name, split)
    missing = [kind for kind in DIMENSIONS if kind not in files]
    published = {kind: _names(split, kind)[0] for kind in missing}
    if missing:
        download.fetch(name, list(published.values()), cache / name, progress)
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
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    for other, source in download.SOURCES.items():
        if other != name and digest in source.md5.values():
            raise DataError(
                f"{path}: belongs to {other}, not to {name}; keep each set in a folder of its name"
            )
