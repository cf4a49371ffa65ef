"""Draw from the checkpoint of a run what a report shows of its generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import random
from ..engine.device import use_device
from ..engine.tensor import tensor
from ..training.config import Config
from ..training.load_sampler import load_sampler
from ..training.resume import Code, read_run
from ..training.sampler import Sampler
from ..utils.code_files import is_code
from .pictures import Picture, encode_grid

ROWS, COLUMNS = 5, 9  # walks, and steps of each
MAX_ROWS = 10  # of a conditional generator: a class each
POINT_STEPS = 65  # of the walk of a generator of points
SHOWN_POINTS = 400  # real ones, beside a walk
PICTURE_BYTES = 300_000  # of a walk, at most
DEVICE = "cpu"  # whichever device trained it: a report is written on another machine, too
SEED = 0
ERRORS = (ValueError, TypeError, OSError, RuntimeError, MemoryError, ArithmeticError)


@dataclass
class Walk:
    """Samples on the way between random latents.

    Attributes:
        picture: a row of images for each walk; None for points.
        paths: (walks, steps, D) points; None for images.
        reals: (n, D) real points beside them.
        rows: the class of each row; () without labels.
    """

    picture: Picture | None = None
    paths: np.ndarray | None = None
    reals: np.ndarray | None = None
    rows: Sequence[str] = ()


@dataclass
class Trained:
    """What the checkpoint of a run says.

    Attributes:
        config: the options, without open ones.
        step: the step of the checkpoint.
        sampler: the generator.
        data: the digest of the data, their shape and classes; {} in an older version's checkpoint.
        levels: the values of the losses at equilibrium, by name; None where they have none.
        unit: the unit of the losses.
        sizes: the numbers of parameters of G and of D.
    """

    config: Config
    step: int
    sampler: Sampler
    data: Mapping[str, Any]
    levels: Mapping[str, float | None] = field(default_factory=dict)
    unit: str = "the loss's own unit"
    sizes: tuple[int, int] = (0, 0)


def read_trained(folder: Path, code: Code | None = None) -> Trained:
    """Return what the checkpoint of a run says.

    Args:
        folder: the run's folder.
        code: the run's own code that the user names, by option.

    Raises:
        ValueError, OSError, RuntimeError: there is no checkpoint, or it cannot be used; `ERRORS`
            has all.
    """
    sampler = load_sampler(folder, code=code, device=DEVICE)
    config, (_, info) = read_run(folder)
    players = sampler.players
    nets = (players.generator, players.discriminator)
    sizes = tuple(sum(p.size for p in net.parameters()) for net in nets)
    trained = Trained(config, info["step"], sampler, info.get("data", {}))
    trained.sizes = (sizes[0], sizes[1])
    if not is_code(config.loss):  # whose place a loss of the library takes
        trained.levels, trained.unit = players.levels, players.unit
    return trained


def latent_walk(sampler: Sampler) -> Walk:
    """Return samples at equal steps between random latents, for each row two others.

    The rows of a conditional generator have a class each.
    """
    if sampler.points is not None:
        latents = interpolate(_latents(sampler, ROWS), POINT_STEPS)
        labels = _row_labels(sampler, ROWS, POINT_STEPS)
        points = _generate(sampler, latents, labels).reshape(ROWS, POINT_STEPS, -1)
        return Walk(paths=points, reals=sampler.points[:SHOWN_POINTS])
    rows = min(sampler.classes, MAX_ROWS) if sampler.is_conditional else ROWS
    latents = interpolate(_latents(sampler, rows), COLUMNS)
    labels = _row_labels(sampler, rows, COLUMNS)
    images = _generate(sampler, latents, labels)
    names = () if labels is None else sampler.captions(labels[::COLUMNS])
    return Walk(encode_grid(images, COLUMNS, PICTURE_BYTES), rows=names)


def interpolate(ends: np.ndarray, steps: int) -> np.ndarray:
    """Return the latents of walks (walks * steps, n) between pairs of ends (walks, 2, n).

    The interpolation is spherical (White 2016): the norm of a normal latent hardly varies, and a
    straight line would pass through norms that the generator was not trained on.
    """
    a, b = ends[:, None, 0].astype(float), ends[:, None, 1].astype(float)
    t = np.linspace(0, 1, steps)[:, None]
    norms = np.linalg.norm(a, axis=-1, keepdims=True) * np.linalg.norm(b, axis=-1, keepdims=True)
    cosine = (a * b).sum(-1, keepdims=True) / np.maximum(norms, 1e-12)
    angle = np.arccos(np.clip(cosine, -1 + 1e-6, 1 - 1e-6))
    walks = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return walks.reshape(-1, ends.shape[-1]).astype(np.float32)


def _latents(sampler: Sampler, rows: int) -> np.ndarray:
    """Return random latents (rows, 2, n)."""
    with random.use_generator(random.Generator(SEED)), use_device(sampler.players.device):
        return sampler.players.latent(2 * rows, "samples").numpy().reshape(rows, 2, -1)


def _row_labels(sampler: Sampler, rows: int, columns: int) -> np.ndarray | None:
    if not sampler.is_conditional:
        return None
    return (np.arange(rows) % sampler.classes).repeat(columns)


def _generate(sampler: Sampler, latents: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    return sampler.generate(tensor(latents, device=sampler.players.device), labels)
