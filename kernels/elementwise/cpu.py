"""Elementwise kernels for the CPU, each generated from one expression.

For the expression `"tanh_grad": "g y -> g * (T(1) - y * y)"` and a dtype T this module generates
the source of a function, and numba compiles it at its first call:

    tanh_grad_float32(out, g_memory, g_offset, y_memory, y_offset, layout, begin, end)

    for each row of the elements begin..end:       threads share out the elements
        find where the row starts in each input    one division per axis that was not merged
        for i in the row:                          vectorized by LLVM
            out[i] = expression

`kernel_source("tanh_grad", "float32")` returns that source. Inputs broadcast and may be views with
any strides: each is passed as flat memory, the offset of its first element, and its strides.

Optimizations:
    - Loop fusion: one pass over memory, and no temporary arrays.
    - Adjacent axes that all operands traverse with one stride are merged: contiguous operands of
      equal shape are one long row.
    - Rows of unit stride, and rows of one repeated element, have loops of their own over slices,
      which LLVM vectorizes.
    - float32 exp, tanh and log1p are polynomials instead of calls (`functions.py`).
    - Multithreading from MIN_PARALLEL_ELEMENTS elements on.
"""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numba
import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, flat, launch, layout, parts
from ..runtime.strides import padded, scalar
from . import functions
from .c_math import c_function
from .expressions import Expression, called

# Op name: "inputs ; attributes -> expression". T(c) is the constant c in the kernel's dtype.
EXPRESSIONS = {
    "add": "a b -> a + b",
    "subtract": "a b -> a - b",
    "multiply": "a b -> a * b",
    "divide": "a b -> a / b",
    "negative": "x -> -x",
    "power": "x p -> x ** p",
    "exp": "x -> exp(x)",
    "log": "x -> log(x)",
    "sqrt": "x -> sqrt(x)",
    "sigmoid": "x -> T(1) / (T(1) + exp(-x))",
    "sigmoid_grad": "g y -> g * y * (T(1) - y)",
    "tanh": "x -> tanh(x)",
    "tanh_grad": "g y -> g * (T(1) - y * y)",
    "softplus": "x -> at_least(x, T(0)) + log1p_unit(exp(-abs(x)))",
    "gelu": "x -> x * T(0.5) * erfc(-x * T(0.7071067811865476))",
    "gelu_grad": "g x -> g * (T(0.5) * erfc(-x * T(0.7071067811865476))"
    " + x * exp(x * x * T(-0.5)) * T(0.3989422804014327))",
    "relu": "x -> T(0) if x <= T(0) else x",
    "relu_grad": "g x -> T(0) if x <= T(0) else g",
    "leaky_relu": "x ; slope -> x if x > T(0) else x * slope",
    "leaky_relu_grad": "g x ; slope -> g if x > T(0) else g * slope",
    "abs": "x -> abs(x)",
    "sign": "x -> T(x > T(0)) - T(x < T(0)) if x == x else x",
    "maximum": "a b -> a if a >= b or a != a else b",
    "minimum": "a b -> a if a <= b or a != a else b",
    "tie_grad": "g a b -> T(0) if a < b else (g * T(0.5) if a == b else g)",
    "dropout": "x mask ; scale -> x * scale if mask > T(0.5) else T(0)",
    "clip": "x ; low high -> low if x < low else (high if x > high else x)",
    "clip_grad": "g x ; low high -> g if x >= low and x <= high else T(0)",
    "where": "c a b -> a if c else b",
    "greater": "a b -> a > b",
    "greater_equal": "a b -> a >= b",
    "less": "a b -> a < b",
    "less_equal": "a b -> a <= b",
    "equal": "a b -> a == b",
    "not_equal": "a b -> a != b",
    "binary_cross_entropy": "p t -> -t * at_least(log(p), T(-100))"
    " - (T(1) - t) * at_least(log1p(-p), T(-100))",
    "copy": "x -> x",
}
# The globals of the generated functions, among them functions that an expression may call. All
# others that it calls are C's (`c_math.py`).
EXPRESSION_GLOBALS = {
    "__name__": __name__,
    "numba": numba,
    **{name: getattr(math, name) for name in ("cos", "erfc", "log", "log1p", "sin", "sqrt")},
    **{name: getattr(functions, name) for name in ("exp", "tanh", "log1p_unit", "at_least")},
}
COMPARISONS = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"}
# With fewer elements, a second thread costs more than it saves. Ops that take longer per element
# need fewer.
MIN_PARALLEL_ELEMENTS = 1048576
MIN_PARALLEL_ELEMENTS_BY_OP = {
    **dict.fromkeys(("exp", "tanh", "sigmoid", "softplus"), 262144),
    **dict.fromkeys(("log", "power", "binary_cross_entropy", "gelu", "gelu_grad"), 32768),
}


_own_names: set[str] = set()  # of expressions that `define` has added


def define(expression: Expression) -> str:
    """Add an expression of a user's own to the table; return the name of its kernel."""
    name = expression.name
    EXPRESSIONS[name] = expression.text
    _own_names.add(name)
    if expression.is_comparison:
        COMPARISONS.add(name)
    if called(expression.text.split("->")[1].strip()).keys() - {"T", "abs"}:
        MIN_PARALLEL_ELEMENTS_BY_OP[name] = MIN_PARALLEL_ELEMENTS_BY_OP["log"]
    return name


def _parse(name: str) -> tuple[list[str], list[str], str]:
    """Return the input names, the attribute names and the expression of kernel `name`."""
    head, expression = EXPRESSIONS[name].split("->")
    inputs, _, attributes = head.partition(";")
    return inputs.split(), attributes.split(), expression.strip()


def _inner_loops(inputs: list[str], expression: str) -> list[str]:
    """Return the source lines of the loops over one row, one loop for each kind of strides.

    An input advances along the innermost axis by one element ("1"), not at all ("0"), or by its
    stride ("n"). LLVM vectorizes the loops of the first two kinds.
    """
    reads = {"1": "{0}_row[i]", "0": "{0}_row[0]", "n": "{0}_memory[{0}_start + i * {0}_stride]"}
    mixed = {2: ["10", "01"], 3: ["110"]}.get(len(inputs), [])
    cases = ["1" * len(inputs), *mixed, "n" * len(inputs)]
    lines: list[str] = []
    for case in cases:
        pairs = list(zip(inputs, case, strict=True))
        test = " and ".join(f"{x}_stride == {stride}" for x, stride in pairs)
        branch = "else" if "n" in case else f"{'elif' if lines else 'if'} {test}"
        lines += [
            f"        {branch}:",
            "            for i in range(size):",
            *(f"                {x} = {reads[stride].format(x)}" for x, stride in pairs),
            f"                out_row[i] = {expression}",
        ]
    return lines


def kernel_source(name: str, dtype: str) -> str:
    """Return the generated source of kernel `name` for inputs of `dtype`."""
    inputs, attributes, expression = _parse(name)
    operands = ", ".join(f"{x}_memory, {x}_offset" for x in inputs)
    arguments = ", ".join(["out", operands, "layout", *attributes])
    numbered = list(enumerate(inputs, 1))  # row i of the layout holds the strides of input i
    lines = [
        f"def {name}_{dtype}({arguments}, begin, end):",
        "    last = layout.shape[1] - 1",
        "    row_length = layout[0, last]",
        *(f"    {x}_stride = layout[{i}, last]" for i, x in numbered),
        "    while begin < end:",
        "        row = begin // row_length",
        "        column = begin - row * row_length",
        "        size = min(row_length - column, end - begin)",
        *(f"        {x}_start = {x}_offset + column * {x}_stride" for x in inputs),
        "        for axis in range(last - 1, -1, -1):",
        "            index = row % layout[0, axis]",
        "            row //= layout[0, axis]",
        *(f"            {x}_start += index * layout[{i}, axis]" for i, x in numbered),
        "        out_row = out[begin : begin + size]",
        *(f"        {x}_row = {x}_memory[{x}_start :]" for x in inputs),
        *_inner_loops(inputs, expression),
        "        begin += size",
    ]
    return "\n".join(lines) + "\n"


@cache
def _compile(name: str, dtype: np.dtype) -> Callable[..., None]:
    """Return kernel `name` for `dtype`; numba compiles it at its first call."""
    source = kernel_source(name, dtype.name)
    file = f"<minigan {name} {dtype.name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # for tracebacks
    namespace = dict(EXPRESSION_GLOBALS, T=getattr(numba, dtype.name))
    for function, count in called(_parse(name)[2]).items():
        if function not in namespace and function != "abs":
            namespace[function] = c_function(function, dtype.name, count)
    exec(compile(source, file, "exec"), namespace)
    kernel = jit(namespace[f"{name}_{dtype.name}"])
    # Another process does not know the expressions of `define`.
    kernel.reference = None if name in _own_names else (__name__, "_compile", (name, dtype))
    return kernel


def elementwise(name: str, *inputs: Any, **attributes: Any) -> np.ndarray:
    """Compute kernel `name` of arrays and numbers that broadcast; return a new array.

    The inputs have one dtype, but for the bool mask of `where`. The result has that dtype, bool
    for a comparison, or the attribute `dtype` (for `cast`).
    """
    arrays = [x for x in inputs if isinstance(x, np.ndarray)]
    dtype = arrays[-1].dtype if arrays[-1].dtype.kind == "f" else arrays[0].dtype
    if "dtype" in attributes:
        dtype = attributes.pop("dtype")
    shape = arrays[0].shape
    if any(x.shape != shape for x in arrays):
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
    out = empty(shape, np.bool_ if name in COMPARISONS else dtype)
    if not out.size:
        return out
    operands: list[Any] = []
    strides: list[tuple[int, ...]] = []
    for x in inputs:
        if not isinstance(x, np.ndarray):
            operands += [np.array([scalar(x, dtype)]), 0]
            strides.append((0,) * len(shape))
            continue
        memory, offset, own_strides = flat(x)
        operands += [memory, offset]
        strides.append(
            own_strides if x.shape == shape else padded(own_strides, x.shape, len(shape))
        )
    merged = layout(shape, tuple(strides))
    numbers = [scalar(attributes[a], dtype) for a in _parse(name)[1]] if attributes else []
    arguments = out.reshape(-1), *operands, merged, *numbers
    part_count = parts(out.size, MIN_PARALLEL_ELEMENTS_BY_OP.get(name, MIN_PARALLEL_ELEMENTS))
    launch(_compile(name, dtype), *arguments, over=out.size, parts=part_count)
    return out


def cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a copy of x converted to `dtype`."""
    return elementwise("copy", x, dtype=np.dtype(dtype))


FLOATS_ONLY = True  # integers and bools are computed by the numpy reference
KERNELS: dict[str, Callable[..., np.ndarray]] = {
    **{name: partial(elementwise, name) for name in EXPRESSIONS if name != "copy"},
    "cast": cast,
}
