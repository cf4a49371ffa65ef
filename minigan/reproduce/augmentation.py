"""Does augmentation by a GAN help? A classifier of digits, with few labelled ones to learn from.

The classifier is trained four times on the same n digits: alone, with shifts of its batches, with
samples of a class-conditional GAN that was trained on digits too, and with both. It is tested on
digits that neither saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset
from ..engine.tensor import Tensor
from ..gan.augment import shift
from ..metrics import classify, train_classifier
from ..training.config import Config
from ..training.trainer import Trainer
from ..utils.figures import BLUE, GREEN, GREY, figure, tile
from .experiment import Case, CaseResult, Experiment, Measure, Outcome
from .stacked import DIGITS, digits

SHOWN = 20  # samples in the figure, per case: two of each digit
VALIDATION = 0.125  # of the digits that are not tested on: only options were chosen on them


def measure(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a GAN and a classifier on few digits; return accuracies on held-out ones.

    Args:
        config: "labelled", the number of digits that the classifier has; "gan_digits", of those
            that the GAN has, of which the classifier's are a part; "training", the GAN's options;
            "samples", how many it makes; "share" of them in a batch; "pixels", the largest shift;
            "steps" of the classifier.
        seed: of the choice of digits, of the GAN, and of the classifier.
    """
    pool, _, test = parts(config["data"], config["split"])
    known = pool.subset(choose_digits(pool, config["gan_digits"], seed))
    few = pool.subset(choose_digits(pool, config["labelled"], seed))
    generated, asked = sample_gan(config["training"], known, config["samples"], seed)

    def shifted(x: Tensor) -> Tensor:
        return shift(x, config["pixels"], fill=-1.0)

    def accuracy(net: Any) -> float:
        return float((classify(net, test.values) == test.labels).mean())

    def train(**options: Any) -> Any:
        assert few.labels is not None
        return train_classifier(few.values, few.labels, DIGITS, config["steps"], seed, **options)

    with_shifts = train(augment=shifted)
    more = {"more": (generated, asked), "share": config["share"]}
    values = {
        "alone": accuracy(train()),
        "shifts": accuracy(with_shifts),
        "samples": accuracy(train(**more)),
        "both": accuracy(train(augment=shifted, **more)),
        "agreement": float((classify(with_shifts, generated) == asked).mean()),
    }
    values["samples - alone"] = values["samples"] - values["alone"]
    values["both - shifts"] = values["both"] - values["shifts"]
    images = generated[np.argsort(asked, kind="stable")]
    shown = images[:: len(images) // SHOWN][:SHOWN].astype(np.float32)
    return Outcome(values, {"images": shown})


def parts(name: str, part: str) -> tuple[Dataset, Dataset, Dataset]:
    """Return digits of 14 x 14 pixels to train with, to choose options on, and to test on."""
    rest, test = digits(name, part)
    return (*rest.holdout(VALIDATION, 0), test)


def choose_digits(data: Dataset, n: int, seed: int) -> np.ndarray:
    """Return the rows of n digits drawn by the seed, n / 10 of each class.

    Those of a smaller n are among those of a larger one.
    """
    assert data.labels is not None
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = [rng.permutation(np.flatnonzero(data.labels == digit)) for digit in range(DIGITS)]
    return np.concatenate([rows[: n // DIGITS] for rows in drawn])


def new_trainer(training: Mapping[str, Any], data: Dataset, seed: int) -> Trainer:
    """Return the training of a GAN on the data with options of a `Config`."""
    return Trainer(Config.from_dict(dict(training)).replace(seed=seed), data)


def sample_gan(
    training: Mapping[str, Any], data: Dataset, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return n samples of a GAN trained on the data, and the labels they were asked for."""
    trainer, labels = new_trainer(training, data, seed), np.arange(n) % DIGITS
    for _ in range(training["steps"]):
        trainer.step()
    return trainer.sample(n, seed, labels), labels


# ------------------------------------------------------------------------------------------- figure
DIFFERENCES = {"samples - alone": BLUE, "both - shifts": GREEN}


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: for each case the differences of all seeds, and samples of the first seed."""
    with figure(path, 11, 1.15 * len(results) + 0.6) as drawing:
        grid = drawing.subplots(len(results), 2, squeeze=False, width_ratios=(1.2, 1))
        gained = [100 * x for r in results for name in DIFFERENCES for x in r.values[name]]
        limits = min(gained) - 1, max(gained) + 1
        for (left, right), result in zip(grid, results, strict=True):
            for y, (name, colour) in enumerate(DIFFERENCES.items()):
                values = 100 * np.array(result.values[name])
                left.plot(values, np.full(len(values), -y), ".", color=colour, alpha=0.5)
                left.plot([values.mean()], [-y], "|", color=colour, ms=22, mew=3, label=name)
            left.axvline(0, color=GREY, lw=1)
            left.set(xlim=limits, ylim=(-1.6, 0.6), yticks=[])
            left.set_ylabel(result.name.replace(", n", ",\nn"), rotation=0, ha="right", va="center")
            left.tick_params(labelbottom=result is results[-1])
            right.imshow(tile(result.arrays[0]["images"], 10), cmap="gray", vmin=0, vmax=255)
            right.set_axis_off()
        grid[0, 0].legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
        grid[0, 1].set_title("samples")
        grid[-1, 0].set_xlabel("points of accuracy gained by samples")


# ------------------------------------------------------------------------------------------- table
_DATA = {"data": "mnist", "split": "test"}
GAN: dict[str, Any] = {**_DATA, "holdout": 0.0, "model": "mlp", "condition": "concat", "batch": 32}
PLAIN = Config(**GAN, steps=2000).as_dict()  # as in the tutorials
# R3GAN's loss and penalties keep D smooth, so that it cannot learn a few digits by heart.
_SMOOTH: dict[str, Any] = {
    **GAN,
    "steps": 1500,
    "loss": "relativistic",
    "penalty": "r1+r2",
    "penalty_weight": 0.5,
    "lr_g": 1e-3,
    "lr_d": 1e-3,
    "beta1": 0.0,
    "beta2": 0.99,
    "ema": 0.995,
}
SMOOTH = Config(**_SMOOTH).as_dict()
SMOOTH_PROJECTION = Config(**{**_SMOOTH, "condition": "projection"}).as_dict()


def _case(n: int, training: Mapping[str, Any], share: float, gan_digits: int | None = None) -> Case:
    config = {
        **_DATA,
        "labelled": n,
        "gan_digits": gan_digits or n,
        "training": training,
        "samples": 4000,
        "share": share,
        "pixels": 1,
        "steps": 300,
    }
    return Case(measure, config)


AUGMENTATION = Experiment(
    about="does augmentation by a GAN help? A classifier of digits with and without its samples",
    source="",
    minutes=13,
    cases={
        **{f"plain GAN, n = {n}": _case(n, PLAIN, 0.5) for n in (50, 200, 1000)},
        # Chosen for each n, as README.md says.
        "smooth GAN, n = 50": _case(50, SMOOTH, 0.5),
        **{f"smooth GAN, n = {n}": _case(n, SMOOTH_PROJECTION, 0.1) for n in (200, 1000)},
        "control: GAN of 5000, n = 50": _case(50, SMOOTH, 0.5, gan_digits=5000),
    },
    measures={
        "alone": Measure("alone, %", 1, 100),
        "samples": Measure("with samples, %", 1, 100),
        "shifts": Measure("with shifts, %", 1, 100),
        "both": Measure("with both, %", 1, 100),
        "samples - alone": Measure("samples - alone", 1, 100),
        "both - shifts": Measure("both - shifts", 1, 100),
        "agreement": Measure("labels confirmed, %", 0, 100),
    },
    published={},
    draw=draw,
    caption=(
        "Left: points of accuracy that a seed gains by samples (dots; bars: means). Right: samples"
        " of seed 0."
    ),
)
