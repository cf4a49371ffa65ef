"""Draw figures in one style: tiled images, scatter plots, loss curves.

Matplotlib is imported when the first curve is drawn, because its import takes longer than a few
training steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..kernels.runtime.files import atomic_write

# Okabe and Ito's colours, which colour-blind readers can distinguish; grey is for the background.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#999999"
SKY, YELLOW = "#56B4E9", "#E69F00"
# The colours of real data, of the generator (its samples, its loss) and of the discriminator (its
# output, its loss), in every figure.
DATA, GENERATOR, DISCRIMINATOR = "#555555", BLUE, ORANGE

MAX_CYCLE = 16  # labels in turn that get columns of their own in a grid of images

# The fonts are readable when a figure is shown at half its size.
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
def figure(
    path: Path, width: float, height: float, metadata: Mapping[str, str] | None = None
) -> Iterator[Any]:
    """Draw a matplotlib Figure in the block, and write it as a PNG at the end.

        with figure(Path("curve.png"), 7, 4) as drawing:
            drawing.add_subplot().plot(steps, losses)

    No window system is needed.

    Args:
        path: the file to write.
        width, height: the size in inches.
        metadata: texts that the PNG holds, by keyword.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        drawing = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawing)
        yield drawing
        atomic_write(path, lambda file: drawing.savefig(file, format="png", metadata=metadata))


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Return images (n, C, H, W) in [-1, 1] as bytes (n, H, W, C)."""
    return np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def tile(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Return images (n, C, H, W) in [-1, 1] as one grid of uint8 pixels.

    Returns:
        (height, width) where C = 1, else (height, width, C).
    """
    n, channels, height, width = images.shape
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), 48, np.uint8)
    for i, image in enumerate(to_pixels(images)):
        top, left = i // columns * (height + 1) + 1, i % columns * (width + 1) + 1
        sheet[top : top + height, left : left + width] = image
    return sheet[..., 0] if channels == 1 else sheet


def scatter(
    real: np.ndarray,
    fake: np.ndarray,
    path: Path,
    title: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG of real and generated points (n, d), on axes that fit the real ones.

    The first two of several dimensions are shown; one dimension is shown as a histogram.
    """
    limit = 1.3 * float(np.abs(real).max()) or 1.0
    with figure(path, 5, 5, metadata) as drawing:
        axes = drawing.add_subplot()
        if real.shape[1] == 1:
            bins = np.linspace(-limit, limit, 61)
            axes.hist(real[:, 0], bins, color=DATA, label="data")
            axes.hist(fake[:, 0], bins, color=GENERATOR, label="generated", alpha=0.6)
            axes.set(xlabel="x", ylabel="points", title=title)
        else:
            axes.scatter(*real[:, :2].T, s=3, c=DATA, label="data", lw=0)
            axes.scatter(*fake[:, :2].T, s=3, c=GENERATOR, label="generated", lw=0, alpha=0.6)
            limits = (-limit, limit)
            axes.set(xlim=limits, ylim=limits, xlabel="x", ylabel="y", title=title, aspect="equal")
        axes.legend(loc="upper right", markerscale=4)


# The terms that a run may add to the two losses: colour and label by the name of the metric.
ADDED_TERMS = {
    "penalty": (GREEN, "penalty on D's slope, weighted"),
    "class_d": (PINK, "classifier's loss in D's step (nats)"),
    "class_g": (GREY, "the same, in G's step"),
    "code_d": (SKY, "loss of the continuous codes (nats)"),
    "code_g": (YELLOW, "the same, in G's step"),
    "l1": (GREEN, "difference to the truth, weighted"),
    "features": (PINK, "difference of D's features, weighted"),
    "cycle": (GREEN, "difference after there and back, weighted"),
    "identity": (PINK, "change of images of the other kind, weighted"),
}


def loss_curves(
    rows: Sequence[dict[str, Any]],
    levels: dict[str, float | None],
    unit: str,
    path: Path,
    distance: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG of both losses against the step; below them the added terms, and a distance.

    Args:
        rows: lines of metrics.
        levels: the value of each metric at equilibrium, by its name; None where it has none.
        unit: the unit of the losses.
        path: the file to write.
        distance: the name of the distance of samples to data that some of the lines have, beside
            one with "_floor" behind it, that of real samples; None: no such panel.
        metadata: texts that the PNG holds, by keyword.
    """
    added = [key for key in ADDED_TERMS if key in rows[0]]
    names = () if distance is None else (distance, f"{distance}_floor")
    measured = [row for row in rows if names and None not in map(row.get, names)]
    panels = 1 + bool(added) + bool(measured)
    with figure(path, 7, 1.5 + 2.5 * panels, metadata) as drawing:
        axes = list(drawing.subplots(panels, sharex=True, squeeze=False)[:, 0])
        # Without an equilibrium G's loss follows the offset of D's output, on a scale of its own.
        # A loss of the user's own, of which no equilibrium is known, has one axis.
        has_own_axis = levels.get("loss_g") is None and levels.get("loss_d") is not None
        right = axes[0].twinx() if has_own_axis else axes[0]
        draw_losses(axes[0], rows, levels, unit, right)
        if has_own_axis:
            right.spines["right"].set_visible(True)
            right.set_ylabel("the generator's, up to D's offset")
        curves = [line for x in dict.fromkeys((axes[0], right)) for line in x.get_lines()]
        labelled = [line for line in curves if not line.get_label().startswith("_")]
        axes[0].legend(handles=labelled, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        if added:
            for key in added:
                colour, name = ADDED_TERMS[key]
                _plot_curve(axes[1], rows, key, levels.get(key), colour, name)
            _finish_panel(axes[1], "added to the losses")
        if measured:
            _plot_distance(axes[-1], measured, str(distance))
            _finish_panel(axes[-1], "distance of samples to data")
        for x in axes[:-1]:
            x.set_xlabel("")


def _finish_panel(axes: Any, label: str) -> None:
    axes.set(xlabel="step", ylabel=label)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _plot_distance(axes: Any, rows: Sequence[dict[str, Any]], name: str) -> None:
    """Plot the distance of samples to held-out data, and that of training data as a dashed line."""
    steps = [row["step"] for row in rows]
    distances = [row[name] for row in rows]
    axes.plot(steps, distances, color=GENERATOR, marker="o", ms=4, label="sliced Wasserstein")
    floor = rows[-1][f"{name}_floor"]
    axes.axhline(floor, color=DATA, lw=1, ls="--", label=f"real data, {floor:.2g}")


def draw_losses(
    axes: Any,
    rows: Sequence[dict[str, Any]],
    levels: dict[str, float | None],
    unit: str,
    right: Any = None,
) -> None:
    """Plot both losses against the step, with their values at equilibrium as dashed lines.

    Thin lines are single batches, thick ones their running mean.

    Args:
        axes: matplotlib axes.
        rows: lines of metrics.
        levels: the value of each loss at equilibrium, by its name; None where it has none.
        unit: the unit of the losses.
        right: axes for the generator's loss; None: the same.
    """
    _plot_curve(axes, rows, "loss_d", levels.get("loss_d"), DISCRIMINATOR, "discriminator loss")
    generator = (levels.get("loss_g"), GENERATOR, "generator loss")
    _plot_curve(right or axes, rows, "loss_g", *generator)
    axes.set(xlabel="step", ylabel=f"loss per sample ({unit})")
    first, last = rows[0]["step"], rows[-1]["step"]
    axes.set_xlim(first, max(last, first + 1))


def _plot_curve(
    axes: Any, rows: Sequence[dict[str, Any]], key: str, level: float | None, colour: str, name: str
) -> None:
    """Plot a metric, its running mean over a fortieth of the rows, and its level."""
    steps = np.array([row["step"] for row in rows])
    values = np.array([np.nan if row.get(key) is None else row[key] for row in rows])
    axes.plot(steps, values, color=colour, lw=0.5, alpha=0.35)
    axes.plot(steps, running_mean(values), color=colour, label=name)
    if level is not None:
        axes.axhline(level, color=colour, lw=1, ls="--", label=f"its equilibrium, {level:.3f}")


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each value (n,) and those before it, a fortieth of all."""
    width = max(1, len(values) // 40)
    return np.convolve(np.pad(values, (width - 1, 0), "edge"), np.ones(width) / width, "valid")
