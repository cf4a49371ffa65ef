"""How good is a run's generator? Distances to held-out real data, beside their floor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..data import Dataset
from ..engine.device import use_device
from ..metrics import classify, mixture_quality, sliced_wasserstein, train_classifier
from .trainer import Trainer

REPEATS = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over repeated draws, with its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: list[float]) -> Estimate:
        spread = math.nan  # of one value, or where one is infinite
        if len(values) > 1 and all(map(math.isfinite, values)):
            spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return cls(float(np.mean(values)), spread)

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no NaN and no infinity: null stands for them."""
        return {name: x if math.isfinite(x) else None for name, x in vars(self).items()}

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if math.isnan(self.error) else f" +- {self.error:.4f}")


def evaluate(
    trainer: Trainer, projections: int = 256, progress: bool = False
) -> dict[str, Estimate]:
    """Numbers by name; each over up to five draws, all of one sample size.

    `sliced_wasserstein`: generated samples against held-out real ones; a conditional generator is
    told the held-out labels.
    `sliced_wasserstein_floor`: training samples against the same held-out ones: what two draws of
    the data themselves come to at this size. No generator can be expected below it.
    For mixtures of Gaussians also `modes`, `high_quality` and `reverse_kl` of 2,500 samples.
    For conditional generators of two classes or more `label_agreement`, the share of samples in
    which a classifier trained on the run's real training data finds the label that was asked for;
    `label_agreement_permuted`, the same with the labels in another order, so what chance comes to;
    `classifier_accuracy`, the classifier's own on held-out real data.

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
    labels = held_out.labels if trainer.players.labelled else None
    fakes = [trainer.sample(n, k, labels) for k in range(REPEATS)]
    found = _distances(fakes, train.values, held_out.values, projections)
    if train.modes is not None and train.sigma is not None:
        samples = [trainer.sample(2500, k) for k in range(REPEATS)]
        draws = [mixture_quality(x, train.modes, train.sigma) for x in samples]
        for name in ("modes", "high_quality", "reverse_kl"):
            found[name] = Estimate.of([float(getattr(draw, name)) for draw in draws])
    if labels is not None and (train.classes or 0) > 1:
        found |= _agreement(fakes, train, held_out, trainer.device.name, progress)
    return found


def _distances(
    fakes: list[np.ndarray], train: np.ndarray, held_out: np.ndarray, projections: int
) -> dict[str, Estimate]:
    n = len(held_out)
    order = np.random.Generator(np.random.Philox(0)).permutation(len(train))
    reals = [train[order[k * n : (k + 1) * n]] for k in range(REPEATS)]
    return {
        name: Estimate.of(
            [
                sliced_wasserstein(x, held_out, projections, seed=k)
                for k, x in enumerate(draws)
                if len(x) == n
            ]
        )
        for name, draws in (("sliced_wasserstein", fakes), ("sliced_wasserstein_floor", reals))
    }


def _agreement(
    fakes: list[np.ndarray], train: Dataset, held_out: Dataset, device: str, progress: bool
) -> dict[str, Estimate]:
    assert train.labels is not None
    assert held_out.labels is not None
    # The devices for looking closely (reference, emulator) need not train it as well.
    with use_device("cuda" if device == "cuda" else "cpu"):
        classes = train.classes or 0
        classifier = train_classifier(train.values, train.labels, classes, progress=progress)
        named = [classify(classifier, x) for x in fakes]
        right = classify(classifier, held_out.values) == held_out.labels
    asked, rows = held_out.labels, np.random.Generator(np.random.Philox(0))
    return {
        "label_agreement": Estimate.of([float((x == asked).mean()) for x in named]),
        "label_agreement_permuted": Estimate.of(
            [float((x == rows.permutation(asked)).mean()) for x in named]
        ),
        "classifier_accuracy": Estimate.of([float(right.mean())]),
    }
