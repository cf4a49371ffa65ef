"""Train a GAN from Python as `minigan train` does: `mg.train`."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path
from typing import Any

from ..data import Dataset
from ..translation.config import TranslationConfig
from ..utils.notices import Notice
from ..utils.progress import announce_kernels
from .config import Config
from .event_files import check_tensorboard
from .own_code import load_code_of_run, load_named_code
from .python_data import PathLike, place_of
from .resume import resume as resume_run
from .run import Run
from .run_folder import check_free, locked, new_folder, read_config
from .saved_run import SavedRun, load_run
from .trainer import Trainer


def train(
    config: Config | None = None,
    data: Any = None,
    labels: Any = None,
    *,
    out: PathLike | None = None,
    resume: PathLike | None = None,
    steps: int | None = None,
    model: str | None = None,
    loss: str | None = None,
    progress: bool = True,
    tensorboard: bool = False,
) -> SavedRun:
    """Train a GAN in a folder, as `minigan train` does, and return the run.

        run = mg.train(mg.Config(steps=2000), images)             # an array (N, 28, 28) of bytes
        run = mg.train(resume=run.folder, data=images, steps=4000)

    On SIGINT (Ctrl-C, or a notebook's stop button), SIGTERM or SIGHUP the run is saved, and then
    the signal has its usual effect, such as KeyboardInterrupt.

    Args:
        config: the options; None: the defaults.
        data: samples as an array or tensor, which is interpreted like an array of an .npz by the
            options sample_shape, value_range, classes and remap_labels; a Dataset; or a name or
            path, as in `Config.data`, in whose place it is. None: the data that the config names.
        labels: of an array, integers (N,).
        out: the folder; None: the next one in runs/.
        resume: the folder of a run to go on with, to the same bits; `config` and `out` do not go
            with it. Data that came from Python are handed over again, and compared.
        steps: with `resume`, the number of steps to train to; None: the config's.
        model, loss: with `resume`, as in `load_run`.
        progress: whether to show a progress bar.
        tensorboard: whether to write event files for TensorBoard too, which needs tensorboardX.

    Raises:
        ValueError: options that contradict each other, or do not fit the data.
        RunError: the folder is not empty, or is no run to go on with, or its data have changed.
        DivergedError: a loss or a weight became NaN or infinite.
    """
    if isinstance(config, TranslationConfig):
        raise TypeError("mg.train makes images from noise; mg.train_translation takes this config")
    if config is not None and not isinstance(config, Config):
        raise TypeError(
            f"the first argument is the config, not {type(config).__name__}: mg.train(mg.Config(),"
            " data), or mg.train(data=data)"
        )
    if tensorboard:
        check_tensorboard()
    if resume is None:
        given = {"steps": steps, "model": model, "loss": loss}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} = {value!r} goes with resume; Config({name}=...) sets it")
        return _start(config or Config(), data, labels, out, progress, tensorboard)
    if config is not None or out is not None:
        raise ValueError(f"resume = {resume} goes on with that run's own config, in its folder")
    folder, code = Path(resume).expanduser().absolute(), {"model": model, "loss": loss}
    load_code_of_run(folder, code, ("model", "loss"))  # without it the config has unknown names
    saved = read_config(folder)
    with locked(folder):
        announce_kernels(saved.device)
        place = place_of(saved, data, labels)
        run = resume_run(folder, steps, progress, place, code=code)
        return _train(run, progress, tensorboard)


def _start(
    config: Config,
    data: Any,
    labels: Any,
    out: PathLike | None,
    progress: bool,
    tensorboard: bool,
) -> SavedRun:
    place = place_of(config, data, labels)
    if place is not None and not isinstance(place, Dataset):
        config, place = config.replace(data=os.fspath(place)), None
    config = load_named_code(config)
    if out is not None:
        check_free(Path(out))
    announce_kernels(config.device)
    trainer = Trainer(config, place, progress)
    folder = new_folder(out, trainer.config)
    with locked(folder):
        return _train(Run(folder.absolute(), trainer), progress, tensorboard)


def _train(run: Run, progress: bool, tensorboard: bool) -> SavedRun:
    """Train, and return the run; a signal that stops it has its usual effect afterwards."""
    run.tensorboard = tensorboard
    stopped_by = run.train(progress)
    if stopped_by is not None:
        warnings.warn(
            f"stopped by {stopped_by} and saved; mg.train(resume={str(run.folder)!r}) goes on",
            Notice,
            stacklevel=4,
        )
        signal.raise_signal(signal.Signals[stopped_by])
    return load_run(run.folder)
