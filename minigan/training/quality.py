"""Record during a training how far its samples are from held-out data.

A few samples and directions are enough for a curve; `evaluate.py` measures the same with all. The
random numbers are of generators of their own, so the bits of the training do not depend on it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.device import use_device
from ..kernels.runtime.files import atomic_write
from ..metrics import sliced_wasserstein
from ..utils import strict_json
from .run_folder import read_quality
from .trainer import Trainer

MAX_SAMPLES, MAX_NUMBERS = 256, 2**24  # samples of a measurement, and numbers in them
PROJECTIONS = 64
FLOOR_DRAWS = 5


class Quality:
    """The sliced Wasserstein distances of a training, and the file of a run that holds them.

    Lines of steps after that of the trainer are removed, as the training writes them again.

    Raises:
        RunError: the file cannot be read.
    """

    def __init__(self, path: Path, trainer: Trainer) -> None:
        self.path, self.trainer = path, trainer
        self.rows = read_quality(path, trainer.step_count)
        if path.exists():
            text = "".join(strict_json.dumps(row) + "\n" for row in self.rows)
            atomic_write(path, lambda file: file.write(text.encode()))
        fits = MAX_NUMBERS // math.prod(trainer.data.sample_shape)
        self.samples = min(MAX_SAMPLES, len(trainer.held_out), len(trainer.data), max(1, fits))
        self._floor: float | None = None

    def record(self) -> None:
        """Measure the trainer's samples, and write a line; do nothing without held-out data."""
        step = self.trainer.step_count
        if not self.samples or (self.rows and self.rows[-1]["step"] >= step):
            return
        row = {"step": step, **self.measure()}
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(strict_json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())  # A later checkpoint does not write it again.

    def measure(self) -> dict[str, Any]:
        """Return the distance of samples to held-out data, and that of training data, its floor."""
        trainer, n = self.trainer, self.samples
        held_out = trainer.held_out.subset(_order(len(trainer.held_out))[:n])
        labels = held_out.labels if trainer.players.is_conditional else None
        # The emulator would take long, and the distance is the same on the CPU.
        with use_device("cpu" if trainer.device.name == "cuda-emulator" else trainer.device):
            if self._floor is None:
                order = _order(len(trainer.data))
                draws = min(FLOOR_DRAWS, len(order) // n)
                parts = [trainer.data.subset(order[k * n : (k + 1) * n]) for k in range(draws)]
                distances = [_distance(part.values, held_out.values) for part in parts]
                self._floor = float(np.mean(distances))
            samples = trainer.sample(n, labels=labels)
            distance = _distance(samples, held_out.values)
        return {"sliced_wasserstein": distance, "floor": self._floor}


def _order(n: int) -> np.ndarray:
    """Return 0 ... n - 1 in random order, the same for every run."""
    return np.random.Generator(np.random.Philox(0)).permutation(n)


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    return sliced_wasserstein(x, y, PROJECTIONS)
