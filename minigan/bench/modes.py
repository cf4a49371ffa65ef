"""`minigan bench modes`: how many modes of a mixture GANs cover, by method, over seeds.

The rows of a contest share nets, steps, batch, learning rates and all else, and differ in the
method alone. The published rows beside them are of other nets and of many more steps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from ..data import load
from ..gan.presets import NARROW_MODES, R3GAN
from ..metrics import mixture_quality
from ..seeds import map_seeds
from ..training.config import Config
from ..training.evaluate import Estimate
from ..training.trainer import Trainer
from .table import render

MEASURES = ("modes", "high_quality", "reverse_kl", "kl")


@dataclass(frozen=True)
class Contest:
    """Methods on a mixture of Gaussians.

    Args:
        data: a mixture that `minigan.data` makes. shared: options of all rows.
        rows: by the method's name, the options that make it.
        seeds: how many. samples: measured at a time, `draws` times for each seed.
        published: by name, the cells of rows found elsewhere, and `source`, where.
    """

    data: str
    shared: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, Any]]
    seeds: int = 10
    samples: int = 2500
    draws: int = 5
    published: Mapping[str, tuple[str, ...]] | None = None
    source: str = ""


METHODS: dict[str, dict[str, Any]] = {
    "non-saturating": {},
    "packing, 2": {"pack": 2},
    "minibatch discrimination": {"minibatch": "discrimination"},
    "wgan-gp": {"loss": "wasserstein", "penalty": "wgan-gp", "penalty_weight": 0.1},
    "r3gan": R3GAN,
}
_PACGAN = "Lin et al. 2018 (PacGAN): 400,000 steps, nets of 4 x 400 and 3 x 200 maxout units"
_MODERN = "Dive into Deep Learning, 20,000 steps, PyTorch, one seed; the nets are the same"
CONTESTS: dict[str, Contest] = {
    "ring": Contest(
        "ring",
        NARROW_MODES,
        METHODS,
        published={
            "GAN": ("6.3 +- 0.5", "98.2 +- 0.2", "0.45 +- 0.09", ""),
            "ALI": ("6.6 +- 0.3", "97.6 +- 0.4", "0.36 +- 0.04", ""),
            "PacGAN2": ("7.9 +- 0.1", "95.6 +- 2.0", "0.07 +- 0.03", ""),
            "PacGAN3": ("7.8 +- 0.1", "97.7 +- 0.3", "0.10 +- 0.02", ""),
        },
        source=_PACGAN,
    ),
    "grid": Contest(
        "grid",
        NARROW_MODES,
        METHODS,
        published={
            "GAN": ("17.3 +- 0.8", "94.8 +- 0.7", "0.70 +- 0.07", ""),
            "ALI": ("24.1 +- 0.4", "95.7 +- 0.6", "0.14 +- 0.03", ""),
            "PacGAN2": ("23.8 +- 0.7", "91.3 +- 0.8", "0.13 +- 0.04", ""),
            "PacGAN4": ("24.8 +- 0.2", "93.6 +- 0.6", "0.04 +- 0.01", ""),
        },
        source=_PACGAN,
    ),
    "25 Gaussians": Contest(
        "grid",
        {**NARROW_MODES, "model": "toy-wide", "steps": 20_000, "batch": 256},
        {"r3gan": {**R3GAN, "penalty_end": 5e-6, "penalty_steps": 10_000}},
        seeds=3,
        samples=10_000,
        draws=1,
        published={
            "GAN": ("21", "6", "0.91", "4.06"),
            "GAN, R1, R2": ("25", "10", "0.51", "3.78"),
            "RpGAN, R1, R2": ("25", "9", "0.48", "3.85"),
        },
        source=_MODERN,
    ),
}


def measure(contests: Mapping[str, Contest]) -> list[dict[str, Any]]:
    """Return a case for each row: its options, seconds, and each measure for each seed."""
    cases = []
    for name, contest in contests.items():
        for method, options in contest.rows.items():
            config = Config(data=contest.data, **{"holdout": 0.0, **contest.shared, **options})
            began = time.perf_counter()
            train = partial(_train_and_measure, config, contest.samples, contest.draws)
            qualities = map_seeds(train, range(contest.seeds), label=f"{name}, {method}")
            seconds = time.perf_counter() - began
            cases.append(
                {
                    "contest": name,
                    "method": method,
                    "config": config.as_dict(),
                    "seconds": seconds,
                    **{key: [quality[key] for quality in qualities] for key in MEASURES},
                }
            )
    return cases


def _train_and_measure(config: Config, samples: int, draws: int, seed: int) -> dict[str, float]:
    """Train one GAN on the data of seed 0; return the mean of each measure over the draws."""
    data = load(config.data)
    assert data.modes is not None
    assert data.sigma is not None
    trainer = Trainer(config.replace(seed=seed), data)
    for _ in range(config.steps):
        trainer.step()
    qualities = [
        asdict(mixture_quality(trainer.sample(samples, seed + k), data.modes, data.sigma))
        for k in range(draws)
    ]
    return {key: float(np.mean([quality[key] for quality in qualities])) for key in MEASURES}


def report(cases: Sequence[Mapping[str, Any]], contests: Mapping[str, Contest]) -> str:
    """A table for each contest, published rows below."""
    return "\n\n".join(_table(name, contest, cases) for name, contest in contests.items())


def _table(name: str, contest: Contest, cases: Sequence[Mapping[str, Any]]) -> str:
    mine = [case for case in cases if case["contest"] == name]
    heads = ["", "modes", "HQ %", "reverse KL", "KL with off-mode bin", "minutes"]
    rows = []
    for x in mine:
        minutes = f"{x['seconds'] / 60:.1f}"
        rows.append([x["method"], *(_cell(key, x[key]) for key in MEASURES), minutes])
    theirs = [[who, *row, ""] for who, row in (contest.published or {}).items()]
    options = mine[0]["config"]
    title = (
        f"modes: {name}, {options['steps']:,} steps of batch {options['batch']},"
        f" {contest.seeds} seeds; mean +- standard error over seeds\n"
        f"HQ: samples within 3 sigma of a mode (a real draw: 98.9 %), of {contest.samples:,},"
        f" {contest.draws} times; below the line {contest.source}"
    )
    return f"{title}\n\n{render(heads, [*rows, ['--'] + [''] * 5, *theirs])}"


def _cell(key: str, values: Sequence[float]) -> str:
    share = key == "high_quality"
    scaled = [100 * x for x in values] if share else list(values)
    estimate = Estimate.of(scaled)
    digits = {"modes": 2, "high_quality": 1}.get(key, 3)
    return f"{estimate.mean:.{digits}f} +- {estimate.error:.{digits}f}"
