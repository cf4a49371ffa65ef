"""Draw walks between latents: a grid with a row for each, and a GIF that goes there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..utils.animation import evenly, shrink, write_gif
from ..utils.grids import draw_grid, font_for, grid_columns, write_png
from ..utils.walk_figures import walk_curves, walk_frames
from .sampler import Sampler

TITLE = "walks between latents, from ○ to ●"
MILLISECONDS = 80  # of a frame


def save_walk_picture(
    walks: np.ndarray,
    sampler: Sampler,
    path: Path,
    columns: int,
    labels: np.ndarray | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG of walks: a row of images for each, or curves of points over the real ones.

    Args:
        walks: (n, frames, C, H, W) or (n, frames, D), as `Sampler.walk` returns them.
        sampler: their source, which knows real points and the names of classes.
        path: the file to write.
        columns: the most images in a row, evenly chosen with both ends.
        labels: (n,) of the walks; None where they have none.
        metadata: texts that the PNG holds, by keyword.
    """
    if sampler.points is not None:
        walk_curves(sampler.points, walks, path, TITLE, metadata)
        return
    chosen = walks[:, evenly(walks.shape[1], columns)]
    columns = chosen.shape[1]
    captions = None
    if labels is not None:  # above the first image of a row, as all of it are of one class
        captions = [x for name in _names(sampler, labels) for x in (name, *[""] * (columns - 1))]
    images = chosen.reshape(-1, *chosen.shape[2:])
    write_png(draw_grid(images, columns, captions), path, metadata)


def save_walk_gif(
    walks: np.ndarray,
    sampler: Sampler,
    path: Path,
    labels: np.ndarray | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write an endless GIF of walks, there and back; the arguments are those of the picture."""
    count = walks.shape[1]
    if sampler.points is not None:
        frames = walk_frames(sampler.points, walks, TITLE)
    else:
        columns = grid_columns(len(walks), *walks.shape[-2:])
        captions = None if labels is None else _names(sampler, labels)
        frames = [shrink(draw_grid(walks[:, i], columns, captions)) for i in range(count)]
    comment = ", ".join(f"{name} {text}" for name, text in (metadata or {}).items())
    write_gif(there_and_back(frames), path, MILLISECONDS, comment=comment)


def there_and_back(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Return the frames, and then the inner ones in reverse order."""
    return [*frames, *frames[-2:0:-1]]


def _names(sampler: Sampler, labels: np.ndarray) -> list[str]:
    """Return the names of classes, or their numbers where no font has the characters."""
    names = sampler.captions(labels)
    return [str(label) for label in labels] if font_for(names) is None else names
