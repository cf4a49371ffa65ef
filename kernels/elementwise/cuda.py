"""Elementwise kernels on a GPU: what each op's line in `cuda.cu` is launched with."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.cuda.launcher import Launcher, blocks, walk
from ..runtime.strides import elements, padded, scalar

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS = 256  # of a block
INPUTS = 3  # that each kernel takes, absent ones as null

# Each line of cuda.cu that begins so makes an op's kernel. What C calls by an op's name already has
# an underscore behind it there.
_LINES = re.findall(r"^(FUNCTION|COMPARISON|MAP)\((\w+),", SOURCE.read_text(), re.MULTILINE)
KERNEL_OF = {kernel.rstrip("_"): kernel for _, kernel in _LINES if not kernel.startswith("cast_")}
COMPARISONS = {kernel for kind, kernel in _LINES if kind == "COMPARISON"}
# What p and q are in an op's line.
ATTRIBUTES = {
    **dict.fromkeys(("leaky_relu", "leaky_relu_grad"), ("slope",)),
    **dict.fromkeys(("clip", "clip_grad"), ("low", "high")),
}
BOOL, INT64 = np.dtype("bool"), np.dtype("int64")


def elementwise(gpu: Launcher, name: str, *inputs: Any, **attributes: Any) -> Any:
    """Run the kernel of op `name` on arrays, which broadcast, and numbers."""
    mask, values = ((), inputs) if name != "where" else (inputs[:1], inputs[1:])
    arrays = [x for x in values if hasattr(x, "dtype")]
    dtype = arrays[0].dtype if arrays else np.result_type(*values)
    if dtype == BOOL:
        if any(isinstance(x, int) and not isinstance(x, bool) for x in values):
            values = tuple(cast(gpu, x, INT64) if hasattr(x, "dtype") else x for x in values)
            dtype = INT64
        elif name in ("subtract", "negative", "sign"):
            raise TypeError(f"{name}: bool tensors have none; convert one with .to('int64')")
    out_dtype = BOOL if name in COMPARISONS else dtype
    numbers = [float(attributes[a]) for a in ATTRIBUTES.get(name, ())]
    return _map(gpu, KERNEL_OF[name], dtype, out_dtype, (*mask, *values), numbers)


def copy(gpu: Launcher, x: Any) -> Any:
    """x in new, contiguous memory."""
    return _map(gpu, "copy", x.dtype, x.dtype, (x,), [])


def cast(gpu: Launcher, x: Any, dtype: Any) -> Any:
    """x in another dtype."""
    return _map(gpu, f"cast_{np.dtype(dtype).name}", x.dtype, np.dtype(dtype), (x,), [])


def _map(
    gpu: Launcher,
    kernel: str,
    dtype: np.dtype,
    out_dtype: np.dtype,
    inputs: tuple[Any, ...],
    numbers: list[float],
) -> Any:
    shapes = [x.shape for x in inputs if hasattr(x, "dtype")]
    shape = shapes[0] if all(s == shapes[0] for s in shapes) else np.broadcast_shapes(*shapes)
    y = gpu.empty(shape, out_dtype)
    lanes = 16 // dtype.itemsize
    arguments: list[Any] = [y]
    strides, aligned = [elements(y)], True
    for k in range(INPUTS):
        x: Any = inputs[k] if k < len(inputs) else 0
        # The first input of `where` alone is of a dtype of its own.
        kind = BOOL if kernel == "where" and k == 0 else dtype
        if not hasattr(x, "dtype"):
            arguments += [None, scalar(x, kind)]
            strides.append((0,) * len(shape))
            continue
        arguments += [x, kind.type(0)]
        strides.append(padded(elements(x), x.shape, len(shape)))
        aligned = aligned and gpu.address(x) % (lanes * kind.itemsize) == 0
    p, q = (*numbers, 0.0, 0.0)[:2]
    path = walk(shape, tuple(strides), packed=aligned)
    # What the packs leave over takes a thread per element.
    count = path.size // lanes + path.size % lanes if path.packed else path.size
    arguments += [scalar(p, dtype), scalar(q, dtype), path]
    gpu.launch(SOURCE, kernel, dtype, (blocks(count, THREADS),), (THREADS,), arguments)
    return y


def _kernel(name: str) -> Callable[..., Any]:
    return lambda gpu, *inputs, **attributes: elementwise(gpu, name, *inputs, **attributes)


KERNELS = {**{name: _kernel(name) for name in KERNEL_OF if name != "copy"}, "cast": cast}
