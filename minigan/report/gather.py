"""Gather all that a report shows of a run; what cannot be had is a sentence that says why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import NAMES
from ..doctor import Diagnosis, diagnose
from ..evaluation.evaluate import evaluate
from ..evaluation.files import read_evaluation, write_evaluation
from ..training.resume import Code
from ..training.run_folder import EVALUATION
from ..training.trainer import Trainer
from .folder import RunContent, name_runs, read_run_content
from .nearest import Nearest, find_nearest, load_data
from .trained import ERRORS, Trained, Walk, latent_walk, read_trained

PICTURE_BYTES = 4_200_000  # of all pictures of samples in a report


@dataclass
class Sources:
    """What a report may use beside the run folders.

    Attributes:
        data, data_dir: where the data of the runs are now; None: where they were.
        code: the runs' own code that the user names, by option.
        use_data: whether to load the data, for the nearest training samples.
        evaluate: whether to measure the runs that have no evaluation.json.
    """

    data: str | None = None
    data_dir: str | None = None
    code: Code = field(default_factory=dict)
    use_data: bool = True
    evaluate: bool = False


@dataclass
class RunReport:
    """What a report shows of a run.

    Attributes:
        ident: its name in the page's HTML.
        content: what its files hold.
        trained: what its checkpoint says; None where it cannot be used.
        walk: samples between latents.
        nearest: the training samples that are nearest to generated ones.
        diagnosis: the findings of `minigan doctor`.
        reasons: why one of these is None, by its name.
    """

    ident: str
    content: RunContent
    trained: Trained | None = None
    walk: Walk | None = None
    nearest: Nearest | None = None
    diagnosis: Diagnosis | None = None
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.content.name

    @property
    def step(self) -> int:
        """The last step of which the run knows."""
        return max(self.content.last_step, self.trained.step if self.trained else 0)

    @property
    def steps(self) -> int | None:
        """The number of steps that its options ask for."""
        value = self.content.options.get("steps")
        return value if type(value) is int else None


def gather(folders: list[Path], sources: Sources) -> list[RunReport]:
    """Return what a report shows of these runs.

    Raises:
        RunError: a folder is no run, or is given twice.
    """
    names = name_runs(folders)
    limit = PICTURE_BYTES // len(folders)
    contents = [
        read_run_content(folder, name, limit) for folder, name in zip(folders, names, strict=True)
    ]
    runs = [RunReport(f"r{i}", content) for i, content in enumerate(contents)]
    for run in runs:
        # Of several runs, some may have data that are generated or downloaded by their name.
        is_named = len(runs) > 1 and run.content.options.get("data") in NAMES
        _gather_run(run, sources, None if is_named else sources.data)
    return runs


def _gather_run(run: RunReport, sources: Sources, data: str | None) -> None:
    """Add to a report what its checkpoint, its data and its gauges say."""
    folder, reasons = run.content.folder, run.reasons
    try:
        run.diagnosis = diagnose(folder)
    except ERRORS as error:
        reasons["diagnosis"] = _reason(error)
    try:
        run.trained = read_trained(folder, sources.code)
        run.walk = latent_walk(run.trained.sampler)
    except ERRORS as error:
        reasons |= {"trained": _reason(error), "walk": _reason(error)}
    if run.trained is None:
        reasons["nearest"] = reasons["trained"]
    elif not sources.use_data:
        reasons["nearest"] = "the data were not loaded (--without-data)"
    else:
        _add_what_needs_data(run, sources, data)


def _add_what_needs_data(run: RunReport, sources: Sources, data: str | None) -> None:
    """Add the nearest training samples, and the measures where they are asked for."""
    folder = run.content.folder
    try:
        trainer = load_data(folder, data, sources.data_dir, sources.code)
        run.nearest = find_nearest(trainer)
    except ERRORS as error:
        run.reasons |= {"nearest": _reason(error), "measures": _reason(error)}
        return
    if sources.evaluate and run.content.evaluation is None:
        try:
            run.content.evaluation = _evaluate(folder, trainer)
        except ERRORS as error:
            run.reasons["measures"] = _reason(error)


def _evaluate(folder: Path, trainer: Trainer) -> dict[str, Any] | None:
    """Return the measures of a run, and write them into its folder, as `minigan evaluate` does."""
    evaluation = evaluate(trainer, progress=True)
    write_evaluation(folder / EVALUATION, evaluation)
    return read_evaluation(folder / EVALUATION)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
