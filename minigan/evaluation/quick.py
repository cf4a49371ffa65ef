"""Measure the samples of a training while it runs, by few samples and in little time.

The random numbers are of generators of their own, so the bits of the training do not depend on it.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np

from ..engine.device import use_device
from ..metrics import mixture_quality, sliced_wasserstein
from ..utils.notices import Notice
from .labels import note_other_labels, rows_with_labels

if TYPE_CHECKING:
    from ..training.trainer import Trainer

MAX_SAMPLES, MAX_NUMBERS = 1000, 2**24  # samples of a measurement, and numbers in them
MIXTURE_SAMPLES = 2500
PROJECTIONS = 64
FLOOR_DRAWS = 5
MIXTURE_MEASURES = ("modes", "high_quality", "kl")
FLOOR = "_floor"  # what the name of a distance between real samples ends with


class QuickMeasures:
    """The quick measures of a trainer's samples, each with the number of samples in its name.

    - `sliced_wasserstein_nN`: the distance of N samples to as many held-out ones, in 64 directions,
      and `sliced_wasserstein_nN_floor`, the mean of the same for up to five draws of training data,
      which have the labels of the generated samples where G takes labels; N is 1000, or less where
      there are fewer data, or where samples are large.
    - `modes_n2500`, `high_quality_n2500`, `kl_n2500`: of mixtures, see `MixtureQuality`.
    - `out_of_range_nN`: of images, the share of numbers that are not in [-1, 1].

    Attributes:
        names: of the measures of this trainer.
        distance: the name of the distance; None without held-out data.
        criterion: the name of that by which the best step is chosen, the lowest value: `kl` of
            mixtures, as it grows both with what is missing and with what is wrong; else the
            distance; None where there is neither.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, data = trainer, trainer.data
        fits = max(1, MAX_NUMBERS // math.prod(data.sample_shape))
        self.samples = min(MAX_SAMPLES, len(trainer.held_out) or MAX_SAMPLES, len(data), fits)
        self.distance = f"sliced_wasserstein_n{self.samples}" if len(trainer.held_out) else None
        self.names: tuple[str, ...] = ()
        if self.distance:
            self.names += (self.distance, self.distance + FLOOR)
        if data.modes is not None and data.sigma is not None:
            self.names += tuple(f"{name}_n{MIXTURE_SAMPLES}" for name in MIXTURE_MEASURES)
        if len(data.sample_shape) == 3:
            self.names += (f"out_of_range_n{self.samples}",)
        kl = f"kl_n{MIXTURE_SAMPLES}"
        self.criterion = kl if kl in self.names else self.distance
        self._floor: float | None = None

    def measure(self) -> dict[str, float]:
        """Return the measures by name; NaN where the samples are not finite."""
        trainer, n, values = self.trainer, self.samples, []
        # The emulator would take long, and the distance is the same on the CPU.
        with use_device("cpu" if trainer.device.name == "cuda-emulator" else trainer.device):
            held_out = trainer.held_out.subset(_order(len(trainer.held_out))[:n])
            labels = held_out.labels if trainer.config.needs_labels and self.distance else None
            samples = trainer.sample(n, labels=labels)
            if self.distance:
                real = held_out.values
                values += [_distance(samples, real), self._measure_floor(real, labels)]
            if f"kl_n{MIXTURE_SAMPLES}" in self.names:
                values += self._measure_mixture()
            if len(trainer.data.sample_shape) == 3:
                outside = ~((samples >= -1) & (samples <= 1))
                values.append(float(outside.mean()))
        return dict(zip(self.names, values, strict=True))

    def _measure_floor(self, real: np.ndarray, labels: np.ndarray | None) -> float:
        """Return the mean distance of training samples, of these labels, to the real ones."""
        if self._floor is None:
            data, n = self.trainer.data, self.samples
            order = _order(len(data))
            draws = range(min(FLOOR_DRAWS, len(order) // n))
            rows = [order[k * n : (k + 1) * n] for k in draws]
            if labels is not None:
                assert data.labels is not None
                ordered = data.labels[order]
                rows = [order[rows_with_labels(ordered, labels, k)] for k in draws]
                if note := note_other_labels(data, rows[0], labels):
                    warnings.warn(note, Notice, stacklevel=2)
            parts = [data.rows(part) for part in rows]
            self._floor = float(np.mean([_distance(part, real) for part in parts]))
        return self._floor

    def _measure_mixture(self) -> list[float]:
        data = self.trainer.data
        assert data.modes is not None
        assert data.sigma is not None
        quality = mixture_quality(self.trainer.sample(MIXTURE_SAMPLES), data.modes, data.sigma)
        return [float(getattr(quality, name)) for name in MIXTURE_MEASURES]


def _order(n: int) -> np.ndarray:
    """Return 0 ... n - 1 in random order, the same for every run."""
    return np.random.Generator(np.random.Philox(0)).permutation(n)


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    return sliced_wasserstein(x, y, PROJECTIONS)
