"""Compile the kernels of a training in parallel processes, before its first step.

The first training on a machine compiles about thirty kernels, which takes 15 seconds if they are
compiled one after the other. So a training of the same options is set up beside it and run for a
step without its kernels, to see which they are: see `kernels/runtime/cpu/ahead.py`.
"""

from __future__ import annotations

import contextlib
import warnings

import numpy as np

from ..data import GENERATED, Dataset
from ..kernels.runtime.recording import collect
from ..utils.progress import kernel_report
from .config import Config
from .own_code import REGISTRIES

ROWS = 4096  # of the data that the other training has


def stand_in(config: Config) -> Dataset | None:
    """Return black images with labels, in place of images that have to be generated first.

    With them the kernels are known, and compiled, while the images are drawn. None: other data.
    """
    _, _, shape = GENERATED.get(config.data, (None, 0, ()))
    if len(shape) != 3:
        return None
    images = np.zeros((max(ROWS, 4 * config.batch), *shape), np.uint8)
    return Dataset(config.data, images, np.arange(len(images)) % 10, 10)


def compile_kernels(config: Config, data: Dataset) -> None:
    """Begin to compile what a training on the CPU needs and the disk cache does not have.

    Nothing is done for a model or a loss of the user's own, whose Python code must not run twice:
    it may draw random numbers. Then kernels are compiled when they are needed.

    Args:
        config: its options.
        data: its data, of which the first rows are used.
    """
    from ..evaluation.quick import QuickMeasures
    from ..kernels.runtime.cpu.ahead import compile_ahead
    from .trainer import Trainer

    for option in ("model", "loss"):
        name = getattr(config, option)
        if name is not None and name not in REGISTRIES[option].built_in:
            return
    few = data.subset(np.arange(min(len(data), max(ROWS, 4 * config.batch))))
    with collect() as kernels, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        # Whatever fails here, with zeros for numbers, will fail in the training, or not at all.
        with contextlib.suppress(Exception):
            trainer = Trainer(config.replace(seed=0), few, initialize=False)
            trainer.step(norms=True)
            trainer.measure()
            QuickMeasures(trainer).measure()
    compile_ahead(kernels, kernel_report())
