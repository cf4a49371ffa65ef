"""DiffAugment with few images: GANs of 200 and 1000 digits, with it and without.

The measures are distances of samples to digits that the GAN has not seen, beside those of other
real digits, the floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics import frechet_distance, sliced_wasserstein
from ..training.config import Config
from ..utils.figures import figure, tile
from .augmentation import GAN, choose_digits, parts, train_gan
from .experiment import Case, CaseResult, Experiment, Measure, Outcome
from .stacked import classifier

SHOWN = 40  # images in the figure, per case


def measure(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a GAN on few digits; return the distances of its samples to held-out digits.

    Args:
        config: "digits", the number of digits of the GAN; "training", its options; "samples", how
            many are compared with as many held-out digits.
        seed: of the choice of digits and of the GAN.
    """
    options = config["training"]
    pool, _, _ = parts(options["data"], options["split"])
    few = pool.subset(choose_digits(pool, config["digits"], seed))
    samples = train_gan(options, few, seed).sample(config["samples"], seed)
    return _distances(samples, options["data"], options["split"])


def measure_data(config: Mapping[str, Any], seed: int) -> Outcome:
    """Return the same distances of real digits, drawn from those that GANs are trained on."""
    pool, _, _ = parts(config["data"], config["split"])
    real = pool.sample(config["samples"], seed).values
    return _distances(real, config["data"], config["split"])


def _distances(images: np.ndarray, name: str, part: str) -> Outcome:
    _, _, test = parts(name, part)
    held_out, net = test.values[: len(images)], classifier(name, part)
    values = {
        "sliced_wasserstein": sliced_wasserstein(images, held_out),
        "frechet": frechet_distance(net.features(images), net.features(held_out)),
    }
    return Outcome(values, {"images": images[:SHOWN].astype(np.float32)})


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: for its first seed, the first images of each case."""
    columns = (len(results) + 1) // 2
    with figure(path, 3.1 * columns, 5.2) as drawing:
        panels = drawing.subplots(2, columns, squeeze=False).flat
        for axes in panels:
            axes.set_axis_off()
        for axes, result in zip(panels, results, strict=False):
            axes.imshow(tile(result.arrays[0]["images"]), cmap="gray", vmin=0, vmax=255)
            mean = np.mean(result.values["frechet"])
            axes.set(title=f"{result.name}\nFrechet distance {mean:.2f}")


_SAMPLES = 2000
_DATA = {"data": "mnist", "split": "test"}


def _case(n: int, augment: str) -> Case:
    training = Config(**GAN, steps=4000, ema=0.995, augment=augment).as_dict()
    return Case(measure, {"digits": n, "training": training, "samples": _SAMPLES})


DIFFAUGMENT = Experiment(
    about="DiffAugment: GANs of 200 and 1000 digits, distances to held-out ones",
    source="",
    minutes=5,
    cases={
        "real digits": Case(measure_data, {**_DATA, "samples": _SAMPLES}),
        **{
            f"{n} digits, {policy}": _case(n, policy)
            for n in (200, 1000)
            for policy in ("none", "translation", "translation,cutout")
        },
    },
    measures={
        "sliced_wasserstein": Measure("sliced Wasserstein distance", 3),
        "frechet": Measure("Frechet distance of features", 2),
    },
    published={},
    draw=draw,
    caption="Images of seed 0.",
)
