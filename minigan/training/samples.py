"""Write a picture of generated samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..utils import figures


def save_picture(
    samples: np.ndarray, points: np.ndarray | None, path: Path, title: str = "", columns: int = 8
) -> None:
    """Write a PNG of generated images as a grid, or of points beside up to as many real ones.

    Args:
        samples: images (n, C, H, W) in [-1, 1], or points (n, D).
        points: real points; None for images.
        path: the file to write.
        title: the title of a plot of points.
        columns: the number of images in a row.
    """
    if points is None:
        figures.image_grid(samples, path, columns)
    else:
        figures.scatter(points[: len(samples)], samples, path, title)
