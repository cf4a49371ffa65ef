"""Load a run from its folder, to draw samples, to measure it, or to continue training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import checkpoint
from .checkpoint import CheckpointError
from .config import Config
from .run import Run
from .run_folder import CHECKPOINT, METRICS, RunError, read_config
from .trainer import Trainer

# The options in which a run may differ from its checkpoint, as no later step depends on them.
MAY_DIFFER = {"steps", "data_dir", "max_gb", "device", "sample_every", "checkpoint_every"}


def load_trainer(folder: Path, steps: int | None = None, progress: bool = False) -> Trainer:
    """Return the trainer of a run in the state of its checkpoint.

        trainer = load_trainer(Path("runs/001-glyphs-mlp"))
        samples = trainer.sample(100, seed=7)

    Args:
        folder: the run's folder.
        steps: the number of steps to train to; None: the config's.
        progress: whether to show a progress bar while data are loaded.

    Raises:
        RunError: the folder holds no run, or an incomplete one.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
    """
    config = read_config(folder)
    tensors, info = checkpoint.load(folder / CHECKPOINT)
    if steps is not None:
        config = config.replace(steps=steps)
    trainer = Trainer(config, progress=progress)
    try:
        _check_same(trainer.config, info["config"])
        trainer.load_state(tensors, info)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CHECKPOINT} does not fit this run: {error}") from None
    return trainer


def _check_same(config: Config, saved: dict[str, Any]) -> None:
    """Raise ValueError where an option that later steps depend on is not the checkpoint's."""
    # A checkpoint that is older than an option was trained with the present default of that option.
    saved_config = Config(**saved).as_dict()
    for name, value in config.as_dict().items():
        if name not in MAY_DIFFER and value != saved_config[name]:
            raise ValueError(f"it was written with {name} = {saved_config[name]!r}, not {value!r}")


def resume(folder: Path, steps: int | None = None, progress: bool = False) -> Run:
    """Return a run that continues from its checkpoint, or from the start if it has none yet.

        resume(Path("runs/001-glyphs-mlp"), steps=20_000).train()

    Arguments and errors are those of `load_trainer`.

    Raises:
        RunError: the run is already beyond `steps`.
    """
    config = read_config(folder)
    if (folder / CHECKPOINT).exists() or (folder / METRICS).exists():
        trainer = load_trainer(folder, steps, progress)
    else:  # Metrics are opened after the first checkpoint, so there has been no step.
        config = config if steps is None else config.replace(steps=steps)
        trainer = Trainer(config, progress=progress)
    if trainer.step_count > trainer.config.steps:
        raise RunError(
            f"{folder} is at step {trainer.step_count} already, beyond {trainer.config.steps}"
        )
    return Run(folder, trainer)
