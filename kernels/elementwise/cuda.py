"""Launch elementwise kernels on a GPU, one for each op's line in `cuda.cu`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.cuda.launcher import Launcher, ceil_div, strided_layout
from ..runtime.cuda.source_files import text_file
from ..runtime.strides import elements, padded, scalar
from .expressions import Expression, cuda_expression

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS_PER_BLOCK, PACKS = 64, 4  # As in cuda.cu; PACKS: of a thread, 1 if elements are bytes.
MAX_PACKS = 2**32  # of an array: their indices are 32-bit numbers
MAX_INPUTS = 3  # Every kernel has three inputs; null pointers stand for those that an op lacks.

# Each line of cuda.cu that begins with one of these macros defines an op's kernel. If a C function
# has the op's name, the kernel's name ends with an underscore.
_LINES = re.findall(r"^(FUNCTION|COMPARISON|MAP)\((\w+),", SOURCE.read_text(), re.MULTILINE)
KERNEL_NAMES = {
    kernel.rstrip("_"): kernel for _, kernel in _LINES if not kernel.startswith("cast_")
}
COMPARISONS = {kernel for kind, kernel in _LINES if kind == "COMPARISON"}
# The attributes that are p and q in an op's line.
ATTRIBUTES = {
    **dict.fromkeys(("leaky_relu", "leaky_relu_grad"), ("slope",)),
    **dict.fromkeys(("clip", "clip_grad"), ("low", "high")),
    "dropout": ("scale",),
}
BOOL, INT64 = np.dtype("bool"), np.dtype("int64")


def elementwise(gpu: Launcher, name: str, *inputs: Any, **attributes: Any) -> Any:
    """Compute an elementwise op of arrays, which broadcast, and numbers."""
    mask, values = ((), inputs) if name != "where" else (inputs[:1], inputs[1:])
    arrays = [x for x in values if hasattr(x, "dtype")]
    dtype = arrays[0].dtype if arrays else np.result_type(*values)
    if dtype == BOOL:
        if any(isinstance(x, int) and not isinstance(x, bool) for x in values):
            values = tuple(cast(gpu, x, INT64) if hasattr(x, "dtype") else x for x in values)
            dtype = INT64
        elif name in ("subtract", "negative", "sign"):
            raise TypeError(f"{name}: bool tensors are not accepted; convert with .to('int64')")
    out_dtype = BOOL if name in COMPARISONS else dtype
    numbers = [float(attributes[a]) for a in ATTRIBUTES.get(name, ())]
    return _map(gpu, KERNEL_NAMES[name], dtype, out_dtype, (*mask, *values), numbers)


def copy(gpu: Launcher, x: Any) -> Any:
    """Return a contiguous copy of x."""
    return _map(gpu, "copy", x.dtype, x.dtype, (x,), [])


def copy_to(gpu: Launcher, y: Any, x: Any) -> None:
    """Compute y[...] = x for an array or a number; y may have any strides, but not overlap x."""
    if y.size:
        _map(gpu, "copy", y.dtype, y.dtype, (x,), [], out=y)


def cast(gpu: Launcher, x: Any, dtype: Any) -> Any:
    """Return x converted to another dtype."""
    return _map(gpu, f"cast_{np.dtype(dtype).name}", x.dtype, np.dtype(dtype), (x,), [])


@cache
def _zero(dtype: np.dtype) -> np.generic:
    return dtype.type(0)


def _map(
    gpu: Launcher,
    kernel: str,
    dtype: np.dtype,
    out_dtype: np.dtype,
    inputs: tuple[Any, ...],
    numbers: list[float],
    source: Path = SOURCE,
    out: Any = None,
) -> Any:
    """Launch a kernel of cuda.cu on arrays and numbers that broadcast to a common shape.

    The result is `out`, which has that shape, or a new array.
    """
    if out is None:
        shapes = [x.shape for x in inputs if hasattr(x, "dtype")]
        shape = shapes[0] if all(s == shapes[0] for s in shapes) else np.broadcast_shapes(*shapes)
        y = gpu.empty(shape, out_dtype)
    else:
        shape, y = out.shape, out
    pack = 16 // dtype.itemsize  # elements of a vectorized access
    arguments: list[Any] = [y]
    strides = [elements(y)]
    aligned = y.size < MAX_PACKS * pack and gpu.address(y) % (pack * out_dtype.itemsize) == 0
    for k in range(MAX_INPUTS):
        x: Any = inputs[k] if k < len(inputs) else 0
        # Only the first input of `where` has another dtype than the rest.
        kind = BOOL if kernel == "where" and k == 0 else dtype
        if not hasattr(x, "dtype"):
            arguments += [None, scalar(x, kind) if k < len(inputs) else _zero(kind)]
            strides.append((0,) * len(shape))
            continue
        arguments += [x, _zero(kind)]
        strides.append(padded(elements(x), x.shape, len(shape)))
        aligned = aligned and gpu.address(x) % (pack * kind.itemsize) == 0
    p, q = ([scalar(number, dtype) for number in numbers] + [_zero(dtype)] * 2)[:2]
    layout = strided_layout(shape, tuple(strides), aligned=aligned)
    arguments += [p, q, layout]
    packs = PACKS if dtype.itemsize > 1 else 1
    per_thread = packs * pack if layout.vectorized else 1
    blocks = ceil_div(layout.size, THREADS_PER_BLOCK * per_thread)
    gpu.launch(source, kernel, dtype, (blocks,), (THREADS_PER_BLOCK,), arguments)
    return y


# ------------------------------------------------------------------------ expressions of your own
def compute(gpu: Launcher, expression: Expression, *inputs: Any, **attributes: Any) -> Any:
    """Compute a user's own expression of arrays, which broadcast, and numbers."""
    arrays = [x for x in inputs if hasattr(x, "dtype")]
    dtype = arrays[0].dtype
    out_dtype = BOOL if expression.is_comparison else dtype
    numbers = [float(attributes[name]) for name in expression.attributes]
    kernel, source = f"{expression.name}_", source_of(expression)
    return _map(gpu, kernel, dtype, out_dtype, inputs, numbers, source)


@cache
def source_of(expression: Expression) -> Path:
    """Return a file with the CUDA kernel of an expression: cuda.cu, with its line for all others.

    Raises:
        ValueError: the expression has more inputs or attributes than the kernels of cuda.cu.
    """
    inputs, attributes = expression.inputs, expression.attributes
    if len(inputs) > MAX_INPUTS or len(attributes) > 2:
        raise ValueError(
            f"{expression.text!r}: a CUDA kernel of an expression has at most {MAX_INPUTS} inputs"
            " and 2 attributes; op.kernel('cuda', FILE, launch) takes any kernel"
        )
    names = dict(zip((*inputs, *attributes), (*"abc"[: len(inputs)], *"pq"), strict=False))
    macro = "COMPARISON" if expression.is_comparison else "FUNCTION"
    line = f"{macro}({expression.name}_, {cuda_expression(expression.body, names)})\n"
    before = SOURCE.read_text().split("// -----", 1)[0]  # its first op follows
    return text_file(expression.name, before + line)


def _kernel(name: str) -> Callable[..., Any]:
    return lambda gpu, *inputs, **attributes: elementwise(gpu, name, *inputs, **attributes)


KERNELS = {**{name: _kernel(name) for name in KERNEL_NAMES if name != "copy"}, "cast": cast}
