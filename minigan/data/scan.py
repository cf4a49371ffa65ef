"""Find the files below a folder, and record what is left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from .checks import DataError

# A folder is a run of `minigan train` if it has the first of these files and one of the others.
RUN_FILES = ("config.json", "metrics.jsonl", "checkpoint.safetensors", "samples/step_000000.png")
EXAMPLES = 3  # the number of file names that a note lists for each reason


class Scan:
    """The files below a folder in order of path, and by reason what is not used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.unused: dict[str, list[Path]] = {}
        self._visited = {_identity(folder)}
        pending = [folder]
        while pending:  # not recursive: a path may have more parts than Python has stack frames
            parent = pending.pop()
            paths = [parent / name for name in sorted(names_in(parent))]
            paths.sort(key=os.path.islink)  # A folder comes before the links to it.
            pending += [path for path in paths if self._add(path)]
        # Paths compare part by part, so the images of a subfolder stay together.
        self.files.sort()

    def _add(self, path: Path) -> bool:
        """Record a file, or what is not used; return whether the path is a folder to scan."""
        if path.name.startswith("."):
            self.skip("hidden", path)
        elif not path.exists():
            self.skip("linked to nothing", path)
        elif path.is_dir():
            if is_run(path):
                self.skip("of runs of minigan", path)
            elif _identity(path) in self._visited:
                self.skip("linked to a folder that is already read", path)
            else:
                self._visited.add(_identity(path))
                return True
        elif path.is_file():
            self.files.append(path)
        else:
            self.skip("neither file nor folder", path)
        return False

    def skip(self, reason: str, path: Path) -> None:
        """Record a path as not used."""
        self.unused.setdefault(reason, []).append(path)

    def describe_unused(self) -> str:
        """Return counts and names of what is not used, by reason; "" where all is used."""
        parts = []
        for reason, paths in self.unused.items():
            if not paths:
                continue
            names = sorted(str(path.relative_to(self.folder)) for path in paths)
            parts.append(f"{len(names)} {reason} ({examples(names)})")
        return "; ".join(parts)


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run of `minigan train`."""
    config, *others = (os.path.lexists(folder / name) for name in RUN_FILES)
    return config and any(others)


def is_class_folder(path: Path) -> bool:
    """Return whether a path is a folder, and neither a run nor a folder of runs."""
    return path.is_dir() and not any(map(is_run, (path, *(path / x for x in names_in(path)))))


def visible(folder: Path) -> list[str]:
    """Return the names in a folder that are not hidden, in order."""
    return sorted(name for name in names_in(folder) if not name.startswith("."))


def natural_order(name: str) -> tuple[list[int | str], str]:
    """Return the key that sorts names as text, but digits in them as numbers: 2 before 10."""
    parts = re.split("([0-9]+)", name)  # Text and numbers take turns, so like is compared to like.
    return [int(x) if i % 2 else x for i, x in enumerate(parts)], name


def names_in(folder: Path) -> list[str]:
    """Return all names in a folder.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return os.listdir(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None


def examples(names: Iterable[str]) -> str:
    """Return the first names, and the number of the others."""
    names = list(names)
    rest = len(names) - EXAMPLES
    return ", ".join(names[:EXAMPLES]) + (f" and {rest} more" if rest > 0 else "")


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
