"""Load a user's own data: a folder of images, or an .npz archive of arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .dataset import SPLITS, DataError, Dataset, from_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
GREY_MODES = ("1", "L", "LA")
VALUE_KEYS = ("images", "values", "x")
LABEL_KEYS = ("labels", "y")


def load_file(path: str | os.PathLike[str], split: str, progress: bool = False) -> Dataset:
    """Return the data of a folder of images or an .npz file.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        DataError: it is something else, or cannot be read.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return load_folder(path, split, progress)
    if not path.exists():
        raise FileNotFoundError(f"there is no folder of images and no .npz at {path}")
    if path.suffix.lower() != ".npz":
        raise DataError(f"{path}: neither a folder of images nor an .npz file")
    return load_npz(path, split)


# ----------------------------------------------------------------------------- image folders
def load_folder(folder: Path, split: str = "train", progress: bool = False) -> Dataset:
    """Return all images below a folder, in order of path: (N, 1, H, W) if all are grey, else C = 3.

    Where all of them are in subfolders, one level deep, the subfolders are the classes. Where
    `folder` has folders `train` and `test`, these are the splits; otherwise it is all `train`.
    The first picture of an animation is used; transparent pixels are blended with black; hidden
    files are ignored.

    Raises:
        DataError: a file cannot be read, or sizes differ.
    """
    from tqdm import tqdm

    if all((folder / name).is_dir() for name in SPLITS):
        folder = folder / split
    elif split != "train":
        raise DataError(f"{folder}: has no split {split!r}; hold samples out with .holdout()")
    paths = _image_paths(folder)
    images = [_read_image(path) for path in tqdm(paths, folder.name, disable=not progress)]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            (h, w), (height, width) = images[0].shape[:2], image.shape[:2]
            raise DataError(
                f"images must be of one size: {paths[0]} is {w}x{h}, {path} is {width}x{height}"
            )
    colours = max(image.shape[2] for image in images)
    pixels = np.stack([np.broadcast_to(image, (*image.shape[:2], colours)) for image in images])
    values = from_bytes(pixels.transpose(0, 3, 1, 2))
    parents = [path.relative_to(folder).parts[:-1] for path in paths]
    if any(len(parts) != 1 for parts in parents):
        return Dataset(str(folder), values)
    classes = sorted(set(parents))
    labels = np.array([classes.index(parts) for parts in parents])
    names = tuple(parts[0] for parts in classes)
    return Dataset(str(folder), values, labels, len(classes), class_names=names)


def _image_paths(folder: Path) -> list[Path]:
    def is_image_file(path: Path) -> bool:
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        return path.suffix.lower() in SUFFIXES and not is_hidden and path.is_file()

    # Paths compare part by part, so the images of a subfolder stay together.
    paths = sorted(path for path in folder.rglob("*") if is_image_file(path))
    if not paths:
        raise DataError(f"{folder}: no images in it ({' '.join(SUFFIXES)})")
    return paths


def _read_image(path: Path) -> np.ndarray:
    """Return uint8 (H, W, 1) where the file is stored as grey, else (H, W, 3)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _pixels(image)
    except Exception as error:  # Each of Pillow's decoders raises errors of its own.
        raise DataError(f"{path}: not an image that can be read ({error})") from error


def _pixels(image: Image) -> np.ndarray:
    from PIL import Image, ImageOps

    if image.mode.startswith("I"):  # 16 bits per pixel: convert("L") would clip, not scale them.
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"pixels of {values.min()} to {values.max()}; 0 to 65535 are accepted")
        return np.rint(values / 257).astype(np.uint8)[:, :, None]
    is_grey = image.mode in GREY_MODES
    colours = ImageOps.exif_transpose(image).convert("RGBA")
    black = Image.new("RGBA", colours.size, (0, 0, 0, 255))
    pixels = np.asarray(Image.alpha_composite(black, colours))[..., :3]
    if image.mode == "P":
        is_grey = bool((pixels == pixels[..., :1]).all())
    return pixels[..., :1] if is_grey else pixels


# ----------------------------------------------------------------------------- .npz archives
def load_npz(path: Path, split: str = "train") -> Dataset:
    """Return the samples and labels of an .npz archive.

    Samples are the array `images`, `values`, `x` or `x_train`, or the only one; labels are
    `labels`, `y` or `y_train`; for the split `test` they are `x_test` and `y_test`. Images (N, H,
    W), (N, H, W, C) or (N, C, H, W) are uint8, which is scaled to [-1, 1], or floats in [-1, 1];
    points (N, D) are taken as they are. Nothing is unpickled.

    Raises:
        DataError: the file cannot be read, or holds anything else.
    """
    arrays = _read_npz(path)
    suffixes = (f"_{split}",) if split == "test" else ("", f"_{split}")
    value_keys = [key + suffix for suffix in suffixes for key in VALUE_KEYS]
    label_keys = [key + suffix for suffix in suffixes for key in LABEL_KEYS]
    sample_keys = [key for key in value_keys if key in arrays]
    others = [key for key in arrays if key not in label_keys]
    if not sample_keys and split == "train" and len(others) == 1:
        sample_keys = others
    if not sample_keys:
        raise DataError(
            f"{path}: none of {', '.join(value_keys)} for the split {split!r} among its arrays, "
            f"{', '.join(arrays) or 'none'}"
        )
    labels = next((arrays[key] for key in label_keys if key in arrays), None)
    values = arrays[sample_keys[0]]
    if 0 in values.shape:
        raise DataError(f"{path}: {sample_keys[0]} is empty, of shape {values.shape}")
    if len(values.shape) > 2:
        values = _as_images(f"{path}: {sample_keys[0]}", values)
    elif values.dtype.kind not in "uif":
        raise DataError(f"{path}: {sample_keys[0]} is {values.dtype}, must be numbers")
    return Dataset(str(path), values, labels)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is one array, an .npy")
        with archive:
            arrays = {key: archive[key] for key in archive.files}
        others = [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]
        if others:
            raise ValueError(f"{others[0]} in it is not an array")
        return arrays
    except Exception as error:  # zip, zlib and numpy raise errors of their own.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not an .npz that can be read ({reason})") from error


def _as_images(name: str, values: np.ndarray) -> np.ndarray:
    """Return float32 (N, C, H, W) in [-1, 1]; if C can be first or last, it is the first axis."""
    shape = values.shape
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3):
        values = values.transpose(0, 3, 1, 2)
    if values.ndim != 4 or not 1 <= values.shape[1] <= 4:
        raise DataError(
            f"{name} of shape {shape} is not (N, H, W), (N, H, W, C) with 1 or 3 channels, "
            "(N, C, H, W) with 1 to 4, or (N, D)"
        )
    if values.dtype == np.uint8:
        return from_bytes(values)
    if values.dtype.kind != "f":
        raise DataError(f"{name} is {values.dtype}, images must be uint8 or floats in [-1, 1]")
    return values
