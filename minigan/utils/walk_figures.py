"""Draw what walks between latents lead through, as curves over real points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .figures import BLUE, GREEN, GREY, ORANGE, PINK, STYLE, figure

COLOURS = (BLUE, ORANGE, GREEN, PINK)  # of walks, in turn


def walk_curves(
    real: np.ndarray,
    walks: np.ndarray,
    path: Path,
    title: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG of curves over real points: what walks between latents lead through.

    The first two of several dimensions are shown; one dimension is shown against the way.

    Args:
        real: (n, d) real points.
        walks: (m, frames, d), a curve each.
        path: the file to write.
        title: of the figure.
        metadata: texts that the PNG holds, by keyword.
    """
    with figure(path, 5, 5, metadata) as drawing:
        _draw_walks(drawing, real, walks, title)


def walk_frames(real: np.ndarray, walks: np.ndarray, title: str) -> list[Image.Image]:
    """Return the curves of `walk_curves` as they grow, an RGB picture for each frame."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frames = []
    with rc_context(STYLE):
        drawing = Figure(figsize=(5, 5), layout="constrained")
        canvas = FigureCanvasAgg(drawing)
        lines, heads, curves = _draw_walks(drawing, real, walks, title)
        for i in range(walks.shape[1]):
            for line, curve in zip(lines, curves, strict=True):
                line.set_data(*curve[: i + 1].T)
            heads.set_offsets(curves[:, i])
            canvas.draw()
            frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    return frames


def _draw_walks(drawing: Any, real: np.ndarray, walks: np.ndarray, title: str) -> Any:
    """Draw walks over real points; return lines, ends and curves (m, frames, 2)."""
    limit = 1.3 * float(np.abs(real).max()) or 1.0
    axes = drawing.add_subplot()
    if walks.shape[2] == 1:
        way = np.broadcast_to(np.linspace(0, 1, walks.shape[1])[:, None], walks.shape)
        curves = np.concatenate([way, walks], axis=2)
        rows = np.linspace(0, 1, len(real))
        axes.scatter(rows, real[:, 0], s=3, c=GREY, lw=0, alpha=0.5)
        axes.set(xlabel="part of the way", ylabel="x", ylim=(-limit, limit), title=title)
    else:
        curves = walks[..., :2]
        axes.scatter(*real[:, :2].T, s=3, c=GREY, lw=0)
        limits = (-limit, limit)
        axes.set(xlim=limits, ylim=limits, xlabel="x", ylabel="y", title=title, aspect="equal")
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(walks))]
    lines = [
        axes.plot(*curve.T, color=colour, lw=1, marker=".", ms=4)[0]
        for curve, colour in zip(curves, colours, strict=True)
    ]
    axes.scatter(*curves[:, 0].T, s=30, facecolors="white", edgecolors=colours, zorder=3)
    heads = axes.scatter(*curves[:, -1].T, s=30, c=colours, zorder=3)
    return lines, heads, curves
