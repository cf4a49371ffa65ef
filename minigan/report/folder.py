"""Read a run folder for a report: it may come from anywhere, be unfinished, old or damaged.

Only a folder that is no run is an error. All else that cannot be read is left out, and a note says
so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..kernels.runtime.files import read_bounded
from ..training.config import Config
from ..training.run_folder import (
    METRICS,
    QUALITY,
    QUALITY_NAMES,
    RunError,
    read_options,
    read_rows,
)
from ..utils import strict_json
from .pictures import Album, read_album

EVALUATION = "evaluation.json"
MAX_EVALUATION_BYTES = 1 << 20


@dataclass
class RunContent:
    """What the files of a run hold.

    Attributes:
        folder: of the run.
        name: by which the report calls it.
        options: of config.json, as they stand there.
        config: the same, checked; None where this version does not accept them.
        rows: the lines of metrics.
        quality: the lines of measured quality.
        album: the pictures.
        evaluation: the content of evaluation.json, checked; None where there is none.
        notes: sentences on what could not be read.
    """

    folder: Path
    name: str
    options: dict[str, Any]
    config: Config | None
    rows: list[dict[str, Any]]
    quality: list[dict[str, Any]]
    album: Album
    evaluation: dict[str, Any] | None
    notes: list[str] = field(default_factory=list)

    @property
    def last_step(self) -> int:
        """The last step of which a file knows."""
        steps = [row["step"] for row in (*self.rows[-1:], *self.quality[-1:])]
        return max([*steps, *[picture.step for picture in self.album.samples[-1:]]], default=0)


def read_run_content(folder: Path, name: str, picture_bytes: int) -> RunContent:
    """Return the content of a run's files.

    Args:
        folder: of the run.
        name: by which the report calls it.
        picture_bytes: the size of all its pictures together, at most.

    Raises:
        RunError: the folder is no run, or its config.json is damaged.
    """
    options = read_options(folder)
    notes: list[str] = []
    config = None
    try:
        config = Config.from_dict(options)
    except (TypeError, ValueError) as error:
        notes.append(f"This version does not accept its options: {error}.")
    rows, problem = read_rows(folder / METRICS)
    notes += [f"{problem}."] if problem else []
    quality, problem = _read_quality(folder / QUALITY, rows)
    notes += [f"{problem}."] if problem else []
    album = read_album(folder, picture_bytes)
    notes += album.problems
    evaluation = None
    try:
        evaluation = read_evaluation(folder / EVALUATION)
    except (OSError, ValueError) as error:
        notes.append(f"{EVALUATION} cannot be read: {error}.")
    return RunContent(folder, name, options, config, rows, quality, album, evaluation, notes)


def _read_quality(path: Path, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of quality: of a file of their own, else of the lines of metrics."""
    quality, problem = read_rows(path, QUALITY_NAMES)
    if not path.exists():
        quality = [row for row in rows if row.get(QUALITY_NAMES[1]) is not None]
    return [row for row in quality if None not in row.values()], problem


def read_evaluation(path: Path) -> dict[str, Any] | None:
    """Return the measures that `minigan evaluate` wrote, checked; None where there is no file.

    Raises:
        OSError, ValueError: the file cannot be read, or does not hold measures.
    """
    try:
        content = strict_json.loads(read_bounded(path, MAX_EVALUATION_BYTES))
    except FileNotFoundError:
        return None
    if not isinstance(content, dict) or type(content.get("step")) is not int:
        raise ValueError("it has no step")
    measures = content.get("measures")
    if not isinstance(measures, list):
        raise ValueError("it has no list of measures")
    for measure in measures:
        if not isinstance(measure, dict) or not isinstance(measure.get("name"), str):
            raise ValueError("a measure has no name")
        for key in ("value", "low", "high", "floor"):
            value = measure.get(key)
            if value is not None and type(value) not in (int, float):
                raise ValueError(f"{key} of {measure['name'][:40]!r} is not a number")
    return content


def name_runs(folders: list[Path]) -> list[str]:
    """Return a name for each run: that of its folder, or its path where two names are equal.

    Raises:
        RunError: a folder is given twice.
    """
    places = [folder.resolve() for folder in folders]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise RunError(f"{folders[i]} is given twice")
    for depth in (1, 2):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [str(place) for place in places]
