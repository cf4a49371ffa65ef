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

from ..kernels.runtime.files import atomic_write

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


# What a line of metrics may hold beside the two losses: colour and name.
BESIDE = {
    "penalty": (GREEN, "penalty on D's slope, weighted"),
    "class_d": (PINK, "classifier's loss, real and fake (nats)"),
    "class_g": (GREY, "the same, fake alone"),
}


def loss_curves(
    rows: Sequence[dict[str, Any]], levels: dict[str, float | None], unit: str, path: Path
) -> None:
    """A PNG of both losses against the step, and below them of what a run adds to them.

    Args:
        rows: lines of metrics. levels: by key, where each curve is at equilibrium.
        unit: that of the losses.
    """
    beside = [key for key in BESIDE if key in rows[0]]
    with figure(path, 7, 6.5 if beside else 4) as drawn:
        axes = drawn.subplots(2 if beside else 1, sharex=True, squeeze=False)[:, 0]
        free = levels.get("loss_g") is None  # it goes where D's offset takes it
        right = axes[0].twinx() if free else axes[0]
        draw_losses(axes[0], rows, levels, unit, right)
        if free:
            right.spines["right"].set_visible(True)
            right.set_ylabel("the generator's, up to D's offset")
        curves = [line for x in dict.fromkeys((axes[0], right)) for line in x.get_lines()]
        named = [line for line in curves if not line.get_label().startswith("_")]
        axes[0].legend(handles=named, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        for key in beside:
            colour, name = BESIDE[key]
            _curve(axes[1], rows, key, levels.get(key), colour, name)
        if beside:
            axes[0].set_xlabel("")
            axes[1].set(xlabel="step", ylabel="added to the losses")
            axes[1].set_ylim(bottom=min(0, axes[1].get_ylim()[0]))
            axes[1].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def draw_losses(
    axes: Any,
    rows: Sequence[dict[str, Any]],
    levels: dict[str, float | None],
    unit: str,
    right: Any = None,
) -> None:
    """Both losses against the step, each with its level at equilibrium, if any, as a dashed line.

    Thin lines are single batches, thick ones their running mean. `right`: axes of G's own.
    """
    _curve(axes, rows, "loss_d", levels.get("loss_d"), BLUE, "discriminator loss")
    _curve(right or axes, rows, "loss_g", levels.get("loss_g"), ORANGE, "generator loss")
    axes.set(xlabel="step", ylabel=f"loss per sample ({unit})")
    first, last = rows[0]["step"], rows[-1]["step"]
    axes.set_xlim(first, max(last, first + 1))


def _curve(
    axes: Any, rows: Sequence[dict[str, Any]], key: str, level: float | None, colour: str, name: str
) -> None:
    steps = np.array([row["step"] for row in rows])
    values = np.array([row[key] for row in rows])
    width = max(1, len(values) // 40)
    mean = np.convolve(np.pad(values, (width - 1, 0), "edge"), np.ones(width) / width, "valid")
    axes.plot(steps, values, color=colour, lw=0.5, alpha=0.35)
    axes.plot(steps, mean, color=colour, label=name)
    if level is not None:
        axes.axhline(level, color=colour, lw=1, ls="--", label=f"its equilibrium, {level:.3f}")
