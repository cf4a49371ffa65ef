"""`python -m minigan.bench.readme README.md`: writes what was measured on GPUs into the README.

The figures are files that `minigan bench --devices cpu,cuda --json FILE` has written, kept in the
folder minigan/bench/measured beside the README: a part for each, in the order of their names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..kernels.runtime.files import atomic_write
from .device_report import best, crossover, faster_from
from .kernels import KERNELS
from .table import number
from .timing import ratio

BEGIN = "<!-- GPU figures: written by `python -m minigan.bench.readme README.md` -->"
END = "<!-- GPU figures end -->"
KEPT = Path("minigan", "bench", "measured")
NOTHING = (
    "**On a GPU** nothing has been measured yet. Who has one can change that, in the checkout:\n"
    "`minigan bench --devices cpu,cuda --json minigan/bench/measured/NAME.json` measures, and\n"
    "`python -m minigan.bench.readme README.md` writes what it found here, with driver and date."
)
DEVICES = ["cpu", "cuda"]
PEERS = ("PyTorch", "cuBLAS", "cuDNN", "copy")
STEPS = {"PyTorch": "eager", "PyTorch, CUDA graph": "CUDA graph", "PyTorch, compiled": "compiled"}


def block(folder: Path) -> str:
    """The README's lines on GPUs, markers included, from the JSON files of a folder.

    Raises:
        ValueError: a file holds no figures of a CPU and a GPU; the emulator is none.
    """
    parts = [_part(path) for path in sorted(folder.glob("*.json"))]
    return "\n".join([BEGIN, "\n\n".join(parts or [NOTHING]), END])


def rewrite(readme: Path) -> None:
    """Put the block where the README's markers are.

    Raises:
        ValueError: it does not have each marker once, in order; a file of figures is refused.
    """
    text = readme.read_text()
    if [text.count(BEGIN), text.count(END)] != [1, 1] or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{readme}: one line {BEGIN!r} and one {END!r} below it are needed")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    new = before + block(readme.absolute().parent / KEPT) + after
    atomic_write(readme, lambda file: file.write(new.encode()))


def _part(path: Path) -> str:
    result = json.loads(path.read_text())
    found = result.get("machine", {}).get("devices", {}).get("cuda", {})
    if result.get("devices") != DEVICES or "gpu" not in found:
        raise ValueError(
            f"{path}: devices {result.get('devices')}; the README takes figures of {DEVICES}, where"
            " cuda is a GPU"
        )
    tables = [_kernels(result["series"])]
    if "step" in result["series"]:
        tables.append(_steps(result["series"]["step"]))
    return "\n\n".join([_machine(result, found), *filter(None, tables)])


def _machine(result: Mapping[str, Any], gpu: Mapping[str, str]) -> str:
    machine = result["machine"]
    versions = {**machine["packages"], "cupy": gpu["cupy"]}
    listed = ", ".join(f"{name} {found}" for name, found in versions.items() if found)
    return (
        f"**{gpu['gpu']}**, {gpu['memory']}, capability {gpu['capability']}, driver"
        f" {machine['driver'] or 'unknown'} ({gpu['driver']}), beside {machine['threads']} threads"
        f" of {machine['processor']}; {machine['date']}; Python {machine['python']}, {listed}."
        f" Medians of {result['repeats']} interleaved rounds."
    )


def _kernels(series: Mapping[str, Any]) -> str:
    """A row per kernel: the CPU at the largest size that it measured, the peers at the GPU's."""
    rows = []
    for name, cases in series.items():
        own, both = (
            [case for case in cases if case["seconds"].keys() >= set(devices)]
            for devices in (DEVICES[1:], DEVICES)
        )
        if name not in KERNELS or not both:
            continue
        cells = [KERNELS[name].about, KERNELS[name].unit, faster_from(crossover(cases, *DEVICES))]
        for case, rivals in ((both[-1], ("cpu",)), (own[-1], PEERS)):
            beside = [x for x in rivals if x in case["seconds"]]
            ratios = [number(ratio(case, x, own="cuda").median) for x in beside]
            cells += [f"{case['size']:,}", best(case, "cuda")]
            cells.append(", ".join(f"{x} {best(case, x)}" for x in beside) or "-")
            cells.append(", ".join(ratios) or "-")
        rows.append(cells)
    heads = ["kernel", "in", "GPU faster", *(2 * ["n", "GPU", "beside", "ratio"])]
    return _markdown(heads, rows, left=3)


def _steps(cases: Sequence[Mapping[str, Any]]) -> str:
    """A row per GAN and batch, in milliseconds."""
    rows = [
        [f"{case['game']}, batch {case['batch']}", *(best(case, x) for x in (*DEVICES, *STEPS))]
        for case in cases
    ]
    heads = ["training step, ms", "CPU", "GPU", *(f"PyTorch {x}" for x in STEPS.values())]
    return _markdown(heads, rows, left=1)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    if not rows:
        return ""
    rule = ["---" if i < left else "---:" for i in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *rows])


if __name__ == "__main__":
    try:
        (name,) = sys.argv[1:]
        rewrite(Path(name))
    except (ValueError, OSError) as error:
        sys.exit(f"python -m minigan.bench.readme README.md: {error}")
