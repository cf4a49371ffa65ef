"""Load a folder of images, and report every file in it that is not used."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .arrays import scale
from .checks import DataError
from .dataset import Dataset
from .image_file import ACCEPTED
from .images import read_images
from .scan import Scan, examples, is_class_folder, is_run, natural_order, visible
from .settings import Settings

# The accepted names of the folder of a split, as in data sets for Keras and torchvision.
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}


def load_folder(
    folder: Path, split: str = "train", settings: Settings | None = None, progress: bool = False
) -> Dataset:
    """Return all images below a folder, in order of path: (N, 1, H, W) if all are grey, or C = 3.

    Where all of them are in subfolders, the subfolders of `folder` are the classes, as in
    torchvision and Keras, but in natural order, "2" before "10". Where `folder` has the folder
    `train` and one of `test`, `val`, `valid` and `validation`, or `train` alone, these are the
    splits, and their classes those of `train`; otherwise it is all `train`. `image_file.py` says
    which files are images. The first image of an animation is used; links are followed.
    `Dataset.notes` counts and names what is not used: hidden files, other files, and the runs of
    `minigan train`.

    Raises:
        DataError: a file cannot be read, sizes differ, a class has no image, or the folder is a
            run.
    """
    return load_folder_and_paths(folder, split, settings, progress)[0]


def load_folder_and_paths(
    folder: Path, split: str = "train", settings: Settings | None = None, progress: bool = False
) -> tuple[Dataset, list[Path]]:
    """Return what `load_folder` does, and the path of each image below the folder of its split."""
    settings = settings or Settings()
    resolved = folder.resolve()
    if is_run(resolved) or (resolved.name == "samples" and is_run(resolved.parent)):
        raise DataError(f"{folder}: belongs to a run of minigan, which is not accepted as data")
    notes: list[str] = []
    root = folder
    folder = split_folder(root, split, notes)
    scan = Scan(folder)
    pixels, paths = read_images(scan, settings, notes, progress)
    labels, names = classes_of(scan, paths, notes)
    if split != "train" and labels is not None and names is not None:
        train = split_folder(root, "train", [])
        labels, names = _number_as_in_train(train, folder, labels, names, notes)
    if unused := scan.describe_unused():
        notes.append(f"{folder}: images used: {len(paths)}, not used: {unused}")
    values = scale(f"{folder}", pixels, settings, notes)
    dataset = Dataset(
        str(folder),
        values,
        labels,
        None if names is None else len(names),
        class_names=names,
        notes=tuple(notes),
    )
    return dataset, [path.relative_to(folder) for path in paths]


def split_folder(folder: Path, split: str, notes: list[str]) -> Path:
    """Return the folder of a split; add a note on what else is beside it."""
    entries = visible(folder)
    folders = [name for name in entries if is_class_folder(folder / name)]
    splits: dict[str, str] = {}
    for key, names in SPLIT_FOLDERS.items():  # in any case, such as "Train"
        matches = [x for name in names for x in folders if x.lower() == name]
        splits |= {key: matches[0]} if matches else {}
    if "train" not in splits or not ("test" in splits or len(folders) == 1):
        if split != "train":
            raise DataError(f"{folder}: has no split {split!r}; hold samples out with .holdout()")
        return folder
    if split not in splits:
        raise DataError(f"{folder}: has no split {split!r}, only {splits['train']}/")
    if list(splits.values()) != ["train", "test"]:
        text = ", ".join(f"{name}/ is the split {key!r}" for key, name in splits.items())
        notes.append(f"{folder}: {text}")
    others = [x for x in entries if x not in splits.values()]
    if others:
        notes.append(f"{folder}: not used beside the splits: {examples(others)}")
    return folder / splits[split]


def classes_of(
    scan: Scan, paths: list[Path], notes: list[str]
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Return the labels and the names of the classes; None, None where there are no classes."""
    parents = [path.relative_to(scan.folder).parts[:-1] for path in paths]
    names = sorted({parts[0] for parts in parents if parts}, key=natural_order)
    if not names:
        return None, None
    outside = [path.name for path, parts in zip(paths, parents, strict=True) if not parts]
    if outside:
        notes.append(
            f"{scan.folder}: no labels, because {len(outside)} of {len(paths)} images are in no"
            f" subfolder ({examples(outside)}); without them there are {len(names)} classes"
        )
        return None, None
    empty = [
        name
        for name in visible(scan.folder)
        if name not in names and is_class_folder(scan.folder / name)
    ]
    if empty:
        shown, unused = examples(f"{name}/" for name in empty), scan.describe_unused()
        raise DataError(
            f"{scan.folder}: no image that can be used in {shown}; every subfolder is a class,"
            f" so move it elsewhere or put images into it ({ACCEPTED})"
            + (f"; not used: {unused}" if unused else "")
        )
    nested = [path for path, parts in zip(paths, parents, strict=True) if len(parts) > 1]
    if nested:
        shown = examples(str(path.relative_to(scan.folder)) for path in nested)
        notes.append(
            f"{scan.folder}: images deeper than a class folder: {len(nested)} ({shown}); their"
            " class is the first folder"
        )
    index = {name: i for i, name in enumerate(names)}
    return np.array([index[parts[0]] for parts in parents]), tuple(names)


def _number_as_in_train(
    train: Path, folder: Path, labels: np.ndarray, names: tuple[str, ...], notes: list[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the labels and class names of another split, numbered as those of train.

    Classes that train does not have come after them, with a note.
    """
    folders = [x for x in visible(train) if is_class_folder(train / x)]
    known = sorted(folders, key=natural_order)
    others = [x for x in names if x not in known]
    if others:
        count = "a class" if len(others) == 1 else f"{len(others)} classes"
        notes.append(f"{folder}: {count} that {train} does not have: {examples(others)}")
    names, own_names = (*known, *others), names
    return np.array([names.index(name) for name in own_names])[labels], names
