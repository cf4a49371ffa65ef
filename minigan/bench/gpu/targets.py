"""The speeds that minigan aims at on a GPU, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..kernels import KERNELS
from ..table import format_number
from ..timing import Case, ratio
from .parts import read_json
from .settings import SETTINGS

MET, MISSED, NOT_MEASURED = "met", "missed", "not measured"
LIBRARIES = ("cuBLAS", "cuDNN", "PyTorch")  # PyTorch's name of its kernel, on a GPU and on a CPU
PART_NAMES = ("kernels", "steps")  # the parts that measure them
MEMORY_BOUND = {
    "leaky_relu": "elementwise: LeakyReLU",
    "add": "elementwise: sum of two arrays",
    "exp": "elementwise: exp",
    "adam": "Adam's update",
    "transpose": "copy: transposed",
}


@dataclass(frozen=True)
class Target:
    """A ratio to reach: the peer's time / the device's, 1 if they are equally fast.

    Args:
        about: what is compared with what.
        part, series: where it was measured.
        case: the fields of the case.
        peers: the names that the peer may have.
        least: the smallest ratio that is aimed at.
    """

    about: str
    part: str
    series: str
    case: Mapping[str, Any]
    peers: tuple[str, ...]
    least: float


def targets(device: str) -> Iterator[Target]:
    """Yield the targets at the sizes of the device's settings, on a GPU 4096 and 2**26."""
    plan = SETTINGS[device].kernels
    edge, size = plan.edges[-1], plan.elements[-1]
    about = f"float32 product {edge} x {edge} x {edge} / cuBLAS, TF32 off"
    yield Target(about, "kernels", "matmul", {"size": edge}, LIBRARIES, 0.8)
    for name, title in MEMORY_BOUND.items():
        n = KERNELS[name].round_size(size)
        about = f"{title}, {n:,} elements / copy bandwidth"
        yield Target(about, "kernels", name, {"size": n}, ("copy",), 0.85)
    mlp, dcgan = {"task": "MLP", "batch": 64}, {"task": "DCGAN", "batch": 64}
    graph = ("PyTorch, CUDA graph",)
    yield Target("MLP step, batch 64 / PyTorch eager", "steps", "step", mlp, ("PyTorch",), 10.0)
    yield Target("MLP step, batch 64 / PyTorch's CUDA graph", "steps", "step", mlp, graph, 1.5)
    about = "DCGAN step, batch 64 / PyTorch's CUDA graph, with cuDNN"
    yield Target(about, "steps", "step", dcgan, graph, 1.0)


def evaluate(device: str, folder: Path, parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each target with the measured ratio, or with the reason why there is none.

    Args:
        device: the measured device.
        folder: that of the parts' JSON files.
        parts: the state of each part, as in summary.json.
    """
    return [_evaluate(target, device, folder, parts) for target in targets(device)]


def _evaluate(
    target: Target, device: str, folder: Path, parts: Mapping[str, Any]
) -> dict[str, Any]:
    line: dict[str, Any] = {"target": target.about, "least": target.least}
    result = read_json(folder / f"{target.part}.json") or {}
    names = (device, *target.peers)
    for case in result.get("series", {}).get(target.series, []):
        if target.case.items() <= case.items():
            peer = next((x for x in target.peers if x in case["seconds"]), None)
            if peer is not None and device in case["seconds"]:
                return {**line, **_measured(case, peer, device, target.least)}
            names = tuple(x for x in names if x not in case["seconds"])
    reason = _reason(target, names, result, parts[target.part])
    return {**line, "state": NOT_MEASURED, "reason": reason}


def _measured(case: Case, peer: str, device: str, least: float) -> dict[str, Any]:
    quartiles = ratio(case, peer, own=device)
    return {
        "state": MET if quartiles.median >= least else MISSED,
        "peer": peer,
        "ratio": quartiles.median,
        "quartiles": [quartiles.low, quartiles.high],
    }


def _reason(
    target: Target, names: Sequence[str], result: Mapping[str, Any], part: Mapping[str, Any]
) -> str:
    """Return why a ratio was not measured; `names` are the contenders that have no time."""
    if "series" in result:
        if target.series in result["failed"]:
            return f"{target.series} failed: {result['failed'][target.series]}"
        skipped = result["skipped"].get(target.series, {})
        for name in names:
            if name in skipped:
                return f"{name}: {skipped[name]}"
        if result["machine"]["packages"]["torch"] is None:
            return "PyTorch is not installed"
    if part["state"] != "done":
        return f"part {target.part}: {part['state']}{': ' * bool(part['reason'])}{part['reason']}"
    return f"there is no time of {' or '.join(names)}"


def describe(line: Mapping[str, Any]) -> list[str]:
    """Return the cells of a target: target, aim, measured, quartiles, met or not."""
    aim = f">= {format_number(line['least'])}"
    if line["state"] == NOT_MEASURED:
        return [line["target"], aim, "-", "-", f"{NOT_MEASURED}: {line['reason']}"]
    low, high = map(format_number, line["quartiles"])
    return [line["target"], aim, format_number(line["ratio"]), f"{low}..{high}", line["state"]]
