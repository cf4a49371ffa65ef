"""The tables, the figure and the crossover sizes of `minigan bench --devices`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.figures import BLUE, GREEN, GREY, ORANGE, PINK, figure
from .kernels import KERNELS
from .table import format_number, format_quartiles, format_table
from .timing import Case, Quartiles, median_seconds, ratio

COLOURS = (BLUE, ORANGE, GREEN, PINK)
MAX_COLUMNS = 3  # of panels in the figure


def header(machine: Mapping[str, Any]) -> str:
    """Return lines with each device's compiler or GPU, the driver and the date."""
    lines = [
        f"{name:<10} {', '.join(f'{key} {value}' for key, value in description.items())}"
        for name, description in machine["devices"].items()
    ]
    if machine["driver"]:
        lines.append(f"driver     {machine['driver']}")
    return "\n".join([*lines, f"date       {machine['date']}"])


# --------------------------------------------------------------------------------------- crossover
def crossover(cases: Sequence[Case], slow: str, fast: str) -> float | None:
    """Return the size above which `fast` takes less time than `slow`, by medians.

    Between two measured sizes the times are interpolated linearly on logarithmic axes.

    Returns:
        0 if `fast` is faster at every measured size, infinity if it is not at the largest, None if
        no size was measured on both.
    """
    both = [case for case in cases if {slow, fast} <= case["seconds"].keys()]
    if not both:
        return None
    sizes = [case["size"] for case in both]
    # log(time of fast / time of slow) is negative where fast is faster. The crossover follows the
    # last size at which it is not.
    log_ratios = [
        -math.log(median_seconds(case, slow) / median_seconds(case, fast)) for case in both
    ]
    slower = [i for i, x in enumerate(log_ratios) if x >= 0]
    if not slower:
        return 0.0
    i = slower[-1]
    if i + 1 == len(both):
        return math.inf
    fraction = log_ratios[i] / (log_ratios[i] - log_ratios[i + 1])
    return sizes[i] * (sizes[i + 1] / sizes[i]) ** fraction


def describe_crossover(size: float | None) -> str:
    """Return a crossover in words."""
    if size is None:
        return "never measured together"
    if math.isinf(size):
        return "at no size"
    return f"from n = {size:,.0f} on" if size else "at every size"


# ------------------------------------------------------------------------------------------- table
def speed(case: Case, contender: str) -> Quartiles:
    """Return the GFLOP/s or GB/s of a kernel, or the milliseconds of a training step."""
    seconds = np.array(case["seconds"][contender])
    return Quartiles.of(1e-9 * case["work"] / seconds if "size" in case else 1e3 * seconds)


def format_speed(case: Case, contender: str) -> str:
    """Return the median speed, or a dash if the contender was not measured."""
    if contender not in case["seconds"]:
        return "-"
    return format_number(speed(case, contender).median)


def contenders(cases: Sequence[Case]) -> list[str]:
    """Return all names, devices before peers."""
    return list(dict.fromkeys(name for case in cases for name in case["seconds"]))


def table(
    name: str, cases: Sequence[Case], devices: Sequence[str], skipped: Mapping[str, str]
) -> str:
    """Return median speeds at every size, and the ratios of times, others' / the last device's."""
    first, last = devices[0], devices[-1]
    others = [x for x in dict.fromkeys((*devices, *contenders(cases))) if x != last]
    keys = ("size",) if name in KERNELS else ("task", "batch")
    heads = [*keys, last]
    for other in others:
        heads += [other, "ratio", "25..75 %"]
    rows = []
    for case in cases:
        row = [*(str(case[key]) for key in keys), format_speed(case, last)]
        for other in others:
            has_both = {other, last} <= case["seconds"].keys()
            row.append(format_speed(case, other))
            row += format_quartiles(ratio(case, other, own=last)) if has_both else ["-", ""]
        rows.append(row)
    kernel = KERNELS.get(name)
    title = f"{kernel.about}, {kernel.unit}" if kernel else "training step, both players, ms"
    lines = [f"{name}: {title}", format_table(heads, rows, left=len(keys))]
    if kernel:
        lines += [
            f"{device} is faster than {first} {describe_crossover(crossover(cases, first, device))}"
            for device in devices[1:]
        ]
    lines += [f"{other} was measured no further: {reason}" for other, reason in skipped.items()]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------ figure
def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write a PNG: time of a call against size, a panel per kernel; crossovers are dotted lines."""
    kernels = {name: cases for name, cases in result["series"].items() if name in KERNELS}
    columns = min(MAX_COLUMNS, len(kernels))
    rows = -(-len(kernels) // columns)
    names = list(dict.fromkeys(x for cases in kernels.values() for x in contenders(cases)))
    names.sort(key=lambda x: x not in result["devices"])
    with figure(path, 5 * columns, 3.6 * rows + 0.8) as canvas:
        panels = list(canvas.subplots(rows, columns, squeeze=False).flat)
        for axes, (kernel, cases) in zip(panels, kernels.items(), strict=False):
            _draw_times(axes, cases, result["devices"], names)
            _draw_crossovers(axes, kernel, cases, result["devices"])
        for axes in panels[len(kernels) :]:
            axes.remove()
        lines = {x.get_label(): x for axes in canvas.axes for x in axes.get_lines()}
        labels = [x for x in names if x in lines]
        canvas.legend([lines[x] for x in labels], labels, loc="outside upper center", ncols=6)


def _draw_times(
    axes: Any, cases: Sequence[Case], devices: Sequence[str], names: Sequence[str]
) -> None:
    """Draw the median of each contender as a line and its quartiles as a band."""
    peers = [x for x in names if x not in devices]
    for name in names:
        measured = [case for case in cases if name in case["seconds"]]
        if not measured:
            continue
        quartiles = [Quartiles.of(case["seconds"][name]) for case in measured]
        sizes = [case["size"] for case in measured]
        is_device = name in devices
        colour = COLOURS[devices.index(name) % len(COLOURS)] if is_device else GREY
        style = "-" if is_device else ("--", "-.", ":")[peers.index(name) % 3]
        marker = "." if is_device else ""
        axes.plot(
            sizes, [x.median for x in quartiles], style, color=colour, label=name, marker=marker
        )
        low, high = [x.low for x in quartiles], [x.high for x in quartiles]
        axes.fill_between(sizes, low, high, color=colour, alpha=0.2, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="n", ylabel="seconds per call")


def _draw_crossovers(axes: Any, kernel: str, cases: Sequence[Case], devices: Sequence[str]) -> None:
    """Draw a dotted line where each device becomes faster than the first; name it in the title."""
    title = KERNELS[kernel].about
    for i, device in enumerate(devices[1:], 1):
        size = crossover(cases, devices[0], device)
        if size and math.isfinite(size):
            axes.axvline(size, color=COLOURS[i % len(COLOURS)], lw=1, ls=":")
        title += f"\n{device} faster {describe_crossover(size)}"
    axes.set_title(title, fontsize=11)
