"""`minigan bench kernels`: the CPU kernels beside the peaks of the machine, and beside numpy.

A kernel that makes F additions and multiplications and moves B bytes takes at least
max(F / peak, B / bandwidth) seconds (Williams, Waterman and Patterson 2009, "Roofline"). The
bandwidth is that of the cache or memory that holds the kernel's operands (cache-aware: Ilic, Pratas
and Sousa 2014), measured at as many bytes. It is that of y += x, and a kernel with another access
pattern may reach more, as a sum does, which stores nothing, or less: a result that overwrites
memory other than the operands is first loaded by the processor.

minigan's kernels run as in a captured step, into memory that exists already; so do numpy's, with
`out=`. numpy uses one thread, except in matrix products.
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
from .table import format_number, format_quartiles, format_table
from .timing import (
    MINIGAN,
    Call,
    Case,
    Group,
    Quartiles,
    geometric_mean,
    median_seconds,
    ratio,
)

NUMPY = "numpy"
CACHED, MEMORY, PRODUCTS = "cached", "memory", "products"  # sections of the report

# FLOP per element: + - * / and square roots as in the kernels' sources, a fused multiply-add is
# two. The normal numbers' are 36 in float64, each counted twice: it takes the place of two float32
# numbers in a vector. Kernels that only move data have none.
FLOPS_PER_ELEMENT = {
    **{"leaky_relu": 1, "exp": 23, "add": 1, "sum": 1, "adam": 16, "normal": 2 * 36},
    **{"normalize": 8, "normalize_grad": 15},
}
# Bytes of the operands per element, where they are not the bytes that are moved: three of Adam's
# four arrays are both read and written.
OPERAND_BYTES_PER_ELEMENT = {"adam": 16}


# ------------------------------------------------------------------------------------------- peaks
def measure_peaks(plan: Plan, threads: int) -> dict[str, Any]:
    """Return the peak in FLOP/s, and [operand bytes of all threads, byte/s] for several sizes.

    "levels" names the sizes that stand for a cache or for memory.
    """
    from ..kernels.runtime.cpu import peak

    levels = {
        "L1": threads * peak.CACHED_BYTES,
        "L2": threads * plan.cached_bytes,
        "memory": plan.uncached_bytes,
    }
    sizes, size = set(levels.values()), levels["L1"]
    while size < max(sizes):
        sizes.add(size)
        size *= 2
    return {
        "flops_per_second": peak.fma_rate("float32", threads),
        "bandwidths": [[x, peak.bandwidth(x // threads, threads)] for x in sorted(sizes)],
        "levels": levels,
    }


def best_peaks(peaks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the highest of each rate that several calls of `measure_peaks` have measured."""
    rows = zip(*(x["bandwidths"] for x in peaks), strict=True)
    return {
        **peaks[0],
        "flops_per_second": max(x["flops_per_second"] for x in peaks),
        "bandwidths": [[row[0][0], max(rate for _, rate in row)] for row in rows],
    }


def bandwidth(peaks: Mapping[str, Any], size: int) -> float:
    """Return the byte/s of the cache or memory that holds `size` bytes.

    A smaller cache is no slower than a larger one, so it is the best rate at this or a larger size.
    """
    rates = [rate for measured_size, rate in peaks["bandwidths"] if measured_size >= size]
    return max(rates, default=peaks["bandwidths"][-1][1])


def lower_bound(peaks: Mapping[str, Any], case: Case) -> float:
    """Return the lower bound of the seconds of a case, by the roofline model."""
    moving = case["bytes"] / bandwidth(peaks, case["operand_bytes"])
    return max(case["flops"] / peaks["flops_per_second"], moving)


def fraction_of_bound(peaks: Mapping[str, Any], case: Case) -> Quartiles:
    """Return lower bound / measured time."""
    return Quartiles.of(lower_bound(peaks, case) / np.array(case["seconds"][MINIGAN]))


# ------------------------------------------------------------------------------------------- calls
def _numpy_gather(x: np.ndarray, rows: np.ndarray) -> Call:
    # With mode="raise", numpy copies the rows to a buffer first.
    return partial(np.take, x, rows.ravel(), axis=0, out=np.empty_like(x), mode="clip")


def _numpy_normal(position: np.ndarray, seed: np.ndarray, like: np.ndarray) -> Call:
    generator = np.random.Generator(np.random.Philox(0))
    return partial(generator.standard_normal, dtype=like.dtype, out=np.empty_like(like))


# The kernels of `bench.kernels.KERNELS` that numpy computes in one call.
PEERS: dict[str, Callable[..., Call]] = {
    "matmul": lambda a, b: partial(np.matmul, a, b, out=np.empty((len(a), b.shape[1]), a.dtype)),
    "exp": lambda x: partial(np.exp, x, out=np.empty_like(x)),
    "add": lambda a, b: partial(np.add, a, b, out=np.empty_like(a)),
    "sum": lambda x: partial(np.sum, x),
    "transpose": lambda x: partial(np.copyto, np.empty(x.shape[::-1], x.dtype), x.T),
    "gather": _numpy_gather,
    "normal": _numpy_normal,
}


# ------------------------------------------------------------------------------------------- cases
def groups(plan: Plan, threads: int) -> list[Group]:
    """Return the GAN's products at the first batch size, then every kernel in cache and memory."""
    results = [_group(list(_products(plan)), True, plan)]
    for section, size in ((CACHED, threads * plan.cached_bytes), (MEMORY, plan.uncached_bytes)):
        for has_peer in (True, False):
            names = [name for name in KERNELS if (name in PEERS) == has_peer]
            cases = [_largest_case(name, section, size) for name in names]
            results.append(_group(cases, has_peer, plan))
    return results


def _group(cases: Sequence[tuple[dict[str, Any], Arrays]], has_peer: bool, plan: Plan) -> Group:
    device = get_device("cpu")
    own = [replayed(KERNELS[case["kernel"]].call(device, arrays)) for case, arrays in cases]
    calls = {MINIGAN: own}
    if has_peer:
        calls[NUMPY] = [PEERS[case["kernel"]](*arrays) for case, arrays in cases]
    return Group([case for case, _ in cases], calls, plan.kernel_seconds)


def _products(plan: Plan) -> Iterator[tuple[dict[str, Any], Arrays]]:
    task = plan.tasks[matmul.TASK]
    for layer, transposes, a, b in matmul.products(task, task.batches[0]):
        (m, k), n = a.shape, b.shape[1]
        size, flops = 4 * (m * k + k * n + m * n), 2 * m * k * n
        label = f"{layer} {transposes}"
        case = {"kernel": "matmul", "label": label, "section": PRODUCTS, "size": m}
        yield {**case, "bytes": size, "operand_bytes": size, "flops": flops}, [a, b]


def _largest_case(name: str, section: str, max_bytes: int) -> tuple[dict[str, Any], Arrays]:
    """Return the kernel at the largest size whose operands take at most `max_bytes`."""
    kernel = KERNELS[name]
    per_element = OPERAND_BYTES_PER_ELEMENT.get(name)
    operand_bytes = (lambda n: n * per_element) if per_element else kernel.bytes
    n = kernel.round_size(bisect_right(range(max_bytes), max_bytes, key=operand_bytes) - 1)
    flops = kernel.flops(n) if kernel.flops else n * FLOPS_PER_ELEMENT.get(name, 0)
    case = {"kernel": name, "label": name, "section": section, "size": n}
    work = {"operand_bytes": operand_bytes(n), "bytes": kernel.bytes(n), "flops": flops}
    return {**case, **work}, kernel.arrays(n)


# ------------------------------------------------------------------------------------------ report
TITLES = {
    PRODUCTS: "the GAN's products, as in `minigan bench matmul`",
    CACHED: "every kernel at a size that fits the L2 caches",
    MEMORY: "every kernel at a size that fits no cache",
}
HEADS = ["", "n", "KiB", "FLOP/B", "GFLOP/s", "GB/s", "attainable", "reached", "25..75 %", "ratio"]


def report(result: Mapping[str, Any]) -> str:
    """Return the peaks, and a table for each section.

    Args:
        result: of `best_peaks`, with "cases" that were measured.
    """
    cases = result["cases"]
    rounds = len(cases[0]["seconds"][MINIGAN])
    bandwidths = ", ".join(
        f"{name} {format_number(bandwidth(result, size) / 1e9)} GB/s"
        for name, size in result["levels"].items()
    )
    lines = [
        "kernels: float32; attainable = the speed at the lower bound of the time, by the roofline"
        " model,",
        "in GFLOP/s, or in GB/s for kernels that only move data, which are not in the figure; in"
        " brackets the limit",
        f"median and quartiles of {rounds} rounds; ratio = {NUMPY}'s time / minigan's, higher is"
        " better",
        f"fused multiply-adds {format_number(result['flops_per_second'] / 1e9)} GFLOP/s;"
        f" y += x in {bandwidths}",
    ]
    blocks = ["\n".join(lines)]
    for section, title in TITLES.items():
        section_cases = [case for case in cases if case["section"] == section]
        rows = [_row(result, case) for case in section_cases]
        table = format_table([*HEADS, "25..75 %"], rows)
        blocks.append(f"{title}\n{table}\n{_summary(result, section_cases)}")
    return "\n\n".join(blocks)


def _row(peaks: Mapping[str, Any], case: Case) -> list[str]:
    seconds = median_seconds(case)
    flops, size, least_seconds = case["flops"], case["bytes"], lower_bound(peaks, case)
    is_compute_bound = least_seconds > size / bandwidth(peaks, case["operand_bytes"])
    limit = "fma" if is_compute_bound else "bytes"
    return [
        case["label"],
        str(case["size"]),
        format_number(size / 1024),
        format_number(flops / size),
        format_number(1e-9 * flops / seconds) if flops else "-",
        format_number(1e-9 * size / seconds),
        f"{format_number(1e-9 * (flops or size) / least_seconds)} ({limit})",
        *format_quartiles(fraction_of_bound(peaks, case)),
        *(format_quartiles(ratio(case, NUMPY)) if NUMPY in case["seconds"] else ["-", ""]),
    ]


def _summary(peaks: Mapping[str, Any], cases: Sequence[Case]) -> str:
    means = {
        "reached": [fraction_of_bound(peaks, case).median for case in cases],
        f"ratio to {NUMPY}": [
            ratio(case, NUMPY).median for case in cases if NUMPY in case["seconds"]
        ],
    }
    return "geometric means: " + ", ".join(
        f"{name} {format_number(geometric_mean(values))}" for name, values in means.items()
    )


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of the roofline and every kernel that computes."""
    bandwidths = {name: bandwidth(result, size) for name, size in result["levels"].items()}
    roofline_figure.draw(result["flops_per_second"], bandwidths, result["cases"], path)
