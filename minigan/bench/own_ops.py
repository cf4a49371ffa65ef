"""`minigan bench --op NAME`: any op's kernels beside its numpy reference, at the size of training.

The op's first sample is drawn with its sizes multiplied by one factor, so that the largest input
has about ELEMENTS elements. So no list says how to call an op.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, TextIO

import numpy as np

from ..engine.check_cases import Case, case_of, scaled
from ..engine.device import Device, get_device
from ..engine.op import Op
from ..engine.tensor import Tensor
from .harness import check_options, progress_bar
from .table import format_number, format_quartiles, format_table
from .timing import Call, Group, Quartiles, measure, ratio

ELEMENTS = 2**20
SECONDS, REST_SECONDS = 0.2, 0.02  # of each case in a round; of a sleep between contenders
NUMPY = "numpy reference"


def run(
    op: Op, devices: Sequence[str] = ("cpu",), *, repeats: int = 9, output: TextIO | None = None
) -> dict[str, Any]:
    """Time an op's first sample, enlarged, on devices and in numpy; print a table.

    Raises:
        ValueError: the op has no samples, or there are no rounds.
    """
    check_options(repeats, None)
    if not op.samples:
        raise ValueError(f"{op.name}: it has no samples, whose shapes would be enlarged")
    case = _largest(op)
    arrays = case.draw("float32", 0)
    calls: dict[str, list[Call]] = {NUMPY: [partial(op.reference, *arrays, **case.attributes)]}
    waits: dict[str, Call] = {}
    for name in devices:
        device = get_device(name)
        inputs = [_place(device, x) for x in arrays]
        calls[name] = [partial(op, *inputs, **case.attributes)]
        calls[name][0]()  # compiles the kernel
        waits[name] = device.synchronize
    shapes = ", ".join(str(getattr(x, "shape", x)) for x in arrays)
    group = Group([{"op": op.name, "inputs": shapes}], calls, SECONDS, waits)
    with progress_bar(op.name, repeats * len(calls)) as bar, np.errstate(all="ignore"):
        (result,) = measure(group, repeats, REST_SECONDS, bar.update)
    rows = []
    for name in calls:
        milliseconds = 1e3 * np.array(result["seconds"][name])
        times = ratio(result, NUMPY, name)
        rows.append(
            [name, *format_quartiles(Quartiles.of(milliseconds)), format_number(times.median)]
        )
    heads = ["contender", "ms", "25..75 %", "numpy / it"]
    text = f"{op.name}({shapes}), float32; median and quartiles of {repeats} rounds"
    print(f"{text}\n{format_table(heads, rows)}", file=output or sys.stdout, flush=True)
    return result


def _largest(op: Op) -> Case:
    """Return the first sample, enlarged as far as the op accepts it."""
    first = case_of(op.samples[0])
    elements = ELEMENTS
    while elements > 1:
        case = scaled(first, elements)
        if case is None:
            break
        try:
            xs = [_place(get_device("reference"), x) for x in case.draw("float32", 0)]
            op(*xs, **case.attributes)
            return case
        except Exception:  # whatever the reference raises for sizes that do not fit its attributes
            elements //= 64
    return first


def _place(device: Device, x: Any) -> Any:
    return Tensor(device.from_numpy(x), device) if isinstance(x, np.ndarray) else x
