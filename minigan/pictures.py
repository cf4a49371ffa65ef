"""The pictures a run leaves: grids of images, scatters of points, the losses' curves.

Matplotlib is imported when a curve is drawn; it takes longer than a few training steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .losses import GANLoss
from .paths import atomic_write

# Okabe and Ito's colours, told apart by colour-blind readers too.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"


def image_grid(images: np.ndarray, path: Path, columns: int = 8) -> None:
    """A PNG of images (n, C, H, W) in [-1, 1], C = 1 to 4, at least 56 pixels each."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    scale = max(1, -(-56 // height))
    levels = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    sheet = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), 48, np.uint8)
    for i, image in enumerate(levels.transpose(0, 2, 3, 1)):
        top, left = i // columns * (height + 1) + 1, i % columns * (width + 1) + 1
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    size = (picture.width * scale, picture.height * scale)
    enlarged = picture.resize(size, Image.Resampling.NEAREST)
    atomic_write(path, lambda file: enlarged.save(file, format="PNG"))


def scatter(real: np.ndarray, fake: np.ndarray, path: Path, title: str) -> None:
    """A PNG of real and generated points (n, d), drawn to the real ones' scale.

    Of more than two dimensions the first two are shown; one is shown as a histogram.
    """
    figure, axes = _figure(5, 5)
    reach = 1.3 * float(np.abs(real).max()) or 1.0
    if real.shape[1] == 1:
        bins = np.linspace(-reach, reach, 61)
        axes.hist(real[:, 0], bins, color=GREY, label="data")
        axes.hist(fake[:, 0], bins, color=BLUE, label="generated", alpha=0.6)
        axes.set(xlabel="x", ylabel="points", title=title)
    else:
        axes.scatter(*real[:, :2].T, s=3, c=GREY, label="data", linewidths=0)
        axes.scatter(*fake[:, :2].T, s=3, c=BLUE, label="generated", linewidths=0, alpha=0.6)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="x", ylabel="y", title=title)
        axes.set_aspect("equal")
    axes.legend(loc="upper right", markerscale=4, frameon=False)
    _write(figure, path)


def loss_curves(rows: Sequence[dict[str, Any]], loss: GANLoss, path: Path) -> None:
    """A PNG of both losses against the step, each with its level at equilibrium as a dashed line.

    Thin lines are single batches, thick ones their running mean.
    """
    figure, axes = _figure(7, 4)
    steps = np.array([row["step"] for row in rows])
    for key, level, colour, who in (
        ("loss_d", loss.levels[0], BLUE, "discriminator"),
        ("loss_g", loss.levels[1], ORANGE, "generator"),
    ):
        values = np.array([row[key] for row in rows])
        width = max(1, len(values) // 40)
        mean = np.convolve(np.pad(values, (width - 1, 0), "edge"), np.ones(width) / width, "valid")
        axes.plot(steps, values, color=colour, lw=0.5, alpha=0.35)
        axes.plot(steps, mean, color=colour, lw=1.8, label=f"{who} loss")
        axes.axhline(level, color=colour, lw=1, ls="--", label=f"its equilibrium, {level:.3f}")
    axes.set(xlabel="step", ylabel=f"loss per sample ({loss.unit})")
    axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    _write(figure, path)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure that belongs to no window system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _write(figure: Any, path: Path) -> None:
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=120))
