"""Create, check and lock the folder of a run, and read its config and metrics.

config.json  metrics.jsonl  metrics.csv  samples/step_*.png  reals.png  losses.png  evaluation.json
checkpoint.safetensors  best.safetensors  snapshots/step_*.safetensors  diverged.json
tensorboard/events.out.tfevents.*
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..kernels.runtime.files import open_regular, read_bounded, sync_folder
from ..utils import strict_json
from ..utils.code_files import short_name
from ..utils.locks import LockedError, file_lock
from .config import Config
from .state import MAX_COUNT, AnyConfig

CHECKPOINT, CONFIG, METRICS, EVALUATION, CODE = (
    "checkpoint.safetensors",
    "config.json",
    "metrics.jsonl",
    "evaluation.json",
    "code",
)
BEST, NEW_BEST = "best.safetensors", "best.new.safetensors"
DIVERGED = "diverged.json"  # the step and the message of a training that diverged
OLD_QUALITY = "quality.jsonl"  # of versions that did not write their measures into the metrics
METRICS_CSV = "metrics.csv"
LOSSES, REALS, SAMPLES, SNAPSHOTS, LOCK = (
    "losses.png",
    "reals.png",
    "samples",
    "snapshots",
    ".lock",
)

MAX_CONFIG_BYTES = 1 << 16  # forty times what a config with short paths takes
MAX_METRIC = 1e100  # far above any float32 and any norm of them, but it can be plotted
METRIC_NAMES = ("step", "loss_d", "loss_g")
MAX_LINE_BYTES = 1 << 14  # of metrics: forty times what one takes
MAX_ROWS = 200_000  # of a file that is read to be looked at


class RunError(ValueError):
    """A run folder cannot be used; the message names it and suggests a remedy."""


def new_folder(out: str | os.PathLike[str] | None, config: AnyConfig) -> Path:
    """Create an empty run folder: `out`, or the next of runs/001-glyphs-mlp, runs/002-...

    Raises:
        RunError: the folder is not empty, or cannot be written.
    """
    try:
        folder = _create_next(config) if out is None else Path(out)
        check_free(folder)
        (folder / SAMPLES).mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)  # so that the folder survives a crash days later
    except OSError as error:
        if out is not None:
            raise RunError(cannot_write(Path(out), error)) from None
        reason = f"cannot write to runs/ here; give another --out: {error.strerror}"
        raise RunError(reason) from None
    return folder


def cannot_write(folder: Path, error: OSError) -> str:
    """Return a message that names the folder, and the file in it where the error knows it."""
    file = Path(error.filename or folder)
    name = f" ({file.relative_to(folder)})" if folder in file.parents else ""
    return f"cannot write to {folder}: {error.strerror or error}{name}"


def check_free(folder: Path) -> None:
    """Raise RunError where a new run would overwrite something.

    Temporary files, the lock and an empty folder of samples may exist: a process that was killed at
    its start leaves them.
    """
    if folder.is_symlink() and not folder.exists():
        raise RunError(f"{folder} is a link to {os.readlink(folder)}, which does not exist")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder to train in")
    if not folder.is_dir():
        return
    paths = [*folder.iterdir(), *folder.glob(f"{SAMPLES}/*")]
    if any(path.suffix != ".tmp" and path.name not in (LOCK, SAMPLES) for path in paths):
        raise RunError(
            f"the folder {folder} is not empty; give another --out, or --resume {folder} to"
            " continue its run"
        )


def _create_next(config: AnyConfig) -> Path:
    """Create the next numbered folder of runs/.

    It is created at once, so that two runs that start together get two folders.
    """
    runs = Path("runs")
    runs.mkdir(exist_ok=True)
    while True:
        matches = [re.match("([0-9]+)-", path.name) for path in runs.iterdir()]
        number = max((int(match[1]) for match in matches if match), default=0) + 1
        names = short_name(config.data), short_name(config.label)
        folder = runs / "-".join([f"{number:03d}", *names])
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote a file of the run."""
    names = (CHECKPOINT, CONFIG, METRICS, METRICS_CSV, EVALUATION, LOSSES, REALS, BEST, NEW_BEST)
    for name in (*names, DIVERGED, f"{SAMPLES}/step_*", f"{SNAPSHOTS}/step_*", f"{CODE}/*"):
        for path in folder.glob(f"{name}.*.tmp"):
            path.unlink(missing_ok=True)


def read_config(folder: Path) -> Config:
    """Return the config of a run.

    Raises:
        RunError: the folder holds no config, or none that can be read.
    """
    values = read_gan_options(folder)
    try:
        return Config.from_dict(values)
    except (TypeError, ValueError) as error:
        raise RunError(f"{folder / CONFIG} cannot be read: {error}") from None


def read_gan_options(folder: Path) -> dict[str, Any]:
    """Return the options of a run that makes images from noise, unchecked.

    Raises:
        RunError: as `read_options`, or it is a run of images from images.
    """
    values = read_options(folder)
    if "task" in values:
        raise RunError(
            f"{folder} is a run of images from images (--task {values['task']}): minigan translate"
            " applies it, minigan evaluate measures it, and minigan train --resume goes on with it"
        )
    return values


def read_options(folder: Path) -> dict[str, Any]:
    """Return the options of a run as config.json has them, unchecked.

    Raises:
        RunError: the folder holds no config, or none that can be read.
    """
    path = folder / CONFIG
    try:
        values = strict_json.loads(read_bounded(path, MAX_CONFIG_BYTES))
        if not isinstance(values, dict):
            raise ValueError("it is not an object of options")
        return values
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run: it has no {CONFIG}{_runs_in(folder)}") from None
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


def _runs_in(folder: Path) -> str:
    """Return what to say of the runs that a folder holds, such as those of `--seeds`, or ""."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if not names:
        return ""
    number = "a run" if len(names) == 1 else f"{len(names)} runs"
    several = f", or {folder / '*'} where several are accepted" if names[1:] else ""
    return f"; it holds {number}: name {folder / names[0]}{several}"


def sample_pictures(folder: Path) -> dict[int, Path]:
    """Return the paths of the pictures of a run's samples by step, in ascending order."""
    found = {
        int(match[1]): path
        for path in (folder / SAMPLES).glob("step_*.png")
        if (match := re.fullmatch(r"step_(\d{1,18})\.png", path.name, re.ASCII))
    }
    return dict(sorted(found.items()))


def read_metrics(
    path: Path, step: int, lines: int, is_regular: Callable[[int], bool]
) -> list[dict[str, Any]]:
    """Return the rows of metrics up to a step: the regular ones, and one of that step itself.

    Regular lines are those of `Lines`. A run has an extra line for its last step, which is
    returned if `step` is that step, even if the run is about to be extended.

    Args:
        path: the file.
        step: the step of the checkpoint.
        lines: how many regular lines the checkpoint counts.
        is_regular: whether a step has a regular line.

    Raises:
        RunError: there is no file, or it has fewer than `lines`, or one is not a line of metrics.
    """
    if not path.exists():
        raise RunError(f"{path} is gone; it had {lines} lines at the checkpoint")
    rows: list[dict[str, Any]] = []
    regular = last = 0
    try:
        # Two lines may be extra: of the last step before an extension, and of the present one.
        content = _read_lines(path, lines + 2)
        if len(content) < lines:
            raise RunError(f"{path} has {len(content)} lines; the checkpoint counts {lines}")
        for line in content:
            try:
                row = _parse_row(line, last)
            except ValueError:
                if regular == lines:  # A process was killed while it wrote this line.
                    break
                raise
            last = row["step"]
            if last > step or (is_regular(last) and regular == lines):
                break
            regular += is_regular(last)
            if is_regular(last) or last == step:
                rows.append(row)
    except (OSError, ValueError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"{path} cannot be read: {error}") from None
    if regular < lines:
        raise RunError(
            f"{path} has {regular} regular lines up to step {step}; the checkpoint counts {lines}"
        )
    return rows


def read_all_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all rows of metrics, also those after the checkpoint; none where there is no file.

    A last line that a process was killed at is left out.

    Raises:
        RunError: a line is not one of metrics.
    """
    rows, problem = read_rows(path)
    if problem:
        raise RunError(f"{path.parent}: {problem}")
    return rows


def _read_lines(path: Path, count: int) -> list[bytes]:
    """Return the first lines of a file, at most `count`."""
    lines: list[bytes] = []
    with open_regular(path) as file:
        while len(lines) < count and (line := file.readline(MAX_LINE_BYTES + 1)):
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"a line is longer than {MAX_LINE_BYTES:,} bytes")
            lines.append(line)
    return lines


def _parse_row(line: bytes, last: int, names: Sequence[str] = METRIC_NAMES) -> dict[str, Any]:
    """Return a line of metrics; ValueError if it is not one, or its step is not after `last`."""
    row = strict_json.loads(line, accept_nan=True)  # Older versions wrote Infinity.
    if not isinstance(row, dict):
        raise ValueError("a line is not an object")
    for name in names:
        if name not in row:
            raise ValueError(f"'{name}' is missing in a line")
    for name, value in row.items():
        is_number = (type(value) is float and abs(value) < MAX_METRIC) or (
            type(value) is int and abs(value) < MAX_COUNT
        )
        if not is_number and value is not None:
            raise ValueError(f"{name!r} in a line is {str(value)[:40]!r}, not a number")
    if type(row["step"]) is not int or row["step"] <= last:
        raise ValueError(f"a line has step {row['step']} after step {last}")
    return row


def read_rows(
    path: Path, names: Sequence[str] = METRIC_NAMES, limit: int = MAX_ROWS
) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of a file before its first damaged line, and a text on what is not read.

    The text is "" where all was read. A last line that a process was killed at is left out without
    one, and a file that does not exist has no rows.
    """
    rows: list[dict[str, Any]] = []
    try:
        content = _read_lines(path, limit + 1)
        for line in content if not content or content[-1].endswith(b"\n") else content[:-1]:
            rows.append(_parse_row(line, rows[-1]["step"] if rows else -1, names))
    except FileNotFoundError:
        return [], ""
    except (OSError, ValueError) as error:
        return rows, f"{path.name} cannot be read: {error} (line {len(rows) + 1})"
    problem = f"{path.name}: only the first {limit:,} lines are read" if rows[limit:] else ""
    return rows[:limit], problem


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
            raise RunError(cannot_write(folder, error)) from None
        yield
