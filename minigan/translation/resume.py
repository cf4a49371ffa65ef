"""Go on with a run of images from images, or measure it: load its trainer from the folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import NAMES, Dataset
from ..optim.schedules import SCHEDULES
from ..training import checkpoint
from ..training.lines import Lines
from ..training.own_code import load_code_of_run
from ..training.resume import checkpoint_errors
from ..training.run import Run
from ..training.run_folder import CHECKPOINT, METRICS, RunError
from ..training.snapshots import PARTS
from ..training.state import DataChangedError
from ..utils.notices import Notice
from .config import TranslationConfig
from .measures import TranslationEvaluation, evaluate_translation
from .saved import MAY_DIFFER, load_translation, merge_with, read_translation_config
from .tasks import TRANSFORMS
from .trainer import TranslationTrainer


def load_translation_trainer(
    folder: Path,
    changes: Mapping[str, Any] | None = None,
    data: Dataset | None = None,
    target: Dataset | None = None,
    progress: bool = False,
) -> tuple[TranslationTrainer, Mapping[str, Any]]:
    """Return the trainer of a run in the state of its checkpoint, and the info of the latter.

    Args:
        folder: the run's folder.
        changes: options of MAY_DIFFER to change.
        data, target: the images of a run that came from a program.
        progress: whether to show a progress bar.

    Raises:
        RunError: the folder holds no such run, its images have changed, or an option cannot be
            changed.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    load_code_of_run(folder, None, ("loss", "data"))
    config = change_options(read_translation_config(folder), folder, changes or {})
    tensors, info = checkpoint.load(folder / CHECKPOINT)
    with checkpoint_errors(folder / CHECKPOINT):
        config = merge_with(config, info["config"])
    trainer = _build_trainer(config, folder, data, target, progress)
    try:
        with checkpoint_errors(folder / CHECKPOINT):
            trainer.load_state(dict(tensors), dict(info))
    except DataChangedError as error:
        raise RunError(
            f"{folder}: {error}; a run goes on, and is evaluated, with the images that it was"
            " trained on: --data and --target name where they are now"
        ) from None
    return trainer, info


def _build_trainer(
    config: TranslationConfig,
    folder: Path,
    data: Dataset | None,
    target: Dataset | None,
    progress: bool,
) -> TranslationTrainer:
    try:
        return TranslationTrainer(config, data, target, progress)
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}: {error}") from None


def change_options(
    config: TranslationConfig, folder: Path, changes: Mapping[str, Any]
) -> TranslationConfig:
    """Return the config of a run with options changed; RunError for one that has to stay."""
    values = config.as_dict()
    new = {name: x for name, x in changes.items() if x is not None and values.get(name) != x}
    fixed = [name for name in new if name not in MAY_DIFFER]
    fixed += [
        name
        for name in ("data", "target")
        if name in new and {new[name], values[name]} & {*NAMES, *TRANSFORMS}
    ]
    _check_schedule(folder, config, new.get("steps"))
    if fixed:
        names = ", ".join(f"{name} = {values.get(name)!r} (not {new[name]!r})" for name in fixed)
        raise RunError(f"--resume {folder} goes on with that run's own options: {names}")
    return config.replace(**new)


def _check_schedule(folder: Path, config: TranslationConfig, steps: int | None) -> None:
    """Raise RunError where more steps have learning rates of 0 and would change nothing."""
    if steps is not None and steps > config.steps and has_ended(config):
        raise RunError(
            f"{folder} has a {config.schedule} schedule of {config.schedule_steps} steps: from"
            " there on its learning rates are 0, and more steps change nothing; a new run with"
            f" --steps {steps} is needed"
        )


def has_ended(config: TranslationConfig) -> bool:
    """Return whether the learning rates are 0 after the last step."""
    return config.schedule_steps is not None and SCHEDULES[config.schedule](1.0) == 0


def resume_translation(
    folder: Path,
    changes: Mapping[str, Any] | None = None,
    data: Dataset | None = None,
    target: Dataset | None = None,
    progress: bool = False,
) -> Run:
    """Return a run that continues from its checkpoint, or from the start if it has none yet.

    Arguments and errors are those of `load_translation_trainer`.

    Raises:
        RunError: the run is already beyond its number of steps.
    """
    if not (folder / CHECKPOINT).exists() and not (folder / METRICS).exists():
        load_code_of_run(folder, None, ("loss", "data"))
        config = change_options(read_translation_config(folder), folder, changes or {})
        warnings.warn(f"{folder} has no checkpoint: it begins at step 0", Notice, stacklevel=2)
        return Run(folder, _build_trainer(config, folder, data, target, progress))
    trainer, info = load_translation_trainer(folder, changes, data, target, progress)
    if trainer.step_count > trainer.config.steps:
        raise RunError(
            f"{folder} is at step {trainer.step_count} already, beyond {trainer.config.steps}"
        )
    return Run(folder, trainer, Lines.from_info(info))


def evaluate_folder(
    folder: Path, changes: Mapping[str, Any], step: int | str | None, progress: bool
) -> TranslationEvaluation:
    """Return the measures of a run, at its last step or at another one."""
    trainer, _ = load_translation_trainer(folder, changes, progress=progress)
    if step is not None:
        saved = load_translation(folder, step=step)
        for part in PARTS:
            owner, other = (x.players.parts().get(part) for x in (trainer, saved))
            if owner is not None and other is not None:
                owner.load_state_dict(other.state_dict())
        trainer.step_count = saved.step
    return evaluate_translation(trainer, progress=progress)
