"""What every benchmark does around its measurements: checks, a bar, a file, random numbers kept."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.random import default_generator
from ..kernels.runtime.files import atomic_write

if TYPE_CHECKING:
    from tqdm import tqdm

FilePath = str | os.PathLike[str] | None


def check_request(repeats: int, json_path: FilePath, figure_path: FilePath = None) -> None:
    """ValueError unless there are rounds, and room for the files that are to be written."""
    if repeats < 1:
        raise ValueError(f"repeats = {repeats} is not a positive number of rounds")
    for path in (json_path, figure_path):
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"{path}: there is no folder of that name to write to")
        if path is not None and Path(path).is_dir():
            raise ValueError(f"{path} is a folder, not a file to write")
    if figure_path is not None and Path(figure_path).suffix.lower() != ".png":
        raise ValueError(f"{figure_path}: the figure is a PNG; its name ends in .png")


def finished(result: dict[str, Any], path: FilePath) -> dict[str, Any]:
    """The result as JSON has it (tuples as lists), which is also written to `path`, if given."""
    text = json.dumps(result, indent=1) + "\n"
    if path is not None:
        atomic_write(path, lambda file: file.write(text.encode()))
    return json.loads(text)


def progress_bar(name: str, total: int, unit: str) -> tqdm:
    """One live line on stderr, for what takes longer than 2 s."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=name,
        unit=unit,
        delay=2,
        leave=False,
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 10,
    )


def first_line(error: Exception) -> str:
    """An error in one line of at most about 200 letters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Afterwards, minigan's random numbers go on as if none had been drawn within."""
    before = default_generator().state()
    try:
        yield
    finally:
        default_generator().set_state(before)
