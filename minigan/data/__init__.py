"""Load data sets: generated ones that need no network, MNIST, and the user's own files."""

from __future__ import annotations

import os
from pathlib import Path

from ..utils.names import choose
from .dataset import SPLITS, DataError, Dataset, whole_number
from .download import SOURCES
from .files import load_file
from .glyphs import load_glyphs
from .mnist import load_mnist
from .toy import grid, ring, swiss_roll

__all__ = ["NAMES", "DataError", "Dataset", "load"]

# The generated data sets: the function, and the default number of samples.
GENERATED = {
    "glyphs": (load_glyphs, 20_000),
    "ring": (ring, 100_000),
    "grid": (grid, 100_000),
    "swiss-roll": (swiss_roll, 100_000),
}
NAMES = (*GENERATED, *SOURCES)


def load(
    name_or_path: str | os.PathLike[str] = "glyphs",
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    size: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Dataset:
    """Return a data set by name (see `NAMES`), or from a folder of images or an .npz archive.

        points = mg.data.load("ring", size=10_000)
        digits = mg.data.load("mnist", split="test")
        photos = mg.data.load("photos/")

    Args:
        name_or_path: a name of NAMES, or the path of a folder or .npz file.
        split: "train" or "test".
        data_dir: the only folder in which to look for the files of MNIST or Fashion-MNIST; None:
            the folder MINIGAN_DATA, then the cache, then the network.
        size: the number of samples: to generate, for glyphs, ring, grid and swiss-roll; to draw
            without replacement, for other data. None: the default, or all.
        seed: the seed by which samples are generated or drawn.
        progress: whether to show a progress bar on stderr.

    Raises:
        ValueError: a name, split, size or seed is not accepted.
        DataError: the data cannot be used.
        FileNotFoundError: there are no files.
    """
    choose("split", split, dict.fromkeys(SPLITS))
    seed = whole_number("seed", seed, least=0)
    if size is not None:
        size = whole_number("size", size, least=1)
    name = name_or_path if isinstance(name_or_path, str) else ""  # a Path is never a name
    if data_dir is not None and name not in SOURCES:
        raise ValueError(f"data_dir is for {' and '.join(SOURCES)} only, not for {name_or_path!r}")
    if not _is_path(name_or_path):
        choose("data", name, dict.fromkeys(NAMES), "a folder of images or an .npz file")
    if name in GENERATED:
        generate, default_size = GENERATED[name]
        return generate(default_size if size is None else size, seed, split, progress)
    if name in SOURCES:
        dataset = load_mnist(name, split, data_dir, progress)
    else:
        dataset = load_file(name_or_path, split, progress)
    return dataset if size is None else dataset.sample(size, seed)


def _is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Return whether this is a path: it has a folder or a suffix, or exists."""
    if not isinstance(name_or_path, str):
        return True
    folder, suffix = os.path.dirname(name_or_path), Path(name_or_path).suffix
    return bool(folder or suffix or os.path.exists(name_or_path))
