"""Gather all that a report shows of a run; what cannot be had is a sentence that says why."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..training.resume import Code
from ..utils.code_files import is_code
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
    """

    data: str | None = None
    data_dir: str | None = None
    code: Code = field(default_factory=dict)
    use_data: bool = True


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
    diagnosis: Any = None
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
    return [_gather_run(f"r{i}", content, sources) for i, content in enumerate(contents)]


def _gather_run(ident: str, content: RunContent, sources: Sources) -> RunReport:
    run = RunReport(ident, content)
    folder = content.folder
    try:
        run.trained = read_trained(folder, sources.code)
        run.walk = latent_walk(run.trained.sampler)
    except ERRORS as error:
        run.reasons |= {"trained": _reason(error), "walk": _reason(error)}
    if run.trained is None:
        run.reasons["nearest"] = run.reasons["trained"]
    elif not sources.use_data:
        run.reasons["nearest"] = "the data were not loaded (--without-data)"
    else:
        try:
            place = None if is_code(run.trained.config.data) else sources.data
            trainer = load_data(folder, place, sources.data_dir, sources.code)
            run.nearest = find_nearest(trainer)
        except ERRORS as error:
            run.reasons["nearest"] = f"{_reason(error)}; --data names the path of the same data"
    return run


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
