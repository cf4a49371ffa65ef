"""Find the training samples that are nearest to generated ones, which shows what is copied."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data import Dataset
from ..metrics import nearest_distances
from ..training.resume import Code, load_trainer
from ..training.trainer import Trainer
from .pictures import Picture, encode_grid
from .trained import DEVICE, SEED

SHOWN, COUNTED = 12, 128  # generated samples that are shown, and those behind the medians
MAX_PRODUCTS = 2e11  # multiplications of the search: more training samples than that are drawn from
BLOCK_NUMBERS = 1 << 22  # of training samples that are converted at a time
PICTURE_BYTES = 20_000  # of a pair, at most


@dataclass
class Nearest:
    """Distances to the nearest training sample: root mean squares over the numbers of a sample.

    Attributes:
        pairs: pictures of a generated image above its nearest training image, and their distance.
        generated: the median distance of generated samples.
        held_out: that of as many real samples that were held out; None where there are none.
        searched, total: how many training samples were compared, and how many there are.
    """

    pairs: list[tuple[Picture, float]]
    generated: float
    held_out: float | None
    searched: int
    total: int


def load_data(
    folder: Path, data: str | None = None, data_dir: str | None = None, code: Code | None = None
) -> Trainer:
    """Return the trainer of a run, with its data; the errors are those of `load_trainer`."""
    return load_trainer(
        folder, progress=True, data=data, data_dir=data_dir, code=code, device=DEVICE
    )


def find_nearest(trainer: Trainer) -> Nearest:
    """Return generated samples with the nearest training samples, and typical distances."""
    train, held_out = trainer.data, trainer.held_out
    fake = trainer.sample(COUNTED, SEED)
    # Data are often in the order of their classes, so the first ones would not stand for all.
    order = np.random.Generator(np.random.Philox(SEED)).permutation(len(held_out))
    real = held_out.subset(order[:COUNTED]).values
    queries = np.concatenate([fake, real]).reshape(len(fake) + len(real), -1)
    rows = _rows_to_search(train, len(queries))
    distances, indices = _search(queries, train, rows)
    pairs = []
    if train.is_image:
        for i in range(SHOWN):
            both = np.concatenate([fake[i : i + 1], train.rows(indices[i : i + 1])])
            pairs.append((encode_grid(both, 1, PICTURE_BYTES), float(distances[i])))
    return Nearest(
        pairs,
        float(np.median(distances[: len(fake)])),
        float(np.median(distances[len(fake) :])) if len(real) else None,
        len(rows),
        len(train),
    )


def _rows_to_search(train: Dataset, queries: int) -> np.ndarray:
    """Return the rows of all training samples, or of as many as can be searched in seconds."""
    size = math.prod(train.sample_shape)
    most = max(1, int(MAX_PRODUCTS / (queries * size)))
    if len(train) <= most:
        return np.arange(len(train))
    return np.sort(np.random.default_rng(SEED).permutation(len(train))[:most])


def _search(x: np.ndarray, train: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each sample to the nearest of these rows, and that row."""
    best = np.full(len(x), np.inf)
    nearest = np.zeros(len(x), np.int64)
    block = max(1, BLOCK_NUMBERS // x.shape[1])
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        distances, indices = nearest_distances(x, train.rows(part))
        is_nearer = distances[:, 0] < best
        best[is_nearer] = distances[is_nearer, 0]
        nearest[is_nearer] = part[indices[is_nearer, 0]]
    return best / math.sqrt(x.shape[1]), nearest
