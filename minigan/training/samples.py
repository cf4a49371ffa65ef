"""Write a picture of generated or real samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..utils import figures
from ..utils.grids import font_for, grid_columns, image_grid
from ..utils.names import printable
from .sampler import Sampler


def save_picture(
    samples: np.ndarray,
    sampler: Sampler,
    path: Path,
    title: str = "",
    labels: np.ndarray | None = None,
    cycle: int = 1,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG of images as a grid, or of points beside up to as many real ones.

    Args:
        samples: images (n, C, H, W) in [-1, 1], or points (n, D).
        sampler: the source of the samples, which knows real points and the names of classes.
        path: the file to write.
        title: the title of a plot of points.
        labels: those of the images, whose classes are written above them; None: none.
        cycle: the number of labels that the images have in turn.
        metadata: texts that the PNG holds, by keyword.
    """
    if sampler.points is not None:
        figures.scatter(sampler.points[: len(samples)], samples, path, title, metadata)
        return
    captions = None if labels is None else sampler.captions(labels)
    if captions is not None and font_for(captions) is None:
        captions = [str(label) for label in np.asarray(labels)]
    n, _, height, width = samples.shape
    image_grid(samples, path, grid_columns(n, height, width, cycle), captions, metadata)


def picture_metadata(folder: Path, step: int | None, seed: int) -> dict[str, str]:
    """Return the texts that a picture of a run holds: the run's name, the step, and the seed.

    Args:
        folder: the run's folder.
        step: of the weights; None where the picture has none.
        seed: of the run, or of the latents of samples that were drawn from it later.
    """
    steps = {} if step is None else {"step": str(step)}
    name = printable(folder.resolve().name)
    return {"Software": "minigan", "run": name, **steps, "seed": str(seed)}
