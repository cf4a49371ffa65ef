"""Describe data before a run is configured: the number of samples, their sizes, their labels."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import NAMES, load
from .dataset import Dataset
from .folder import classes_of, split_folder
from .image_file import ImageFile
from .images import UNREADABLE
from .scan import Scan
from .settings import Settings, parse_size


@dataclass(frozen=True)
class Survey:
    """What is known of data.

    Attributes:
        samples: their number.
        sizes: the distinct (width, height) of the images, the smallest first; () for points.
        typical: the median of the smaller sides of all images; 0 for points.
        per_class: the number of samples of each class; () without labels.
    """

    samples: int
    sizes: Sequence[tuple[int, int]] = ()
    typical: int = 0
    per_class: Sequence[int] = ()


def survey(data: str, **options: Any) -> Survey:
    """Return what is known of data by name or path.

    Of the images in a folder only the headers are read, as their sizes may differ. Files that
    cannot be read are left out here, and are an error when the folder is loaded. All other data are
    loaded.

    Args:
        data: a name or path, as for `load`.
        options: those of `load`.

    Raises:
        ValueError, DataError, FileNotFoundError: see `load`.
    """
    folder = Path(data).expanduser()
    if data in NAMES or not os.path.isdir(folder):
        return _of_dataset(load(data, **options))
    scan = Scan(split_folder(folder, options.get("split", "train"), []))
    images = {path: size for path in scan.files if (size := _stored_size(path))}
    if not images:
        return _of_dataset(load(data, **options))  # raises, and says why
    size = parse_size(options.get("size"))
    sizes = [size] * len(images) if size else list(images.values())
    return _describe(sizes, classes_of(scan, list(images), [])[0])


def _stored_size(path: Path) -> tuple[int, int] | None:
    """Return (width, height) of an image file, None if it is none or cannot be read."""
    try:
        with ImageFile(path, Settings()) as image:
            return image.size if image.is_image else None
    except UNREADABLE:
        return None


def _of_dataset(dataset: Dataset) -> Survey:
    if not dataset.is_image:
        return Survey(len(dataset))
    height, width = dataset.sample_shape[1:]
    return _describe([(width, height)] * len(dataset), dataset.labels)


def _describe(sizes: list[tuple[int, int]], labels: np.ndarray | None) -> Survey:
    """Return the survey of images."""
    counts = () if labels is None else np.unique(labels, return_counts=True)[1].tolist()
    typical = int(statistics.median(min(size) for size in sizes))
    return Survey(len(sizes), sorted(set(sizes), key=lambda s: s[0] * s[1]), typical, counts)
