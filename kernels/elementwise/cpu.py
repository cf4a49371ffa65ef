"""Elementwise kernels for the CPU, each generated from one expression.

From `"tanh_grad": "g y -> g * (T(1) - y * y)"` this file writes, per dtype T, the source of a
function and compiles it on first use:

    tanh_grad_float32(out, g, .., y, .., layout, begin, end)       a span of the output

`kernel_source("tanh_grad", "float32")` shows it. Inputs broadcast and may be any views: each is
flat memory, an offset and strides. Adjacent axes that every operand walks with one stride are
merged first, so that contiguous operands of equal shape are one long row.
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

# name: "inputs ; attributes -> expression". T(c) is the constant c in the kernel's dtype.
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
    "relu": "x -> T(0) if x <= T(0) else x",
    "relu_grad": "g x -> T(0) if x <= T(0) else g",
    "leaky_relu": "x ; slope -> x if x > T(0) else x * slope",
    "leaky_relu_grad": "g x ; slope -> g if x > T(0) else g * slope",
    "abs": "x -> abs(x)",
    "sign": "x -> T(x > T(0)) - T(x < T(0)) if x == x else x",
    "maximum": "a b -> a if a >= b or a != a else b",
    "minimum": "a b -> a if a <= b or a != a else b",
    "tie_weight": "a b -> (T(a > b) + T(a >= b)) * T(0.5)",
    "clip": "x ; low high -> low if x < low else (high if x > high else x)",
    "clip_grad": "g x ; low high -> g if x >= low and x <= high else T(0)",
    "where": "c a b -> a if c else b",
    "greater": "a b -> a > b",
    "greater_equal": "a b -> a >= b",
    "less": "a b -> a < b",
    "less_equal": "a b -> a <= b",
    "equal": "a b -> a == b",
    "not_equal": "a b -> a != b",
    "cross_entropy": "p t -> -t * at_least(log(p), T(-100))"
    " - (T(1) - t) * at_least(log1p(-p), T(-100))",
    "copy": "x -> x",
}
# What the expressions may call.
NAMES = {
    "__name__": __name__,
    "numba": numba,
    **{name: getattr(math, name) for name in ("cos", "log", "log1p", "sin", "sqrt")},
    **{name: getattr(functions, name) for name in ("exp", "tanh", "log1p_unit", "at_least")},
}
COMPARISONS = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"}
# Elements below which a second thread costs more than it saves; fewer where each is dear.
GRAIN = 1048576
DEAR = {
    **dict.fromkeys(("exp", "tanh", "sigmoid", "softplus"), 262144),
    **dict.fromkeys(("log", "power", "cross_entropy"), 32768),
}


def _parse(name: str) -> tuple[list[str], list[str], str]:
    head, expression = EXPRESSIONS[name].split("->")
    inputs, _, attributes = head.partition(";")
    return inputs.split(), attributes.split(), expression.strip()


def kernel_source(name: str, dtype: str) -> str:
    """The generated source of kernel `name` for inputs of `dtype`."""
    inputs, attributes, expression = _parse(name)
    function = f"{name}_{dtype}"
    operands = ", ".join(f"{x}_memory, {x}_start" for x in inputs)
    arguments = ", ".join(["out", operands, "layout", *attributes])
    numbered = list(enumerate(inputs, 1))  # row i of the layout holds the strides of input i
    # How each input advances along the innermost axis: by one, not at all, or by its stride.
    # The first two are what LLVM vectorises.
    reads = {"1": "{0}_row[i]", "0": "{0}_row[0]", "n": "{0}_memory[{0}_at + i * {0}_step]"}
    cases = ["1" * len(inputs), *(["10", "01"] if len(inputs) == 2 else []), "n" * len(inputs)]
    loops: list[str] = []
    for case in cases:
        pairs = list(zip(inputs, case, strict=True))
        test = " and ".join(f"{x}_step == {s}" for x, s in pairs)
        word = "else" if "n" in case else f"{'elif' if loops else 'if'} {test}"
        loops += [
            f"        {word}:",
            "            for i in range(size):",
            *(f"                {x} = {reads[s].format(x)}" for x, s in pairs),
            f"                out_row[i] = {expression}",
        ]
    lines = [
        f"def {function}({arguments}, begin, end):",
        "    last = layout.shape[1] - 1",
        "    width = layout[0, last]",
        *(f"    {x}_step = layout[{i}, last]" for i, x in numbered),
        "    while begin < end:",
        "        line = begin // width",
        "        column = begin - line * width",
        "        size = min(width - column, end - begin)",
        *(f"        {x}_at = {x}_start + column * {x}_step" for x in inputs),
        "        for axis in range(last - 1, -1, -1):",
        "            position = line % layout[0, axis]",
        "            line //= layout[0, axis]",
        *(f"            {x}_at += position * layout[{i}, axis]" for i, x in numbered),
        "        out_row = out[begin : begin + size]",
        *(f"        {x}_row = {x}_memory[{x}_at :]" for x in inputs),
        *loops,
        "        begin += size",
    ]
    return "\n".join(lines) + "\n"


@cache
def _compiled(name: str, dtype: np.dtype) -> Callable[..., None]:
    """The kernel; numba compiles it when it is first called."""
    source = kernel_source(name, dtype.name)
    file = f"<minigan {name} {dtype.name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)  # for tracebacks
    space = dict(NAMES, T=getattr(numba, dtype.name))
    exec(compile(source, file, "exec"), space)
    return jit(space[f"{name}_{dtype.name}"])


def elementwise(name: str, *inputs: Any, **attributes: Any) -> np.ndarray:
    """Run kernel `name` on arrays and numbers of one dtype (and a bool mask, for `where`)."""
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
        memory, start, steps = flat(x)
        operands += [memory, start]
        strides.append(steps if x.shape == shape else padded(steps, x.shape, len(shape)))
    merged = layout(shape, tuple(strides))
    numbers = [scalar(attributes[a], dtype) for a in _parse(name)[1]] if attributes else []
    kernel = _compiled(name, dtype)
    many = parts(out.size, DEAR.get(name, GRAIN))
    launch(kernel, out.reshape(-1), *operands, merged, *numbers, over=out.size, parts=many)
    return out


def cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """x in another dtype."""
    return elementwise("copy", x, dtype=np.dtype(dtype))


FLOATS_ONLY = True  # integers and bools run their numpy reference
KERNELS: dict[str, Callable[..., np.ndarray]] = {
    **{name: partial(elementwise, name) for name in EXPRESSIONS if name != "copy"},
    "cast": cast,
}
