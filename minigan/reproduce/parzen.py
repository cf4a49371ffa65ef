"""Parzen-window log-likelihood of digits (Goodfellow et al. 2014, table 1), and why not to use it.

The samples of a GAN are compared with centroids of k-means, which are blurred averages, and with
the training images themselves: both get more nats, so more nats do not mean better samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset, load
from ..metrics import parzen_bandwidth, parzen_log_likelihood
from ..training.config import Config
from ..training.trainer import Trainer
from ..utils.figures import figure, tile
from .experiment import Case, CaseResult, Experiment, Goal, Measure, Outcome

SHOWN = 64  # images in the figure, per case
HELD_OUT = 0.2  # of the data: one half for the choice of sigma, the other half for the result


def train_and_measure(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a GAN; measure the log-likelihood of test images under a window around its samples.

    Args:
        config: "training", the options of a `Config`; "samples", the number of centres; "sigmas",
            the bandwidths among which the validation images choose.
        seed: of weights, batches and noise; the split of the data is always the same.
    """
    options = Config.from_dict(dict(config["training"]))
    train, validation, test = split(options.data, options.split)
    trainer = Trainer(options.replace(seed=seed), train)
    for _ in range(options.steps):
        trainer.step()
    return _measure(trainer.sample(config["samples"], seed), validation, test, config["sigmas"])


def measure_centroids(config: Mapping[str, Any], seed: int) -> Outcome:
    """Measure the log-likelihood under a window around centroids of the training images."""
    train, validation, test = split(config["data"], config["split"])
    images = train.values.reshape(len(train), -1)
    centres = k_means(images, config["centroids"], config["iterations"], seed)
    shape = (len(centres), *train.sample_shape)
    return _measure(centres.reshape(shape), validation, test, config["sigmas"])


def measure_training_images(config: Mapping[str, Any], seed: int) -> Outcome:
    """Measure the log-likelihood under a window around the training images themselves."""
    train, validation, test = split(config["data"], config["split"])
    return _measure(train.values, validation, test, config["sigmas"])


def split(name: str, part: str) -> tuple[Dataset, Dataset, Dataset]:
    """Return (training, validation, test) images; no image is in two of them."""
    train, rest = load(name, split=part).holdout(HELD_OUT, 0)
    return (train, *rest.holdout(0.5, 0))


def _measure(
    images: np.ndarray, validation: Dataset, test: Dataset, sigmas: Sequence[float]
) -> Outcome:
    """Return the mean log-likelihood of the test images, sigma, and images for the figure."""
    centres, valid, held_out = ((x + 1) / 2 for x in (images, validation.values, test.values))
    sigma = parzen_bandwidth(centres, valid, sigmas)
    nats = float(parzen_log_likelihood(centres, held_out, sigma).mean())
    values = {"nats": nats, "sigma": sigma, "centres": float(len(centres))}
    return Outcome(values, {"images": images[:SHOWN].astype(np.float32)})


def k_means(x: np.ndarray, clusters: int, iterations: int, seed: int) -> np.ndarray:
    """Return the centroids (clusters, d) of points (n, d), by Lloyd's iteration.

    It starts at points drawn without replacement. A cluster that loses all points keeps its centre.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    centres = x[rng.choice(len(x), clusters, replace=False)].astype(np.float64)
    for _ in range(iterations):
        # The nearest centre has the largest x c - |c|^2 / 2.
        nearest = (x @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
        counts = np.bincount(nearest, minlength=clusters)
        order = np.argsort(nearest, kind="stable")
        filled = np.flatnonzero(counts)
        starts = np.concatenate([[0], np.cumsum(counts[filled])[:-1]])
        centres[filled] = np.add.reduceat(x[order], starts, axis=0) / counts[filled, None]
    return centres


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: for its first seed, the first images of each case."""
    with figure(path, 3 * len(results), 3.7) as drawing:
        panels = drawing.subplots(1, len(results), squeeze=False)[0]
        for axes, result in zip(panels, results, strict=True):
            axes.imshow(tile(result.arrays[0]["images"]), cmap="gray", vmin=0, vmax=255)
            axes.set(title=f"{result.name}\n{np.mean(result.values['nats']):.0f} nats")
            axes.set_axis_off()


_SIGMAS = [round(0.10 + 0.01 * i, 2) for i in range(21)]
_DATA: dict[str, Any] = {"data": "mnist", "split": "test"}
# Without a penalty D learns its 8,000 images by heart, and G makes four of the ten digits.
_TRAINING = Config(
    **_DATA,
    holdout=0.0,
    model="mlp",
    loss="relativistic",
    penalty="r1+r2",
    penalty_weight=5.0,
    steps=5000,
    lr_g=1e-3,
    lr_d=1e-3,
    beta1=0.0,
    beta2=0.99,
    schedule="linear",
    ema=0.999,
).as_dict()

PARZEN = Experiment(
    about="log-likelihood of digits by a Parzen window (Goodfellow et al. 2014, table 1)",
    source="Goodfellow et al. 2014, table 1: 10,000 samples, 60,000 training and 10,000 test"
    " images; ± is the standard error over test images",
    minutes=12,
    cases={
        "MLP GAN": Case(
            train_and_measure,
            {"training": _TRAINING, "samples": 10_000, "sigmas": _SIGMAS},
            {"nats": Goal(low=225)},
        ),
        "k-means": Case(
            measure_centroids, {**_DATA, "centroids": 1000, "iterations": 20, "sigmas": _SIGMAS}
        ),
        "training images": Case(measure_training_images, {**_DATA, "sigmas": _SIGMAS}, seeds=1),
    },
    measures={
        "nats": Measure("log-likelihood, nats", 1),
        "sigma": Measure("sigma", 3),
        "centres": Measure("centres", 0),
    },
    published={
        "DBN": {"nats": "138 ± 2"},
        "stacked CAE": {"nats": "121 ± 1.6"},
        "deep GSN": {"nats": "214 ± 1.1"},
        "GAN": {"nats": "225 ± 2", "centres": "10000"},
    },
    draw=draw,
    caption="The first centres of seed 0: samples, centroids, and training images.",
)
