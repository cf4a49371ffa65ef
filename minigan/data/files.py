"""Load a user's own data: a folder of images, or an .npz archive of arrays."""

from __future__ import annotations

import os
from pathlib import Path

from .checks import DataError
from .dataset import Dataset
from .folder import load_folder
from .limits import open_file
from .npz import load_npz
from .settings import Settings, refuse_folder_options


def load_file(
    path: str | os.PathLike[str], split: str, settings: Settings, progress: bool = False
) -> Dataset:
    """Return the data of a folder of images or an .npz file.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        DataError: the path is neither, or cannot be read.
    """
    try:
        path = Path(path).expanduser()
        is_folder = path.is_dir()
    except OSError as error:  # such as a name that is too long
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except RuntimeError as error:  # "~" of a user without a home
        raise DataError(f"{path}: {error}") from None
    if is_folder:
        if settings.sample_shape is not None or settings.classes is not None:
            raise DataError(
                f"{path}: sample_shape and classes are for an .npz file, not for a folder"
            )
        if settings.remap_labels:
            raise DataError(
                f"{path}: remap_labels is for an .npz file; a folder has subfolders as classes"
            )
        return load_folder(path, split, settings, progress)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no folder of images and no .npz at {path}")
    if path.suffix.lower() != ".npz":
        open_file(path).close()  # raises for what is not a regular file
        raise DataError(f"{path}: neither a folder of images nor an .npz file")
    refuse_folder_options(str(path), settings)
    return load_npz(path, split, settings)
