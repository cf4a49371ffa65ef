"""Draw the pictures of a run: samples, training images in the same layout, and curves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset
from ..utils import figures
from .run_folder import LOSSES, REALS, SAMPLES
from .samples import picture_metadata, save_picture
from .trainer import DivergedError, Trainer

SHARE = 20  # The losses are drawn again after this many times the seconds of the last drawing.


class Pictures:
    """The pictures of a training, in its run's folder. None of them changes its bits."""

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        self.folder, self.trainer = folder, trainer
        self._losses_end, self._losses_seconds = time.monotonic(), 0.0

    @property
    def samples_path(self) -> Path:
        """The path of the picture of the current step."""
        return self.folder / SAMPLES / f"step_{self.trainer.step_count:06d}.png"

    def draw_samples(self) -> None:
        """Write a picture of the samples that the generator makes from the fixed latents.

        Raises:
            DivergedError: the samples are not finite.
        """
        trainer = self.trainer
        self.samples_path.parent.mkdir(exist_ok=True)
        samples = trainer.generate(trainer.fixed_latent)
        if not np.isfinite(samples).all():
            raise DivergedError(f"the samples are not finite at step {trainer.step_count}")
        self._save(samples, self.samples_path, f"step {trainer.step_count}", trainer.step_count)

    def draw_reals(self) -> None:
        """Write a picture of training images in the layout of the samples, unless it is there."""
        trainer, path = self.trainer, self.folder / REALS
        if trainer.data.is_image and not path.exists():
            count = trainer.sampler.shown_images
            turns = trainer.sampler.turns(count)
            self._save(real_images(trainer.data, count, turns, trainer.config.seed), path)

    def _save(
        self, samples: np.ndarray, path: Path, title: str = "", step: int | None = None
    ) -> None:
        sampler = self.trainer.sampler
        turns = sampler.turns(len(samples))
        metadata = picture_metadata(self.folder, step, self.trainer.config.seed)
        save_picture(samples, sampler, path, title, turns, sampler.cycle, metadata)

    def draw_losses(self, rows: Sequence[dict[str, Any]], distance: str | None, last: bool) -> None:
        """Write the curves of the losses, and of the measured distance of that name.

        Before the end of the training they are drawn again only where that takes less than a
        twentieth of its time.
        """
        begin = time.monotonic()
        if not rows or (not last and begin - self._losses_end < SHARE * self._losses_seconds):
            return
        players, step = self.trainer.players, self.trainer.step_count
        metadata = picture_metadata(self.folder, step, self.trainer.config.seed)
        path = self.folder / LOSSES
        figures.loss_curves(rows, players.levels, players.unit, path, distance, metadata)
        self._losses_end = time.monotonic()
        self._losses_seconds = self._losses_end - begin


def real_images(data: Dataset, count: int, turns: np.ndarray | None, seed: int) -> np.ndarray:
    """Return images of the data, drawn by a seed, each with the label that is given for it.

    Args:
        data: the data.
        count: the number of images; of a smaller data set all are returned.
        turns: the labels; None: images of any label. An image of a class that has fewer is
            returned again; one of a class that has none is black.
        seed: of the draw, which has a generator of its own.
    """
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(data))
    if turns is None:
        return data.subset(order[:count]).values
    assert data.labels is not None
    images = np.full((len(turns), *data.sample_shape), -1, np.float32)
    labels = data.labels[order]
    for label in np.unique(turns):
        cells, rows = np.flatnonzero(turns == label), order[labels == label]
        if len(rows):
            images[cells] = data.subset(np.resize(rows, len(cells))).values
    return images
