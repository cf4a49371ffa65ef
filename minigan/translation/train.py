"""Train nets that make images from images from Python: `mg.train_translation`."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path
from typing import Any

from ..data import Dataset
from ..training.own_code import load_named_code
from ..training.python_data import PathLike, place_of
from ..training.run import Run
from ..training.run_folder import check_free, locked, new_folder
from ..utils.notices import Notice
from ..utils.progress import announce_kernels
from .config import TranslationConfig
from .resume import resume_translation
from .saved import SavedTranslation, load_translation, read_translation_config
from .trainer import TranslationTrainer


def train_translation(
    config: TranslationConfig | None = None,
    data: Any = None,
    target: Any = None,
    *,
    labels: Any = None,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    steps: int | None = None,
    progress: bool = True,
    tensorboard: bool = False,
) -> SavedTranslation:
    """Train in a folder, as `minigan train --task` does, and return the run.

        run = mg.train_translation(mg.TranslationConfig(task="denoise", steps=1000), images)
        clean = run.translate(noisy)
        run = mg.train_translation(mg.TranslationConfig(task="pairs"), sketches, photos)

    Args:
        config: the options; None: the defaults, which fill holes.
        data: the images, or the inputs of pairs, as an array, a Dataset, or a name or path; None:
            those that the config names.
        target: likewise the images to make, of pairs and of unpaired ones.
        labels: of an array, integers (N,), by which classes are compared.
        out: the folder; None: the next one in runs/.
        resume: the folder of a run to go on with, to the same bits; `config` and `out` do not go
            with it. Images that came from Python are handed over again, and compared.
        steps: with `resume`, the number of steps to train to.
        progress: whether to show a progress bar.
        tensorboard: whether to write event files for TensorBoard too.

    Raises:
        ValueError: options that contradict each other, or do not fit the images.
        RunError: the folder is not empty, or is no run to go on with, or its images have changed.
        DivergedError: a loss or a weight became NaN or infinite.
    """
    if resume is None:
        if steps is not None:
            raise ValueError(f"steps = {steps} goes with resume; TranslationConfig(steps=) sets it")
        config, first, second = _place(config or TranslationConfig(), data, target, labels)
        config = load_named_code(config)
        if out is not None:
            check_free(Path(out))
        announce_kernels(config.device)
        trainer = TranslationTrainer(config, first, second, progress)
        folder = new_folder(out, trainer.config)
        with locked(folder):
            return _train(Run(folder.absolute(), trainer), progress, tensorboard)
    if config is not None or out is not None:
        raise ValueError(f"resume = {resume} goes on with that run's own config, in its folder")
    folder = Path(resume).expanduser().absolute()
    saved = read_translation_config(folder)
    moved, first, second = _place(saved, data, target, labels)
    changes = {"steps": steps, "data": moved.data, "target": moved.target}
    with locked(folder):
        announce_kernels(saved.device)
        run = resume_translation(folder, changes, first, second, progress)
        return _train(run, progress, tensorboard)


def _place(
    config: TranslationConfig, data: Any, target: Any, labels: Any
) -> tuple[TranslationConfig, Dataset | None, Dataset | None]:
    """Return the config with names and paths, and arrays as data sets."""
    # The trainer draws `samples`, as it compares the numbers of pairs first.
    whole = config.replace(samples=None)
    first, second = place_of(whole, data, labels), place_of(whole, target)
    if first is not None and not isinstance(first, Dataset):
        config, first = config.replace(data=os.fspath(first)), None
    if second is not None and not isinstance(second, Dataset):
        config, second = config.replace(target=os.fspath(second)), None
    if second is not None and first is None:
        raise ValueError("target is an array, so data must be one too")
    return config, first, second


def _train(run: Run, progress: bool, tensorboard: bool) -> SavedTranslation:
    run.tensorboard = tensorboard
    stopped_by = run.train(progress)
    if stopped_by is not None:
        text = f"stopped by {stopped_by} and saved; train_translation(resume={str(run.folder)!r})"
        warnings.warn(f"{text} goes on", Notice, stacklevel=4)
        signal.raise_signal(signal.Signals[stopped_by])
    return load_translation(run.folder)
