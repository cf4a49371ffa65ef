"""Pictures: the house style, and what a run leaves: image grids, scatters, the losses' curves.

Matplotlib is imported when a curve is drawn; it takes longer than a few training steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .losses import GANLoss
from .paths import atomic_write

# Okabe and Ito's colours, told apart by colour-blind readers too; grey is for what stands behind.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#999999"

# Type large enough to be read when the picture is shown at half its size.
STYLE: Any = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "lines.linewidth": 2,
    "savefig.dpi": 120,
}


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """An empty matplotlib Figure of that many inches, in the house style: within, draw on it.

    At the end of the block it is a PNG at `path`. It belongs to no window system.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        atomic_write(path, lambda file: drawn.savefig(file, format="png"))


def image_grid(images: np.ndarray, path: Path, columns: int = 8) -> None:
    """A PNG of images (n, C, H, W) in [-1, 1], C = 1 to 4, at least 56 pixels each."""
    scale = max(1, -(-56 // images.shape[2]))
    picture = Image.fromarray(tile(images, columns))
    size = (picture.width * scale, picture.height * scale)
    enlarged = picture.resize(size, Image.Resampling.NEAREST)
    atomic_write(path, lambda file: enlarged.save(file, format="PNG"))


def tile(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Images (n, C, H, W) in [-1, 1] on one sheet of bytes, (height, width), or with C > 1 last."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    levels = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
    sheet = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), 48, np.uint8)
    for i, image in enumerate(levels.transpose(0, 2, 3, 1)):
        top, left = i // columns * (height + 1) + 1, i % columns * (width + 1) + 1
        sheet[top : top + height, left : left + width] = image
    return sheet[..., 0] if channels == 1 else sheet


def scatter(real: np.ndarray, fake: np.ndarray, path: Path, title: str) -> None:
    """A PNG of real and generated points (n, d), drawn to the real ones' scale.

    Of more than two dimensions the first two are shown; one is shown as a histogram.
    """
    reach = 1.3 * float(np.abs(real).max()) or 1.0
    with figure(path, 5, 5) as drawn:
        axes = drawn.add_subplot()
        if real.shape[1] == 1:
            bins = np.linspace(-reach, reach, 61)
            axes.hist(real[:, 0], bins, color=GREY, label="data")
            axes.hist(fake[:, 0], bins, color=BLUE, label="generated", alpha=0.6)
            axes.set(xlabel="x", ylabel="points", title=title)
        else:
            axes.scatter(*real[:, :2].T, s=3, c=GREY, label="data", lw=0)
            axes.scatter(*fake[:, :2].T, s=3, c=BLUE, label="generated", lw=0, alpha=0.6)
            limits = (-reach, reach)
            axes.set(xlim=limits, ylim=limits, xlabel="x", ylabel="y", title=title, aspect="equal")
        axes.legend(loc="upper right", markerscale=4)


def loss_curves(rows: Sequence[dict[str, Any]], loss: GANLoss, path: Path) -> None:
    """A PNG of both losses against the step (see `draw_losses`)."""
    with figure(path, 7, 4) as drawn:
        draw_losses(drawn.add_subplot(), rows, loss)
        drawn.legend(loc="outside upper center", ncols=2)


def draw_losses(axes: Any, rows: Sequence[dict[str, Any]], loss: GANLoss) -> None:
    """Both losses against the step, each with its level at equilibrium as a dashed line.

    Thin lines are single batches, thick ones their running mean.
    """
    steps = np.array([row["step"] for row in rows])
    for key, level, colour, who in (
        ("loss_d", loss.levels[0], BLUE, "discriminator"),
        ("loss_g", loss.levels[1], ORANGE, "generator"),
    ):
        values = np.array([row[key] for row in rows])
        width = max(1, len(values) // 40)
        mean = np.convolve(np.pad(values, (width - 1, 0), "edge"), np.ones(width) / width, "valid")
        axes.plot(steps, values, color=colour, lw=0.5, alpha=0.35)
        axes.plot(steps, mean, color=colour, label=f"{who} loss")
        axes.axhline(level, color=colour, lw=1, ls="--", label=f"its equilibrium, {level:.3f}")
    axes.set(xlabel="step", ylabel=f"loss per sample ({loss.unit})")
    axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
