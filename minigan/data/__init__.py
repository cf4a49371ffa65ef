"""Load data sets: generated ones that need no network, MNIST, and the user's own files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..utils.names import choose
from ..utils.registry import Registry
from .batches import batches
from .checks import DataError, DataWarning
from .dataset import SPLITS, Dataset, whole_number
from .download import SOURCES
from .files import load_file
from .glyphs import load_glyphs
from .limits import MAX_GB, check_memory
from .mnist import load_mnist
from .own import OWN, as_source, check_can_be_loaded, load_own
from .resize import resize_dataset
from .settings import FITS, Settings, parse_settings, refuse_folder_options
from .textures import textures
from .toy import grid, ring, swiss_roll

__all__ = ["NAMES", "DataError", "DataWarning", "Dataset", "batches", "load", "register"]

# The generated data sets: the function, the default number of samples, and the shape of a sample.
GENERATED: dict[str, tuple[Callable[..., Dataset], int, tuple[int, ...]]] = {
    "glyphs": (load_glyphs, 20_000, (1, 28, 28)),
    "glyphs-sans": (partial(load_glyphs, style="sans"), 10_000, (1, 28, 28)),
    "glyphs-serif": (partial(load_glyphs, style="serif"), 10_000, (1, 28, 28)),
    "textures": (textures, 10_000, (3, 32, 32)),
    "ring": (ring, 100_000, (2,)),
    "grid": (grid, 100_000, (2,)),
    "swiss-roll": (swiss_roll, 100_000, (2,)),
}
NAMES = (*GENERATED, *SOURCES)
FILE_OPTIONS = ("sample_shape", "value_range", "classes", "remap_labels")
register = Registry("data", OWN, as_source, NAMES)


def load(
    name_or_path: str | os.PathLike[str] = "glyphs",
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    samples: int | None = None,
    seed: int = 0,
    progress: bool = False,
    sample_shape: str | Sequence[int] | None = None,
    value_range: str | Sequence[float] | None = None,
    classes: int | None = None,
    remap_labels: bool = False,
    max_gb: float = MAX_GB,
    size: str | int | Sequence[int] | None = None,
    fit: str = FITS[0],
    grey: bool = False,
    background: str = "black",
    skip_broken: bool = False,
) -> Dataset:
    """Return a data set by name (see `NAMES`), or from a folder of images or an .npz archive.

    A name may also be one that `register` has added.

        points = mg.data.load("ring", samples=10_000)
        digits = mg.data.load("mnist", split="test")
        photos = mg.data.load("photos/")
        masks = mg.data.load("masks.npz", value_range=(0, 1))

    Everything in the user's files that is not used, and every ambiguity that was resolved, is
    reported as a DataWarning, and as a line of `Dataset.notes`.

    Args:
        name_or_path: a name of NAMES, or the path of a folder or .npz file.
        split: "train" or "test".
        data_dir: the only folder in which to look for the files of MNIST or Fashion-MNIST; None:
            the folder MINIGAN_DATA, then the cache, then the network.
        samples: their number: to generate, for glyphs, ring, grid and swiss-roll; to draw
            without replacement, for other data. None: the default, or all.
        seed: the seed by which samples are generated or drawn.
        progress: whether to show a progress bar on stderr.
        sample_shape: the shape of a sample of an .npz, (C, H, W) or (D,); None: that of the array.
        value_range: the values of the images that become -1 and 1; None: 0 and 255 for bytes, -1
            and 1 for floats.
        classes: the number of classes of an .npz; None: its largest label plus one.
        remap_labels: whether to number the labels of an .npz from 0, in ascending order.
        max_gb: the limit of the samples in memory, in 1e9 bytes: one for each number of images of
            bytes, else four. The pixels of a larger folder are read from a file in the cache.
        size: the size in pixels to which all images are resized: 64 for square ones, "96x64" or
            (96, 64) for width and height; None: they keep theirs, which must be the same for all.
        fit: how they are resized: "crop", "pad" or "stretch".
        grey: whether to make all images grey.
        background: the colour behind transparent images and around padded ones, by a name or
            number that Pillow's ImageColor knows.
        skip_broken: whether to go on without the files of a folder that cannot be read.

    Raises:
        ValueError: a name, split, number, seed or setting is not accepted.
        DataError: the data cannot be used.
        FileNotFoundError: there are no files.
    """
    choose("split", split, dict.fromkeys(SPLITS))
    seed = whole_number("seed", seed, least=0)
    if samples is not None:
        samples = whole_number("samples", samples, least=1)
    settings = parse_settings(
        sample_shape=sample_shape,
        value_range=value_range,
        classes=classes,
        remap_labels=remap_labels,
        max_gb=max_gb,
        size=size,
        fit=fit,
        grey=grey,
        background=background,
        skip_broken=skip_broken,
    )
    name = name_or_path if isinstance(name_or_path, str) else ""  # a Path is never a name
    if data_dir is not None and name not in SOURCES:
        raise ValueError(f"data_dir is for {' and '.join(SOURCES)} only, not for {name_or_path!r}")
    check_can_be_loaded(name)
    if name not in OWN and not _is_path(name_or_path):
        also = "a folder of images, an .npz file or FILE.py:NAME"
        choose("data", name, dict.fromkeys((*NAMES, *OWN)), also)
    if name in OWN:
        dataset = load_own(name, split, samples, seed, settings)
    elif name in NAMES:
        dataset = _load_named(name, split, data_dir, samples, seed, progress, settings)
    else:
        dataset = load_file(name_or_path, split, settings, progress)
    for note in dataset.notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    if samples is None or name in GENERATED or name in OWN:
        return dataset
    return dataset.sample(samples, seed)


def _load_named(
    name: str,
    split: str,
    data_dir: str | os.PathLike[str] | None,
    samples: int | None,
    seed: int,
    progress: bool,
    settings: Settings,
) -> Dataset:
    if any(getattr(settings, option) != getattr(Settings(), option) for option in FILE_OPTIONS):
        raise ValueError(
            f"{', '.join(FILE_OPTIONS[:-1])} and {FILE_OPTIONS[-1]} are for a folder of images or"
            f" an .npz file, not for {name!r}"
        )
    refuse_folder_options(name, settings)
    if name in GENERATED:
        generate, default, shape = GENERATED[name]
        count = default if samples is None else samples
        check_memory(name, (count, *shape), settings.max_gb, 1 if len(shape) == 3 else 4)
        dataset = generate(count, seed, split, progress)
    else:
        dataset = load_mnist(name, split, data_dir, progress, settings.max_gb)
    dataset = resize_dataset(dataset, settings)
    if os.path.isdir(name):
        note = f"{name} is the built-in data set; ./{name} loads the folder of that name"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    return dataset


def _is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Return whether this is a path: it has a folder or a suffix, or exists."""
    if not isinstance(name_or_path, str):
        return True
    folder, suffix = os.path.dirname(name_or_path), Path(name_or_path).suffix
    return bool(folder or suffix or os.path.exists(name_or_path))
