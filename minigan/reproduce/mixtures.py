"""Mixtures of Gaussians: how many modes a GAN covers, how sharply, and how evenly.

The rows of `ring` and of `grid` share networks, steps, batch, learning rates and all other options,
and differ only in the method. The published rows are of other networks and many more steps. The
rows of `grid-modern` have the networks, the batch and the number of steps of the published ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset, load
from ..gan.presets import NARROW_MODES, R3GAN
from ..metrics import mixture_quality
from ..training.config import Config
from ..training.trainer import Trainer
from ..utils.figures import DATA, GENERATOR, figure
from .experiment import Case, CaseResult, Experiment, Goal, Measure, Outcome

REAL = "data"  # the row of real samples: what no generator can be expected to exceed
METHODS: dict[str, dict[str, Any]] = {
    "non-saturating": {},
    "packing, 2": {"pack": 2},
    "wgan-gp": {"loss": "wasserstein", "penalty": "wgan-gp", "penalty_weight": 0.1},
    "r3gan": R3GAN,
}
MEASURES = {
    "modes": Measure("modes", 2),
    "high_quality": Measure("within 3 sigma, %", 1, 100),
    "reverse_kl": Measure("reverse KL", 3),
    "kl": Measure("KL with off-mode bin", 3),
}


# --------------------------------------------------------------------------------- what is measured
def train_and_measure(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a GAN on the points of seed 0; measure its samples.

    Args:
        config: "training", the options of a `Config`; "samples" of each of "draws" measurements,
            whose mean is returned.
        seed: of the weights, the batches and the noise.
    """
    options = Config.from_dict(dict(config["training"]))
    data = load(options.data)
    trainer = Trainer(options.replace(seed=seed), data)
    for _ in range(options.steps):
        trainer.step()
    draws = [trainer.sample(config["samples"], seed + k) for k in range(config["draws"])]
    return _quality(draws, data)


def measure_data(config: Mapping[str, Any], seed: int) -> Outcome:
    """Measure samples of the mixture itself, other ones than those that GANs are trained on."""
    data = load(config["data"])
    n, draws = config["samples"], config["draws"]
    fresh = load(config["data"], split="test", samples=n * draws, seed=seed)
    return _quality(np.split(fresh.values, draws), data)


def _quality(draws: Sequence[np.ndarray], data: Dataset) -> Outcome:
    """Return the mean of each measure over the draws, and the points of the first."""
    assert data.modes is not None
    assert data.sigma is not None
    qualities = [asdict(mixture_quality(points, data.modes, data.sigma)) for points in draws]
    values = {key: float(np.mean([quality[key] for quality in qualities])) for key in MEASURES}
    return Outcome(values, {"points": draws[0].astype(np.float32)})


# ------------------------------------------------------------------------------------------- figure
def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: the points of each case for its first seed."""
    limit = 1.3 * max(float(np.abs(result.arrays[0]["points"]).max()) for result in results[:1])
    with figure(path, 3 * len(results), 3.4) as drawing:
        panels = drawing.subplots(1, len(results), squeeze=False)[0]
        for axes, result in zip(panels, results, strict=True):
            colour = DATA if result.name == REAL else GENERATOR
            axes.scatter(*result.arrays[0]["points"].T, s=2, c=colour, lw=0, alpha=0.6)
            axes.set(title=result.name, aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
            axes.set(xticks=[], yticks=[])


# ------------------------------------------------------------------------------------------- tables
def _cases(
    shared: Mapping[str, Any],
    methods: Mapping[str, Mapping[str, Any]],
    goals: Mapping[str, Mapping[str, Goal]],
    samples: int,
    draws: int,
) -> dict[str, Case]:
    """Return a row of real data, and one for each method."""
    size = {"samples": samples, "draws": draws}
    cases = {REAL: Case(measure_data, {"data": shared["data"], **size})}
    for name, options in methods.items():
        training = Config(**{"holdout": 0.0, **shared, **options}).as_dict()
        config = {"training": training, **size}
        cases[name] = Case(train_and_measure, config, goals.get(name, {}))
    return cases


def _goals(modes: int, high_quality: float, reverse_kl: float) -> dict[str, Goal]:
    return {
        "modes": Goal(low=modes),
        "high_quality": Goal(low=high_quality),
        "reverse_kl": Goal(high=reverse_kl),
    }


def _published(rows: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """Return the cells of published rows by the name of the measure."""
    return {name: dict(zip(MEASURES, cells, strict=False)) for name, cells in rows.items()}


_PACGAN = (
    "Lin et al. 2018 (PacGAN), table 1: 400,000 steps of batch 100, networks of 4 x 400 units and"
    " of 3 x 200 maxout units; ± is the standard error over ten trials"
)
_DIVE = "Dive into Deep Learning, PyTorch, one seed: the same networks, batch and 20,000 steps"
_CAPTION = "Points of seed 0."
_EVEN = "r3gan, decaying latents"

RING = Experiment(
    about="8 narrow Gaussians on a ring (Lin et al. 2018, table 1)",
    source=_PACGAN,
    minutes=15,
    cases=_cases(
        {"data": "ring", **NARROW_MODES},
        {**METHODS, "r3gan": {**R3GAN, "penalty_end": 2e-6}},
        {"r3gan": _goals(8, 0.98, 0.02)},
        samples=2500,
        draws=5,
    ),
    measures={key: MEASURES[key] for key in ("modes", "high_quality", "reverse_kl")},
    published=_published(
        {
            "GAN": ("6.3 ± 0.5", "98.2 ± 0.2", "0.45 ± 0.09"),
            "ALI": ("6.6 ± 0.3", "97.6 ± 0.4", "0.36 ± 0.04"),
            "PacGAN2": ("7.9 ± 0.1", "95.6 ± 2.0", "0.07 ± 0.03"),
            "PacGAN3": ("7.8 ± 0.1", "97.7 ± 0.3", "0.10 ± 0.02"),
            "PacGAN4": ("7.8 ± 0.1", "95.9 ± 1.4", "0.07 ± 0.02"),
        }
    ),
    draw=draw,
    caption=_CAPTION,
)
GRID = Experiment(
    about="25 narrow Gaussians on a grid (Lin et al. 2018, table 1)",
    source=_PACGAN,
    minutes=16,
    cases=_cases(
        {"data": "grid", **NARROW_MODES},
        METHODS,
        {"r3gan": _goals(25, 0.96, 0.02)},
        samples=2500,
        draws=5,
    ),
    measures={key: MEASURES[key] for key in ("modes", "high_quality", "reverse_kl")},
    published=_published(
        {
            "GAN": ("17.3 ± 0.8", "94.8 ± 0.7", "0.70 ± 0.07"),
            "ALI": ("24.1 ± 0.4", "95.7 ± 0.6", "0.14 ± 0.03"),
            "PacGAN2": ("23.8 ± 0.7", "91.3 ± 0.8", "0.13 ± 0.04"),
            "PacGAN3": ("24.6 ± 0.4", "94.2 ± 0.4", "0.06 ± 0.02"),
            "PacGAN4": ("24.8 ± 0.2", "93.6 ± 0.6", "0.04 ± 0.01"),
        }
    ),
    draw=draw,
    caption=_CAPTION,
)
GRID_MODERN = Experiment(
    about="the same 25 Gaussians in 20,000 steps, with the networks of Dive into Deep Learning",
    source=_DIVE,
    minutes=19,
    cases=_cases(
        {
            "data": "grid",
            **NARROW_MODES,
            "model": "toy-wide",
            "steps": 20_000,
            "batch": 256,
            # README.md beside this module says why these are not the rates of the other mixtures.
            "lr_g": 6e-3,
            "lr_d": 3e-3,
        },
        {_EVEN: {**R3GAN, "penalty_end": 2e-4, "latent": "decaying"}},
        {
            _EVEN: {
                "modes": Goal(low=25),
                "high_quality": Goal(low=0.93),
                "kl": Goal(high=0.05),
            }
        },
        samples=10_000,
        draws=1,
    ),
    measures=MEASURES,
    published=_published(
        {
            "GAN": ("21", "6", "0.91", "4.06"),
            "GAN, R1, R2": ("25", "10", "0.51", "3.78"),
            "RpGAN, R1, R2": ("25", "9", "0.48", "3.85"),
        }
    ),
    draw=draw,
    caption=_CAPTION,
)
