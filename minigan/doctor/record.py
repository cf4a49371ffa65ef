"""Read what a run's folder says about its training: options, gauges by column, how it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..gan.models import MODELS
from ..gan.own import OwnModel
from ..kernels.runtime.files import read_bounded
from ..training.checkpoint import CheckpointError, load
from ..training.config import Config
from ..training.options import options as option_fields
from ..training.run_folder import (
    CHECKPOINT,
    CONFIG,
    DIVERGED,
    LOCK,
    MAX_CONFIG_BYTES,
    METRICS,
    RunError,
    read_all_metrics,
    read_gan_options,
)
from ..utils import strict_json
from ..utils.locks import LockedError, file_lock

OWN_NAMES = ("model", "loss", "data")
FINISHED, INTERRUPTED, TRAINING, DIVERGENCE = "finished", "interrupted", "training", "diverged"


@dataclass(frozen=True, eq=False)
class Record:
    """The record of a training.

    Attributes:
        folder: the run's folder.
        options: the fields of its Config, unchecked: a model or loss may be of the user's own.
        rows: the lines of metrics, also those after the checkpoint.
        step: of the last line, or of the checkpoint.
        state: FINISHED, INTERRUPTED, TRAINING or DIVERGENCE.
        message: why it diverged; "" otherwise.
    """

    folder: Path
    options: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    step: int
    state: str
    message: str = ""

    @cached_property
    def steps(self) -> np.ndarray:
        """The steps of the lines."""
        return np.array([row["step"] for row in self.rows], np.int64)

    def column(self, name: str) -> np.ndarray:
        """Return the numbers of a column, float64 (lines,), NaN where a line has none."""
        values = [row.get(name) for row in self.rows]
        return np.array([np.nan if x is None else x for x in values], np.float64)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all columns."""
        return frozenset(name for row in self.rows for name in row)


def is_own(options: Mapping[str, Any]) -> bool:
    """Return whether the nets are of the user's own."""
    model = options["model"]
    return model is not None and isinstance(MODELS.get(model), OwnModel | None)


def read_record(folder: Path) -> Record:
    """Return the record of a run; nothing is built, and no code of the run is executed.

    Raises:
        RunError: the folder holds no run, or its metrics cannot be read.
    """
    options = _checked_options(folder)
    rows = read_all_metrics(folder / METRICS)
    saved = _checkpoint_step(folder)
    if not rows and saved is None:
        raise RunError(
            f"{folder} has no line of metrics and no checkpoint: nothing was trained yet"
        )
    step = max([saved or 0, *(row["step"] for row in rows[-1:])])
    divergence = _read_divergence(folder)
    if _is_training(folder):
        state, divergence = TRAINING, None
    elif divergence is not None:
        state = DIVERGENCE
    else:
        state = FINISHED if saved is not None and saved >= options["steps"] else INTERRUPTED
    if divergence is None:
        return Record(folder, options, rows, step, state)
    return Record(folder, options, rows, divergence[0], state, divergence[1])


def _checked_options(folder: Path) -> dict[str, Any]:
    """Return the options of a run with defaults for those that older versions do not have.

    The names of a model, a loss or data may be of the user's own, and are only compared.

    Raises:
        RunError: there is no config, or one of its values is not accepted.
    """
    values = {field.name: field.default for field in dataclasses.fields(Config)}
    values |= read_gan_options(folder)
    for name, declared in option_fields(Config).items():
        try:
            if name not in OWN_NAMES:
                declared.check_value(values[name])
            elif values[name] is not None and not isinstance(values[name], str):
                raise ValueError(f"{name} = {values[name]!r} is not a name")
        except (TypeError, ValueError) as error:
            raise RunError(f"{folder / CONFIG} cannot be read: {error}") from None
    return values


def _checkpoint_step(folder: Path) -> int | None:
    """Return the step of the checkpoint; None where there is none that can be read."""
    try:
        step = load(folder / CHECKPOINT)[1].get("step")
    except CheckpointError:
        return None
    return step if type(step) is int else None


def _read_divergence(folder: Path) -> tuple[int, str] | None:
    """Return (step, message) of a training that diverged; None where there is no such file."""
    path = folder / DIVERGED
    try:
        values = strict_json.loads(read_bounded(path, MAX_CONFIG_BYTES))
        return int(values["step"]), str(values["message"])
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


def _is_training(folder: Path) -> bool:
    """Return whether a process holds the lock of the folder; False where none can be held."""
    if not (folder / LOCK).exists():
        return False
    try:
        with file_lock(folder / LOCK):
            return False
    except LockedError:
        return True
    except OSError:
        return False
