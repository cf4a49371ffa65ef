"""Load a folder of pictures, and name every file in it that is not used."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .arrays import Settings, scale
from .dataset import DataError, Dataset
from .limits import check_memory
from .pictures import FORMATS, SUFFIXES, Picture

# The names of the folders of a split, as Keras, torchvision and others have them.
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
# The files by which a folder is known as a run of `minigan train`: the first and one of the others.
RUN_FILES = ("config.json", "metrics.jsonl", "checkpoint.safetensors", "samples/step_000000.png")
EXAMPLES = 3  # the names of files that a note lists for each reason


def load_folder(
    folder: Path, split: str = "train", settings: Settings | None = None, progress: bool = False
) -> Dataset:
    """Return all pictures below a folder, in order of path: (N, 1, H, W) if all are grey, or C = 3.

    Where all of them are in subfolders, the subfolders of `folder` are the classes, as torchvision
    and Keras have it. Where `folder` has the folder `train` and one of `test`, `val`, `valid` and
    `validation`, or `train` alone, these are the splits; otherwise it is all `train`. A file is a
    picture by its content (PNG, JPEG, BMP, GIF, WEBP, TIFF, PPM). The first picture of an animation
    is used; transparent pixels are blended with black; links are followed. `Dataset.notes` counts
    and names what is not used: hidden files, other files, and the runs of `minigan train`.

    Raises:
        DataError: a file cannot be read, sizes differ, a class has no picture, or the folder is a
            run.
    """
    settings = settings or Settings()
    if is_run(folder) or (folder.name == "samples" and is_run(folder.parent)):
        raise DataError(f"{folder}: belongs to a run of minigan, and runs are no data")
    notes: list[str] = []
    folder = _split_folder(folder, split, notes)
    scan = _Scan(folder)
    pixels, paths = _read(scan, settings.max_gb, progress)
    labels, names = _classes(scan, paths, notes)
    notes += [note for note in (scan.unused_note(len(paths)), scan.animation_note()) if note]
    values = scale(f"{folder}", pixels, settings.value_range, notes)
    return Dataset(
        str(folder),
        values,
        labels,
        None if names is None else len(names),
        class_names=names,
        notes=tuple(notes),
    )


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run of `minigan train`."""
    config, *others = (os.path.lexists(folder / name) for name in RUN_FILES)
    return config and any(others)


def _split_folder(folder: Path, split: str, notes: list[str]) -> Path:
    """Return the folder of a split; add a note on what lies beside it."""
    entries = {name: folder / name for name in _visible(folder)}
    folders = {name for name, path in entries.items() if path.is_dir()}
    splits = {
        key: [name for name in names if name in folders] for key, names in SPLIT_FOLDERS.items()
    }
    if not splits["train"] or not (splits["test"] or folders == {"train"}):
        if split != "train":
            raise DataError(f"{folder}: has no split {split!r}; hold samples out with .holdout()")
        return folder
    if not splits[split]:
        raise DataError(f"{folder}: has no split {split!r}, only {', '.join(splits['train'])}/")
    used = [names[0] for names in splits.values() if names]
    others = [f"{name}/" if name in folders else name for name in entries if name not in used]
    if set(used) - {"train", "test"}:
        notes.append(f"{folder}: {used[1]}/ is the split 'test', train/ the split 'train'")
    if others:
        notes.append(f"{folder}: not used, because train/ is a split: {_examples(others)}")
    return folder / splits[split][0]


def _visible(folder: Path) -> list[str]:
    return sorted(name for name in _names(folder) if not name.startswith("."))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None


# ----------------------------------------------------------------------------------- scanning
class _Scan:
    """The files below a folder in order of path, and by reason what is not used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.unused: dict[str, list[Path]] = {}
        self.animations: list[Path] = []
        self.runs: set[Path] = set()
        self._visited = {_identity(folder)}
        pending = [folder]
        while pending:  # A path may have more parts than Python has frames.
            parent = pending.pop()
            pending += [path for name in _names(parent) if self._add(path := parent / name)]
        # Paths compare part by part, so the pictures of a subfolder stay together.
        self.files.sort()

    def _add(self, path: Path) -> bool:
        """Note a file or a folder; return whether it is a folder to be scanned."""
        if path.name.startswith("."):
            self.skip("hidden", path)
        elif not path.exists():
            self.skip("links to nothing", path)
        elif path.is_dir():
            if is_run(path):
                self.skip("runs of minigan", path)
                self.runs.add(self._top(path))
            elif _identity(path) in self._visited:
                self.skip("links to a folder that is read already", path)
            else:
                self._visited.add(_identity(path))
                return True
        elif path.is_file():
            self.files.append(path)
        else:
            self.skip("pipes, sockets or devices", path)
        return False

    def skip(self, reason: str, path: Path) -> None:
        """Count a path as not used."""
        self.unused.setdefault(reason, []).append(path)

    def _top(self, path: Path) -> Path:
        return self.folder / path.relative_to(self.folder).parts[0]

    def class_folders(self) -> list[Path]:
        """Return the subfolders that may be classes: all but those that hold runs."""
        paths = (self.folder / name for name in _visible(self.folder))
        return [path for path in paths if path.is_dir() and path not in self.runs]

    def unused_note(self, used: int) -> str:
        """Return a line that counts and names what is not used; "" where all is."""
        parts = []
        for reason, paths in self.unused.items():
            names = sorted(str(path.relative_to(self.folder)) for path in paths)
            parts.append(f"{len(names)} {reason} ({_examples(names)})")
        noun = "picture" if used == 1 else "pictures"
        return f"{self.folder}: {used} {noun} used; not used: {', '.join(parts)}" if parts else ""

    def animation_note(self) -> str:
        """Return a line on the files with several pictures; "" without such files."""
        names = [str(path.relative_to(self.folder)) for path in self.animations]
        text = f"{self.folder}: of {len(names)} files with several pictures the first is used"
        return f"{text} ({_examples(names)})" if names else ""


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _examples(names: Iterable[str]) -> str:
    names = list(names)
    rest = len(names) - EXAMPLES
    return ", ".join(names[:EXAMPLES]) + (f" and {rest} more" if rest > 0 else "")


# ------------------------------------------------------------------------------------ reading
def _read(scan: _Scan, max_gb: float, progress: bool) -> tuple[np.ndarray, list[Path]]:
    """Return the pixels, uint8 (N, C, H, W), and the paths of the files that are pictures."""
    from PIL import Image
    from tqdm import tqdm

    images: list[np.ndarray] = []
    paths: list[Path] = []
    size, channels = (0, 0), 1
    expected = sum(path.suffix.lower() in SUFFIXES for path in scan.files)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for path in tqdm(scan.files, scan.folder.name, disable=not progress):
            with Picture(path) as picture:
                if not picture.is_picture:
                    scan.skip(f"not of {', '.join(FORMATS)}", path)
                    continue
                size = size if paths else picture.size
                if picture.size != size:
                    (w, h), (width, height) = size, picture.size
                    raise DataError(
                        f"images must be of one size: {paths[0]} is {w}x{h}, {path} is"
                        f" {width}x{height}"
                    )
                count = max(expected, len(paths) + 1)
                check_memory(scan.folder, (count, channels, *size[::-1]), max_gb)
                images.append(picture.read().transpose(2, 0, 1).copy())
            paths.append(path)
            channels = max(channels, len(images[-1]))
            if picture.is_animated:
                scan.animations.append(path)
    if not paths:
        note = scan.unused_note(0)
        raise DataError(note or f"{scan.folder}: no images in it ({', '.join(FORMATS)})")
    shape = (channels, *size[::-1])
    check_memory(scan.folder, (len(images), *shape), max_gb)
    return np.stack([np.broadcast_to(image, shape) for image in images]), paths


def _classes(
    scan: _Scan, paths: list[Path], notes: list[str]
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Return the labels and the names of the classes; None, None where there are no classes."""
    parents = [path.relative_to(scan.folder).parts[:-1] for path in paths]
    names = sorted({parts[0] for parts in parents if parts})
    if not names:
        return None, None
    loose = [path.name for path, parts in zip(paths, parents, strict=True) if not parts]
    if loose:
        notes.append(
            f"{scan.folder}: no labels, because {len(loose)} of {len(paths)} pictures are in no"
            f" subfolder ({_examples(loose)}); without them there are {len(names)} classes"
        )
        return None, None
    empty = [path for path in scan.class_folders() if path.name not in names]
    if empty:
        examples = _examples(f"{path.name}/" for path in empty)
        raise DataError(
            f"{scan.folder}: no picture that can be used in {examples}; every subfolder is a class,"
            f" so move it elsewhere or put pictures into it ({', '.join(FORMATS)})"
        )
    deep = [path for path, parts in zip(paths, parents, strict=True) if len(parts) > 1]
    if deep:
        examples = _examples(str(path.relative_to(scan.folder)) for path in deep)
        notes.append(
            f"{scan.folder}: {len(deep)} pictures lie deeper than a class folder ({examples});"
            " their class is the first folder"
        )
    index = {name: i for i, name in enumerate(names)}
    return np.array([index[parts[0]] for parts in parents]), tuple(names)
