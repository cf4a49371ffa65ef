"""Numbers of the data of a training to which its gauges are relative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset
from ..engine import random
from ..engine.autograd import grad
from ..engine.tensor import Tensor, tensor
from . import gauge_functions as functions
from .trail import MAX_NUMBERS as MAX_FOLLOWED

if TYPE_CHECKING:
    from .trainer import Trainer

MIN_SAMPLES, MAX_SAMPLES, MAX_NUMBERS = 64, 256, 2**16  # of one kind, and numbers in them
MAX_REFERENCE, MAX_REFERENCE_NUMBERS = 2048, 2**22  # training samples that stand for the data


@dataclass(frozen=True, eq=False)
class Reference:
    """Numbers of the data to which gauges are relative; they are the same at all steps.

    Attributes:
        deviation: standard deviation per number, within classes for a conditional run.
        total_deviation: the same over all samples.
        range: the lowest and the highest number.
        class_means: (classes, d) of a conditional run.
        agreement: the share of held-out samples that are nearest to the mean of their class.
        chance: the share that would be if the labels were shuffled.
        latent, labels: of the generated samples.
        features: the numbers of a sample that are followed from line to line.
        middle_slope: of G's loss at logits of 0; None where G's loss is not one of logits.
    """

    deviation: float
    total_deviation: float
    range: tuple[float, float]
    class_means: np.ndarray | None
    agreement: float
    chance: float
    latent: Tensor
    labels: np.ndarray | None
    features: np.ndarray
    middle_slope: float | None

    @classmethod
    def of(cls, trainer: Trainer) -> Reference:
        """Return the numbers of the data of a trainer."""
        data, size = trainer.data, math.prod(trainer.data.sample_shape)
        n = max(MIN_SAMPLES, min(MAX_REFERENCE, MAX_REFERENCE_NUMBERS // size))
        values, y = draw(data, n, 0, trainer.scale)
        total = functions.deviation(values)
        labels = means = None
        deviation, agreement, chance = total, 0.0, 0.0
        samples = cls.samples(trainer)
        if trainer.config.needs_labels and y is not None:
            labels = np.repeat(y[: max(1, samples // 2)], 2)[:samples]  # two latents of each label
            deviation = functions.deviation_within_classes(values, y)
            means = functions.class_means(values, y, data.classes or 0)
            other, other_y = draw(trainer.held_out or data, n, 1, trainer.scale)
            agreement = functions.class_agreement(other, other_y, means)
            chance = functions.chance_agreement(other, other_y, means)
        with random.use_generator(random.Generator(0)):
            latent = trainer.players.latent(samples, "samples")
        limits = float(values.min()), float(values.max())
        slope = None
        if trainer.config.generator_loss == "adversarial":
            zeros = np.zeros(trainer.config.batch // trainer.config.pack, np.float32)
            slope = float(slopes(trainer, zeros, zeros).mean()) or None
        features = cls.followed(trainer)
        class_numbers = means, agreement, chance
        return cls(deviation, total, limits, *class_numbers, latent, labels, features, slope)

    @classmethod
    def followed(cls, trainer: Trainer) -> np.ndarray:
        """Return which numbers of a sample are followed, at random where there are many."""
        size = math.prod(trainer.data.sample_shape)
        count = min(size, max(1, MAX_FOLLOWED // cls.samples(trainer)))
        generator = np.random.Generator(np.random.Philox(0))
        return np.sort(generator.choice(size, count, replace=False))

    @staticmethod
    def samples(trainer: Trainer) -> int:
        """Return the number of generated samples, which D can take in packs and by fours."""
        size = math.prod(trainer.data.sample_shape)
        n = min(max(MIN_SAMPLES, min(MAX_SAMPLES, MAX_NUMBERS // size)), len(trainer.data))
        unit = 4 * trainer.config.pack
        return n - n % unit if n > unit else n


def draw(data: Dataset, n: int, seed: int, scale: float) -> tuple[np.ndarray, Any]:
    """Return n samples (n, d) of the data and their labels, drawn by a seed; fewer if it has fewer.

    They are divided by `scale`.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    rows = generator.choice(len(data), min(n, len(data)), replace=False)
    values = data.rows(rows).reshape(len(rows), math.prod(data.sample_shape))
    labels = None if data.labels is None else data.labels[rows]
    return values if scale == 1 else values / np.float32(scale), labels


def slopes(trainer: Trainer, real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """Return the absolute derivative of G's loss with respect to each fake logit, (n,)."""
    x = tensor(fake[:, None], requires_grad=True)
    (g,) = grad(trainer.loss.generator(x, tensor(real[:, None])), [x])
    return np.abs(g.numpy()[:, 0])
