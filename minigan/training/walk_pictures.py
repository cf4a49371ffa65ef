"""Draw walks between latents, or traversals: a grid with a row for each, and a GIF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..utils.animation import evenly, shrink, write_gif
from ..utils.grids import draw_grid, font_for, grid_columns, write_png
from ..utils.walk_figures import walk_curves, walk_frames
from .sampler import Sampler

WALK = "walks between latents, from ○ to ●"
TRAVERSAL = "traversals of a latent along directions, from ○ to ●"
MILLISECONDS = 80  # of a frame


def save_walk_picture(
    walks: np.ndarray,
    sampler: Sampler,
    path: Path,
    columns: int,
    captions: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    title: str = WALK,
) -> None:
    """Write a PNG of walks: a row of images for each, or curves of points over the real ones.

    Args:
        walks: (n, frames, C, H, W) or (n, frames, D), as `Sampler.walk` returns them.
        sampler: their source, which knows real points and the names of classes.
        path: the file to write.
        columns: the most images in a row, evenly chosen with both ends.
        captions: n texts, `row_captions`, above the first image of each row; None: none.
        metadata: texts that the PNG holds, by keyword.
        title: of a figure of points.
    """
    if sampler.points is not None:
        walk_curves(sampler.points, walks, path, title, metadata)
        return
    chosen = walks[:, evenly(walks.shape[1], columns)]
    columns = chosen.shape[1]
    texts = None
    if captions is not None:
        texts = [x for text in captions for x in (text, *[""] * (columns - 1))]
    images = chosen.reshape(-1, *chosen.shape[2:])
    write_png(draw_grid(images, columns, texts), path, metadata)


def save_walk_gif(
    walks: np.ndarray,
    sampler: Sampler,
    path: Path,
    captions: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    title: str = WALK,
) -> None:
    """Write an endless GIF of walks, there and back; the arguments are those of the picture."""
    count = walks.shape[1]
    if sampler.points is not None:
        frames = walk_frames(sampler.points, walks, title)
    else:
        columns = grid_columns(len(walks), *walks.shape[-2:])
        frames = [shrink(draw_grid(walks[:, i], columns, captions)) for i in range(count)]
    comment = ", ".join(f"{name} {text}" for name, text in (metadata or {}).items())
    write_gif(there_and_back(frames), path, MILLISECONDS, comment=comment)


def there_and_back(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Return the frames, and then the inner ones in reverse order."""
    return [*frames, *frames[-2:0:-1]]


def row_captions(
    sampler: Sampler, n: int, labels: np.ndarray | None, is_numbered: bool = False
) -> list[str] | None:
    """Return a text for each of n rows: its number if it is asked for, the name of its class.

    Where no font has the characters of the names, they are the numbers of the classes.
    """
    parts: list[Sequence[str]] = [[f"{i + 1}" for i in range(n)]] if is_numbered else []
    if labels is not None:
        names = sampler.captions(labels)
        parts.append([str(y) for y in labels] if font_for(names) is None else names)
    return [": ".join(texts) for texts in zip(*parts, strict=True)] if parts else None
