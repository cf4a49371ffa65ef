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
from ...training.train import train
from ...training.trainer import DivergedError
from ...utils.notices import Notice
from .. import diagnose
from . import own  # noqa: F401 (registers the nets and data that cases name)
from .measures import measure_run
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
    config = Config(**{**case.options, **(changes or {}), "seed": seed})
    place = Path(tempfile.mkdtemp(prefix="minigan-")) if folder is None else folder
    try:
        diverged = ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            warnings.simplefilter("ignore", UserWarning)
            try:
                train(config, out=place / "run", progress=False)
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
