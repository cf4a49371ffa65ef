"""Decide where a report is written, and write it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..kernels.runtime.files import atomic_write, open_regular
from ..training.run_folder import read_gan_options
from .gather import Sources, gather
from .page import GENERATOR, build_page

NAME = "report.html"
HEAD_BYTES = 4096  # of a file, in which a report names the program that wrote it
MAX_RUNS = 16


def write_report(
    folders: Sequence[Path], out: Path | None = None, sources: Sources | None = None
) -> Path:
    """Write the report of these runs, and return its path.

        write_report([Path("runs/001-glyphs-mlp")])

    Args:
        folders: the runs.
        out: the file; None: report.html in the folder of a single run, else in the working
            directory. A report that is there is replaced, another file is not.
        sources: where the data are, and the runs' own code.

    Raises:
        RunError: a folder is no run, or is given twice.
        ValueError: there are too many runs, or the file cannot be written.
    """
    if not 1 <= len(folders) <= MAX_RUNS:
        raise ValueError(f"{len(folders)} runs: a report shows 1 to {MAX_RUNS}")
    for folder in folders:
        read_gan_options(folder)  # raises where it is no run, before all else
    path = out or (folders[0] if len(folders) == 1 else Path()) / NAME
    check_out(path)
    page = build_page(gather(list(folders), sources or Sources()))
    try:
        atomic_write(path, lambda file: file.write(page.encode()))
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"cannot write {path}: {reason}; --out names another file") from None
    return path


def check_out(path: Path) -> None:
    """Raise ValueError unless a report may be written to this path."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--out {path}: a name that ends in .html is needed")
    if path.is_dir():
        raise ValueError(f"--out {path}: is a folder; a name that ends in .html is needed")
    if path.parent.exists() and not path.parent.is_dir():
        raise ValueError(f"--out {path}: {path.parent} is a file, not a folder")
    if not path.parent.exists():
        raise ValueError(f"--out {path}: there is no folder {path.parent}")
    if os.path.lexists(path) and not is_report(path):
        raise ValueError(f"{path} exists already and is no report; --out names another file")


def is_report(path: Path) -> bool:
    """Return whether a file is a report that this library wrote."""
    try:
        with open_regular(path) as file:
            return f'name="generator" content="{GENERATOR}"'.encode() in file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return False
