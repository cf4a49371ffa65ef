"""Draw from the checkpoint of a run what a report shows of its generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..training.best import BestStep, read_best
from ..training.config import Config
from ..training.load_sampler import load_sampler
from ..training.resume import Code, read_run
from ..training.run_folder import BEST
from ..training.sampler import Sampler
from ..utils.code_files import is_code
from .pictures import Picture, encode_grid

ROWS, FRAMES = 5, 9  # walks, and samples of each
MAX_ROWS = 10  # of a conditional generator: a class each
POINT_FRAMES = 65  # of the walk of a generator of points
SHOWN_POINTS = 400  # real ones, beside a walk
PICTURE_BYTES = 300_000  # of a walk, at most
DEVICE = "cpu"  # whichever device trained it: a report is written on another machine, too
SEED = 0
# What a folder that is incomplete, or was edited by hand, can raise.
ERRORS = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError),
    *(TypeError, ValueError),
)


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
        best: the step that the run keeps as its best; None where it keeps none.
    """

    config: Config
    step: int
    sampler: Sampler
    data: Mapping[str, Any]
    levels: Mapping[str, float | None] = field(default_factory=dict)
    unit: str = "the loss's own unit"
    sizes: tuple[int, int] = (0, 0)
    best: BestStep | None = None


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
    if (folder / BEST).exists():
        trained.best = read_best(folder / BEST)
    return trained


def latent_walk(sampler: Sampler) -> Walk:
    """Return samples between random latents; the rows of a conditional run have a class each."""
    if sampler.points is not None:
        paths = sampler.walk(ROWS, POINT_FRAMES, SEED)
        return Walk(paths=paths, reals=sampler.points[:SHOWN_POINTS])
    rows = min(sampler.classes, MAX_ROWS) if sampler.is_conditional else ROWS
    images = sampler.walk(rows, FRAMES, SEED).reshape(rows * FRAMES, *sampler.shape)
    labels = sampler.turns(rows)
    names = () if labels is None else sampler.captions(labels)
    return Walk(encode_grid(images, FRAMES, PICTURE_BYTES), rows=names)
