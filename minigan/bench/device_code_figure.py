"""The roofline plot of `minigan bench --device-code --figure`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.figures import BLUE, GREEN, GREY, ORANGE, figure
from .gpus import GPUS
from .table import format_number

# Kernels that are not of these families, or have no multiply-adds, are on the bandwidth's axis.
MARKERS = {"issue": ("o", BLUE), "latency": ("^", ORANGE), "memory": ("s", GREEN)}
MARKERS["float"] = MARKERS["memory"]  # at the roof


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write a PNG: for each GPU the kernels' predicted TFLOP/s below its roof, by intensity.

    Kernels without a multiply-add are counted in the second line of each panel's title: they have
    no place on axes of FLOP.
    """
    gpus = result["gpus"]
    if not gpus or not any(case["multiply_adds"] for case in result["cases"]):
        what = "a kernel with multiply-adds" if gpus else f"a capability of {', '.join(GPUS)}"
        raise ValueError(f"{path}: there is nothing to draw without {what}")
    with figure(path, 8 * max(1, len(gpus)), 6) as canvas:
        panels = np.atleast_1d(canvas.subplots(1, max(1, len(gpus)), squeeze=False)[0])
        canvas.suptitle(f"float32, compute capability {result['capability']}: {result['note']}")
        for axes, name in zip(panels, gpus, strict=False):
            _panel(axes, name, result["cases"])


def _panel(axes: Any, name: str, cases: Any) -> None:
    gpu = GPUS[name]
    computing = [case for case in cases if case["multiply_adds"] and case["bytes"]]
    streaming = [case for case in cases if not case["multiply_adds"]]
    full = sum(case["predictions"][name]["share"] > 0.995 for case in streaming)
    x = np.array([2 * case["multiply_adds"] / case["bytes"] for case in computing])
    y = np.array([case["predictions"][name]["flops"] for case in computing]) * 1e-12
    left, right = x.min() / 2, x.max() * 4
    line = np.geomspace(left, right, 200)
    for bandwidth, label in ((gpu.memory, "memory"), (gpu.l2, "L2 cache")):
        if bandwidth is None:
            continue
        axes.plot(
            line, np.minimum(gpu.flops, line * bandwidth) * 1e-12, color=GREY, lw=1.5, zorder=1
        )
        axes.annotate(
            f"{label}, {format_number(bandwidth * 1e-12)} TB/s",
            (left * 1.1, left * 1.1 * bandwidth * 1e-12),
            rotation=38,
            rotation_mode="anchor",
            va="bottom",
            color="#555555",
            fontsize=10,
        )
    for limit in ("issue", "latency", "memory"):
        marker, colour = MARKERS[limit]
        chosen = [
            i
            for i, case in enumerate(computing)
            if MARKERS[case["predictions"][name]["limit"]] == (marker, colour)
        ]
        label = "at the roof" if limit == "memory" else f"limited by {limit}"
        axes.scatter(x[chosen], y[chosen], marker=marker, color=colour, s=40, label=label, zorder=2)
    for i in np.argsort(-y)[:6]:
        axes.annotate(
            computing[i]["kernel"], (x[i], y[i]), (6, -10), textcoords="offset points", fontsize=9
        )
    axes.set(
        xscale="log", yscale="log", xlabel="FLOP per byte of global memory that a thread moves"
    )
    axes.set_ylabel("TFLOP/s")
    axes.set_title(
        f"{name}: peak {format_number(gpu.flops * 1e-12)} TFLOP/s\n{full} of {len(streaming)}"
        " kernels without multiply-adds can reach the bandwidth",
        fontsize=12,
    )
    axes.legend(loc="lower right")
