"""The common parts of all benchmarks: check options, show progress, write JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..kernels.runtime.files import atomic_write
from ..utils import progress, strict_json

if TYPE_CHECKING:
    from tqdm import tqdm

FilePath = str | os.PathLike[str] | None
MAX_MESSAGE_CHARACTERS = 200


def check_options(repeats: int, json_path: FilePath, figure_path: FilePath = None) -> None:
    """Raise ValueError if there are no rounds, or the path of a file cannot be written to."""
    if repeats < 1:
        raise ValueError(f"repeats = {repeats} is not a positive number of rounds")
    for path in (json_path, figure_path):
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise ValueError(f"{path}: there is no folder of that name to write to")
        if path is not None and Path(path).is_dir():
            raise ValueError(f"{path} is a folder, not a file to write")
    if figure_path is not None and Path(figure_path).suffix.lower() != ".png":
        raise ValueError(f"{figure_path}: the figure is a PNG; its name ends in .png")


def write_result(result: dict[str, Any], path: FilePath) -> dict[str, Any]:
    """Write the result as JSON, if a path is given, and return it as JSON holds it (no tuples).

    In the file null stands for a number that is NaN or infinite.
    """
    if path is not None:
        text = strict_json.dumps(strict_json.with_null(result), indent=1) + "\n"
        atomic_write(path, lambda file: file.write(text.encode()))
    return json.loads(json.dumps(result))


def progress_bar(name: str, total: int) -> tqdm:
    """Return a progress bar on stderr that appears after 2 s and leaves no trace."""
    return progress.progress_bar(total=total, desc=name, delay=2, leave=False)


def error_line(error: Exception) -> str:
    """Return the error's type and message as one line of limited length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_MESSAGE_CHARACTERS]}"
