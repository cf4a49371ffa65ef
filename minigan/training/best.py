"""Keep the generator of the step with the best quick measure, in step with the checkpoint.

A file is never newer than the checkpoint that it belongs to: the best generator since the last
checkpoint stays in memory, is written as best.new.safetensors before the next one, and replaces
best.safetensors after it. So a run that is killed at any moment and resumed keeps the same file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..kernels.runtime.files import sync_folder
from ..utils.notices import Notice
from . import checkpoint
from .checkpoint import CheckpointError
from .run_folder import BEST, NEW_BEST
from .snapshots import snapshot_of
from .state import check_count

State = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]


@dataclass(frozen=True)
class BestStep:
    """The step with the lowest value of a measure, and that value."""

    step: int
    measure: str
    value: float

    def __str__(self) -> str:
        return f"step {self.step}, {self.measure} {self.value:.4g}"


def read_best(path: Path) -> BestStep:
    """Return which step a file holds, and by which measure it is the best.

    Raises:
        CheckpointError: it cannot be read, or holds no such step.
    """
    _, info = checkpoint.load(path)
    try:
        best = info["best"]
        found = BestStep(check_count("step", info["step"]), best["measure"], best["value"])
        if type(found.measure) is not str or type(found.value) is not float:
            raise TypeError("best holds no name and number")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no best step: {error}") from None
    return found


class Best:
    """The best step of a training, and its file in the run's folder.

    Args:
        folder: the run's folder.
        step: of the trainer; the files of later steps are removed, as the training writes them
            again.
        criterion: the name of the measure whose lowest value is the best; None: none is kept.
    """

    def __init__(self, folder: Path, step: int, criterion: str | None) -> None:
        self.path, self.new_path, self.criterion = folder / BEST, folder / NEW_BEST, criterion
        self.found: BestStep | None = None
        self._unsaved: State | None = None
        if self._read(self.new_path, step) is not None:
            self._rename()  # The process was killed between the checkpoint and this.
        self.found = self._read(self.path, step)

    def _read(self, path: Path, step: int) -> BestStep | None:
        """Return the best step that a file holds; None, and a line, where it cannot be used."""
        if not path.exists():
            return None
        try:
            found = read_best(path)
        except CheckpointError as error:
            text = f"{error}; the best of the later steps will replace it"
            warnings.warn(text, Notice, stacklevel=5)
            return None
        if found.step > step:
            path.unlink(missing_ok=True)
            return None
        if found.measure != self.criterion:
            text = f"{path} is the best by {found.measure}; the best of the later steps by"
            warnings.warn(f"{text} {self.criterion} will replace it", Notice, stacklevel=5)
            return None
        return found

    def offer(self, step: int, row: Mapping[str, float], state: Callable[[], State]) -> None:
        """Keep the state of a step if its measure is below those of all steps before."""
        value = None if self.criterion is None else row.get(self.criterion)
        if value is None or (self.found is not None and not value < self.found.value):
            return
        assert self.criterion is not None
        self.found = BestStep(step, self.criterion, float(value))
        tensors, info = snapshot_of(*state())
        best = {"measure": self.criterion, "value": self.found.value}
        self._unsaved = (tensors, {**info, "best": best})

    def save(self) -> None:
        """Write the file of a step that is not saved yet; `publish` follows the checkpoint."""
        if self._unsaved is not None:
            checkpoint.save(self.new_path, *self._unsaved)

    def publish(self) -> None:
        """Replace best.safetensors by the file that `save` wrote."""
        if self._unsaved is not None:
            self._rename()
            self._unsaved = None

    def _rename(self) -> None:
        self.new_path.replace(self.path)
        sync_folder(self.path.parent)
