"""Measure a run against fresh samples of its data, which neither net was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...data import Dataset, load
from ...evaluation.labels import rows_with_labels
from ...metrics import mixture_quality, sliced_wasserstein
from ...training.saved_run import SavedRun, load_run

POINTS, IMAGES = 2000, 500  # samples of a measurement
PROJECTIONS = 128
MORE = 2  # times as many real samples, of which those with the labels asked for are taken


class Measure(NamedTuple):
    """A function of generated samples, their labels and real samples, and whether high is good."""

    compute: Callable[[np.ndarray, np.ndarray, Dataset], float]
    is_better_high: bool


def relative_distance(samples: np.ndarray, labels: np.ndarray, real: Dataset) -> float:
    """Return the sliced Wasserstein distance, divided by the data's standard deviation."""
    scale = float(np.sqrt(real.values.var(axis=0, dtype=np.float64).mean()))
    return sliced_wasserstein(samples, real.values, PROJECTIONS) / scale


def covered_modes(samples: np.ndarray, labels: np.ndarray, real: Dataset) -> float:
    """Return the number of modes with a sample within 3 sigma."""
    assert real.modes is not None
    assert real.sigma is not None
    return float(mixture_quality(samples, real.modes, real.sigma).modes)


def label_agreement(samples: np.ndarray, labels: np.ndarray, real: Dataset) -> float:
    """Return the share of samples whose nearest mode is the one of the label asked for."""
    assert real.modes is not None
    squared = ((samples[:, None, :] - real.modes[None, :, :]) ** 2).sum(axis=2)
    return float((squared.argmin(axis=1) == labels).mean())


MEASURES: dict[str, Measure] = {
    "distance": Measure(relative_distance, is_better_high=False),
    "modes": Measure(covered_modes, is_better_high=True),
    "label agreement": Measure(label_agreement, is_better_high=True),
}


def measure_run(folder: Path, name: str) -> tuple[float, float]:
    """Return a measure of a run's samples, and the same of real samples: its floor.

    Those of a conditional run have the labels of the generated samples.

    The generator is that of the last checkpoint: where a training diverged, the last good one.
    """
    run = load_run(folder)
    is_conditional = run.config.condition != "none"
    real, others = _fresh(run, 1), _fresh(run, 2, MORE if is_conditional else 1)
    labels = real.labels
    asked = labels if is_conditional else None
    if is_conditional:
        assert labels is not None
        assert others.labels is not None
        others = others.subset(rows_with_labels(others.labels, labels))
    samples = run.sample(len(real), labels=asked)
    compute = MEASURES[name].compute
    ours = np.zeros(len(real), np.int64) if labels is None else labels
    theirs = np.zeros(len(others), np.int64) if others.labels is None else others.labels
    return compute(samples, ours, real), compute(others.values, theirs, real)


def _fresh(run: SavedRun, seed: int, times: int = 1) -> Dataset:
    """Return samples, so many times the usual number, of a run's test data, drawn by a seed."""
    n = POINTS if len(run.sampler.shape) == 1 else IMAGES
    return load(run.config.data, split="test", samples=times * n, seed=seed)
