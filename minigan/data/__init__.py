"""Data: `load(name or path)`, built-in sets that need no network, MNIST, and one's own files."""

from __future__ import annotations

import os
from pathlib import Path

from ..utils.names import choose
from .dataset import SPLITS, DataError, Dataset, whole_number
from .download import SOURCES
from .files import load_file
from .glyphs import load_glyphs
from .idx import load_idx
from .toy import grid, ring, swiss_roll

__all__ = ["NAMES", "DataError", "Dataset", "load"]

# Made here, not read: the maker and its usual number of samples.
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
    """The data set of that name (see `NAMES`), folder of images, or .npz archive.

    `split` is "train" or "test". `size` is the number of samples: made, for glyphs, ring, grid and
    swiss-roll, where `seed` makes others; drawn without replacement by `seed` for the rest, where
    None means all. `data_dir` is the one place to look for MNIST's or Fashion-MNIST's files (else
    MINIGAN_DATA, the cache, the network). `progress` shows a bar on stderr.

    Raises ValueError for a name, split, size or seed that is not one; its subclass DataError for
    data that cannot be used; FileNotFoundError for files that are not there.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
    seed = whole_number("seed", seed, least=0)
    if size is not None:
        size = whole_number("size", size, least=1)
    name = name_or_path if isinstance(name_or_path, str) else ""  # a Path is never a name
    if data_dir is not None and name not in SOURCES:
        raise ValueError(f"data_dir is for {' and '.join(SOURCES)} only, not for {name_or_path!r}")
    if not _is_path(name_or_path):
        choose("data", name, dict.fromkeys(NAMES), "a folder of images or an .npz file")
    if name in GENERATED:
        make, usual = GENERATED[name]
        return make(usual if size is None else size, seed, split, progress)
    if name in SOURCES:
        dataset = load_idx(name, split, data_dir, progress)
    else:
        dataset = load_file(name_or_path, split, progress)
    return dataset if size is None else dataset.sample(size, seed)


def _is_path(given: str | os.PathLike[str]) -> bool:
    if not isinstance(given, str):
        return True
    return bool(os.path.dirname(given) or Path(given).suffix or os.path.exists(given))
