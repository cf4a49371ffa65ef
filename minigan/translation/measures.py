"""Measure images that were made from held-out inputs, while a net is trained and afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..data import Dataset
from ..engine import random
from ..engine.device import use_device
from ..metrics import psnr, sharpness, sliced_wasserstein
from ..metrics.features import FeatureNet, feature_net
from ..metrics.restoration import has_fine_detail
from .players import build_players
from .restore import BASELINES
from .tasks import TRANSFORMS
from .trainer import TranslationTrainer, apply_net

QUICK, MANY = 200, 1000  # examples of a quick measurement, and of a full one
PROJECTIONS = 64
MOST_DECIBELS = 100.0  # of a quick measurement, as a line of metrics holds no infinity
FLOOR = "_floor"
DIGITS = {"mnist", "glyphs", "glyphs-sans", "glyphs-serif"}  # data whose labels are 0 to 9


class TranslationMeasures:
    """The quick measures of a training, each with the number of examples in its name.

    Where the truth is known: `l1_nN`, the mean absolute difference, by which the best step is
    chosen; `psnr_nN`, in decibels; `sharpness_nN`; of inpaint those of the hole alone. Where it is
    not: `sliced_wasserstein_nN`, the distance to held-out images of the other kind, by which the
    best step is chosen, beside the same of training images, `..._floor`.

    Attributes:
        names: of the measures. distance: the name of the distance that has a floor, or None.
        criterion: the name of that by which the best step is chosen; None without held-out images.
    """

    def __init__(self, trainer: TranslationTrainer) -> None:
        self.trainer = trainer
        self.distance: str | None = None
        self.criterion: str | None = None
        self.names: tuple[str, ...] = ()
        count = min(QUICK, len(trainer.images.held_out))
        if not count:
            return
        self._inputs, self._truths, _ = trainer.examples(count)
        if self._truths is not None:
            self.names = tuple(f"{name}_n{count}" for name in ("l1", "psnr", "sharpness"))
            self.criterion = self.names[0]
            return
        other, held_out = trainer.images.other, trainer.images.other_held_out
        assert other is not None
        assert held_out is not None
        count = min(count, len(held_out), len(other))
        self.distance = self.criterion = f"sliced_wasserstein_n{count}"
        self._others = held_out.rows(np.arange(count))
        self._floor = _distance(other.rows(np.arange(count)), self._others)
        self.names = (self.distance, self.distance + FLOOR)

    def _measured(self, images: np.ndarray) -> np.ndarray:
        return measured_part(images, self._inputs, self.trainer.config.task)

    def measure(self) -> dict[str, float]:
        """Return the measures by name."""
        if not self.names:
            return {}
        made = self.trainer.translate(self._inputs)
        if self._truths is None:
            values = [_distance(made[: len(self._others)], self._others), self._floor]
        else:
            made, truths = (self._measured(x) for x in (made, self._truths))
            values = [
                float(np.abs(made - truths).mean(dtype=np.float64)),
                min(psnr(made, truths), MOST_DECIBELS),
                sharpness(made, truths) if has_fine_detail(truths) else 1.0,
            ]
        return dict(zip(self.names, values, strict=True))


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    return sliced_wasserstein(x, y, PROJECTIONS)


def measured_part(images: np.ndarray, inputs: np.ndarray, task: str) -> np.ndarray:
    """Return what is measured of images: of inpaint their holes, (n, C, side, side), else all."""
    if task != "inpaint":
        return images
    masks = np.broadcast_to(inputs[:, -1:] == 1, images.shape)
    side = math.isqrt(int(masks[0, 0].sum()))
    return images[masks].reshape(*images.shape[:2], side, side)


# --------------------------------------------------------------------------------- full measures
@dataclass(frozen=True)
class TranslationEvaluation:
    """The measures of held-out images, of what was made of them and of what it is compared with.

    Attributes:
        step: of the nets. task: what they were trained for. examples: the number of inputs.
        values: by measure, then by column: "output", the baselines of the task, "input", and
            "truth" where it is known; a measure that a column lacks is left out.
        notes: lines on what was not measured, and why.
    """

    step: int
    task: str
    examples: int
    values: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        columns = list(dict.fromkeys(name for row in self.values.values() for name in row))
        head = ["", *columns]
        rows = [
            [MEASURES.get(name, name), *(_number(row.get(column)) for column in columns)]
            for name, row in self.values.items()
        ]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = [f"{self.task}, step {self.step}: {self.examples} held-out images"]
        for row in [head, *rows]:
            cells = [row[0].ljust(widths[0])]
            cells += [x.rjust(w) for x, w in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *self.notes])

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers in JSON types."""
        values = {
            name: {k: x if math.isfinite(x) else None for k, x in row.items()}
            for name, row in self.values.items()
        }
        return {
            "step": self.step,
            "task": self.task,
            "examples": self.examples,
            "values": values,
            "notes": list(self.notes),
        }


MEASURES = {
    "psnr": "PSNR, dB",
    "l1": "mean absolute difference",
    "sharpness": "sharpness, truth 1",
    "agreement": "class kept",
    "sliced_wasserstein": "sliced Wasserstein distance",
    "cycle": "cycle error",
}


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return "inf" if math.isinf(value) else f"{value:.4g}"


@dataclass
class _Work:
    trainer: TranslationTrainer
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, measure: str, column: str, value: float) -> None:
        self.values.setdefault(measure, {})[column] = value


def evaluate_translation(
    trainer: TranslationTrainer, examples: int = MANY, progress: bool = False
) -> TranslationEvaluation:
    """Return the measures of held-out images that the nets of a trainer make.

        print(evaluate_translation(trainer))

    Args:
        trainer: the training. examples: the most held-out images that are used.
        progress: whether to show a progress bar while the classifier of the data is trained.

    Raises:
        ValueError: the run held no images out.
    """
    images, config = trainer.images, trainer.config
    count = min(examples, len(images.held_out))
    if not count:
        raise ValueError("the run held no data out (holdout 0), so there is nothing to measure")
    inputs, truths, labels = trainer.examples(count)
    made = trainer.translate(inputs)
    work = _Work(trainer)
    columns = {"output": made, **_baselines(trainer, inputs, made)}
    shown = inputs[:, : images.channels]
    if shown.shape == made.shape:
        columns["input"] = shown
    if truths is not None:
        columns["truth"] = truths
    measured = {name: measured_part(x, inputs, config.task) for name, x in columns.items()}
    _add_differences(work, measured)
    _add_distances(work, columns)
    _add_agreement(work, columns, labels, progress)
    if config.is_unpaired:
        with use_device(trainer.device):
            back = apply_net(trainer.players.back, made)
        work.add("cycle", "output", float(np.abs(back - shown).mean(dtype=np.float64)))
    return TranslationEvaluation(
        trainer.step_count, config.task, count, work.values, tuple(work.notes)
    )


def _baselines(
    trainer: TranslationTrainer, inputs: np.ndarray, made: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the images of the methods without a net that the task has, and of untrained nets."""
    found = {
        name: make(trainer, inputs).astype(np.float32)
        for name, make in BASELINES.get(trainer.config.task, {}).items()
    }
    if trainer.config.is_unpaired:
        generator = random.Generator(trainer.config.seed)
        with use_device(trainer.device), random.use_generator(generator):
            channels = trainer.images.channels
            untrained = build_players(trainer.config, channels, channels)
            found["untrained"] = apply_net(untrained.generator, inputs)
    return found


def _add_differences(work: _Work, columns: Mapping[str, np.ndarray]) -> None:
    """Add the differences to the truth."""
    truths = columns.get("truth")
    if truths is None:
        work.notes.append("the truth of an image is not known, so there is no difference to it")
        return
    for name, images in columns.items():
        if name != "truth":
            work.add("psnr", name, psnr(images, truths))
            work.add("l1", name, float(np.abs(images - truths).mean(dtype=np.float64)))
    if not has_fine_detail(truths):
        work.notes.append("no sharpness: the true images have no fine detail")
        return
    for name, images in columns.items():
        work.add("sharpness", name, sharpness(images, truths))


def _add_distances(work: _Work, columns: Mapping[str, np.ndarray]) -> None:
    """Add the distances to real images: those of the same kind as the ones that are made."""
    images = work.trainer.images
    real = images.other_held_out if images.other_held_out is not None else None
    if real is None:
        return
    count = min(len(next(iter(columns.values()))), len(real))
    reals = real.rows(np.arange(count))
    for name, made in columns.items():
        if name != "truth":
            work.add("sliced_wasserstein", name, sliced_wasserstein(made[:count], reals))
    other = images.other
    if other is not None and len(other) >= count:
        floor = sliced_wasserstein(other.rows(np.arange(count)), reals)
        work.add("sliced_wasserstein", "truth", floor)


def _add_agreement(
    work: _Work,
    columns: Mapping[str, np.ndarray],
    labels: np.ndarray | None,
    progress: bool,
) -> None:
    """Add the share of images to which a classifier of true ones gives the class of the input."""
    if not _has_same_classes(work.trainer):
        work.notes.append(
            "it is not known whether the two kinds of images have the same classes, so they are not"
            " compared"
        )
        return
    net = None if labels is None else _classifier(work.trainer, progress)
    if net is None:
        work.notes.append("the images have no labels, so their classes cannot be compared")
        return
    for name, column in columns.items():
        found = net.probabilities(np.asarray(column, np.float32)).argmax(axis=1)
        work.add("agreement", name, float((found == labels).mean()))
    if "truth" not in columns:  # what the classifier reaches on real images of the other kind
        work.add("agreement", "truth", net.accuracy)


def _has_same_classes(trainer: TranslationTrainer) -> bool:
    """Return whether a label means the same for both kinds of images, as far as is known."""
    config, data, other = trainer.config, trainer.images.data, trainer.images.other
    if other is None or str(config.target) in TRANSFORMS or {config.data, config.target} <= DIGITS:
        return True
    has_names = data.class_names is not None and data.class_names == other.class_names
    return has_names and data.classes == other.classes


def _classifier(trainer: TranslationTrainer, progress: bool) -> FeatureNet | None:
    """Return a classifier of images like those that are made; None where they have no labels."""
    images = trainer.images
    train, held_out = images.other or images.data, images.other_held_out or images.held_out
    if train.labels is None or held_out.labels is None or (train.classes or 0) < 2:
        return None
    if images.given_channels:
        train, held_out = (_truths_of(trainer, part) for part in (train, held_out))
    return feature_net(train, held_out, progress=progress)


def _truths_of(trainer: TranslationTrainer, pairs: Dataset) -> Dataset:
    _, truths = trainer.images.split(pairs.values)
    return replace(pairs, stored=truths, index=None, notes=())
