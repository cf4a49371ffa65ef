"""The roofline plot of `minigan bench --device-code --figure`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.figures import BLUE, GREEN, ORANGE, figure
from .gpus import GPUS
from .roofline_figure import draw_peaks, write_labels

# By what limits a kernel: marker, colour, label. Memory and multiply-adds are the roof itself.
MARKERS = {
    "issue": ("o", BLUE, "limited by the issue of instructions"),
    "latency": ("^", ORANGE, "limited by latency"),
    "memory": ("s", GREEN, "at the roof"),
    "float": ("s", GREEN, "at the roof"),
}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write a PNG: for each GPU the kernels' predicted GFLOP/s below its roofs, by intensity.

    Kernels without a multiply-add have no place on these axes; each panel's title counts them.

    Raises:
        ValueError: there is nothing to draw.
    """
    gpus = result["gpus"]
    if not gpus or not any(case["multiply_adds"] for case in result["cases"]):
        what = "a kernel with multiply-adds" if gpus else f"a capability of {', '.join(GPUS)}"
        raise ValueError(f"{path}: there is nothing to draw without {what}")
    with figure(path, 9 * len(gpus), 7) as canvas:
        canvas.suptitle(f"float32, compute capability {result['capability']}: {result['note']}")
        for axes, name in zip(canvas.subplots(1, len(gpus), squeeze=False)[0], gpus, strict=True):
            _draw_panel(axes, name, result["cases"])


def _draw_panel(axes: Any, name: str, cases: Sequence[Mapping[str, Any]]) -> None:
    gpu = GPUS[name]
    computing = [case for case in cases if case["multiply_adds"] and case["bytes"]]
    streaming = [case for case in cases if not case["multiply_adds"]]
    full = sum(case["predictions"][name]["share"] > 0.995 for case in streaming)
    points = [_point(case, name) for case in computing]
    axes.set(xscale="log", yscale="log")
    axes.set_xlim(min(x for x, _ in points) / 2.5, max(x for x, _ in points) * 6)
    axes.set_ylim(min(y for _, y in points) / 2.5, 5e-9 * gpu.flops)
    axes.set(xlabel="FLOP per byte of global memory that a thread moves", ylabel="GFLOP/s")
    axes.set_title(
        f"{name}: {full} of {len(streaming)} kernels without multiply-adds reach the memory's roof"
    )
    roofs = {"memory": gpu.memory, "L2 cache": gpu.l2}
    draw_peaks(axes, 1e-9 * gpu.flops, {k: 1e-9 * x for k, x in roofs.items() if x is not None})
    drawn: set[str] = set()
    for case, point in zip(computing, points, strict=True):
        marker, colour, label = MARKERS[case["predictions"][name]["limit"]]
        axes.plot(*point, marker, ms=8, color=colour, ls="", zorder=3,
                  label=None if label in drawn else label)  # fmt: skip
        drawn.add(label)
    axes.legend(loc="lower right")
    write_labels(axes, _labels(computing, points))


def _labels(
    cases: Sequence[Mapping[str, Any]], points: Sequence[tuple[float, float]]
) -> list[tuple[float, float, str]]:
    """Return (x, y, text) for groups of kernels whose points nearly cover each other."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i, (x, y) in enumerate(points):
        groups.setdefault((round(4 * math.log10(x)), round(4 * math.log10(y))), []).append(i)
    labels = []
    for group in groups.values():
        names = [cases[i]["kernel"].rstrip("_") for i in group]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        labels.append((*points[group[0]], names[0] + more))
    return labels


def _point(case: Mapping[str, Any], gpu: str) -> tuple[float, float]:
    """Return (FLOP per byte, GFLOP/s)."""
    return 2 * case["multiply_adds"] / case["bytes"], 1e-9 * case["predictions"][gpu]["flops"]
