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
from .snapshots import PARTS, TENSORS, snapshot_path, snapshot_steps
from .state import (
    MAY_DIFFER,
    OWN_TENSORS,
    DataChangedError,
    check_sampler_state,
    check_state,
    log_intervals,
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
        with _checkpoint_errors(folder / CHECKPOINT):
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


def load_sampler(
    folder: Path,
    step: int | None = None,
    code: Code | None = None,
    device: str | None = None,
) -> Sampler:
    """Return the generator of a run in the state of its checkpoint, or of a snapshot.

        samples = load_sampler(Path("runs/001-glyphs-mlp")).sample(100, seed=7)

    No data are needed, and no loss from a file of the user's own. The checkpoint of an older
    version does not describe its data; then they are loaded.

    Args:
        folder: the run's folder.
        step: the step of the snapshot; None, or that of the checkpoint: the checkpoint.
        code: by option, "model", the name FILE.py:NAME of the run's own code.
        device: the device that runs the generator; None: the one of the training.

    Raises:
        RunError: the folder holds no run, or an incomplete one, or no snapshot of that step.
        CheckpointError: the checkpoint or snapshot cannot be read, or belongs to another run.
    """
    has_own_loss = is_code(read_options(folder).get("loss"))
    load_code_of_run(folder, code, ("model",) if has_own_loss else ("model", "loss"))
    if step is not None and snapshot_path(folder, step).exists():
        return _load_snapshot(folder, step, device)
    config, (tensors, info) = read_run(folder)
    if step is not None and step != info["step"]:
        raise RunError(_describe_missing(folder, step, info["step"]))
    if "data" not in info:
        trainer = load_trainer(folder, code=code)
        trainer.sampler.step = trainer.step_count
        return trainer.sampler
    players_tensors = {k: x for k, x in tensors.items() if k not in OWN_TENSORS}
    with _checkpoint_errors(folder / CHECKPOINT):
        random.Generator().set_state(info["random"])  # raises for a state that does not fit
        players = _build_players(config, info["data"], device)
        with use_device(players.device):
            players.load_state(players_tensors)
    return _sampler(players, tensors, info)


def _load_snapshot(folder: Path, step: int, device: str | None) -> Sampler:
    """Return the generator of a run in the state of the snapshot of a step."""
    path = snapshot_path(folder, step)
    config = read_config(folder)
    tensors, info = checkpoint.load(path)
    with _checkpoint_errors(path):
        own = {name: x for name, x in config.as_dict().items() if name in MAY_DIFFER}
        info["config"] = {**own, **info["config"]}  # which a snapshot leaves out
        config = merge_config(config, check_sampler_state(tensors, info), has_digest=True)
        if info["step"] != step:
            raise ValueError(f"it is of step {info['step']}")
        players = _build_players(config, info["data"], device)
        parts = {name: x for name, x in players.parts().items() if name in PARTS}
        unknown = [k for k in tensors if k.split(".")[0] not in parts and k not in TENSORS]
        if unknown:
            raise ValueError(f"unknown {unknown} in the state to load")
        for name, owner in parts.items():
            state = {k: x for k, x in tensors.items() if k.startswith(f"{name}.")}
            owner.load_state_dict({k.removeprefix(f"{name}."): x for k, x in state.items()})
    return _sampler(players, tensors, info)


def _build_players(config: Config, data: Mapping[str, Any], device: str | None) -> Players:
    """Return the players of a run without its data, which the checkpoint describes.

    A loss of the user's own, which no sample needs, is replaced by the default one.
    """
    config = config.replace(device=device or config.device)
    if is_code(config.loss):
        config = config.replace(loss=Config.loss, smooth=1.0)
    with random.use_generator(random.Generator()), use_device(get_device(config.device)):
        classes = None if data["labels"] is None else data["classes"]
        return Players(config, *build_networks(config, tuple(data["shape"]), classes))


def _sampler(
    players: Players, tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]
) -> Sampler:
    data, points = info["data"], tensors.get("points")
    return Sampler(
        *(players, tuple(data["shape"]), data["classes"], data["scale"], points),
        class_names=data["class_names"],
        step=info["step"],
    )


def _describe_missing(folder: Path, step: int, last: int) -> str:
    """Return a message that there is no snapshot of a step, with the nearest ones."""
    steps = sorted({*snapshot_steps(folder), last})
    nearest = [*[x for x in steps if x < step][-1:], *[x for x in steps if x > step][:1]]
    verb = "is" if len(nearest) == 1 else "are"
    return (
        f"{folder} has no snapshot of step {step}; the nearest {verb}"
        f" {' and '.join(map(str, nearest))} (of {', '.join(map(str, steps))}; `minigan train"
        " --keep` sets how many are kept)"
    )


def read_run(folder: Path, data_have_moved: bool = False) -> tuple[Config, State]:
    """Return the config and the state of a run, compared with each other; nothing is built.

    Raises:
        RunError: the folder holds no run, or an incomplete one.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    config = read_config(folder)
    tensors, info = checkpoint.load(folder / CHECKPOINT)
    with _checkpoint_errors(folder / CHECKPOINT):
        saved = check_state(tensors, info)
        config = merge_config(config, saved, "data" in info or data_have_moved)
    return config, (tensors, info)


@contextmanager
def _checkpoint_errors(path: Path) -> Iterator[None]:
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
    intervals = log_intervals(info, Config.from_dict(info["config"]))
    run = Run(folder, trainer, intervals)
    if "data" not in info:
        run.save()  # Before config.json gets the absolute path, which the old one does not have.
    return run
