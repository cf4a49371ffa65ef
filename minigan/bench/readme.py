"""Write GPU results into the README: `python -m minigan.bench.readme minigan/bench/README.md`.

The results are JSON files that `minigan bench --devices cpu,cuda --json FILE` has written to the
folder `measured` beside the README: one part of text for each, in the order of their names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..kernels.runtime.files import atomic_write
from .device_report import crossover, describe_crossover, format_speed
from .kernels import KERNELS
from .table import format_markdown, format_number
from .timing import Case, ratio

BEGIN = "<!-- GPU figures: written by `python -m minigan.bench.readme minigan/bench/README.md` -->"
END = "<!-- GPU figures end -->"
MEASURED = "measured"  # the folder of results, beside the README
NOTHING = (
    "Nothing has been measured on a GPU yet. If you have one, run in the checkout\n"
    "`minigan bench --devices cpu,cuda --json minigan/bench/measured/NAME.json`, then\n"
    "`python -m minigan.bench.readme minigan/bench/README.md`, which writes the results here, with"
    " driver and date."
)
DEVICES = ["cpu", "cuda"]
PEERS = ("PyTorch", "cuBLAS", "cuDNN", "copy")
STEPS = {"PyTorch": "eager", "PyTorch, CUDA graph": "CUDA graph", "PyTorch, compiled": "compiled"}


def block(folder: Path) -> str:
    """Return the README's text on GPUs, markers included, from the JSON files of a folder.

    Raises:
        ValueError: a file holds no results of a CPU and a GPU (the emulator is not one).
    """
    parts = [_part(path) for path in sorted(folder.glob("*.json"))]
    return "\n".join([BEGIN, "\n\n".join(parts or [NOTHING]), END])


def rewrite(readme: Path) -> None:
    """Replace the text between the README's markers.

    Raises:
        ValueError: the README does not have each marker once, in order; or as in `block`.
    """
    replace_block(readme, BEGIN, END, block(readme.absolute().parent / MEASURED))


def replace_block(readme: Path, begin: str, end: str, text: str) -> None:
    """Replace the lines from `begin` to `end` of a file by a text that has both.

    Raises:
        ValueError: the file does not have each line once, in order.
    """
    old = readme.read_text()
    if [old.count(begin), old.count(end)] != [1, 1] or old.index(begin) > old.index(end):
        raise ValueError(f"{readme}: one line {begin!r} and one {end!r} below it are needed")
    new = old.split(begin)[0] + text + old.split(end)[1]
    atomic_write(readme, lambda file: file.write(new.encode()))


def _part(path: Path) -> str:
    result = json.loads(path.read_text())
    gpu = result.get("machine", {}).get("devices", {}).get("cuda", {})
    if result.get("devices") != DEVICES or "gpu" not in gpu:
        raise ValueError(
            f"{path}: devices {result.get('devices')}; the README takes results of {DEVICES}, where"
            " cuda is a GPU"
        )
    tables = [_kernels(result["series"])]
    if "step" in result["series"]:
        tables.append(_steps(result["series"]["step"]))
        skipped = result.get("skipped", {}).get("step", {})
        tables += [f"(-: {name} was not measured: {reason}.)" for name, reason in skipped.items()]
    return "\n\n".join([_machine(result, gpu), *filter(None, tables)])


def _machine(result: Mapping[str, Any], gpu: Mapping[str, str]) -> str:
    machine = result["machine"]
    versions = {**machine["packages"], "cupy": gpu["cupy"]}
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return (
        f"**{gpu['gpu']}**, {gpu['memory']}, capability {gpu['capability']}, driver"
        f" {machine['driver'] or 'unknown'} ({gpu['driver']}), beside {machine['threads']} threads"
        f" of {machine['processor']}; {machine['date']}; Python {machine['python']}, {packages}."
        f" Medians of {result['repeats']} interleaved rounds."
    )


def _kernels(series: Mapping[str, Any]) -> str:
    """Return a table of kernels: the GPU beside the CPU and beside its peers.

    The CPU is compared at the largest size that both measured, the peers at the GPU's largest size.
    """
    rows = []
    for name, cases in series.items():
        on_gpu, on_both = (
            [case for case in cases if case["seconds"].keys() >= set(devices)]
            for devices in (DEVICES[1:], DEVICES)
        )
        if name not in KERNELS or not on_both:
            continue
        row = [KERNELS[name].about, KERNELS[name].unit]
        row.append(describe_crossover(crossover(cases, *DEVICES)))
        row += _gpu_cells(on_both[-1], ("cpu",)) + _gpu_cells(on_gpu[-1], PEERS)
        rows.append(row)
    heads = ["kernel", "unit", "GPU faster", *(2 * ["n", "GPU", "beside", "ratio"])]
    return format_markdown(heads, rows, left=3)


def _gpu_cells(case: Case, names: Sequence[str]) -> list[str]:
    """Return four cells: size, the GPU's speed, the others' speeds, and the ratios."""
    others = [x for x in names if x in case["seconds"]]
    ratios = [format_number(ratio(case, x, own="cuda").median) for x in others]
    speeds = [f"{x} {format_speed(case, x)}" for x in others]
    return [
        f"{case['size']:,}",
        format_speed(case, "cuda"),
        ", ".join(speeds) or "-",
        ", ".join(ratios) or "-",
    ]


def _steps(cases: Sequence[Case]) -> str:
    """Return a table of training steps in milliseconds, a row per GAN and batch."""
    rows = [
        [
            f"{case['task']}, batch {case['batch']}",
            *(format_speed(case, x) for x in (*DEVICES, *STEPS)),
        ]
        for case in cases
    ]
    heads = ["training step, ms", "CPU", "GPU", *(f"PyTorch {x}" for x in STEPS.values())]
    return format_markdown(heads, rows, left=1)


def main(arguments: Sequence[str]) -> None:
    """Rewrite the README whose path is the one argument; exit with one line on an error."""
    try:
        if len(arguments) != 1:
            raise ValueError(f"{len(arguments)} arguments; the path of one README is needed")
        rewrite(Path(arguments[0]))
    except (ValueError, OSError) as error:
        sys.exit(f"python -m minigan.bench.readme minigan/bench/README.md: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
