"""Write the tables of `minigan bench --device-code` into the kernels' READMEs.

    python -m minigan.bench.device_code_readme      # in a checkout

The README of each folder of `kernels` that has CUDA kernels gets the table for compute capability
9.0, between two markers.
"""

from __future__ import annotations

import sys
from typing import Any

from .device_code import DTYPE, NOTE, families, is_product, measure, others_per_pack
from .gpus import GPUS
from .readme import replace_block
from .table import format_markdown, format_number

CAPABILITY, GPU = "9.0", "H200"
BEGIN = "<!-- device code: written by `python -m minigan.bench.device_code_readme` -->"
END = "<!-- device code end -->"
HEADS = ("kernel", "threads", "registers", "shared bytes", "resident threads", "hot path",
         "multiply-adds", "bytes", "others / 16 bytes", f"{GPU}, at most")  # fmt: skip
LEGEND = (
    "Resident threads: per multiprocessor, as registers and shared memory limit them (and the"
    " occupancy). The hot path is\nthe number of instructions of the main loop (L) or of the whole"
    " kernel, with the multiply-adds among them and the\nbytes of global memory that a thread"
    " moves. Others are instructions that are neither arithmetic nor access to memory.\nAt most:"
    " the limit of speed that follows, its share of the GPU's roof, and what limits it"
    " ([how](../../minigan/bench/README.md#device-code)).\nNo kernel spills registers."
)


def block(cases: list[dict[str, Any]]) -> str:
    """Return a README's text on the machine code of its kernels, markers included.

    Raises:
        ValueError: a kernel spills registers, which the text denies.
    """
    spilled = [case["kernel"] for case in cases if case["local_bytes"]]
    if spilled:
        raise ValueError(f"these kernels spill registers: {', '.join(spilled)}")
    title = f"### Machine code\nFor compute capability {CAPABILITY}, {DTYPE}: **{NOTE}**."
    table = format_markdown(HEADS, [_row(case) for case in cases])
    return "\n\n".join([BEGIN, title, table, LEGEND, END])


def _row(case: dict[str, Any]) -> list[str]:
    count, fmas, prediction = case["instructions"], case["multiply_adds"], case["predictions"][GPU]
    others = others_per_pack(case)
    name, unit = ("flops", "TFLOP/s") if is_product(case) else ("bytes", "TB/s")
    speed = f"{format_number(1e-12 * prediction[name])} {unit}"
    return [
        case["kernel"].rstrip("_"),
        str(case["threads"]),
        str(case["registers"]),
        str(case["shared_bytes"]),
        f"{case['resident_threads']} ({case['occupancy']:.0%})",
        f"{count}{' L' if case['loop'] else ''}",
        f"{fmas} ({fmas / count:.2f})" if fmas else "-",
        str(case["bytes"]),
        "-" if others is None else format_number(others),
        f"{speed}, {prediction['share']:.0%}, {prediction['limit']}",
    ]


def main() -> None:
    """Rewrite the README beside each family's CUDA kernels."""
    for name, source in families().items():
        cases = list(measure(name, source, CAPABILITY, {GPU: GPUS[GPU]}))
        replace_block(source.with_name("README.md"), BEGIN, END, block(cases))
        print(f"{source.with_name('README.md')}: {len(cases)} kernels", file=sys.stderr)


if __name__ == "__main__":
    main()
