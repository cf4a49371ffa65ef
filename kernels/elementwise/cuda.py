"""Elementwise kernels on a GPU: what each op's line in `cuda.cu` is launched with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.launcher import Launcher, blocks, walk
from ..runtime.strides import elements, padded

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS = 256  # of a block
INPUTS = 3  # that each kernel takes, absent ones as null

# op: its attributes, in the order p, q. What a C library calls by the same name ends in _ there.
FLOATS_AND_MORE = ("add", "subtract", "multiply", "negative", "abs", "sign", "where")
COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
FLOATS = (
    *("divide", "power", "exp", "log", "sqrt", "sigmoid", "sigmoid_grad", "tanh", "tanh_grad"),
    *("softplus", "relu", "relu_grad", "leaky_relu", "leaky_relu_grad", "maximum", "minimum"),
    *("preference", "clip", "clip_grad", "cross_entropy"),
)
ATTRIBUTES = {
    **dict.fromkeys((*FLOATS_AND_MORE, *COMPARISONS, *FLOATS), ()),
    **dict.fromkeys(("leaky_relu", "leaky_relu_grad"), ("slope",)),
    **dict.fromkeys(("clip", "clip_grad"), ("low", "high")),
}
C_NAMES = ("abs", "exp", "log", "sqrt", "tanh")
BOOL, INT64 = np.dtype("bool"), np.dtype("int64")


def elementwise(gpu: Launcher, name: str, *inputs: Any, **attributes: Any) -> Any:
    """Run the kernel of op `name` on arrays, which broadcast, and numbers."""
    arrays = [x for x in inputs[name == "where" :] if hasattr(x, "dtype")]
    dtype = arrays[0].dtype if arrays else inputs[0].dtype
    if dtype == BOOL and (name in ("subtract", "negative", "sign") or _has_integer(inputs)):
        if not _has_integer(inputs):
            raise TypeError(f"{name}: bool tensors have no {name}; convert one with .to('int64')")
        inputs = tuple(cast(gpu, x, INT64) if hasattr(x, "dtype") else x for x in inputs)
        dtype = INT64
    kernel = f"{name}_" if name in C_NAMES else name
    numbers = [float(attributes[a]) for a in ATTRIBUTES[name]]
    return _map(gpu, kernel, dtype, BOOL if name in COMPARISONS else dtype, inputs, numbers)


def _has_integer(inputs: tuple[Any, ...]) -> bool:
    return any(isinstance(x, int) and not isinstance(x, bool) for x in inputs)


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
            arguments += [None, kind.type(x)]
            strides.append((0,) * len(shape))
            continue
        arguments += [x, kind.type(0)]
        strides.append(padded(elements(x), x.shape, len(shape)))
        aligned = aligned and gpu.address(x) % (lanes * kind.itemsize) == 0
    p, q = (*numbers, 0.0, 0.0)[:2]
    path = walk(shape, tuple(strides), packed=aligned)
    # What the packs leave over takes a thread per element.
    count = path.size // lanes + path.size % lanes if path.packed else path.size
    arguments += [dtype.type(p), dtype.type(q), path]
    gpu.launch(SOURCE, kernel, dtype, (blocks(count, THREADS),), (THREADS,), arguments)
    return y


KERNELS: dict[str, Callable[..., Any]] = {
    **{
        name: partial(
            lambda gpu, *inputs, op, **given: elementwise(gpu, op, *inputs, **given), op=name
        )
        for name in ATTRIBUTES
    },
    "cast": cast,
}
