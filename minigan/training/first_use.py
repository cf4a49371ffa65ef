"""Compile the kernels of a training in parallel processes, before its first step.

The first training on a machine compiles about thirty kernels, which takes 13 seconds if they are
compiled one after the other. So a training of the same options is set up beside it and run for a
step without its kernels, to see which they are: see `kernels/runtime/cpu/ahead.py`. Python code of
a model or a loss of a user's own runs for this step, too.
"""

from __future__ import annotations

import contextlib
import warnings

import numpy as np

from ..data import GENERATED, Dataset
from ..utils.progress import announce_kernels, kernel_report
from .config import Config

ROWS = 4096  # of the data that the other training has


def prepare_compiling(device: str, progress: bool = True) -> None:
    """Report the kernels that a device compiles from now on.

    With `progress`, start the processes that will compile those of an empty cache on the CPU.
    """
    announce_kernels(device)
    if progress and device == "cpu":
        from ..kernels.runtime.cpu.ahead import start_compilers

        start_compilers()


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

    Args:
        config: its options.
        data: its data, of which the first rows are used.
    """
    from ..evaluation.quick import QuickMeasures
    from ..kernels.runtime.cpu.ahead import collect, compile_ahead
    from .trainer import Trainer

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
