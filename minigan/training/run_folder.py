"""Create, check and lock the folder of a run, and read its config and metrics.

config.json  metrics.jsonl  samples/step_*.png  checkpoint.safetensors  losses.png
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..utils.locks import LockedError, file_lock
from .config import Config

CHECKPOINT, CONFIG, METRICS, LOSSES, SAMPLES, LOCK = (
    "checkpoint.safetensors",
    "config.json",
    "metrics.jsonl",
    "losses.png",
    "samples",
    ".lock",
)


class RunError(ValueError):
    """A run folder cannot be used; the message names it and suggests a remedy."""


def new_folder(out: str | os.PathLike[str] | None, config: Config) -> Path:
    """Create an empty run folder: `out`, or the next of runs/001-glyphs-mlp, runs/002-...

    Raises:
        RunError: the folder is in use, or cannot be written.
    """
    try:
        folder = _create_next(config) if out is None else Path(out)
        check_free(folder)
        (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        target = "runs/ here; give another --out" if out is None else out
        raise RunError(f"cannot write to {target}: {error.strerror}") from None
    return folder


def check_free(folder: Path) -> None:
    """Raise RunError where a new run would overwrite something.

    Temporary files, the lock and an empty folder of samples may exist: a process that was killed at
    its start leaves them.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder to train in")
    if not folder.is_dir():
        return
    paths = [*folder.iterdir(), *folder.glob(f"{SAMPLES}/*")]
    if any(path.suffix != ".tmp" and path.name not in (LOCK, SAMPLES) for path in paths):
        raise RunError(
            f"the folder {folder} is in use; give another --out, or --resume {folder} to go on"
        )


def _create_next(config: Config) -> Path:
    """Create the next numbered folder of runs/.

    It is created at once, so that two runs that start together get two folders.
    """
    runs = Path("runs")
    runs.mkdir(exist_ok=True)
    while True:
        matches = [re.match("([0-9]+)-", path.name) for path in runs.iterdir()]
        number = max((int(match[1]) for match in matches if match), default=0) + 1
        folder = runs / f"{number:03d}-{Path(config.data).stem}-{config.model}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote a file of the run."""
    for name in (CHECKPOINT, CONFIG, METRICS, LOSSES, f"{SAMPLES}/step_*"):
        for path in folder.glob(f"{name}.*.tmp"):
            path.unlink(missing_ok=True)


def read_config(folder: Path) -> Config:
    """Return the config of a run.

    Raises:
        RunError: the folder holds no config, or none that can be read.
    """
    path = folder / CONFIG
    try:
        return Config(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run: it has no {CONFIG}") from None
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


def read_metrics(path: Path, lines: int, extra: int = 0) -> tuple[bytes, list[dict[str, Any]]]:
    """Return the first `lines` lines of metrics, and up to `extra` more: as bytes, and as rows.

    Raises:
        RunError: there is no file, or fewer than `lines`, or one is no line of metrics.
    """
    if not path.exists():
        raise RunError(f"{path} is gone; it had {lines} lines at the checkpoint")
    content = path.read_bytes().splitlines(keepends=True)
    if len(content) < lines:
        raise RunError(f"{path} has {len(content)} lines; the checkpoint knows of {lines}")
    content = content[: lines + extra]
    try:
        rows = [json.loads(line) for line in content]
        for row in rows:
            row["step"], row["loss_d"], row["loss_g"]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    return b"".join(content), rows


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, so that only one process trains in it.

    The operating system frees the lock when the process ends. On a file system without locks the
    folder is not guarded.

    Raises:
        RunError: another process is training in the folder, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(folder / LOCK))
        except LockedError:
            raise RunError(f"another process is training in {folder}") from None
        except OSError as error:
            raise RunError(f"cannot write to {folder}: {error.strerror}") from None
        yield
