"""Read a run folder for a report: it may come from anywhere, be unfinished, old or damaged.

Only a folder that is no run is an error. All else that cannot be read is left out, and a note says
so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..evaluation.files import read_evaluation
from ..training.config import Config
from ..training.run_folder import (
    EVALUATION,
    METRICS,
    OLD_QUALITY,
    RunError,
    read_options,
    read_rows,
)
from .pictures import Album, read_album

DISTANCE, FLOOR = "sliced_wasserstein", "_floor"


@dataclass
class RunContent:
    """What the files of a run hold.

    Attributes:
        folder: of the run.
        name: by which the report calls it.
        options: of config.json, as they stand there.
        config: the same, checked; None where this version does not accept them.
        rows: the lines of metrics.
        quality: the measured distances of samples to data: "step", "distance" and "floor".
        samples: the number of samples behind each; None where it is not known.
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
    samples: int | None
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
    quality, samples = _measured(rows)
    if not quality:
        quality, problem = _read_old_quality(folder / OLD_QUALITY)
        notes += [f"{problem}."] if problem else []
    album = read_album(folder, picture_bytes)
    notes += album.problems
    evaluation = None
    try:
        evaluation = read_evaluation(folder / EVALUATION)
    except ValueError as error:
        notes.append(f"{str(error).replace(str(folder / EVALUATION), EVALUATION)}.")
    return RunContent(
        folder, name, options, config, rows, quality, samples, album, evaluation, notes
    )


def _measured(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int | None]:
    """Return the distances that the lines of metrics hold, and the number of samples of each."""
    names = {name for row in rows for name in row if re.fullmatch(rf"{DISTANCE}_n[0-9]+", name)}
    for name in sorted(names):
        found = [row for row in rows if row.get(name) is not None]
        if found:
            values = [_distance(row["step"], row[name], row.get(name + FLOOR)) for row in found]
            return values, int(name.split("_n")[-1])
    return [], None


def _read_old_quality(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the distances in a file of their own, of older versions, and what is wrong with it."""
    rows, problem = read_rows(path, ("step", DISTANCE, "floor"))
    found = [row for row in rows if row[DISTANCE] is not None]
    return [_distance(row["step"], row[DISTANCE], row["floor"]) for row in found], problem


def _distance(step: int, distance: float, floor: float | None) -> dict[str, Any]:
    return {"step": step, "distance": distance, "floor": floor}


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
