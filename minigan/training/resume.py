"""Load the trainer of a run from its folder, to measure it or to continue training."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..data import GENERATED, NAMES, Dataset
from ..data.download import SOURCES
from ..utils.code_files import FROM_PYTHON, is_code
from ..utils.notices import Notice
from . import checkpoint
from .checkpoint import CheckpointError
from .config import Config
from .lines import Lines
from .own_code import load_code, load_code_of_run
from .run import Run
from .run_folder import CHECKPOINT, METRICS, RunError, read_config
from .state import (
    MAY_DIFFER,
    DataChangedError,
    check_state,
    merge_config,
)
from .trainer import Trainer

State = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]
PathLike = str | os.PathLike[str]
Code = Mapping[str, str | None]  # FILE.py:NAME by option; see `load_code_of_run`


def load_trainer(
    folder: Path,
    steps: int | None = None,
    progress: bool = False,
    data: PathLike | Dataset | None = None,
    data_dir: PathLike | None = None,
    code: Code | None = None,
    **options: Any,
) -> Trainer:
    """Return the trainer of a run in the state of its checkpoint.

        trainer = load_trainer(Path("runs/001-glyphs-mlp"))
        trainer.step()

    Args:
        folder: the run's folder.
        steps: the number of steps to train to; None: the config's.
        progress: whether to show a progress bar while data are loaded.
        data, data_dir: where the data, or the files of MNIST or Fashion-MNIST, are now; None: where
            they were. Data that came from a program are handed over as a Dataset.
        code: by option, "model" or "loss", the name FILE.py:NAME of the run's own code.
        options: other options of the run to change, of those in `state.MAY_DIFFER`, which do not
            touch its bits.

    Raises:
        RunError: the folder holds no run, or an incomplete one, or its data have changed; or an
            option cannot be changed.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    _load_code(folder, code, data)
    changes = {"steps": steps, "data": data, "data_dir": data_dir, **options}
    return _load_trainer(folder, changes, progress)[0]


def _load_code(folder: Path, code: Code | None, data: PathLike | Dataset | None) -> None:
    """Load the run's own code, that of its data only where no other data are given."""
    load_code_of_run(folder, code, ("model", "loss", *(["data"] if data is None else [])))


def _load_trainer(
    folder: Path, changes: Mapping[str, Any], progress: bool
) -> tuple[Trainer, Mapping[str, Any]]:
    """Return the trainer, and the info of its checkpoint."""
    config, (tensors, info) = read_run(folder, changes["data"] is not None)
    config = _replace(config, folder, changes)
    trainer = _build_trainer(config, folder, changes["data"], progress, initialize=False)
    try:
        with checkpoint_errors(folder / CHECKPOINT):
            trainer.load_state(dict(tensors), dict(info))
    except DataChangedError as error:
        raise RunError(_describe_changed_data(folder, trainer.config.data, error)) from None
    if "data" not in info:
        warnings.warn(
            f"{folder / CHECKPOINT} is of an older version and holds no digest of its data;"
            f" whether {trainer.config.data} still has the same data is not known",
            Notice,
            stacklevel=3,
        )
    return trainer, info


def _build_trainer(
    config: Config,
    folder: Path,
    data: PathLike | Dataset | None,
    progress: bool,
    initialize: bool,
) -> Trainer:
    """Return the trainer of a run at step 0; RunError if its data cannot be used."""
    dataset = data if isinstance(data, Dataset) else None
    try:
        return Trainer(config, dataset, progress=progress, initialize=initialize)
    except (OSError, ValueError) as error:
        hint = "" if config.data in GENERATED else f"; {_advice(config.data)}"
        raise RunError(f"{folder}: {error}{hint}") from None


def _advice(data: str) -> str:
    """Return advice on how to give a run its data again."""
    if data in SOURCES:
        return "--data-dir names the folder that has the same files"
    if data.startswith(FROM_PYTHON):
        return (
            "mg.train(resume=..., data=...) goes on with them, or --data FILE.npz if it holds them"
        )
    if data in GENERATED:
        return "they are generated, and other library versions may generate other values"
    return "--data names the path of the same data"


def read_run(folder: Path, data_have_moved: bool = False) -> tuple[Config, State]:
    """Return the config and the state of a run, compared with each other; nothing is built.

    Raises:
        RunError: the folder holds no run, or an incomplete one.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    config = read_config(folder)
    tensors, info = checkpoint.load(folder / CHECKPOINT)
    with checkpoint_errors(folder / CHECKPOINT):
        saved = check_state(tensors, info)
        Lines.from_info(info)
        config = merge_config(config, saved, "data" in info or data_have_moved)
    return config, (tensors, info)


@contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Raise CheckpointError for an error in a `with` block: the state does not fit its run."""
    try:
        yield
    except DataChangedError:
        raise
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path} does not fit this run: {text}") from None


def _replace(config: Config, folder: Path, changes: Mapping[str, Any]) -> Config:
    """Return the config with changes that do not touch the bits of the run; None changes nothing.

    Data that are a Dataset keep their name.

    Raises:
        RunError: an option is another one, or `data` no new path of the same files.
    """
    options = {k: x for k, x in changes.items() if x is not None and not isinstance(x, Dataset)}
    fixed = [name for name in options if name not in MAY_DIFFER]
    if fixed:
        raise RunError(f"{folder} goes on with its own {', '.join(fixed)}")
    options |= {k: os.fspath(x) for k, x in options.items() if k in ("data", "data_dir")}
    new_data = options.get("data", config.data)
    if "data" in options and is_code(new_data):
        options["data"] = load_code("data", new_data)
    if new_data != config.data and {new_data, config.data} & set(NAMES):
        raise RunError(
            f"{folder} goes on with its own data, {config.data}, not with {new_data};"
            " --data accepts only a new path of the same files"
        )
    return config.replace(**options)


def _describe_changed_data(folder: Path, data: str, error: DataChangedError) -> str:
    return (
        f"{folder}: {error}; a run goes on, and is evaluated, with the data that it was trained on;"
        f" {_advice(data)}"
    )


def resume(
    folder: Path,
    steps: int | None = None,
    progress: bool = False,
    data: PathLike | Dataset | None = None,
    data_dir: PathLike | None = None,
    code: Code | None = None,
    **options: Any,
) -> Run:
    """Return a run that continues from its checkpoint, or from the start if it has none yet.

        resume(Path("runs/001-glyphs-mlp"), steps=20_000).train()

    Arguments and errors are those of `load_trainer`.

    Raises:
        RunError: the run is already beyond `steps`.
    """
    _load_code(folder, code, data)
    config = read_config(folder)
    changes = {"steps": steps, "data": data, "data_dir": data_dir, **options}
    is_new = not (folder / CHECKPOINT).exists() and not (folder / METRICS).exists()
    if is_new:  # Metrics are opened after the first checkpoint, so there has been no step.
        config = _replace(config, folder, changes)
        trainer = _build_trainer(config, folder, data, progress, initialize=True)
        warnings.warn(f"{folder} has no checkpoint: it begins at step 0", Notice, stacklevel=2)
        return Run(folder, trainer)
    trainer, info = _load_trainer(folder, changes, progress)
    if trainer.step_count > trainer.config.steps:
        raise RunError(
            f"{folder} is at step {trainer.step_count} already, beyond {trainer.config.steps}"
        )
    run = Run(folder, trainer, Lines.from_info(info))
    if "data" not in info:
        run.save()  # Before config.json gets the absolute path, which the old one does not have.
    return run
