"""What `minigan bench --devices` prints and draws, and from which size on a device is faster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.figures import BLUE, GREEN, GREY, ORANGE, PINK, figure
from .kernels import KERNELS
from .table import cells, number, render
from .timing import Spread, ratio

Case = Mapping[str, Any]
COLOURS = (BLUE, ORANGE, GREEN, PINK)


def header(machine: Mapping[str, Any]) -> str:
    """What runs each device's kernels, the driver, and the date: lines below the machine's own."""
    lines = [
        f"{name:<10} {', '.join(f'{what} {words}' for what, words in found.items())}"
        for name, found in machine["devices"].items()
    ]
    if machine["driver"]:
        lines.append(f"driver     {machine['driver']}")
    return "\n".join([*lines, f"date       {machine['date']}"])


# --------------------------------------------------------------------------------------- crossover
def crossover(cases: Sequence[Case], slow: str, fast: str) -> float | None:
    """The size from which on `fast` takes less time than `slow`, by medians.

    Between two measured sizes it is where straight lines through them cross on log-log axes. 0: at
    every measured size; infinity: not at the largest; None: there is no size that both measured.
    """
    both = [case for case in cases if {slow, fast} <= case["seconds"].keys()]
    if not both:
        return None
    sizes = [case["size"] for case in both]
    # log(time of fast / time of slow): where it ends below 0, and last came from 0 or above
    lead = [-math.log(_median(case, slow) / _median(case, fast)) for case in both]
    lost = [i for i, x in enumerate(lead) if x >= 0]
    if not lost:
        return 0.0
    i = lost[-1]
    if i + 1 == len(both):
        return math.inf
    share = lead[i] / (lead[i] - lead[i + 1])
    return sizes[i] * (sizes[i + 1] / sizes[i]) ** share


def _median(case: Case, contender: str) -> float:
    return float(np.median(case["seconds"][contender]))


def faster_from(at: float | None) -> str:
    """A crossover in words."""
    if at is None:
        return "never measured together"
    if math.isinf(at):
        return "at no size"
    return f"from n = {at:,.0f} on" if at else "at every size"


# ------------------------------------------------------------------------------------------- table
def speed(case: Case, contender: str) -> Spread:
    """GFLOP/s or GB/s of a kernel, milliseconds of a step."""
    seconds = np.array(case["seconds"][contender])
    return Spread.of(1e-9 * case["work"] / seconds if "size" in case else 1e3 * seconds)


def contenders(cases: Sequence[Case]) -> list[str]:
    """All names, devices before peers."""
    return list(dict.fromkeys(name for case in cases for name in case["seconds"]))


def table(
    name: str, cases: Sequence[Case], devices: Sequence[str], left_out: Mapping[str, str]
) -> str:
    """Everybody's median speed at every size, and the ratios of times, others' / last device's."""
    first, last = devices[0], devices[-1]
    rivals = [x for x in dict.fromkeys((*devices, *contenders(cases))) if x != last]
    keys = ("size",) if name in KERNELS else ("game", "batch")
    heads = [*keys, last]
    for rival in rivals:
        heads += [rival, "ratio", "25..75 %"]
    rows = []
    for case in cases:
        row = [*(str(case[key]) for key in keys), best(case, last)]
        for rival in rivals:
            together = {rival, last} <= case["seconds"].keys()
            row.append(best(case, rival))
            row += cells(ratio(case, rival, own=last)) if together else ["-", ""]
        rows.append(row)
    kernel = KERNELS.get(name)
    what = f"{kernel.about}, {kernel.unit}" if kernel else "training step, both players, ms"
    lines = [f"{name}: {what}", render(heads, rows, left=len(keys))]
    if kernel:
        lines += [
            f"{x} is faster than {first} {faster_from(crossover(cases, first, x))}"
            for x in devices[1:]
        ]
    lines += [f"{who} ends here: {why}" for who, why in left_out.items()]
    return "\n".join(lines)


def best(case: Case, contender: str) -> str:
    """The median speed in a cell, or a dash."""
    return number(speed(case, contender).median) if contender in case["seconds"] else "-"


# ------------------------------------------------------------------------------------------ figure
def draw(result: Mapping[str, Any], path: Path) -> None:
    """A PNG: time of a call against size, a panel per kernel; crossovers are dotted lines."""
    kernels = {name: cases for name, cases in result["series"].items() if name in KERNELS}
    columns = min(3, len(kernels))
    rows = -(-len(kernels) // columns)
    names = list(dict.fromkeys(x for cases in kernels.values() for x in contenders(cases)))
    names.sort(key=lambda x: x not in result["devices"])
    with figure(path, 5 * columns, 3.6 * rows + 0.8) as drawn:
        panels = list(drawn.subplots(rows, columns, squeeze=False).flat)
        for axes, (kernel, cases) in zip(panels, kernels.items(), strict=False):
            _panel(axes, kernel, cases, result["devices"], names)
        for axes in panels[len(kernels) :]:
            axes.remove()
        lines = {x.get_label(): x for axes in drawn.axes for x in axes.get_lines()}
        shown = [x for x in names if x in lines]
        drawn.legend([lines[x] for x in shown], shown, loc="outside upper center", ncols=6)


def _panel(
    axes: Any, kernel: str, cases: Sequence[Case], devices: Sequence[str], names: Sequence[str]
) -> None:
    peers = [x for x in names if x not in devices]
    for name in names:
        own = name in devices
        chosen = [case for case in cases if name in case["seconds"]]
        low, middle, high = (
            [float(np.quantile(case["seconds"][name], q)) for case in chosen]
            for q in (0.25, 0.5, 0.75)
        )
        sizes = [case["size"] for case in chosen]
        colour = COLOURS[devices.index(name) % len(COLOURS)] if own else GREY
        style = "-" if own else ("--", "-.", ":")[peers.index(name) % 3]
        if chosen:
            axes.plot(sizes, middle, style, color=colour, label=name, marker="." if own else "")
            axes.fill_between(sizes, low, high, color=colour, alpha=0.2, lw=0)
    title = KERNELS[kernel].about
    for i, device in enumerate(devices[1:], 1):
        at = crossover(cases, devices[0], device)
        if at and math.isfinite(at):
            axes.axvline(at, color=COLOURS[i % len(COLOURS)], lw=1, ls=":")
        title += f"\n{device} faster {faster_from(at)}"
    axes.set(xscale="log", yscale="log", xlabel="n", ylabel="seconds per call")
    axes.set_title(title, fontsize=11)
