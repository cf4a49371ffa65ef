"""Tell arrays and data sets that a program hands over from names and paths of data."""

from __future__ import annotations

import os
import warnings
from typing import Any

from ..data import Dataset, DataWarning
from ..data.own import as_dataset
from ..data.settings import OPTIONS, parse_settings
from .state import AnyConfig

PathLike = str | os.PathLike[str]


def place_of(config: AnyConfig, data: Any, labels: Any = None) -> PathLike | Dataset | None:
    """Return a name or path of data as it is, and anything else as a Dataset; None for None.

    The options of `data.settings` say how an array is interpreted; `samples` are drawn by the seed.
    Notes on it are emitted as DataWarning.

    Raises:
        ValueError: it is no data, or an option is for files only.
    """
    if data is None or isinstance(data, (str, os.PathLike)):
        if labels is not None:
            raise ValueError("labels are those of an array; a name or path has its own")
        return data
    for name, default in (("split", "train"), ("data_dir", None)):
        if getattr(config, name) != default:
            raise ValueError(f"{name} = {getattr(config, name)!r} is for files, not for arrays")
    settings = parse_settings(**{name: getattr(config, name) for name in OPTIONS})
    dataset = as_dataset("array", data, labels, settings)
    if dataset is not data:
        for note in dataset.notes:
            warnings.warn(note, DataWarning, stacklevel=4)
    return dataset if config.samples is None else dataset.sample(config.samples, config.seed)
