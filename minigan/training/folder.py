"""The folder of a run: what it is called, that it is free, that one process at a time is in it."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .config import Config

CHECKPOINT, CONFIG, METRICS, LOSSES = (
    "checkpoint.safetensors",
    "config.json",
    "metrics.jsonl",
    "losses.png",
)


class RunError(ValueError):
    """A run folder that cannot be used; the message names it and says what to do."""


def new_folder(out: str | os.PathLike[str] | None, config: Config) -> Path:
    """An empty folder to run in: `out`, or the next of runs/001-glyphs-mlp, runs/002-...

    Raises:
        RunError: the folder is in use, or cannot be written.
    """
    try:
        folder = _next_folder(config) if out is None else Path(out)
        check_free(folder)
        (folder / "samples").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = "runs/ here; give another --out" if out is None else out
        raise RunError(f"cannot write to {where}: {error.strerror}") from None
    return folder


def check_free(folder: Path) -> None:
    """RunError where something is in the way of a new run; what a killed start left is not."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder to train in")
    if not folder.is_dir():
        return
    found = [*folder.iterdir(), *folder.glob("samples/*")]
    if any(p.suffix != ".tmp" and p.name not in (".lock", "samples") for p in found):
        raise RunError(
            f"the folder {folder} is in use; give another --out, or --resume {folder} to go on"
        )


def _next_folder(config: Config) -> Path:
    """Made here, so that two runs that start together get two folders."""
    runs = Path("runs")
    runs.mkdir(exist_ok=True)
    while True:
        taken = [int(n[1]) for p in runs.iterdir() if (n := re.match("([0-9]+)-", p.name))]
        number = max(taken, default=0) + 1
        folder = runs / f"{number:03d}-{Path(config.data).stem}-{config.model}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder


def read_config(folder: Path) -> Config:
    """The config of a run; RunError where the folder holds none that can be read."""
    path = folder / CONFIG
    try:
        return Config(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run: it has no {CONFIG}") from None
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one process trains in a folder. The lock goes when the process does."""
    try:
        import fcntl
    except ImportError:  # not on this system: nothing guards the folder
        yield
        return
    try:
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"another process is training in {folder}") from None
        yield
