"""The roofline that `minigan bench kernels --figure` draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.figures import BLUE, GREEN, GREY, ORANGE, figure
from .table import number

Case = Mapping[str, Any]

# What a kernel is, by name, for its marker and its colour; others go element by element.
KINDS = {
    **dict.fromkeys(("matmul", "conv2d"), "products"),
    **dict.fromkeys(("sum", "normalize", "normalize_grad"), "reduction"),
}
LOOKS = {"products": ("o", BLUE), "elementwise": ("s", ORANGE), "reduction": ("^", GREEN)}
# Where a label may stand, in points from its point: (x, y, alignments), the best place first.
PLACES = (
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


def draw(fma: float, bandwidths: Mapping[str, float], cases: Sequence[Case], path: Path) -> None:
    """A PNG: GFLOP/s against FLOP per byte, both logarithmic; a roof per memory, a point per case.

    Args:
        fma: FLOP/s, the flat roof.
        bandwidths: byte/s by the memory's name, the slanted ones.
        cases: as `roofline.groups` has them, with samples; those without FLOP have no place here.
    """
    computing = [case for case in cases if case["flops"]]
    x, y = zip(*map(_point, computing), strict=True)
    with figure(path, 10, 7) as drawn:
        axes = drawn.add_subplot()
        axes.set(xscale="log", yscale="log")
        axes.set_xlim(min(x) / 2.5, max(x) * 2)
        axes.set_ylim(min(y) / 2.5, 2e-9 * fma)
        axes.set(xlabel="FLOP per byte that has to move", ylabel="GFLOP/s")
        axes.set_title("minigan's CPU kernels, float32, below the machine's roofs")
        _roofs(axes, 1e-9 * fma, {name: 1e-9 * rate for name, rate in bandwidths.items()})
        labels = _points(axes, computing)
        axes.legend(loc="lower right")
        _place(axes, labels)


def _point(case: Case) -> tuple[float, float]:
    """(FLOP per byte, GFLOP/s)"""
    speed = 1e-9 * case["flops"] / float(np.median(case["seconds"]["minigan"]))
    return case["flops"] / case["bytes"], speed


def _roofs(axes: Any, fma: float, bandwidths: Mapping[str, float]) -> None:
    """A slanted line for each bandwidth, its name along it, up to the flat one."""
    from matplotlib.transforms import ScaledTranslation

    left, right = axes.get_xlim()
    look: dict[str, Any] = {"color": "#555555", "fontsize": 10}
    line: dict[str, Any] = {"color": GREY, "lw": 1.5, "zorder": 1}
    for i, (name, rate) in enumerate(bandwidths.items()):
        ridge, (up, va) = fma / rate, ((-4, "top") if i == 1 else (4, "bottom"))
        axes.plot([left, ridge], [left * rate, fma], ("-", "--", ":")[i % 3], **line)
        text = axes.text(
            ridge / 1.15,
            fma / 1.15,
            f"{name}, {number(rate)} GB/s",
            rotation=math.degrees(math.atan(rate)),  # where axes are not logarithmic
            transform_rotates_text=True,
            rotation_mode="anchor",
            ha="right",
            va=va,
            **look,
        )
        shift = ScaledTranslation(0, up / 72, axes.figure.dpi_scale_trans)
        text.set_transform(axes.transData + shift)
    axes.plot([fma / max(bandwidths.values()), right], [fma, fma], **line)
    words = f"fused multiply-adds, {number(fma)} GFLOP/s"
    axes.annotate(words, (right, fma), (-6, 4), textcoords="offset points", ha="right", **look)


def _points(axes: Any, cases: Sequence[Case]) -> list[tuple[float, float, str]]:
    """Draw them; where labels belong and what they say: kernels' names, the products' extremes."""
    for kind, (marker, colour) in LOOKS.items():
        of_kind = [case for case in cases if KINDS.get(case["kernel"], "elementwise") == kind]
        for size, fill in (("cached", colour), ("memory", "white")):
            chosen = [_point(x) for x in of_kind if (x["place"] == "memory") == (size == "memory")]
            if chosen:
                axes.plot(*zip(*chosen, strict=True), marker, ms=8, color=colour, mfc=fill,
                          ls="", zorder=3, label=f"{kind}, {size}")  # fmt: skip
    products = sorted((x for x in cases if x["place"] == "products"), key=lambda x: _point(x)[1])
    named = [*products[:1], *products[-1:]]
    for case in cases:
        if case["place"] == "cached":
            named.append(case)
            pair = [_point(x) for x in cases if x["kernel"] == case["kernel"] and x not in products]
            axes.plot(*zip(*pair, strict=True), color=GREY, lw=0.8, ls=":", zorder=2)
    return [(*_point(case), case["label"]) for case in named]


def _place(axes: Any, labels: Sequence[tuple[float, float, str]]) -> None:
    """Write each label at the first of `PLACES` where it covers no line, point or other text."""
    axes.figure.canvas.draw()  # from here on, text has a size
    marks = []
    for line in axes.get_lines():
        points = axes.transData.transform(line.get_xydata())
        marks += list(points)
        if line.get_linestyle() != "None":  # and not markers only
            steps = np.linspace(0, 1, 100)
            marks += [p + t * (q - p) for p, q in pairwise(points) for t in steps]
    taken = [text.get_window_extent() for text in axes.texts]
    for x, y, words in labels:
        for place in PLACES:
            right, up, ha, va = place
            text = axes.annotate(words, (x, y), (right, up), textcoords="offset points",
                                 ha=ha, va=va, fontsize=10, zorder=4)  # fmt: skip
            box = text.get_window_extent()
            inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            free = not box.padded(3).count_contains(marks) and not any(map(box.overlaps, taken))
            if inside and free:
                break
            if place != PLACES[-1]:
                text.remove()
        taken.append(box)
