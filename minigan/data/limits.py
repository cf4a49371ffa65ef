"""Check a file and the size of its data before memory is taken."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from .dataset import DataError

MAX_GB = 2.0  # the default limit of the samples as float32, in 1e9 bytes


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; a named pipe or a device is refused at once.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is not a regular file, or cannot be opened.
    """
    try:
        kind = _kind(path.stat().st_mode)
        if kind != "a file":
            raise DataError(f"{path}: is {kind}, not a file")
        return path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISREG: "a file",
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a named pipe",
        stat.S_ISSOCK: "a socket",
    }
    return next((name for matches, name in kinds.items() if matches(mode)), "a device")


def check_memory(name: str | os.PathLike[str], shape: Sequence[int], max_gb: float) -> None:
    """Raise DataError where samples of this shape take more than `max_gb` as float32."""
    gigabytes = 4 * math.prod(shape) / 1e9
    if gigabytes > max_gb:
        size = " x ".join(map(str, shape))
        raise DataError(
            f"{name}: {size} numbers take {gigabytes:.3g} GB as float32, the limit is max_gb ="
            f" {max_gb:g}; --max-gb {math.ceil(gigabytes)} raises it"
        )
