"""`minigan bench modes`: the number of modes of a mixture that each GAN method covers, over seeds.

The rows of a comparison share networks, steps, batch, learning rates and all other options, and
differ only in the method. The published rows below them are of other networks and many more steps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from ..data import load
from ..evaluation.estimate import Estimate
from ..gan.presets import NARROW_MODES, R3GAN
from ..metrics import mixture_quality
from ..seeds import map_seeds
from ..training.config import Config
from ..training.trainer import Trainer
from .table import format_table

MEASURES = ("modes", "high_quality", "reverse_kl", "kl")


@dataclass(frozen=True)
class Comparison:
    """Methods that are compared on a mixture of Gaussians.

    Args:
        data: the name of a mixture in `minigan.data`. shared: options of all rows.
        methods: by name, the options of each method.
        seeds: number of seeds. samples: number of samples per measurement.
        draws: number of measurements per seed.
        published: by name, the cells of rows from the paper `source`.
    """

    data: str
    shared: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
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
_PACGAN = "Lin et al. 2018 (PacGAN): 400,000 steps, networks of 4 x 400 and 3 x 200 maxout units"
_DIVE = "Dive into Deep Learning, 20,000 steps, PyTorch, one seed; the networks are the same"
COMPARISONS: dict[str, Comparison] = {
    "ring": Comparison(
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
    "grid": Comparison(
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
    "25 Gaussians": Comparison(
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
        source=_DIVE,
    ),
}


def measure(comparisons: Mapping[str, Comparison]) -> list[dict[str, Any]]:
    """Return a case for each row: its options, seconds, and each measure for each seed."""
    cases = []
    for name, comparison in comparisons.items():
        for method, options in comparison.methods.items():
            config = Config(
                data=comparison.data, **{"holdout": 0.0, **comparison.shared, **options}
            )
            start = time.perf_counter()
            train = partial(_train_and_measure, config, comparison.samples, comparison.draws)
            qualities = map_seeds(train, range(comparison.seeds), label=f"{name}, {method}")
            seconds = time.perf_counter() - start
            cases.append(
                {
                    "comparison": name,
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


def report(cases: Sequence[Mapping[str, Any]], comparisons: Mapping[str, Comparison]) -> str:
    """Return a table for each comparison, with the published rows below."""
    return "\n\n".join(_table(name, comparison, cases) for name, comparison in comparisons.items())


def _table(name: str, comparison: Comparison, cases: Sequence[Mapping[str, Any]]) -> str:
    own = [case for case in cases if case["comparison"] == name]
    heads = ["", "modes", "HQ %", "reverse KL", "KL with off-mode bin", "minutes"]
    rows = []
    for case in own:
        minutes = f"{case['seconds'] / 60:.1f}"
        rows.append([case["method"], *(_cell(key, case[key]) for key in MEASURES), minutes])
    published = [[method, *row, ""] for method, row in (comparison.published or {}).items()]
    options = own[0]["config"]
    title = (
        f"modes: {name}, {options['steps']:,} steps of batch {options['batch']},"
        f" {comparison.seeds} seeds; mean +- standard error over seeds\n"
        f"HQ: samples within 3 sigma of a mode (of the mixture itself: 98.9 %), of"
        f" {comparison.samples:,}, {comparison.draws} times; below the line {comparison.source}"
    )
    return f"{title}\n\n{format_table(heads, [*rows, ['--'] + [''] * 5, *published])}"


def _cell(key: str, values: Sequence[float]) -> str:
    is_percent = key == "high_quality"
    estimate = Estimate.of([100 * x for x in values] if is_percent else list(values))
    digits = {"modes": 2, "high_quality": 1}.get(key, 3)
    return f"{estimate.mean:.{digits}f} +- {estimate.error:.{digits}f}"
