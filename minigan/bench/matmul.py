"""`minigan bench matmul`: the matrix products of a GAN, beside the BLAS that numpy calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import nn
from ..engine.device import get_device, use_device
from ..engine.op import Op
from .kernels import replayed
from .plan import Plan, Task
from .table import format_number, format_quartiles, format_table
from .timing import MINIGAN, Case, Group, Quartiles, geometric_mean, ratio

# Each factor is read as it is stored (N) or transposed (T).
TRANSPOSES = {"NN": "forward", "NT": "input gradient", "TN": "weight gradient"}
SQUARE = "square"
TASK = "MLP"
PRODUCTS_PER_CALL = 10


def groups(plan: Plan, peer: str) -> list[Group]:
    """Return one group per batch size, and one of a large square product, for the peak.

    minigan's products are replayed as in a captured step, PRODUCTS_PER_CALL at a time; numpy's are
    called from Python, and write into an existing array.
    """
    results = []
    task = plan.tasks[TASK]
    for batch in task.batches:
        cases, factors = [], []
        for layer, transposes, a, b in products(task, batch):
            cases.append({"batch": batch, "layer": layer, **_describe(transposes, a, b)})
            factors.append((a, b))
        results.append(_group(cases, factors, peer, plan))
    a, b = _normal(plan.square, plan.square), _normal(plan.square, plan.square)
    square = {"batch": plan.square, "layer": SQUARE, **_describe("NN", a, b)}
    results.append(_group([square], [(a, b)], peer, plan))
    return results


def products(task: Task, batch: int) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yield (layer, transposes, left factor, right factor) of x @ w, g @ w.T and x.T @ g."""
    with use_device("cpu"):
        networks = task.build_networks()
    for player, net in zip("GD", networks, strict=True):
        for size, width in (
            layer.weight.shape for layer in net.modules() if isinstance(layer, nn.Dense)
        ):
            x, w, g = _normal(batch, size), _normal(size, width), _normal(batch, width)
            for transposes, a, b in (("NN", x, w), ("NT", g, w.T), ("TN", x.T, g)):
                yield f"{player} {size}-{width}", transposes, a, b


def _describe(transposes: str, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    sizes = {"m": a.shape[0], "k": a.shape[1], "n": b.shape[1]}
    return {"transposes": transposes, **sizes, "products_per_call": PRODUCTS_PER_CALL}


def _group(
    cases: list[dict[str, Any]], factors: list[tuple[np.ndarray, np.ndarray]], peer: str, plan: Plan
) -> Group:
    device, op = get_device("cpu"), Op.registry["matmul"]
    own = [replayed(partial(device.run, op, pair, {}), PRODUCTS_PER_CALL) for pair in factors]
    outputs = [np.empty((len(a), b.shape[1]), a.dtype) for a, b in factors]
    other = [partial(_numpy, a, b, y) for (a, b), y in zip(factors, outputs, strict=True)]
    return Group(cases, {MINIGAN: own, peer: other}, plan.matmul_seconds)


def _numpy(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
    for _ in range(PRODUCTS_PER_CALL):
        np.matmul(a, b, out=out)
    return out


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


# ------------------------------------------------------------------------------------------ report
def gflops(case: Case, contender: str) -> Quartiles:
    """Return the speed in 10^9 additions and multiplications per second."""
    work = 2e-9 * case["m"] * case["k"] * case["n"] * case["products_per_call"]
    return Quartiles.of(work / np.array(case["seconds"][contender]))


def report(cases: Sequence[Case], peer: str) -> str:
    """Return a table per batch size, and the means of the ratios."""
    layers = [case for case in cases if case["layer"] != SQUARE]
    rounds = len(cases[0]["seconds"][MINIGAN])
    blocks = [
        f"matmul: the products of the MLP GAN's layers, (m, k) by (k, n), float32, GFLOP/s\n"
        f"{', '.join(f'{letters} {product}' for letters, product in TRANSPOSES.items())}\n"
        f"minigan's as in a captured step, {peer}'s called from Python (about 1 us each)\n"
        f"median and quartiles of {rounds} rounds; ratio = minigan / {peer}, higher is better"
    ]
    heads = ["layer", "", "m", "k", "n", MINIGAN, "25..75 %", peer, "25..75 %"]
    for batch in dict.fromkeys(case["batch"] for case in layers):
        of_batch = [case for case in layers if case["batch"] == batch]
        rows = [_row(case, peer) for case in of_batch]
        table = format_table([*heads, "ratio", "25..75 %"], rows, left=2)
        blocks.append(f"batch {batch}\n{table}\n{_summary(of_batch, peer)}")
    if len(blocks) > 2:
        blocks.append(f"all batch sizes\n{_summary(layers, peer)}")
    blocks += [_peak(case, layers, peer) for case in cases if case["layer"] == SQUARE]
    return "\n\n".join(blocks)


def _row(case: Case, peer: str) -> list[str]:
    sizes = [str(case[letter]) for letter in "mkn"]
    values = (gflops(case, MINIGAN), gflops(case, peer), ratio(case, peer))
    cells = [cell for quartiles in values for cell in format_quartiles(quartiles)]
    return [case["layer"], case["transposes"], *sizes, *cells]


def _summary(cases: Sequence[Case], peer: str) -> str:
    ratios = [ratio(case, peer).median for case in cases]
    slowest = cases[int(np.argmin(ratios))]
    return (
        f"ratio: geometric mean {format_number(geometric_mean(ratios))},"
        f" minimum {format_number(min(ratios))}"
        f" ({slowest['layer']} {slowest['transposes']}, batch {slowest['batch']})"
    )


def _peak(case: Case, layers: Sequence[Case], peer: str) -> str:
    edge = case["m"]
    lines = [f"peak, GFLOP/s: {edge} x {edge} x {edge} product, and the fastest of the above"]
    for name in (MINIGAN, peer):
        square = format_number(gflops(case, name).median)
        fastest = format_number(max(gflops(layer, name).median for layer in layers))
        lines.append(f"  {name:<10} {square:>5} {fastest:>7}")
    lines.append(f"  {'ratio':<10} {format_number(ratio(case, peer).median):>5}")
    return "\n".join(lines)
