"""Load a run from its folder, to draw samples, to measure it, or to continue training."""

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
from ..engine import random
from ..engine.device import get_device, use_device
from ..gan.networks import build_networks
from ..gan.players import Players
from ..utils.code_files import FROM_PYTHON, is_code
from ..utils.notices import Notice
from . import checkpoint
from .checkpoint import CheckpointError
from .config import Config
from .own_code import load_code, load_code_of_run
from .run import Run
from .run_folder import CHECKPOINT, METRICS, RunError, read_config, read_options
from .sampler import Sampler
from .state import OWN_TENSORS, DataChangedError, check_state, merge_config
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

    Raises:
        RunError: the folder holds no run, or an incomplete one, or its data have changed.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    _load_code(folder, code, data)
    return _load_trainer(folder, steps, progress, data, data_dir)[0]


def _load_code(folder: Path, code: Code | None, data: PathLike | Dataset | None) -> None:
    """Load the run's own code; that of its data only if the data are where they were."""
    load_code_of_run(folder, code, ("model", "loss", *(["data"] if data is None else [])))


def _load_trainer(
    folder: Path,
    steps: int | None,
    progress: bool,
    data: PathLike | Dataset | None,
    data_dir: PathLike | None,
) -> tuple[Trainer, bool]:
    """Return the trainer, and whether its checkpoint holds a digest of the data."""
    config, (tensors, info) = read_run(folder, data is not None)
    config = _replace(config, folder, steps, data, data_dir)
    trainer = _build_trainer(config, folder, progress, data)
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


def _build_trainer(
    config: Config, folder: Path, progress: bool, data: PathLike | Dataset | None
) -> Trainer:
    """Return the trainer of a run at step 0; RunError if its data cannot be used."""
    try:
        return Trainer(config, data if isinstance(data, Dataset) else None, progress=progress)
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


def load_sampler(folder: Path, code: Code | None = None, device: str | None = None) -> Sampler:
    """Return the generator of a run in the state of its checkpoint. No data are needed.

        samples = load_sampler(Path("runs/001-glyphs-mlp")).sample(100, seed=7)

    The checkpoint of an older version does not describe its data; then they are loaded. A loss of
    the user's own is not needed either.

    Args:
        folder: the run's folder.
        code: by option, "model", the name FILE.py:NAME of the run's own code.
        device: the device that runs the generator; None: the one of the training.

    Raises:
        RunError: the folder holds no run, or an incomplete one.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    has_own_loss = is_code(read_options(folder).get("loss"))
    load_code_of_run(folder, code, ("model",) if has_own_loss else ("model", "loss"))
    config, (tensors, info) = read_run(folder)
    if "data" not in info:
        return load_trainer(folder, code=code).sampler
    config = config.replace(device=device or config.device)
    if has_own_loss:
        config = config.replace(loss=Config.loss, smooth=1.0)
    data = info["data"]
    generator = random.Generator()
    with (
        _checkpoint_errors(folder),
        random.use_generator(generator),
        use_device(get_device(config.device)),
    ):
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
    data: PathLike | Dataset | None = None,
    data_dir: PathLike | None = None,
) -> Config:
    """Return the config with more steps, and with new paths of its data."""
    paths = {"data": None if isinstance(data, Dataset) else data, "data_dir": data_dir}
    changes: dict[str, Any] = {k: os.fspath(x) for k, x in paths.items() if x is not None}
    new_data = changes.get("data", config.data)
    if is_code(new_data) and "data" in changes:
        changes["data"] = load_code("data", new_data)
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
    data: PathLike | Dataset | None = None,
    data_dir: PathLike | None = None,
    code: Code | None = None,
) -> Run:
    """Return a run that continues from its checkpoint, or from the start if it has none yet.

        resume(Path("runs/001-glyphs-mlp"), steps=20_000).train()

    Arguments and errors are those of `load_trainer`.

    Raises:
        RunError: the run is already beyond `steps`.
    """
    _load_code(folder, code, data)
    config = read_config(folder)
    if (folder / CHECKPOINT).exists() or (folder / METRICS).exists():
        trainer, has_digest = _load_trainer(folder, steps, progress, data, data_dir)
    else:  # Metrics are opened after the first checkpoint, so there has been no step.
        has_digest = True
        config = _replace(config, folder, steps, data, data_dir)
        trainer = _build_trainer(config, folder, progress, data)
        warnings.warn(f"{folder} has no checkpoint: it begins at step 0", Notice, stacklevel=2)
    if trainer.step_count > trainer.config.steps:
        raise RunError(
            f"{folder} is at step {trainer.step_count} already, beyond {trainer.config.steps}"
        )
    run = Run(folder, trainer)
    if not has_digest:
        run.save()  # Before config.json gets the absolute path, which the old one does not have.
    return run
