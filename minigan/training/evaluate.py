"""Measure a generator: distances to held-out data, beside those of training data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..data import Dataset
from ..engine.device import use_device
from ..metrics import classify, mixture_quality, sliced_wasserstein, train_classifier
from .trainer import Trainer

DRAWS = 5  # independent draws behind each mean and standard error
MIXTURE_SAMPLES = 2500  # per draw
# What the name of a measure of G itself, in a run with an average of G, ends with.
WITHOUT_AVERAGE = "_without_average"


@dataclass(frozen=True)
class Estimate:
    """A mean over repeated draws with its standard error, which is NaN for a single draw."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: list[float]) -> Estimate:
        """Return the mean and standard error; the error is NaN where a value is not finite."""
        error = math.nan
        if len(values) > 1 and all(map(math.isfinite, values)):
            error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return cls(float(np.mean(values)), error)

    def as_dict(self) -> dict[str, float | None]:
        """Return both for JSON, where None stands for NaN and infinity."""
        return {name: x if math.isfinite(x) else None for name, x in vars(self).items()}

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if math.isnan(self.error) else f" +- {self.error:.4f}")


def evaluate(
    trainer: Trainer, projections: int = 256, progress: bool = False
) -> dict[str, Estimate]:
    """Return measures of a trained generator by name, each a mean over up to five draws.

        for name, estimate in evaluate(trainer).items():
            print(name, estimate)

    - `sliced_wasserstein`: the distance of generated to held-out real samples; a conditional
      generator gets the held-out labels.
    - `sliced_wasserstein_floor`: the distance of training samples to the same held-out ones, so
      that of two draws of the data. No generator can be expected below it.
    - `modes`, `high_quality`, `reverse_kl`: for mixtures of Gaussians, of 2,500 samples.
    - `label_agreement`: for conditional generators of two or more classes, the fraction of samples
      whose label a classifier, trained on the run's real training data, predicts;
      `label_agreement_permuted`: the same with permuted labels, so the value by chance;
      `classifier_accuracy`: that of the classifier on held-out real data.

    In a run with the option `ema` the samples are those of the average of G. Each measure of them
    has one with `_without_average` behind its name, of the samples of G itself.

    Args:
        trainer: the trained GAN.
        projections: the number of random directions of the sliced Wasserstein distance.
        progress: whether to show a progress bar while the classifier is trained.

    Raises:
        ValueError: the run set no data aside, or has fewer training samples than held-out ones.
    """
    held_out, train = trainer.held_out, trainer.data
    n = len(held_out)
    if not n:
        raise ValueError(
            "the run held no data out (holdout 0), so there is nothing to compare with"
        )
    if len(train) < n:
        raise ValueError(f"{len(train)} training samples cannot be compared with {n} held-out ones")
    labels = held_out.labels if trainer.players.is_conditional else None
    draw: dict[str, Callable[..., np.ndarray]] = {"": trainer.sample}
    if trainer.average is not None:
        draw[WITHOUT_AVERAGE] = partial(trainer.sampler.sample, averaged=False)
    fakes = {
        end: [sample(n, k, labels=labels) for k in range(DRAWS)] for end, sample in draw.items()
    }
    estimates = _distances(fakes, train, held_out.values, projections)
    if train.modes is not None and train.sigma is not None:
        for end, sample in draw.items():
            samples = [sample(MIXTURE_SAMPLES, k) for k in range(DRAWS)]
            qualities = [mixture_quality(x, train.modes, train.sigma) for x in samples]
            for name in ("modes", "high_quality", "reverse_kl"):
                estimates[name + end] = Estimate.of([float(getattr(q, name)) for q in qualities])
    if labels is not None and (train.classes or 0) > 1:
        estimates |= _label_agreement(fakes, train, held_out, trainer.device.name, progress)
    return estimates


class _Rows:
    """The samples of a data set as an array, of which the rows that are read become float32."""

    def __init__(self, data: Dataset) -> None:
        self.data, self.shape = data, (len(data), *data.sample_shape)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self.data.rows(indices)


def _distances(
    fakes: dict[str, list[np.ndarray]], train: Dataset, held_out: np.ndarray, projections: int
) -> dict[str, Estimate]:
    """Return the distances of generated and of training samples to the held-out ones."""
    n = len(held_out)
    order = np.random.Generator(np.random.Philox(0)).permutation(len(train))
    reals = [train.rows(order[k * n : (k + 1) * n]) for k in range(DRAWS)]
    return {
        f"sliced_wasserstein{end}": Estimate.of(
            [
                sliced_wasserstein(x, held_out, projections, seed=k)
                for k, x in enumerate(draws)
                if len(x) == n
            ]
        )
        for end, draws in {**fakes, "_floor": reals}.items()
    }


def _label_agreement(
    fakes: dict[str, list[np.ndarray]],
    train: Dataset,
    held_out: Dataset,
    device: str,
    progress: bool,
) -> dict[str, Estimate]:
    """Return how often a classifier predicts the labels that samples were generated with."""
    assert train.labels is not None
    assert held_out.labels is not None
    # The slow devices, reference and cuda-emulator, would take minutes to train a classifier.
    with use_device("cuda" if device == "cuda" else "cpu"):
        classes = train.classes or 0
        classifier = train_classifier(_Rows(train), train.labels, classes, progress=progress)
        predictions = {
            end: [classify(classifier, x) for x in draws] for end, draws in fakes.items()
        }
        correct = classify(classifier, held_out.values) == held_out.labels
    labels, rng = held_out.labels, np.random.Generator(np.random.Philox(0))
    agreement = {
        f"label_agreement{end}": Estimate.of([float((x == labels).mean()) for x in draws])
        for end, draws in predictions.items()
    }
    permuted = [float((x == rng.permutation(labels)).mean()) for x in predictions[""]]
    return {
        **agreement,
        "label_agreement_permuted": Estimate.of(permuted),
        "classifier_accuracy": Estimate.of([float(correct.mean())]),
    }
