"""Check a file and the size of its data before memory is taken."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ..kernels.runtime.files import open_regular
from .checks import DataError

MAX_GB = 2.0  # the default limit of the samples in memory, in 1e9 bytes


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; a named pipe or a device is refused at once.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is not a regular file, or cannot be opened.
    """
    try:
        return open_regular(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def check_memory(
    name: str | os.PathLike[str], shape: Sequence[int], max_gb: float, itemsize: int = 4
) -> None:
    """Raise DataError where samples of this shape take more than `max_gb`.

    `itemsize` is 1 for images that stay uint8, else 4.
    """
    gigabytes = itemsize * math.prod(shape) / 1e9
    if gigabytes > max_gb:
        size, dtype = " x ".join(map(str, shape)), "uint8" if itemsize == 1 else "float32"
        raise DataError(
            f"{name}: {size} numbers take {gigabytes:.3g} GB as {dtype}, the limit is max_gb ="
            f" {max_gb:g}; --max-gb {math.ceil(gigabytes)} raises it"
        )
