"""Train and measure a run per seed in worker processes: `minigan train --seeds`."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..evaluation.evaluate import Evaluation, evaluate
from ..kernels.runtime.files import atomic_write
from ..seeds import SeedError, map_seeds
from ..utils.notices import Notice
from ..utils.progress import announce_kernels
from .config import Config
from .own_code import load_named_code
from .run import Run
from .run_folder import check_free, locked, new_folder
from .signals import stop_requests, stopped_with
from .trainer import Trainer

NOT_BEGUN = "not begun"


@dataclass(frozen=True)
class SeedRun:
    """The result of one seed's run.

    Args:
        stopped: the name of the signal that ended it early, so that it can be resumed; NOT_BEGUN
            where others were stopped before.
        evaluation: the quick measures of `minigan evaluate`; None if stopped, or without held-out
            data.
    """

    seed: int
    folder: Path
    stopped: str | None
    evaluation: Evaluation | None


def parse_seeds(text: str) -> list[int]:
    """Return the seeds that a text such as "0-9", "0,3,5" or "0-2,7" names, in its order.

    Raises:
        ValueError: it is no such list, a range is empty, or a seed is named twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part, re.ASCII)
        if match is None:
            raise ValueError(f"--seeds {text}: seeds such as 0-9 or 0,3,5 are needed")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 10_000:
            raise ValueError(f"--seeds {text}: {part.strip()} is no range of 1 to 10,000 seeds")
        if last >= 2**64:
            raise ValueError(f"--seeds {text}: seeds below 2^64 are accepted")
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text}: a seed is named twice")
    return seeds


def train_seed_runs(
    config: Config,
    seeds: list[int],
    out: Path | None,
    progress: bool,
    on_start: Callable[[Trainer], object] = lambda trainer: None,
    captured: bool = True,
    tensorboard: bool = False,
) -> tuple[Trainer, list[SeedRun]]:
    """Train a run per seed; return an untrained trainer of the same options, and the runs.

    The folders are `out`/seed_S, or the next ones of runs/, in the order of the seeds. Each run is
    the one that `minigan train --seed S` makes, bit for bit, and can be resumed as one. SIGINT,
    SIGTERM and SIGHUP stop and save all runs, and no other begins; so does the end of this process.
    `on_start` is called with the untrained trainer before any run begins.

    Raises:
        ValueError: options that do not fit the data; a folder is not empty. Nothing was trained.
        SeedError: a run failed; others may be unfinished, and can be resumed.
    """
    outs = {seed: None if out is None else out / f"seed_{seed}" for seed in seeds}
    for folder in outs.values():
        if folder is not None:
            check_free(folder)
    # This trainer checks the options and downloads the data before any worker starts.
    trainer = Trainer(config.replace(seed=seeds[0]), progress=progress)
    on_start(trainer)
    from ..kernels.runtime.cpu.ahead import finish_compiling

    finish_compiling()  # Each worker would compile what is not in the cache.
    folders = {seed: new_folder(folder, trainer.config) for seed, folder in outs.items()}
    with tempfile.TemporaryDirectory(prefix="minigan-") as place:
        stop = Path(place) / "stop"  # Its presence asks all workers to stop.
        train = partial(
            _train_and_measure, config, folders, captured, tensorboard, os.getpid(), stop
        )
        with stop_requests(partial(_request, stop)) as requests:
            try:
                return trainer, map_seeds(train, seeds, label=f"{Path(config.data).name}, seeds")
            except RuntimeError as error:  # SeedError, or joblib's where a worker was killed
                if requests:  # The signal ended a worker that was not training.
                    raise KeyboardInterrupt from None
                text = f"{error}; the runs of other seeds may be unfinished, and can be resumed"
                raise SeedError(text) from error


def _train_and_measure(
    config: Config,
    folders: dict[int, Path],
    captured: bool,
    tensorboard: bool,
    parent: int,
    stop: Path,
    seed: int,
) -> SeedRun:
    """Train and measure a run, unless the file `stop` or a signal asks to stop."""
    folder = folders[seed]
    with (
        stop_requests(partial(_request, stop)) as requests,
        stopped_with(parent, stop, requests),
    ):
        if not stop.parent.exists() or stop.exists():
            return SeedRun(seed, folder, NOT_BEGUN, None)
        if seed == next(iter(folders)):  # One worker announces the kernels that all compile.
            announce_kernels(config.device)
        with warnings.catch_warnings():  # The first trainer has shown the notes.
            warnings.simplefilter("ignore", Notice)
            load_named_code(config)
            trainer = Trainer(config.replace(seed=seed))
        trainer.captured = captured
        with locked(folder):
            run = Run(folder, trainer)
            run.tensorboard = tensorboard
            stopped = run.train(progress=False)
        evaluation = None
        if stopped is None and not requests and can_be_measured(trainer):
            evaluation = evaluate(trainer, only=["quick"])
    return SeedRun(seed, folder, stopped, evaluation)


def _request(stop: Path, name: str) -> None:
    """Ask all workers to stop by a file that holds the name of a signal."""
    with contextlib.suppress(OSError):  # The parent has ended and removed its folder.
        atomic_write(stop, lambda file: file.write(name.encode()))


def can_be_measured(trainer: Trainer) -> bool:
    """Return whether there are held-out samples to compare with."""
    return len(trainer.held_out) > 0
