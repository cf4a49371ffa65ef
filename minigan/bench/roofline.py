"""`minigan bench kernels`: the CPU kernels beside the most that the machine can do, and numpy.

A kernel that computes F and moves B bytes takes at least max(F / fma rate, B / bandwidth) seconds:
its roof (Williams, Waterman and Patterson 2009, "Roofline"). The bandwidth is that of the memory
which holds the kernel's operands (cache-aware: Ilic, Pratas and Sousa 2014): it is measured at as
many bytes. Its pattern is y += x, and a kernel of another one can come out above its roof, a sum,
which stores nothing, or below: where a result goes to other memory than the operands', the
processor first loads what is to be overwritten.

minigan's kernels run as a captured step runs them, into memory that is already there; so do
numpy's, with `out=`. numpy has one thread but in products.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.device import get_device
from . import matmul, roofline_figure
from .kernels import KERNELS, Arrays, replayed
from .plan import Plan
from .table import cells, number, render
from .timing import Call, Group, geometric_mean, ratio

NUMPY = "numpy"
CACHED, MEMORY, PRODUCTS = "cached", "memory", "products"

# FLOP per element: + - * / and square roots as the kernels' sources have them, a fused
# multiply-add two. The normal numbers' are float64's, 36, each for two: it takes their place in a
# vector. Kernels that only move have none.
FLOPS = {
    **{"leaky_relu": 1, "exp": 23, "add": 1, "sum": 1, "adam": 16, "normal": 2 * 36},
    **{"normalize": 8, "normalize_grad": 15},
}
# Bytes per element that lie there, where they are not those that move: three of Adam's four arrays
# are read and written.
HELD = {"adam": 16}


# ------------------------------------------------------------------------------------------- peaks
def peaks(plan: Plan, threads: int) -> dict[str, Any]:
    """FLOP/s and, by the bytes that all threads walk over, byte/s; "levels" names some of those."""
    from ..kernels.runtime.cpu import peak

    levels = {
        "L1": threads * peak.CACHED,
        "L2": threads * plan.cached_bytes,
        "memory": plan.uncached_bytes,
    }
    sizes, size = set(levels.values()), levels["L1"]
    while size < max(sizes):
        sizes.add(size)
        size *= 2
    return {
        "fma": peak.fma_rate("float32", threads),
        "bandwidths": [[x, peak.bandwidth(x // threads, threads)] for x in sorted(sizes)],
        "levels": levels,
    }


def best(peaks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The highest of each rate that several calls of `peaks` have found."""
    rows = zip(*(found["bandwidths"] for found in peaks), strict=True)
    return {
        **peaks[0],
        "fma": max(found["fma"] for found in peaks),
        "bandwidths": [[row[0][0], max(rate for _, rate in row)] for row in rows],
    }


def bandwidth(found: Mapping[str, Any], size: int) -> float:
    """byte/s of the memory that holds so many bytes.

    A smaller memory is no slower: what a larger one has reached, it can reach too.
    """
    rates = [rate for bytes_, rate in found["bandwidths"] if bytes_ >= size]
    return max(rates, default=found["bandwidths"][-1][1])


def least(found: Mapping[str, Any], case: Mapping[str, Any]) -> float:
    """The seconds that the case takes at least: its roof."""
    moving = case["bytes"] / bandwidth(found, case["held"])
    return max(case["flops"] / found["fma"], moving)


# ------------------------------------------------------------------------------------------- calls
def _take(x: np.ndarray, rows: np.ndarray) -> Call:
    # With mode="raise", numpy takes the rows into a buffer first.
    return partial(np.take, x, rows.ravel(), axis=0, out=np.empty_like(x), mode="clip")


def _draw(position: np.ndarray, seed: np.ndarray, like: np.ndarray) -> Call:
    generator = np.random.Generator(np.random.Philox(0))
    return partial(generator.standard_normal, dtype=like.dtype, out=np.empty_like(like))


# What `bench.kernels.KERNELS` does, where numpy does it in one call.
PEERS: dict[str, Callable[..., Call]] = {
    "matmul": lambda a, b: partial(np.matmul, a, b, out=np.empty((len(a), b.shape[1]), a.dtype)),
    "exp": lambda x: partial(np.exp, x, out=np.empty_like(x)),
    "add": lambda a, b: partial(np.add, a, b, out=np.empty_like(a)),
    "sum": lambda x: partial(np.sum, x),
    "transpose": lambda x: partial(np.copyto, np.empty(x.shape[::-1], x.dtype), x.T),
    "gather": _take,
    "normal": _draw,
}


# ------------------------------------------------------------------------------------------- cases
def groups(plan: Plan, threads: int) -> list[Group]:
    """The GAN's products of the first batch size, then every kernel in a cache and in memory."""
    found = [_group(list(_products(plan)), True, plan)]
    for place, size in ((CACHED, threads * plan.cached_bytes), (MEMORY, plan.uncached_bytes)):
        for beside in (True, False):
            names = [name for name in KERNELS if (name in PEERS) == beside]
            tasks = [_sized(name, place, size) for name in names]
            found.append(_group(tasks, beside, plan))
    return found


def _group(tasks: Sequence[tuple[dict[str, Any], Arrays]], beside: bool, plan: Plan) -> Group:
    device = get_device("cpu")
    calls = {
        "minigan": [
            replayed(KERNELS[case["kernel"]].call(device, arrays)) for case, arrays in tasks
        ]
    }
    if beside:
        calls[NUMPY] = [PEERS[case["kernel"]](*arrays) for case, arrays in tasks]
    return Group([case for case, _ in tasks], calls, plan.kernel_seconds)


def _products(plan: Plan) -> Iterator[tuple[dict[str, Any], Arrays]]:
    game = plan.games[matmul.GAME]
    for layer, form, a, b in matmul.products(game, game.batches[0]):
        (m, k), n = a.shape, b.shape[1]
        size, flops = 4 * (m * k + k * n + m * n), 2 * m * k * n
        case = {"kernel": "matmul", "label": f"{layer} {form}", "place": PRODUCTS, "size": m}
        yield {**case, "bytes": size, "held": size, "flops": flops}, [a, b]


def _sized(name: str, place: str, size: int) -> tuple[dict[str, Any], Arrays]:
    """The kernel at the largest size whose arrays hold no more than `size` bytes."""
    kernel = KERNELS[name]
    held = (lambda n: n * HELD[name]) if name in HELD else kernel.bytes
    n = kernel.fit(bisect_right(range(size), size, key=held) - 1)
    flops = kernel.flops(n) if kernel.flops else n * FLOPS.get(name, 0)
    case = {"kernel": name, "label": name, "place": place, "size": n, "held": held(n)}
    return {**case, "bytes": kernel.bytes(n), "flops": flops}, kernel.arrays(n)


# ------------------------------------------------------------------------------------------ report
TITLES = {
    PRODUCTS: "the GAN's products, as in `minigan bench matmul`",
    CACHED: "every kernel at a size that the second-level caches hold",
    MEMORY: "every kernel at a size that no cache holds",
}
HEADS = ["", "n", "KiB", "FLOP/B", "GFLOP/s", "GB/s", "roof", "share", "25..75 %", "ratio"]


def share(found: Mapping[str, Any], case: Mapping[str, Any]) -> Any:
    """Of the roof, as a Spread."""
    roof = {"seconds": {"roof": [least(found, case)] * len(case["seconds"]["minigan"])}}
    roof["seconds"]["minigan"] = case["seconds"]["minigan"]
    return ratio(roof, "roof")


def report(found: Mapping[str, Any]) -> str:
    """The peaks, and a table for each place, from what `peaks` and `measure` gave."""
    cases = found["cases"]
    rounds = len(cases[0]["seconds"]["minigan"])
    lines = [
        "kernels: float32, each beside its roof, the least time that its arithmetic and its bytes"
        " take here",
        "roof in GFLOP/s, or in GB/s for what only moves and is in no figure; in brackets what sets"
        " it",
        f"median and quartiles of {rounds} rounds; ratio = {NUMPY}'s time / minigan's, higher is"
        " better",
        f"fused multiply-adds {number(found['fma'] / 1e9)} GFLOP/s; y += x in "
        + ", ".join(
            f"{name} {number(bandwidth(found, size) / 1e9)} GB/s"
            for name, size in found["levels"].items()
        ),
    ]
    blocks = ["\n".join(lines)]
    for place, title in TITLES.items():
        chosen = [case for case in cases if case["place"] == place]
        rows = [_row(found, case) for case in chosen]
        blocks.append(f"{title}\n{render([*HEADS, '25..75 %'], rows)}\n{_summary(found, chosen)}")
    return "\n\n".join(blocks)


def _row(found: Mapping[str, Any], case: Mapping[str, Any]) -> list[str]:
    seconds = float(np.median(case["seconds"]["minigan"]))
    flops, size, roof = case["flops"], case["bytes"], least(found, case)
    bound = "fma" if roof > size / bandwidth(found, case["held"]) else "bytes"
    return [
        case["label"],
        str(case["size"]),
        number(size / 1024),
        number(flops / size),
        number(1e-9 * flops / seconds) if flops else "-",
        number(1e-9 * size / seconds),
        f"{number(1e-9 * (flops or size) / roof)} ({bound})",
        *cells(share(found, case)),
        *(cells(ratio(case, NUMPY)) if NUMPY in case["seconds"] else ["-", ""]),
    ]


def _summary(found: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> str:
    means = {
        "share of the roof": [share(found, case).median for case in cases],
        f"ratio to {NUMPY}": [
            ratio(case, NUMPY).median for case in cases if NUMPY in case["seconds"]
        ],
    }
    return "geometric means: " + ", ".join(
        f"{what} {number(geometric_mean(values))}" for what, values in means.items()
    )


def draw(found: Mapping[str, Any], path: Path) -> None:
    """A PNG of every kernel that computes, below its roofs."""
    roofs = {name: bandwidth(found, size) for name, size in found["levels"].items()}
    roofline_figure.draw(found["fma"], roofs, found["cases"], path)
