"""The roofline plot of `minigan bench kernels --figure`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.figures import BLUE, GREEN, GREY, ORANGE, figure
from .table import format_number
from .timing import Case, median_seconds

# The kind of each kernel decides its marker and colour; kernels not listed are elementwise.
KINDS = {
    **dict.fromkeys(("matmul", "conv2d"), "products"),
    **dict.fromkeys(("sum", "normalize", "normalize_grad"), "reduction"),
}
MARKERS = {"products": ("o", BLUE), "elementwise": ("s", ORANGE), "reduction": ("^", GREEN)}
# Offsets of a label from its point: (x, y in typographic points, alignments), the best one first.
LABEL_OFFSETS = (
    (0, 9, "center", "bottom"),
    (0, -9, "center", "top"),
    (9, 0, "left", "center"),
    (-9, 0, "right", "center"),
    (7, -9, "left", "top"),
    (-7, -9, "right", "top"),
    (7, 9, "left", "bottom"),
    (-7, 9, "right", "bottom"),
    (0, 24, "center", "bottom"),
    (0, -24, "center", "top"),
    (24, -24, "left", "top"),
    (-24, 24, "right", "bottom"),
)
TEXT_STYLE: dict[str, Any] = {"color": "#555555", "fontsize": 10}
LINE_STYLE: dict[str, Any] = {"color": GREY, "lw": 1.5, "zorder": 1}


def draw(
    flops_per_second: float, bandwidths: Mapping[str, float], cases: Sequence[Case], path: Path
) -> None:
    """Write a PNG: GFLOP/s against FLOP per byte, a line per memory level, a point per case.

    Args:
        flops_per_second: the peak, a horizontal line.
        bandwidths: byte/s by the level's name, the sloping lines.
        cases: of `roofline.groups`, with samples; those without FLOP are left out.
    """
    computing = [case for case in cases if case["flops"]]
    x, y = zip(*map(_point, computing), strict=True)
    with figure(path, 10, 7) as canvas:
        axes = canvas.add_subplot()
        axes.set(xscale="log", yscale="log")
        axes.set_xlim(min(x) / 2.5, max(x) * 2)
        axes.set_ylim(min(y) / 2.5, 2e-9 * flops_per_second)
        axes.set(xlabel="arithmetic intensity, FLOP per byte moved", ylabel="GFLOP/s")
        axes.set_title("minigan's CPU kernels, float32, below the machine's peaks")
        gigabytes = {name: 1e-9 * rate for name, rate in bandwidths.items()}
        draw_peaks(axes, 1e-9 * flops_per_second, gigabytes)
        _draw_points(axes, computing)
        axes.legend(loc="lower right")
        write_labels(axes, _labels(computing))


def _point(case: Case) -> tuple[float, float]:
    """Return (FLOP per byte, GFLOP/s)."""
    return case["flops"] / case["bytes"], 1e-9 * case["flops"] / median_seconds(case)


def draw_peaks(axes: Any, gflops: float, bandwidths: Mapping[str, float]) -> None:
    """Draw a sloping line for each bandwidth, labelled along it, up to the horizontal one."""
    from matplotlib.transforms import ScaledTranslation

    left, right = axes.get_xlim()
    for i, (name, rate) in enumerate(bandwidths.items()):
        ridge, (offset, alignment) = gflops / rate, ((-4, "top") if i == 1 else (4, "bottom"))
        axes.plot([left, ridge], [left * rate, gflops], ("-", "--", ":")[i % 3], **LINE_STYLE)
        text = axes.text(
            ridge / 1.15,
            gflops / 1.15,
            f"{name}, {format_number(rate)} GB/s",
            rotation=math.degrees(math.atan(rate)),  # the slope in data coordinates
            transform_rotates_text=True,
            rotation_mode="anchor",
            ha="right",
            va=alignment,
            **TEXT_STYLE,
        )
        shift = ScaledTranslation(0, offset / 72, axes.figure.dpi_scale_trans)
        text.set_transform(axes.transData + shift)
    axes.plot([gflops / max(bandwidths.values()), right], [gflops, gflops], **LINE_STYLE)
    label = f"fused multiply-adds, {format_number(gflops)} GFLOP/s"
    axes.annotate(
        label, (right, gflops), (-6, 4), textcoords="offset points", ha="right", **TEXT_STYLE
    )


def _draw_points(axes: Any, cases: Sequence[Case]) -> None:
    """Draw the cases by kind, and a dotted line between a kernel's points in cache and memory."""
    for kind, (marker, colour) in MARKERS.items():
        of_kind = [case for case in cases if KINDS.get(case["kernel"], "elementwise") == kind]
        for level, fill in (("cached", colour), ("memory", "white")):
            in_memory = level == "memory"
            points = [_point(x) for x in of_kind if (x["section"] == "memory") == in_memory]
            if points:
                axes.plot(*zip(*points, strict=True), marker, ms=8, color=colour, mfc=fill,
                          ls="", zorder=3, label=f"{kind}, {level}")  # fmt: skip
    kernels = [case for case in cases if case["section"] != "products"]
    for name in dict.fromkeys(case["kernel"] for case in kernels):
        pair = [_point(case) for case in kernels if case["kernel"] == name]
        axes.plot(*zip(*pair, strict=True), color=GREY, lw=0.8, ls=":", zorder=2)


def _labels(cases: Sequence[Case]) -> list[tuple[float, float, str]]:
    """Return (x, y, text) for each kernel in cache, and for the slowest and fastest product."""
    products = [case for case in cases if case["section"] == "products"]
    products.sort(key=lambda case: _point(case)[1])
    kernels = [case for case in cases if case["section"] == "cached"]
    return [(*_point(case), case["label"]) for case in (*products[:1], *products[-1:], *kernels)]


def write_labels(axes: Any, labels: Sequence[tuple[float, float, str]]) -> None:
    """Write each label at the first of LABEL_OFFSETS where it covers no line, point or text."""
    axes.figure.canvas.draw()  # Before this, texts have no size.
    marks = _pixels_of_lines(axes)
    occupied = [text.get_window_extent() for text in axes.texts]
    for x, y, label in labels:
        for offset in LABEL_OFFSETS:
            dx, dy, ha, va = offset
            text = axes.annotate(label, (x, y), (dx, dy), textcoords="offset points",
                                 ha=ha, va=va, fontsize=10, zorder=4)  # fmt: skip
            box = text.get_window_extent()
            is_inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            covers_mark = box.padded(3).count_contains(marks) > 0
            if is_inside and not covers_mark and not any(map(box.overlaps, occupied)):
                break
            if offset != LABEL_OFFSETS[-1]:
                text.remove()
        occupied.append(box)


def _pixels_of_lines(axes: Any) -> list[np.ndarray]:
    """Return the positions of all points, and of 100 positions along each drawn line segment."""
    marks = []
    for line in axes.get_lines():
        points = axes.transData.transform(line.get_xydata())
        marks += list(points)
        if line.get_linestyle() != "None":  # markers only
            fractions = np.linspace(0, 1, 100)
            marks += [p + t * (q - p) for p, q in pairwise(points) for t in fractions]
    return marks
