"""Samples with what several measures need of them, and what they are compared with."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset
from ..metrics import FeatureNet, feature_net
from ..utils.notices import Notice
from .labels import note_other_labels, rows_with_labels

if TYPE_CHECKING:
    from ..training.sampler import Sampler
    from ..training.trainer import Trainer

MAX_SAMPLES, MAX_NUMBERS = 10_000, 2**23  # held-out samples that are used, and numbers in them
VALIDATION = 500  # training samples by which the width of Parzen windows is chosen
FEW_CLASSES = 2  # so many are needed for a classifier


class Samples:
    """Samples (n, ...), and what is computed of them once, however many measures need it.

    Args:
        values: the samples.
        setting: what they are compared with.
        labels: (n,) that they were generated with, or that real ones have; None without labels.
        draw: the number of the draw, which is the seed of what is random in a measure.
    """

    def __init__(
        self,
        values: np.ndarray,
        setting: Setting,
        labels: np.ndarray | None = None,
        draw: int = 0,
    ) -> None:
        self.values, self.setting, self.labels, self.draw = values, setting, labels, draw
        self._results: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.values)

    def head(self, n: int) -> Samples:
        """Return the first n samples, which share what is computed of all."""
        return self if n == len(self) else self.once(lambda: _Head(self, n), "head", n)

    def once(self, compute: Callable[[], Any], *key: Any) -> Any:
        """Return compute(), which is called only once for a key."""
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]

    @cached_property
    def features(self) -> np.ndarray:
        """(n, 128) features of the data's classifier; of points (n, d) their coordinates."""
        return self.setting.net.features(self.values) if self.setting.is_image else self.values

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(n, classes) probabilities of the classes, by the data's classifier."""
        return self.setting.net.probabilities(self.values)


class _Head(Samples):
    """The first n of other samples."""

    def __init__(self, whole: Samples, n: int) -> None:
        labels = None if whole.labels is None else whole.labels[:n]
        super().__init__(whole.values[:n], whole.setting, labels, whole.draw)
        self.whole = whole

    @cached_property
    def features(self) -> np.ndarray:
        return self.whole.features[: len(self)]

    @cached_property
    def probabilities(self) -> np.ndarray:
        return self.whole.probabilities[: len(self)]


@dataclass(eq=False)
class Setting:
    """What the samples of a run are compared with.

    Attributes:
        train, held_out: the run's training data, and those that it was not trained on.
        is_conditional: whether the generator takes labels.
        projections: directions of the sliced Wasserstein distance.
        progress: whether to show a progress bar while the classifier is trained.
    """

    train: Dataset
    held_out: Dataset
    is_conditional: bool
    projections: int = 256
    progress: bool = False
    _order: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._order = np.random.Generator(np.random.Philox(0)).permutation(len(self.train))

    @classmethod
    def of(cls, trainer: Trainer, projections: int = 256, progress: bool = False) -> Setting:
        """Return the setting of a trainer."""
        conditional = trainer.config.needs_labels
        return cls(trainer.data, trainer.held_out, conditional, projections, progress)

    @property
    def is_image(self) -> bool:
        """Whether samples are images."""
        return self.train.is_image

    @property
    def has_classes(self) -> bool:
        """Whether a classifier of the data can be trained."""
        return self.train.labels is not None and (self.train.classes or 0) >= FEW_CLASSES

    @cached_property
    def count(self) -> int:
        """The number of held-out samples that are used, and of those compared with them."""
        fits = MAX_NUMBERS // int(np.prod(self.train.sample_shape))
        return max(1, min(len(self.held_out), len(self.train), MAX_SAMPLES, fits))

    @cached_property
    def real(self) -> Samples:
        """The held-out samples, in random order, as measures take the first of them."""
        order = np.random.Generator(np.random.Philox(1)).permutation(len(self.held_out))
        part = self.held_out.subset(order[: self.count])
        return Samples(part.values, self, part.labels)

    @cached_property
    def validation(self) -> np.ndarray:
        """Training samples that `train_draw` leaves out where there are enough others."""
        return self.train.rows(self._order[self.usable :])

    @cached_property
    def deviation(self) -> float:
        """The root mean square, over the coordinates, of the training samples' deviation."""
        values = self.train.rows(self._order[:MAX_SAMPLES]).astype(np.float64)
        # The deviation of equal numbers is not always 0, by rounding.
        if np.array_equal(values.min(axis=0), values.max(axis=0)):
            return 0.0
        return float(np.sqrt(values.var(axis=0).mean()))

    @property
    def usable(self) -> int:
        """The number of training samples that are not validation samples."""
        return len(self.train) - self._left_out

    @property
    def _left_out(self) -> int:
        return min(VALIDATION, len(self.train) // 10)

    @cached_property
    def train_values(self) -> np.ndarray:
        """All training samples."""
        return self.train.values

    @cached_property
    def net(self) -> FeatureNet:
        """The classifier of the run's training data."""
        return feature_net(self.train, self.held_out, progress=self.progress)

    @property
    def uses_net(self) -> bool:
        """Whether the classifier was needed."""
        return "net" in self.__dict__

    def labels(self, n: int) -> np.ndarray | None:
        """Return (n,) labels of held-out samples, or all classes in turn; None without labels."""
        if not self.is_conditional:
            return None
        if n > self.count:
            return np.arange(n) % (self.train.classes or 1)
        assert self.real.labels is not None
        return self.real.labels[:n]

    def train_draw(self, k: int, n: int) -> Samples | None:
        """Return the k-th n training samples; None where there are no more.

        Those of a conditional run have the labels of generated ones: a distance to held-out samples
        would otherwise hold that of the labels. A Notice says which classes have too few for that.
        """
        usable, wanted = self.usable, self.labels(n)
        if (k + 1) * n > (usable if k else len(self._order)):
            return None
        if wanted is None:
            rows = self._order[k * n : (k + 1) * n]
        else:
            assert self.train.labels is not None
            labels = self.train.labels[self._order]
            rows = self._order[rows_with_labels(labels, wanted, k, usable)]
            if note := note_other_labels(self.train, rows, wanted):
                warnings.warn(note, Notice, stacklevel=2)
        part = self.train.subset(rows)
        return Samples(part.values, self, part.labels, k)

    def fake_draw(self, sampler: Sampler, k: int, n: int, averaged: bool) -> Samples:
        """Return the k-th n generated samples; those of a conditional run have `labels(n)`."""
        labels = self.labels(n)
        return Samples(sampler.sample(n, k, labels, averaged), self, labels, k)
