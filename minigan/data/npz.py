"""Load the arrays that are needed from an .npz archive, and verify their checksums."""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .arrays import as_labels, as_samples
from .checks import DataError
from .dataset import SPLITS, Dataset
from .limits import check_memory, open_file
from .scan import examples
from .settings import Settings

VALUE_KEYS = ("images", "values", "x")
LABEL_KEYS = ("labels", "y")
SUFFIXES = {"train": ("", "_train"), "test": ("_test",)}
HEADER_BYTES = 1 << 16  # numpy accepts no longer headers


def load_npz(path: Path, split: str = "train", settings: Settings | None = None) -> Dataset:
    """Return the samples and labels of an .npz archive.

    Samples are the array `images`, `values`, `x` or `x_train`, or the only one; labels are
    `labels`, `y` or `y_train`; for the split `test` they are `x_test` and `y_test`. Images (N, H,
    W), (N, H, W, C) or (N, C, H, W) are uint8, which is scaled to [-1, 1], or floats in [-1, 1];
    points (N, D) are taken as they are. Nothing is unpickled, and other arrays are not unpacked.

    Raises:
        DataError: the file cannot be read, holds anything else, or is ambiguous.
    """
    settings = settings or Settings()
    with Archive(path) as archive:
        value_key, label_key = _choose_keys(path, archive.names, split)
        array = archive.read(value_key, settings.max_gb)
        notes: list[str] = []
        values = as_samples(f"{path}: {value_key}", array, settings, notes)
        del array
        labels = classes = class_names = None
        if label_key is not None:
            labels = archive.read(label_key, settings.max_gb)
            others = [
                archive.read(key, settings.max_gb)
                for key in _label_keys(SPLITS)
                if settings.remap_labels and key in archive.names and key != label_key
            ]
            labels, classes, class_names, note = as_labels(
                f"{path}: {label_key}", labels, settings, others
            )
            notes += [note] if note else []
        elif settings.remap_labels or settings.classes is not None:
            raise DataError(f"{path}: has no labels, but remap_labels or classes is set")
        keys_of_other_splits = {*_value_keys(SPLITS), *_label_keys(SPLITS)} - {
            *_value_keys([split]),
            *_label_keys([split]),
        }
        unused = [
            x for x in archive.names if x not in {value_key, label_key, *keys_of_other_splits}
        ]
        if unused:
            text = "" if label_key else f"; no labels ({', '.join(_label_keys([split]))}) in it"
            notes.append(f"{path}: arrays not used: {examples(unused)}{text}")
    return Dataset(str(path), values, labels, classes, class_names=class_names, notes=tuple(notes))


def _value_keys(splits: Collection[str]) -> list[str]:
    return [key + suffix for split in splits for suffix in SUFFIXES[split] for key in VALUE_KEYS]


def _label_keys(splits: Collection[str]) -> list[str]:
    return [key + suffix for split in splits for suffix in SUFFIXES[split] for key in LABEL_KEYS]


def _choose_keys(path: Path, names: Collection[str], split: str) -> tuple[str, str | None]:
    """Return the names of the arrays of samples and of labels, None without labels."""
    value_keys, label_keys = _value_keys([split]), _label_keys([split])
    sample_keys = [key for key in value_keys if key in names]
    others = [key for key in names if key not in label_keys]
    if not sample_keys and split == "train" and len(others) == 1:
        sample_keys = others
    if not sample_keys:
        raise DataError(
            f"{path}: none of {', '.join(value_keys)} for the split {split!r} among its arrays, "
            f"{', '.join(names) or 'none'}"
        )
    return sample_keys[0], next((key for key in label_keys if key in names), None)


class Archive:
    """The arrays of an .npz file. A member is read completely, so that its CRC is verified.

        with Archive(path) as archive:
            images = archive.read("images")

    Raises:
        DataError: it is not such an archive, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_file(path)
        with self._data_errors(), contextlib.ExitStack() as stack:
            stack.callback(self._file.close)
            if self._file.read(6) == b"\x93NUMPY":
                raise ValueError("it is an .npy file, a single array")
            self._zip = zipfile.ZipFile(self._file)
            self._members = {info.filename: info for info in self._zip.infolist()}
            if len(self._members) < len(self._zip.infolist()):
                raise ValueError("two members have the same name")
            count = _member_count(self._file)  # zipfile does not check it
            if count != len(self._members) and count != 0xFFFF:
                raise ValueError(f"it has {len(self._members)} members, but declares {count}")
            for info in self._members.values():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"{info.filename} has a compression that numpy never uses")
                self._zip.open(info).close()  # compares both headers of the member
            stack.pop_all()
        self.names = [name.removesuffix(".npy") for name in self._members]

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()
        self._file.close()

    @contextlib.contextmanager
    def _data_errors(self) -> Iterator[None]:
        """Convert all errors in a `with` block to DataError."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise many types.
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{self.path}: not an .npz that can be read ({reason})") from error

    def read(self, name: str, max_gb: float = math.inf) -> np.ndarray:
        """Return an array.

        Raises:
            DataError: it is damaged, needs unpickling, or takes more than `max_gb`.
        """
        with self._data_errors():
            info = self._members.get(name + ".npy")
            if info is None:
                raise ValueError(f"its member {name} is not an array")
            with self._zip.open(info) as member:
                shape, is_fortran, dtype, start = _header(member.read(HEADER_BYTES))
            if dtype.kind not in "biuf":
                raise DataError(f"{self.path}: {name} is {dtype}, must be numbers")
            expected = start + math.prod(shape) * dtype.itemsize
            if expected != info.file_size:
                raise ValueError(
                    f"{name} has {info.file_size} bytes, its header declares {expected}"
                )
            check_memory(f"{self.path}: {name}", shape, max_gb, 1 if dtype == np.uint8 else 4)
            content = self._zip.read(info)  # verifies the CRC
            if len(content) != expected:
                raise ValueError(f"{name} is truncated")
            array = np.frombuffer(content, dtype, offset=start)
            return array.reshape(shape, order="F" if is_fortran else "C")


def _member_count(file: BinaryIO) -> int:
    """Return the number of members that the end record of a zip file declares (16 bits)."""
    start = file.seek(0, os.SEEK_END)
    file.seek(max(0, start - (1 << 16) - 22))  # A comment of up to 2^16 bytes may follow it.
    tail = file.read()
    record = tail[tail.rfind(b"PK\5\6") :]
    return int.from_bytes(record[10:12], "little")


def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return the shape, whether it is in Fortran order, the dtype, and the offset of the data."""
    file = BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else (np.lib.format.read_array_header_2_0)
    )
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("object arrays are pickled, and nothing is unpickled")
    if any(n < 0 for n in shape):
        raise ValueError(f"its shape {shape} has a negative size")
    return shape, is_fortran, dtype, file.tell()
