"""`minigan bench scaling`: how a training step's time grows with the batch and with the layers.

Against the batch, a line is fitted: time = a + b n, where a is what a step costs that no sample
shares (launches; reading, differentiating and updating all weights) and b what one sample adds.
Against both, the slope of log time over log size says with which power time grows over the larger
sizes; beside it stands that of the step's multiplications, which is what it tends to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..gan.models import Perceptrons
from ..utils.figures import BLUE, GREY, figure
from .floor import multiply_adds
from .matmul import GAME
from .plan import Game, Plan
from .steps import OWN, Peers, contenders
from .table import cells, number, render
from .timing import Group, Spread, ratio

BATCH, WIDTH = "batch", "width"
PEER = "PyTorch, fused Adam"
UPPER = 4  # sizes, the largest, over which slopes are taken


def groups(plan: Plan, peers: Peers) -> list[Group]:
    """Batches at the game's widths, and widths at its first batch: a round has all of them."""
    game = plan.games[GAME]
    return [
        _group(BATCH, {size: (game, size) for size in plan.scaled_batches}, peers, plan),
        _group(
            WIDTH,
            {size: (widened(game, size), game.batches[0]) for size in plan.scaled_widths},
            peers,
            plan,
        ),
    ]


def _group(axis: str, sizes: Mapping[int, tuple[Game, int]], peers: Peers, plan: Plan) -> Group:
    cases = [
        {"axis": axis, "size": size, "flops": 2 * multiply_adds(*given)}
        for size, given in sizes.items()
    ]
    makers = [contenders(*given, peers) for given in sizes.values()]
    names = [name for name in (OWN, PEER) if name in makers[0]]
    calls = {name: [made[name]()[0] for made in makers] for name in names}
    return Group(cases, calls, plan.step_seconds)


def widened(game: Game, width: int) -> Game:
    """The game with hidden layers of that width."""
    assert isinstance(game.model, Perceptrons)
    g, d = ((width,) * len(x) for x in (game.model.generator, game.model.discriminator))
    return replace(game, model=replace(game.model, generator=g, discriminator=d))


# ------------------------------------------------------------------------------------------- fits
def medians(cases: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([np.median(case["seconds"][name]) for case in cases])


def slope(sizes: Sequence[float], values: Any) -> float:
    """Least squares' d log value / d log size over the `UPPER` largest of sizes that ascend."""
    x, y = np.log(sizes[-UPPER:]), np.log(values[-UPPER:])
    return float(np.polyfit(x, y, 1)[0])


def line(sizes: Sequence[float], values: Any) -> tuple[float, float]:
    """(a, b) of a + b size, by least squares of relative errors: small sizes count as large ones.

    Neither is negative: no step takes less than nothing.
    """
    x, y = np.asarray(sizes, float), np.asarray(values, float)
    a, b = np.linalg.lstsq(np.stack([1 / y, x / y], 1), np.ones_like(y), rcond=None)[0]
    if a < 0:
        return 0.0, float(np.sum(x / y) / np.sum((x / y) ** 2))
    if b < 0:
        return float(np.sum(1 / y) / np.sum(1 / y**2)), 0.0
    return float(a), float(b)


# ------------------------------------------------------------------------------------------ report
def series(cases: Sequence[Mapping[str, Any]], axis: str) -> list[Mapping[str, Any]]:
    return [case for case in cases if case["axis"] == axis]


def report(cases: Sequence[Mapping[str, Any]]) -> str:
    """A table and fits for each axis, from what `measure` gave."""
    rounds = len(cases[0]["seconds"][OWN])
    title = (
        "scaling: one captured training step of the MLP GAN, both players, float32, ms\n"
        f"median and quartiles of {rounds} rounds; ratio = {PEER}'s time / minigan's, higher is"
        " better"
    )
    blocks = [title, *(_table(axis, series(cases, axis)) for axis in (BATCH, WIDTH))]
    return "\n\n".join(blocks)


def _table(axis: str, cases: Sequence[Mapping[str, Any]]) -> str:
    heads = [axis, "minigan", "25..75 %", "GFLOP/s", PEER, "25..75 %", "ratio", "25..75 %"]
    rows = []
    for case in cases:
        times = {k: Spread.of(1e3 * np.array(x)) for k, x in case["seconds"].items()}
        speed = 1e-6 * case["flops"] / times[OWN].median
        row = [str(case["size"]), *cells(times[OWN]), number(speed)]
        both = PEER in times
        row += [*cells(times[PEER]), *cells(ratio(case, PEER))] if both else ["-", "", "-", ""]
        rows.append(row)
    what = {
        BATCH: "against the batch, at the GAN's own widths",
        WIDTH: "against the width of all hidden layers",
    }
    return "\n".join([what[axis], render(heads, rows), *_fits(axis, cases)])


def _fits(axis: str, cases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What grows how, in words, a line for each contender."""
    sizes = [case["size"] for case in cases]
    upper = sizes[-UPPER:]
    work = slope(sizes, [case["flops"] for case in cases])
    yield f"slope of log time over {upper[0]}..{upper[-1]}; the multiplications' is {number(work)}"
    for name in cases[0]["seconds"]:
        times = medians(cases, name)
        text = f"  {name:<20} {number(slope(sizes, times)):>5}"
        if axis == BATCH:
            a, b = line(sizes, times)
            text += f"; time = {number(1e3 * a)} ms + {number(1e6 * b)} us a sample"
        yield text


# ------------------------------------------------------------------------------------------ figure
LOOKS = {OWN: (BLUE, "-"), PEER: (GREY, "--")}


def draw(cases: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A PNG: time of a step against batch and width, with slopes and fitted lines."""
    with figure(path, 12, 5.2) as drawn:
        left, right = drawn.subplots(1, 2)
        _panel(left, series(cases, BATCH), "batch size")
        _panel(right, series(cases, WIDTH), "width of the hidden layers")
        chosen = series(cases, BATCH)
        sizes = [case["size"] for case in chosen]
        for name in chosen[0]["seconds"]:
            a, b = line(sizes, medians(chosen, name))
            words = f"{number(1e3 * a)} ms + {number(1e6 * b)} us a sample"
            x = np.geomspace(sizes[0], sizes[-1], 100)
            left.plot(x, 1e3 * (a + b * x), ":", color=LOOKS[name][0], lw=1.5, label=words)
        for axes in (left, right):
            axes.legend(loc="upper left")


def _panel(axes: Any, cases: Sequence[Mapping[str, Any]], label: str) -> None:
    sizes = [case["size"] for case in cases]
    for name in cases[0]["seconds"]:
        colour, style = LOOKS[name]
        low, middle, high = (
            [1e3 * float(np.quantile(case["seconds"][name], q)) for case in cases]
            for q in (0.25, 0.5, 0.75)
        )
        axes.plot(sizes, middle, style, marker=".", color=colour, label=name)
        axes.fill_between(sizes, low, high, color=colour, alpha=0.2, lw=0)
        words = f"slope {number(slope(sizes, middle))}"
        shift, ha, va = (8, "left", "top") if name == OWN else (-8, "right", "bottom")
        at = sizes[-3:][0], middle[-3:][0]
        axes.annotate(words, at, (shift, -shift), textcoords="offset points", color=colour,
                      ha=ha, va=va)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms per step")
    axes.set_xticks(sizes, [str(size) for size in sizes], fontsize=10)
    axes.minorticks_off()
    work = slope(sizes, [case["flops"] for case in cases])
    axes.set_title(f"slopes over {sizes[-UPPER:][0]}..{sizes[-1]}; the multiplications': "
                   f"{number(work)}", fontsize=11)  # fmt: skip
