"""Stacked digits: 100 modes, one for each pair of digits in the two channels of an image.

A smaller form of Stacked MNIST (three channels and 1000 modes; Metz et al. 2017, Lin et al. 2018
table 2), with the same measures: a classifier names the digit of each channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset
from ..gan.presets import R3GAN
from ..metrics import feature_net
from ..metrics.features import FeatureNet
from ..training.config import Config
from ..training.trainer import Trainer
from ..utils.figures import figure, tile, to_pixels
from .experiment import Case, CaseResult, Experiment, Goal, Measure, Outcome
from .parzen import split

SHOWN = 32  # images in the figure, per case
DIGITS = 10


def train_and_measure(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a GAN on pairs of digits; count the pairs among its samples.

    Args:
        config: "training", the options of a `Config`; "pairs", the number of training images;
            "samples", the number that is counted.
        seed: of weights, batches and noise; the training images are always the same.
    """
    options = Config.from_dict(dict(config["training"]))
    train, _ = digits(options.data, options.split)
    trainer = Trainer(options.replace(seed=seed), stack(train, config["pairs"], 0))
    for _ in range(options.steps):
        trainer.step()
    return _measure(trainer.sample(config["samples"], seed), options.data, options.split)


def measure_data(config: Mapping[str, Any], seed: int) -> Outcome:
    """Count the pairs among real ones, of digits that neither GAN nor classifier was trained on."""
    _, held_out = digits(config["data"], config["split"])
    pairs = stack(held_out, config["samples"], seed)
    return _measure(pairs.values, config["data"], config["split"])


@cache
def digits(name: str, part: str) -> tuple[Dataset, Dataset]:
    """Return training and held-out digits of 14 x 14 pixels, each the mean of four."""
    train, *held_out = split(name, part)

    def smaller(parts: Sequence[Dataset]) -> Dataset:
        images = np.concatenate([data.values for data in parts])
        n, _, height, width = images.shape
        blocks = images.reshape(n, 1, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
        pixels = to_pixels(blocks).transpose(0, 3, 1, 2)
        labels = np.concatenate([data.labels for data in parts if data.labels is not None])
        return Dataset(f"{name}-14", pixels, labels, DIGITS)

    return smaller([train]), smaller(held_out)


def stack(data: Dataset, n: int, seed: int) -> Dataset:
    """Return n images of two channels, each a random digit; all pairs are equally likely."""
    assert data.labels is not None
    rng = np.random.Generator(np.random.Philox(seed))
    labels = rng.integers(DIGITS, size=(n, 2))
    by_digit = [np.flatnonzero(data.labels == digit) for digit in range(DIGITS)]
    sizes = np.array([len(rows) for rows in by_digit])
    position = (rng.random((n, 2)) * sizes[labels]).astype(np.int64)
    chosen = np.empty((n, 2), np.int64)
    for digit, rows in enumerate(by_digit):
        is_digit = labels == digit
        chosen[is_digit] = rows[position[is_digit]]
    images = data.stored[chosen][:, :, 0]
    return Dataset("stacked", images, labels @ [DIGITS, 1], DIGITS**2)


@cache
def classifier(name: str, part: str) -> FeatureNet:
    """Return the classifier of one channel; its accuracy is that on the held-out digits."""
    return feature_net(*digits(name, part))


def _measure(images: np.ndarray, name: str, part: str) -> Outcome:
    """Return the number of pairs, the KL divergence of their histogram, and the accuracy."""
    net = classifier(name, part)
    first, second = (net.probabilities(images[:, [channel]]).argmax(axis=1) for channel in range(2))
    shares = np.bincount(first * DIGITS + second, minlength=DIGITS**2) / len(images)
    filled = shares[shares > 0]
    values = {
        "modes": float(len(filled)),
        "kl": float((filled * np.log(filled)).sum()) + 2 * math.log(DIGITS),
        "accuracy": net.accuracy,
    }
    return Outcome(values, {"images": images[:SHOWN].astype(np.float32)})


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: the first images of each case, with their two channels side by side."""
    with figure(path, 3 * len(results), 3.4) as drawing:
        panels = drawing.subplots(1, len(results), squeeze=False)[0]
        for axes, result in zip(panels, results, strict=True):
            images = result.arrays[0]["images"]
            n, channels, height, width = images.shape
            pairs = images.transpose(0, 2, 1, 3).reshape(n, 1, height, channels * width)
            axes.imshow(tile(pairs, columns=4), cmap="gray", vmin=0, vmax=255)
            axes.set(title=f"{result.name}\n{np.mean(result.values['modes']):.1f} modes")
            axes.set_axis_off()


_DATA = {"data": "mnist", "split": "test"}
_SIZE = {"pairs": 50_000, "samples": 10_000}
_SHARED: dict[str, Any] = {
    **_DATA,
    "holdout": 0.0,
    "model": "mlp",
    "steps": 6000,
    "batch": 64,
    "schedule": "linear",
    "ema": 0.999,
}
_R3GAN: dict[str, Any] = {
    **R3GAN,
    "penalty_weight": 0.5,
    "penalty_end": 0.05,
    "lr_g": 1e-3,
    "lr_d": 1e-3,
    "beta1": 0.0,
    "beta2": 0.99,
}


def _case(goals: Mapping[str, Goal], **options: Any) -> Case:
    training = Config(**{**_SHARED, **options}).as_dict()
    return Case(train_and_measure, {"training": training, **_SIZE}, goals)


STACKED = Experiment(
    about="100 modes: pairs of digits in two channels of 14 x 14 pixels",
    source="",
    minutes=15,
    cases={
        "data": Case(measure_data, {**_DATA, "samples": _SIZE["samples"]}),
        "non-saturating": _case({}),
        "r3gan": _case({"modes": Goal(low=100), "kl": Goal(high=0.1)}, **_R3GAN),
    },
    measures={
        "modes": Measure("modes of 100", 1),
        "kl": Measure("KL to uniform", 3),
        "accuracy": Measure("classifier's accuracy, %", 1, 100),
    },
    published={},
    draw=draw,
    caption="Images of seed 0, their two channels side by side.",
)
