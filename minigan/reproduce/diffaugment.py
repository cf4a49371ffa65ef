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
from .augmentation import GAN, choose_digits, new_trainer, parts
from .experiment import Case, CaseResult, Experiment, Measure, Outcome
from .stacked import classifier

SHOWN = 40  # images in the figure, per case


def measure(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a GAN on few digits; return the distances of its samples to held-out digits.

    Args:
        config: "digits", the number of digits of the GAN; "training", its options; "early", the
            step at which it is measured first, before the last; "samples", how many are compared
            with as many held-out digits.
        seed: of the choice of digits and of the GAN.
    """
    options = config["training"]
    data = options["data"], options["split"]
    pool, _, _ = parts(*data)
    few = pool.subset(choose_digits(pool, config["digits"], seed))
    trainer = new_trainer(options, few, seed)
    values, samples = {}, np.empty(0)
    for when, steps in {"early": config["early"], "late": options["steps"]}.items():
        while trainer.step_count < steps:
            trainer.step()
        samples = trainer.sample(config["samples"], seed)
        values.update({f"{key}_{when}": x for key, x in distances(samples, *data).items()})
    return Outcome(values, {"images": samples[:SHOWN].astype(np.float32)})


def measure_data(config: Mapping[str, Any], seed: int) -> Outcome:
    """Return the same distances of real digits, drawn from those that GANs are trained on."""
    data = config["data"], config["split"]
    real = parts(*data)[0].sample(config["samples"], seed).values
    values = distances(real, *data)
    return Outcome(
        {f"{key}_{when}": x for key, x in values.items() for when in ("early", "late")},
        {"images": real[:SHOWN]},
    )


def distances(images: np.ndarray, name: str, part: str) -> dict[str, float]:
    """Return two distances of images to as many test digits."""
    _, _, test = parts(name, part)
    held_out, net = test.values[: len(images)], classifier(name, part)
    return {
        "sliced_wasserstein": sliced_wasserstein(images, held_out),
        "frechet": frechet_distance(net.features(images), net.features(held_out)),
    }


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: for its first seed, the first images of each case."""
    with figure(path, 3 * len(results), 3) as drawing:
        panels = drawing.subplots(1, len(results), squeeze=False)[0]
        for axes, result in zip(panels, results, strict=True):
            axes.imshow(tile(result.arrays[0]["images"]), cmap="gray", vmin=0, vmax=255)
            mean = np.mean(result.values["frechet_late"])
            axes.set(title=f"{result.name}\nFrechet distance {mean:.2f}")
            axes.set_axis_off()


_SAMPLES = 2000
_DATA = {"data": "mnist", "split": "test"}
_TRAINING: dict[str, Any] = {**GAN, "steps": 5000, "lr_g": 1e-3, "lr_d": 1e-3, "ema": 0.995}


def _case(n: int, augment: str) -> Case:
    training = Config(**_TRAINING, augment=augment).as_dict()
    config = {"digits": n, "training": training, "early": 1000, "samples": _SAMPLES}
    return Case(measure, config, seeds=3)


DIFFAUGMENT = Experiment(
    about="DiffAugment: GANs of 200 and 1000 digits, distances to held-out ones",
    source="",
    minutes=2,
    cases={
        "real digits": Case(measure_data, {**_DATA, "samples": _SAMPLES}, seeds=3),
        **{
            f"{n} digits, {policy}": _case(n, policy)
            for n in (200, 1000)
            for policy in ("none", "translation")
        },
    },
    measures={
        "sliced_wasserstein_early": Measure("sliced Wasserstein, step 1000", 3),
        "sliced_wasserstein_late": Measure("step 5000", 3),
        "frechet_early": Measure("Frechet of features, step 1000", 2),
        "frechet_late": Measure("step 5000 ", 2),
    },
    published={},
    draw=draw,
    caption="Samples of seed 0 after 5000 steps, and real digits.",
)
