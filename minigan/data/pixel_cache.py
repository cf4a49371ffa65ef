"""Keep the pixels of a folder, if they take more than `max_gb`, in a file mapped into memory.

Two files in the folder `data/folders` of the cache belong to a folder of images and its options;
their name is a digest of all that determines the pixels. The .npy file holds the pixels, uint8 (N,
C, H, W), the .json file what is known of the images. They can be deleted: the next load makes them
again.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..kernels.runtime.files import atomic_write, cache_root
from ..utils.locks import file_lock
from . import image_file, resize
from .checks import DataError
from .scan import Scan
from .settings import Settings

if TYPE_CHECKING:
    from .images import Reader

OPTIONS = ("size", "fit", "grey", "background", "skip_broken")  # those that determine the pixels


def cache_path(scan: Scan, settings: Settings) -> Path | None:
    """Return the path of the .npy file for these files as they are now, and these options.

    Return None where the user has no home folder for a cache.
    """
    import PIL

    options = {name: x for name, x in asdict(settings).items() if name in OPTIONS}
    digest = hashlib.sha256()
    for module in (image_file, resize):
        digest.update(Path(str(module.__file__)).read_bytes())
    for path in scan.files:
        try:
            status = path.stat()
        except OSError:  # Reading it says what is wrong.
            continue
        name = str(path.relative_to(scan.folder))
        # st_ctime is set by the system, also where a program sets st_mtime to what it was.
        times = [status.st_mtime_ns, status.st_ctime_ns]
        digest.update(json.dumps([name, status.st_size, *times]).encode())
    digest.update(json.dumps([PIL.__version__, str(scan.folder.resolve()), options]).encode())
    try:
        return cache_root() / "data" / "folders" / f"{digest.hexdigest()[:20]}.npy"
    except RuntimeError:
        return None


def load(path: Path | None, max_gb: float) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Return the pixels, mapped (np.memmap), and what is known of the images.

    None: there is no such file, or the pixels take no more than `max_gb`.
    """
    if path is None:
        return None
    try:
        info = json.loads(path.with_suffix(".json").read_text())
        pixels = np.load(path, mmap_mode="r")
        if pixels.dtype != np.uint8 or list(pixels.shape) != info["shape"]:
            return None
        if pixels.nbytes <= max_gb * 1e9:
            return None
    except (OSError, ValueError, KeyError, TypeError):  # It is missing or damaged: make it again.
        return None
    return pixels, info


def write(
    path: Path | None, folder: Path, reader: Reader, max_gb: float
) -> tuple[np.ndarray, dict[str, Any]]:
    """Write the pixels and what is known of the images, and return what `load` then returns.

    One process at a time writes; another one that waited for it uses its files.

    Raises:
        DataError: the files cannot be written; or what the reader raises.
    """
    needed = math.prod(reader.shape) / 1e9
    try:
        if path is None:
            raise OSError(None, "the user has no home")
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path.parent / ".lock", wait=True):
            for left in path.parent.glob("*.tmp"):  # by a process that was killed
                left.unlink()
            if (found := load(path, max_gb)) is None:
                free = shutil.disk_usage(path.parent).free / 1e9
                if needed > free:
                    raise OSError(None, f"{free:.3g} GB are free")
                atomic_write(path, lambda file: _write(file, path, folder, reader))
                found = load(path, max_gb)
                if found is None:
                    raise OSError(None, "it cannot be read again")
            return found
    except OSError as error:
        raise DataError(
            f"{folder}: the pixels take {needed:.3g} GB, more than max_gb = {max_gb:g}, and cannot"
            f" be kept in the cache{f' {path.parent}' if path else ''} ({error.strerror}): --size"
            f" makes images smaller, --max-gb {math.ceil(needed)} keeps them in memory, and the"
            " variable MINIGAN_CACHE names another folder"
        ) from error


def _write(file: BinaryIO, path: Path, folder: Path, reader: Reader) -> None:
    shape: Sequence[int] = reader.shape
    start, count = _write_header(file, shape), 0
    for image in reader.images():
        file.write(np.ascontiguousarray(np.broadcast_to(image, shape[1:])).data)
        count += 1
    shape = (count, *shape[1:])
    file.seek(0)
    if _write_header(file, shape) != start:  # numpy pads a header for any number of rows.
        raise ValueError(f"the header of {path} has grown")
    info = json.dumps({"folder": str(folder.resolve()), "shape": shape, **reader.info()}).encode()
    # The .npy file gets its name after this one, so where it is, both are.
    atomic_write(path.with_suffix(".json"), lambda other: other.write(info))


def _write_header(file: BinaryIO, shape: Sequence[int]) -> int:
    """Write the header of an .npy file of uint8; return where the pixels begin."""
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()
