"""Draw strips of images: before, after and the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..training.pictures import Pictures
from ..training.samples import picture_metadata
from ..training.trainer import DivergedError
from ..utils.grids import image_grid
from .tasks import TASKS
from .trainer import TranslationTrainer

ROWS, GROUPS = 8, 3  # of examples in a picture; GROUPS of columns beside each other


class TranslationPictures(Pictures):
    """The pictures of a training of images from images, in its run's folder."""

    trainer: TranslationTrainer  # type: ignore[assignment]

    def __init__(self, folder: Path, trainer: TranslationTrainer) -> None:
        super().__init__(folder, trainer)  # type: ignore[arg-type]
        self._inputs, self._truths, _ = trainer.examples(ROWS * GROUPS)

    def draw_samples(self) -> None:
        """Write a picture of fixed examples: inputs, what G makes of them, and the truths.

        Raises:
            DivergedError: an image is not finite.
        """
        trainer = self.trainer
        made = trainer.translate(self._inputs)
        if not np.isfinite(made).all():
            raise DivergedError(f"the images are not finite at step {trainer.step_count}")
        self.samples_path.parent.mkdir(exist_ok=True)
        metadata = picture_metadata(self.folder, trainer.step_count, trainer.config.seed)
        shown = [visible_input(self._inputs, trainer.config.task, made.shape[1]), made]
        names = ["input", "output"]
        if self._truths is not None:
            shown.append(self._truths)
            names.append("truth")
        write_strips(self.samples_path, shown, names, metadata)

    def draw_reals(self) -> None:
        """Do nothing: the examples have their truth beside them."""


def visible_input(inputs: np.ndarray, task: str, channels: int) -> np.ndarray:
    """Return inputs as images (n, C, H, W): without the mask; grey in colour where they have to."""
    added = TASKS[task].added
    images = inputs[:, :-added] if added else inputs
    return with_channels(images, channels)


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Return images with 1 or 3 channels: a grey one is repeated, colours are averaged."""
    if images.shape[1] == channels:
        return images
    grey = images.mean(axis=1, keepdims=True)
    return grey.repeat(channels, axis=1)


def write_strips(
    path: Path,
    columns: list[np.ndarray],
    names: list[str],
    metadata: dict[str, str] | None = None,
    groups: int = GROUPS,
) -> None:
    """Write a PNG of images in columns that belong together, several groups of them in a row.

    Args:
        path: the file to write.
        columns: arrays (n, C, H, W) in [-1, 1], such as inputs, results and truths.
        names: of the columns.
        metadata: texts that the PNG holds, by keyword.
        groups: the number of groups in a row.
    """
    n = len(columns[0])
    groups = min(groups, n)
    n -= n % groups
    images = np.stack([x[:n] for x in columns], axis=1).reshape(-1, *columns[0].shape[1:])
    image_grid(images, path, groups * len(columns), names * n, metadata)
