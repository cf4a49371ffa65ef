"""Load a run from its folder, to draw samples, to measure it, or to continue training."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..data import GENERATED, NAMES
from ..data.download import SOURCES
from ..engine import random
from ..engine.device import get_device, use_device
from ..gan.networks import build_networks
from ..gan.players import Players
from ..utils.notices import Notice
from . import checkpoint
from .checkpoint import CheckpointError
from .config import Config
from .run import Run
from .run_folder import CHECKPOINT, METRICS, RunError, read_config
from .sampler import Sampler
from .state import OWN_TENSORS, DataChangedError, check_state, merge_config
from .trainer import Trainer

State = tuple[Mapping[str, np.ndarray], Mapping[str, Any]]
PathLike = str | os.PathLike[str]


def load_trainer(
    folder: Path,
    steps: int | None = None,
    progress: bool = False,
    data: PathLike | None = None,
    data_dir: PathLike | None = None,
) -> Trainer:
    """Return the trainer of a run in the state of its checkpoint.

        trainer = load_trainer(Path("runs/001-glyphs-mlp"))
        trainer.step()

    Args:
        folder: the run's folder.
        steps: the number of steps to train to; None: the config's.
        progress: whether to show a progress bar while data are loaded.
        data, data_dir: where the data, or the files of MNIST or Fashion-MNIST, are now; None: where
            they were.

    Raises:
        RunError: the folder holds no run, or an incomplete one, or its data have changed.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    return _load_trainer(folder, steps, progress, data, data_dir)[0]


def _load_trainer(
    folder: Path,
    steps: int | None,
    progress: bool,
    data: PathLike | None,
    data_dir: PathLike | None,
) -> tuple[Trainer, bool]:
    """Return the trainer, and whether its checkpoint holds a digest of the data."""
    config, (tensors, info) = read_run(folder, data is not None)
    config = _replace(config, folder, steps, data, data_dir)
    trainer = _build_trainer(config, folder, progress)
    try:
        with _checkpoint_errors(folder):
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
    return trainer, "data" in info


def _build_trainer(config: Config, folder: Path, progress: bool) -> Trainer:
    """Return the trainer of a run at step 0; RunError if its data cannot be used."""
    try:
        return Trainer(config, progress=progress)
    except (OSError, ValueError) as error:
        hint = "" if config.data in GENERATED else f"; {_advice(config.data)}"
        raise RunError(f"{folder}: {error}{hint}") from None


def _advice(data: str) -> str:
    """Return advice on how to give a run its data again."""
    if data in SOURCES:
        return "--data-dir names the folder that has the same files"
    if data in GENERATED:
        return "they are generated, and other library versions may generate other values"
    return "--data names the path of the same data"


def load_sampler(folder: Path) -> Sampler:
    """Return the generator of a run in the state of its checkpoint. No data are needed.

        samples = load_sampler(Path("runs/001-glyphs-mlp")).sample(100, seed=7)

    The checkpoint of an older version does not describe its data; then they are loaded.

    Raises:
        RunError: the folder holds no run, or an incomplete one.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    config, (tensors, info) = read_run(folder)
    if "data" not in info:
        return load_trainer(folder).sampler
    data = info["data"]
    generator = random.Generator()
    device = get_device(config.device)
    with _checkpoint_errors(folder), random.use_generator(generator), use_device(device):
        generator.set_state(info["random"])  # raises for a state that does not fit
        classes = None if data["labels"] is None else data["classes"]
        shape = tuple(data["shape"])
        networks = build_networks(config, shape, classes)
        players = Players(config, *networks)
        players.load_state({k: x for k, x in tensors.items() if k not in OWN_TENSORS})
        return Sampler(players, shape, data["classes"], data["scale"], tensors.get("points"))


def read_run(folder: Path, data_have_moved: bool = False) -> tuple[Config, State]:
    """Return the config and the state of a run, compared with each other; nothing is built.

    Raises:
        RunError: the folder holds no run, or an incomplete one.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    config = read_config(folder)
    tensors, info = checkpoint.load(folder / CHECKPOINT)
    with _checkpoint_errors(folder):
        saved = check_state(tensors, info)
        config = merge_config(config, saved, "data" in info or data_have_moved)
    return config, (tensors, info)


@contextmanager
def _checkpoint_errors(folder: Path) -> Iterator[None]:
    """Raise CheckpointError for an error in a `with` block: the state does not fit its run."""
    try:
        yield
    except DataChangedError:
        raise
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{folder / CHECKPOINT} does not fit this run: {text}") from None


def _replace(
    config: Config,
    folder: Path,
    steps: int | None = None,
    data: PathLike | None = None,
    data_dir: PathLike | None = None,
) -> Config:
    """Return the config with more steps, and with new paths of its data."""
    paths = {"data": data, "data_dir": data_dir}
    changes: dict[str, Any] = {k: os.fspath(x) for k, x in paths.items() if x is not None}
    new_data = changes.get("data", config.data)
    if new_data != config.data and {new_data, config.data} & set(NAMES):
        raise RunError(
            f"{folder} goes on with its own data, {config.data}, not with {changes['data']};"
            " --data accepts only a new path of the same files"
        )
    if steps is not None:
        changes["steps"] = steps
    return config.replace(**changes)


def _describe_changed_data(folder: Path, data: str, error: DataChangedError) -> str:
    return (
        f"{folder}: {error}; a run goes on, and is evaluated, with the data that it was trained on;"
        f" {_advice(data)}"
    )


def resume(
    folder: Path,
    steps: int | None = None,
    progress: bool = False,
    data: PathLike | None = None,
    data_dir: PathLike | None = None,
) -> Run:
    """Return a run that continues from its checkpoint, or from the start if it has none yet.

        resume(Path("runs/001-glyphs-mlp"), steps=20_000).train()

    Arguments and errors are those of `load_trainer`.

    Raises:
        RunError: the run is already beyond `steps`.
    """
    config = read_config(folder)
    if (folder / CHECKPOINT).exists() or (folder / METRICS).exists():
        trainer, has_digest = _load_trainer(folder, steps, progress, data, data_dir)
    else:  # Metrics are opened after the first checkpoint, so there has been no step.
        has_digest = True
        config = _replace(config, folder, steps, data, data_dir)
        trainer = _build_trainer(config, folder, progress)
        warnings.warn(f"{folder} has no checkpoint: it begins at step 0", Notice, stacklevel=2)
    if trainer.step_count > trainer.config.steps:
        raise RunError(
            f"{folder} is at step {trainer.step_count} already, beyond {trainer.config.steps}"
        )
    run = Run(folder, trainer)
    if not has_digest:
        run.save()  # Before config.json gets the absolute path, which the old one does not have.
    return run
