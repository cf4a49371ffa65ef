"""`minigan bench matmul`: the GAN's matrix products, beside the BLAS that numpy calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..engine.device import get_device, use_device
from ..engine.op import Op
from .kernels import replayed
from .plan import Game, Plan
from .table import cells, number, render
from .timing import Group, Spread, geometric_mean, ratio

# Each factor as it lies in memory (N) or transposed (T).
FORMS = {"NN": "forward", "NT": "input gradient", "TN": "weight gradient"}
SQUARE = "square"
GAME = "MLP"
CALLS = 10  # products in one call of a contender


def groups(plan: Plan, peer: str) -> list[Group]:
    """One group per batch size, and one large square product, which shows what the machine can do.

    minigan's products are replayed as in a captured step, CALLS at a time; numpy's are called from
    Python, and write into an array that they are given.
    """
    found = []
    game = plan.games[GAME]
    for batch in game.batches:
        cases, pairs = [], []
        for layer, form, a, b in products(game, batch):
            cases.append({"batch": batch, "layer": layer, **_describe(form, a, b)})
            pairs.append((a, b))
        found.append(_group(cases, pairs, peer, plan))
    a, b = _normal(plan.square, plan.square), _normal(plan.square, plan.square)
    square = {"batch": plan.square, "layer": SQUARE, **_describe("NN", a, b)}
    found.append(_group([square], [(a, b)], peer, plan))
    return found


def products(game: Game, batch: int) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """(layer, form, left factor, right factor): x @ w, g @ w.T and x.T @ g, as the engine does."""
    with use_device("cpu"):
        nets = game.nets()
    for player, net in zip("GD", nets, strict=True):
        for size, width in (layer.weight.shape for layer in net if isinstance(layer, nn.Dense)):
            x, w, g = _normal(batch, size), _normal(size, width), _normal(batch, width)
            for form, a, b in (("NN", x, w), ("NT", g, w.T), ("TN", x.T, g)):
                yield f"{player} {size}-{width}", form, a, b


def _describe(form: str, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    return {"form": form, "m": a.shape[0], "k": a.shape[1], "n": b.shape[1], "calls": CALLS}


def _group(
    cases: list[dict[str, Any]], pairs: list[tuple[np.ndarray, np.ndarray]], peer: str, plan: Plan
) -> Group:
    device, op = get_device("cpu"), Op.registry["matmul"]
    own = [replayed(partial(device.run, op, pair, {}), CALLS) for pair in pairs]
    other = [partial(_numpy, a, b, np.empty((len(a), b.shape[1]), a.dtype)) for a, b in pairs]
    return Group(cases, {"minigan": own, peer: other}, plan.matmul_seconds)


def _numpy(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
    for _ in range(CALLS):
        np.matmul(a, b, out=out)
    return out


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


# ------------------------------------------------------------------------------------------ report
def gflops(case: Mapping[str, Any], contender: str) -> Spread:
    """10^9 additions and multiplications per second."""
    work = 2e-9 * case["m"] * case["k"] * case["n"] * case["calls"]
    return Spread.of(work / np.array(case["seconds"][contender]))


def report(cases: Sequence[Mapping[str, Any]], peer: str) -> str:
    """A table per batch size and the ratios' means, from what `measure` gave."""
    layers = [case for case in cases if case["layer"] != SQUARE]
    rounds = len(cases[0]["seconds"]["minigan"])
    blocks = [
        f"matmul: the products of the MLP GAN's layers, (m, k) by (k, n), float32, GFLOP/s\n"
        f"{', '.join(f'{form} {what}' for form, what in FORMS.items())}\n"
        f"minigan's as in a captured step, {peer}'s called from Python (about 1 us each)\n"
        f"median and quartiles of {rounds} rounds; ratio = minigan / {peer}, higher is better"
    ]
    heads = ["layer", "", "m", "k", "n", "minigan", "25..75 %", peer, "25..75 %"]
    for batch in dict.fromkeys(case["batch"] for case in layers):
        chosen = [case for case in layers if case["batch"] == batch]
        rows = [_row(case, peer) for case in chosen]
        table = render([*heads, "ratio", "25..75 %"], rows, left=2)
        blocks.append(f"batch {batch}\n{table}\n{_summary(chosen, peer)}")
    if len(blocks) > 2:
        blocks.append(f"all batch sizes\n{_summary(layers, peer)}")
    for case in cases:
        if case["layer"] == SQUARE:
            blocks.append(_peak(case, layers, peer))
    return "\n\n".join(blocks)


def _row(case: Mapping[str, Any], peer: str) -> list[str]:
    sizes = [str(case[letter]) for letter in "mkn"]
    speeds = [*cells(gflops(case, "minigan")), *cells(gflops(case, peer))]
    return [case["layer"], case["form"], *sizes, *speeds, *cells(ratio(case, peer))]


def _summary(cases: Sequence[Mapping[str, Any]], peer: str) -> str:
    ratios = [ratio(case, peer).median for case in cases]
    least = cases[int(np.argmin(ratios))]
    return (
        f"ratio: geometric mean {number(geometric_mean(ratios))}, minimum {number(min(ratios))}"
        f" ({least['layer']} {least['form']}, batch {least['batch']})"
    )


def _peak(case: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], peer: str) -> str:
    edge = case["m"]
    lines = [f"peak, GFLOP/s: {edge} x {edge} x {edge} product, and the fastest of the above"]
    for name in ("minigan", peer):
        best = max(gflops(layer, name).median for layer in layers)
        lines.append(f"  {name:<10} {number(gflops(case, name).median):>5} {number(best):>7}")
    lines.append(f"  {'ratio':<10} {number(ratio(case, peer).median):>5}")
    return "\n".join(lines)
