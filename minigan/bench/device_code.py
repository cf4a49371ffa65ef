"""`minigan bench --device-code`: predict the CUDA kernels' speed from their machine code.

NVRTC compiles the kernels for a compute capability, NVIDIA's disassembler prints the machine code,
and the hot path of each kernel (`hot_path`) is compared with what a GPU can do. Nothing runs, so
no GPU is needed; and the result is a bound. A kernel may be slower, by bank conflicts, uncoalesced
access or barriers. It can be faster only where its data come from a cache, or where the hot path
is longer than what is executed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .. import kernels
from ..kernels.runtime.cuda import hot_path, nvrtc, sass
from ..utils.names import choose
from .gpus import GPUS, L2_LATENCY, LATENCY, LIMITS, SCHEDULERS, WARP, Gpu, resident_blocks
from .harness import FilePath, check_options, progress_bar, write_result
from .table import format_markdown, format_number, format_table

NOTE = "predicted from machine code, not measured"
DTYPE = np.dtype("float32")
PACK_BYTES = 16
# Families of matrix products. Their blocks load the same operands, which come from the L2 cache.
PRODUCTS = ("matmul", "conv2d")
# The CUDA kernel (family, name) that does the work of a benchmark in `bench.kernels` at its largest
# size, for those whose hot path moves each number once.
BENCHMARKED = {
    "matmul": ("matmul", "product_128"),
    "conv2d": ("conv2d", "forward_32"),
    "leaky_relu": ("elementwise", "leaky_relu"),
    "exp": ("elementwise", "exp_"),
    "add": ("elementwise", "add"),
    "sum": ("reduce", "sum_rows"),
    "transpose": ("shape", "transpose_64"),
    "adam": ("optimizer", "adam"),
}
HEADS = (
    "kernel",
    "threads",
    "registers",
    "spills",
    "shared",
    "resident",
    "hot path",
    "multiply-adds",
    "bytes",
    "widest",
    "others / 16 B",
)


def families() -> dict[str, Path]:
    """Return the folders that have CUDA kernels, by name."""
    root = Path(kernels.__file__).parent
    return {path.parent.name: path for path in sorted(root.glob("*/cuda.cu"))}


def run(
    names: Sequence[str] = (),
    *,
    capability: str = "9.0",
    output: TextIO | None = None,
    json_path: FilePath = None,
    figure_path: FilePath = None,
    markdown: bool = False,
) -> dict[str, Any]:
    """Print a table of each kernel's resources, hot path and predicted speed, and return them.

    Args:
        names: of kernel families (folders of `kernels`); none means all.
        capability: a compute capability of `LIMITS`.
        output: the stream for the tables; None: standard output.
        json_path: a file for the result as JSON.
        figure_path: a file for a PNG: the kernels below the roofs of the capability's GPUs.
        markdown: print Markdown tables.

    Raises:
        ValueError: an unknown name or capability.
        ImportError: NVRTC is not installed.
        FileNotFoundError: there is no disassembler.
    """
    sources = families()
    for name in names:
        choose("kernel family", name, sources)
    choose("compute capability", capability, LIMITS)
    check_options(1, json_path, figure_path)
    gpus = {name: gpu for name, gpu in GPUS.items() if gpu.capability == capability}
    output = output or sys.stdout
    chosen = list(dict.fromkeys(names)) or list(sources)
    cases: list[dict[str, Any]] = []
    with progress_bar("device code", len(chosen)) as bar:
        for name in chosen:
            cases += measure(name, sources[name], capability, gpus)
            bar.update()
    result: dict[str, Any] = {"note": NOTE, "capability": capability, "cases": cases}
    result["gpus"] = {name: asdict(gpu) for name, gpu in gpus.items()}
    print(report(result, markdown=markdown), file=output)
    result = write_result(result, json_path)
    if figure_path is not None:
        from .device_code_figure import draw

        draw(result, Path(figure_path))
    return result


def measure(
    family: str, source: Path, capability: str, gpus: dict[str, Gpu]
) -> Iterator[dict[str, Any]]:
    """Yield resources, hot path and predictions of each kernel of a file, in JSON types.

    Kernels that do not state the size of their blocks are launched with a single thread (the
    optimizers' coefficients), and are left out.
    """
    compiled = nvrtc.compile_for(source, DTYPE, capability)
    codes = sass.disassemble(compiled.cubin)
    for kernel, threads in sorted(compiled.threads.items()):
        registers, shared = compiled.registers[kernel], compiled.shared_bytes[kernel]
        blocks = resident_blocks(capability, threads, registers, shared)
        path = hot_path.find(codes[kernel])
        case = {
            "family": family,
            "kernel": kernel,
            "threads": threads,
            "registers": registers,
            "local_bytes": compiled.local_bytes[kernel],
            "shared_bytes": shared,
            "resident_threads": blocks * threads,
            "occupancy": blocks * threads / (LIMITS[capability].warps * WARP),
            "loop": path.is_loop,
            "instructions": len(path.instructions),
            "kinds": dict(path.kinds),
            "multiply_adds": path.multiply_adds,
            "bytes": path.global_bytes,
            "widest_access": path.widest_access,
            "bytes_in_flight": max(path.load_groups, default=0),
            "waits": len(path.load_groups),
        }
        yield {**case, "predictions": {name: predict(case, gpu) for name, gpu in gpus.items()}}


def predict_benchmarks(gpu_name: str) -> dict[str, float]:
    """Return by benchmark the predicted limit of its kernel's speed, in GFLOP/s or GB/s.

    Args:
        gpu_name: as the driver calls the GPU, such as "NVIDIA H200".

    Raises:
        ValueError: a GPU that is not in the table.
        ImportError: NVRTC is not installed.
        FileNotFoundError: there is no disassembler.
    """
    known = [name for name, gpu in GPUS.items() if gpu.driver_name == gpu_name]
    if not known:
        names = ", ".join(gpu.driver_name for gpu in GPUS.values())
        raise ValueError(f"{gpu_name!r} is not among the GPUs of the table: {names}")
    gpu, sources = GPUS[known[0]], families()
    cases = [
        case
        for family in dict.fromkeys(family for family, _ in BENCHMARKED.values())
        for case in measure(family, sources[family], gpu.capability, {known[0]: gpu})
    ]
    found = {(case["family"], case["kernel"]): case for case in cases}
    speeds = {}
    for name, key in BENCHMARKED.items():
        prediction = found[key]["predictions"][known[0]]
        speeds[name] = 1e-9 * prediction["flops" if is_product(found[key]) else "bytes"]
    return speeds


def predict(case: dict[str, Any], gpu: Gpu) -> dict[str, Any]:
    """Return the predicted limit of a kernel's speed on a GPU, and its share of the GPU's roof.

    The cycles that a multiprocessor takes for one hot path of a warp are at least:

    - issue: a scheduler issues one instruction a cycle;
    - float: the lanes for multiply-adds take one per cycle and lane;
    - memory: bytes over the multiprocessor's part of the bandwidth, for products that of the L2
      cache, where it is known;
    - latency (Little's law): a warp waits for each group of its loads, from global memory, for
      products from the L2 cache, while the resident warps take turns.

    The roof is what float and memory alone allow.
    """
    limits = LIMITS[gpu.capability]
    bandwidth = gpu.l2 if is_product(case) else gpu.memory
    per_cycle = (bandwidth or 0) / gpu.multiprocessors / gpu.clock  # bytes
    warps = max(1, case["resident_threads"] // WARP)
    cycles = {
        "issue": case["instructions"] / SCHEDULERS,
        "float": case["multiply_adds"] * WARP / limits.float_lanes,
        "memory": case["bytes"] * WARP / per_cycle if per_cycle else 0.0,
        "latency": case["waits"] * (L2_LATENCY if is_product(case) else LATENCY) / warps,
    }
    limit = max(cycles, key=lambda name: cycles[name])
    roof = max(cycles["float"], cycles["memory"])
    rate = WARP * gpu.multiprocessors * gpu.clock / cycles[limit]  # hot paths of a thread / s
    return {
        "limit": limit,
        "cycles": cycles,
        "share": roof / cycles[limit],
        "flops": 2 * case["multiply_adds"] * rate,
        "bytes": case["bytes"] * rate,
    }


def is_product(case: dict[str, Any]) -> bool:
    """Return whether the case is a matrix product, whose speed is in FLOP/s."""
    return case["family"] in PRODUCTS and case["multiply_adds"] > 0


def others_per_pack(case: dict[str, Any]) -> float | None:
    """Return the number of instructions but memory accesses and arithmetic, per 16 bytes moved."""
    others = case["kinds"].get("other", 0)
    return others / (case["bytes"] / PACK_BYTES) if case["bytes"] else None


# ------------------------------------------------------------------------------------------- report
def report(result: dict[str, Any], *, markdown: bool = False) -> str:
    """Return a table of the kernels, with a column for each GPU, below lines that explain it."""
    gpus = list(result["gpus"])
    heads = [*HEADS, *gpus]
    rows = [_row(case, gpus) for case in result["cases"]]
    lines = [
        f"Machine code for compute capability {result['capability']}, float32: {NOTE}.",
        "hot path: instructions of the main loop (L) or of the whole kernel; bytes: of global"
        " memory, per thread.",
        "GPU: the predicted limit of speed, its share of the GPU's roof, and what limits it.",
    ]
    text = format_markdown(heads, rows) if markdown else format_table(heads, rows)
    return "\n".join([*lines, "", text])


def _row(case: dict[str, Any], gpus: Iterable[str]) -> list[str]:
    count, fmas = case["instructions"], case["multiply_adds"]
    others = others_per_pack(case)
    return [
        f"{case['family']} {case['kernel'].rstrip('_')}",
        str(case["threads"]),
        str(case["registers"]),
        str(case["local_bytes"]),
        str(case["shared_bytes"]),
        f"{case['resident_threads']} ({case['occupancy']:.0%})",
        f"{count}{' L' if case['loop'] else ''}",
        f"{fmas} ({fmas / count:.2f})" if fmas else "-",
        str(case["bytes"]),
        str(case["widest_access"]),
        "-" if others is None else format_number(others),
        *(_prediction(case, case["predictions"][gpu]) for gpu in gpus),
    ]


def _prediction(case: dict[str, Any], prediction: dict[str, Any]) -> str:
    name, unit = ("flops", "TFLOP/s") if is_product(case) else ("bytes", "TB/s")
    speed = prediction[name]
    return f"{format_number(1e-12 * speed)} {unit} {prediction['share']:.0%} {prediction['limit']}"
