"""Data sets of a user's own program: arrays, and functions that return them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..utils.code_files import FROM_PYTHON, CodeError, describe_error, is_code
from .arrays import as_labels, as_samples
from .dataset import DataError, Dataset
from .limits import check_memory
from .resize import resize_dataset
from .settings import Settings, refuse_folder_options

FOR_ARRAYS = ("sample_shape", "value_range", "classes", "remap_labels")
# The functions that are registered, by name, or as FILE.py:NAME.
OWN: dict[str, Callable[..., Any]] = {}


def as_source(name: str, thing: Any) -> Callable[..., Any]:
    """Return the entry of OWN for a function that makes a data set; TypeError for anything else."""
    if not callable(thing):
        raise TypeError(
            f"data {name!r} is {type(thing).__name__}, not a function that returns samples"
        )
    inspect.signature(thing)  # raises TypeError or ValueError where there is none
    return thing


def load_own(name: str, split: str, samples: int | None, seed: int, settings: Settings) -> Dataset:
    """Return the data that a registered function returns: a Dataset, samples, or (samples, labels).

    It is called with those of `split`, `samples` and `seed` that it has parameters for.

    Raises:
        DataError: its result cannot be used.
        CodeError: it raises an error.
    """
    function = OWN[name]
    known = inspect.signature(function).parameters
    options = {"split": split, "samples": samples, "seed": seed}
    if split != "train" and "split" not in known:
        raise DataError(f"{name} has no parameter split, so it has no {split!r} data")
    try:
        given = {key: x for key, x in options.items() if key in known and x is not None}
        result = function(**given)
    except Exception as error:
        raise CodeError(f"data {name!r}: {describe_error(error)}") from error
    data, labels = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    dataset = as_dataset(name, data, labels, settings)
    if samples is None or "samples" in known:
        return dataset
    return dataset.sample(samples, seed)


def as_dataset(
    name: str, data: Any, labels: Any = None, settings: Settings | None = None
) -> Dataset:
    """Return a Dataset as it is, or the samples of an array, interpreted like those of an .npz.

    Args:
        name: of the data, for messages.
        data: a Dataset, or samples: images (N, H, W), (N, H, W, C) or (N, C, H, W), bytes or floats
            in [-1, 1], or points (N, D).
        labels: integers (N,), or None.
        settings: how to interpret the samples and labels.

    Raises:
        DataError: the array is of another shape, or ambiguous; or a setting is not for a Dataset.
    """
    settings = settings or Settings()
    refuse_folder_options(name, settings)
    if isinstance(data, Dataset):
        if labels is not None:
            raise DataError(f"{name}: a Dataset has labels of its own; others do not go with it")
        if any(getattr(settings, option) != getattr(Settings(), option) for option in FOR_ARRAYS):
            raise DataError(
                f"{name}: {', '.join(FOR_ARRAYS[:-1])} and {FOR_ARRAYS[-1]} are for arrays, not"
                " for a Dataset"
            )
        return resize_dataset(data, settings)
    array = _as_array(name, data)
    check_memory(name, array.shape, settings.max_gb, 1 if array.dtype == np.uint8 else 4)
    notes: list[str] = []
    values = as_samples(name, array, settings, notes)
    if labels is None:
        if settings.remap_labels or settings.classes is not None:
            raise DataError(f"{name}: has no labels, but remap_labels or classes is set")
        return Dataset(name, values, notes=tuple(notes))
    text = f"{name}: labels"
    y, classes, class_names, note = as_labels(text, _as_array(text, labels), settings)
    notes += [note] if note else []
    return Dataset(name, values, y, classes, class_names=class_names, notes=tuple(notes))


def _as_array(name: str, data: Any) -> np.ndarray:
    """Return numbers as an array; DataError for anything else."""
    if hasattr(data, "numpy") and not isinstance(data, np.ndarray):  # a tensor, also PyTorch's
        data = data.numpy()
    array = np.asarray(data)
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise DataError(f"{name}: {type(data).__name__} is not an array of numbers")
    return array


def check_can_be_loaded(name: str | os.PathLike[str]) -> None:
    """Raise DataError for data of a program, which no path leads to, and of code not loaded."""
    if isinstance(name, str) and name.startswith(FROM_PYTHON):
        raise DataError(f"its data {name!r} came from a Python program, which alone has them")
    if is_code(name) and name not in OWN:
        raise DataError(
            f"{name} is code, which is run only where a command or mg.train names it itself"
        )
