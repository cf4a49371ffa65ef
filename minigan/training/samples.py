"""Write a picture of generated or real samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..utils import figures
from ..utils.grids import grid_columns, image_grid
from ..utils.names import printable


def save_picture(
    samples: np.ndarray,
    points: np.ndarray | None,
    path: Path,
    title: str = "",
    captions: Sequence[str] | None = None,
    cycle: int = 1,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG of images as a grid, or of points beside up to as many real ones.

    Args:
        samples: images (n, C, H, W) in [-1, 1], or points (n, D).
        points: real points; None for images.
        path: the file to write.
        title: the title of a plot of points.
        captions: the class of each image; None: none.
        cycle: the number of classes that the images have in turn.
        metadata: texts that the PNG holds, by keyword.
    """
    if points is None:
        n, _, height, width = samples.shape
        columns = grid_columns(n, height, width, cycle)
        image_grid(samples, path, columns, captions, metadata)
    else:
        figures.scatter(points[: len(samples)], samples, path, title, metadata)


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
