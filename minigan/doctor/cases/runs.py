"""Train the runs of the cases, ask the doctor, and measure the samples."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ...seeds import map_seeds
from ...training.config import Config
from ...training.pictures import Pictures
from ...training.run import Run
from ...training.run_folder import locked, new_folder
from ...training.trainer import DivergedError, Trainer
from ...utils.notices import Notice
from .. import diagnose
from .measures import measure_run
from .own import registered
from .planted import Case

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """What came of one run.

    Attributes:
        findings: the names of the doctor's findings.
        changes: by finding, the options that the doctor would change.
        value, floor: the case's measure, and that of real samples.
        diverged: the message of a training that ended with DivergedError; "" otherwise.
        seconds: of the processor, for training, diagnosis and measurement.
    """

    findings: tuple[str, ...]
    changes: dict[str, dict[str, Any]]
    value: float
    floor: float
    diverged: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, without the time, which differs from run to run."""
        return {name: x for name, x in asdict(self).items() if name != "seconds"}


class NoPictures(Pictures):
    """Draw nothing: pictures take half of the time of a short run."""

    def draw_samples(self) -> None:
        """Draw nothing."""

    def draw_reals(self) -> None:
        """Draw nothing."""

    def draw_losses(self, rows: Sequence[dict[str, Any]], distance: str | None, last: bool) -> None:
        """Draw nothing."""


def train_without_pictures(config: Config, folder: Path) -> None:
    """Train in a folder as `mg.train` does, with the same bits; a signal raises KeyboardInterrupt.

    Raises:
        DivergedError: a loss or a weight became NaN or infinite.
    """
    trainer = Trainer(config)
    with locked(new_folder(folder, trainer.config)):
        run = Run(folder.absolute(), trainer)
        run.pictures = NoPictures(run.folder, trainer)
        stopped_by = run.train(progress=False)
    if stopped_by is not None:
        raise KeyboardInterrupt(stopped_by)


def run_case(
    case: Case, seed: int, changes: Mapping[str, Any] | None = None, folder: Path | None = None
) -> Result:
    """Train a case's run with a seed, and diagnose and measure it.

    Args:
        case: its options.
        seed: of the data, the weights and the noise.
        changes: options that replace the case's: a remedy.
        folder: the run's folder, which is kept; None: one that is removed.
    """
    start = time.process_time()
    place = Path(tempfile.mkdtemp(prefix="minigan-")) if folder is None else folder
    try:
        diverged = ""
        with registered(), warnings.catch_warnings():
            config = Config(**{**case.options, **(changes or {}), "seed": seed})
            warnings.simplefilter("ignore", Notice)
            warnings.simplefilter("ignore", UserWarning)
            try:
                train_without_pictures(config, place / "run")
            except DivergedError as error:
                diverged = str(error).partition(";")[0]
            diagnosis = diagnose(place / "run")
            value, floor = measure_run(place / "run", case.measure)
        return Result(
            tuple(finding.name for finding in diagnosis.findings),
            {finding.name: dict(finding.changes) for finding in diagnosis.findings},
            *(value, floor, diverged, time.process_time() - start),
        )
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)


def run_all(jobs: Sequence[Callable[[], T]], workers: int | None, label: str) -> list[T]:
    """Return the results of jobs, which must be picklable, computed in parallel by processes."""
    return map_seeds(partial(_call, jobs), range(len(jobs)), workers, label)


def _call(jobs: Sequence[Callable[[], T]], i: int) -> T:
    return jobs[i]()
