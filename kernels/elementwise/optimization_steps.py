"""The rungs below cpu.py. `python -m minigan.kernels.elementwise.optimization_steps` measures them.

`RUNGS[title](op, x)` is a fresh C-contiguous array; `op` is "leaky_relu" (slope 0.2) or "tanh",
x a float32 or float64 array of any strides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import prange

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, flat, layout
from ..runtime.timing import medians
from . import cpu, functions

LEAKY_RELU, LIBM_TANH, POLYNOMIAL_TANH = range(3)
WITH_CALLS = {"leaky_relu": LEAKY_RELU, "tanh": LIBM_TANH}
INLINED = {"leaky_relu": LEAKY_RELU, "tanh": POLYNOMIAL_TANH}
SLOPE = 0.2


# --------------------------------------------------------------------------------------- numpy
def by_numpy(op: str, x: np.ndarray) -> np.ndarray:
    """A pass over memory, and a temporary array, for every operator of the formula."""
    if op == "leaky_relu":
        return np.ascontiguousarray(np.where(x > 0, x, x * x.dtype.type(SLOPE)))
    e = np.expm1(np.abs(x) * -2)
    return np.ascontiguousarray(np.copysign(-e / (e + 2), x))


# -------------------------------------------------------------------- one loop, by one core
# `layout` holds the shape (row 0) and the strides of x over it (row 1).
@jit
def _value(op, x, slope):
    """What is done to an element."""
    if op == LIBM_TANH:
        return math.tanh(x)
    if op == POLYNOMIAL_TANH:
        return functions.tanh(x)
    return x if x > 0 else x * slope


@jit
def by_element(op, slope, out, x, start, layout):
    """Where an element lies is worked out from its number: a division for each axis."""
    for i in range(out.size):
        at = start
        rest = i
        for axis in range(layout.shape[1] - 1, -1, -1):
            at += rest % layout[0, axis] * layout[1, axis]
            rest //= layout[0, axis]
        out[i] = _value(op, x[at], slope)


@jit
def _line_start(line, start, layout):
    """Where line `line` of the innermost axis begins."""
    at = start
    for axis in range(layout.shape[1] - 2, -1, -1):
        at += line % layout[0, axis] * layout[1, axis]
        line //= layout[0, axis]
    return at


@jit
def by_line(op, slope, out, x, start, layout):
    """That is done once a line, which is then walked by its stride."""
    width, step = layout[0, -1], layout[1, -1]
    for first in range(0, out.size, width):
        at = _line_start(first // width, start, layout)
        for i in range(width):
            out[first + i] = _value(op, x[at + i * step], slope)


@jit
def by_unit_line(op, slope, out, x, start, layout):
    """Lines of neighbours (stride 1) get a loop of their own."""
    width, step = layout[0, -1], layout[1, -1]
    for first in range(0, out.size, width):
        at = _line_start(first // width, start, layout)
        if step == 1:
            for i in range(width):
                out[first + i] = _value(op, x[at + i], slope)
        else:
            for i in range(width):
                out[first + i] = _value(op, x[at + i * step], slope)


@jit
def _line(op, out, x, slope):
    """Straight-line code would be computed for every op and then chosen from: so, a loop each."""
    if op == LIBM_TANH:
        for i in range(out.size):
            out[i] = math.tanh(x[i])
    elif op == POLYNOMIAL_TANH:
        for i in range(out.size):
            out[i] = functions.tanh(x[i])
    else:
        for i in range(out.size):
            out[i] = x[i] if x[i] > 0 else x[i] * slope


@jit
def by_slice(op, slope, out, x, start, layout):
    """They are cut out first and walked from 0: the compiler sees that no index is negative."""
    width, step = layout[0, -1], layout[1, -1]
    for first in range(0, out.size, width):
        at = _line_start(first // width, start, layout)
        if step == 1:
            _line(op, out[first : first + width], x[at:], slope)
        else:
            for i in range(width):
                out[first + i] = _value(op, x[at + i * step], slope)


# ------------------------------------------------------------------------------------- threads
@jit(parallel=True)
def over_elements(op, slope, out, x, start, layout):
    """Threads take elements. x is one line of stride 1 (see `_contiguous`)."""
    if op == POLYNOMIAL_TANH:
        for i in prange(layout[0, 0]):
            out[i] = functions.tanh(x[start + i])
    else:
        for i in prange(layout[0, 0]):
            out[i] = x[start + i] if x[start + i] > 0 else x[start + i] * slope


# ------------------------------------------------------------------------------------ the table
def _hosted(kernel: Any, codes: dict[str, int], op: str, x: np.ndarray) -> np.ndarray:
    out = empty(x.shape, x.dtype)
    if x.size:
        memory, start, strides = flat(x)
        merged = layout(x.shape, (strides,))
        kernel(codes[op], x.dtype.type(SLOPE), out.reshape(-1), memory, start, merged)
    return out


def _contiguous(op: str, x: np.ndarray) -> np.ndarray:
    return _hosted(over_elements, INLINED, op, np.ascontiguousarray(x))


def _shipped(op: str, x: np.ndarray) -> np.ndarray:
    return cpu.elementwise(op, x, **({"slope": SLOPE} if op == "leaky_relu" else {}))


RUNGS: dict[str, Callable[[str, np.ndarray], np.ndarray]] = {
    "numpy, a temporary per operator": by_numpy,
    "one loop, index arithmetic": partial(_hosted, by_element, WITH_CALLS),
    "line by line": partial(_hosted, by_line, WITH_CALLS),
    "lines of stride 1 apart": partial(_hosted, by_unit_line, WITH_CALLS),
    "lines as slices": partial(_hosted, by_slice, WITH_CALLS),
    "no calls in the loop": partial(_hosted, by_slice, INLINED),
    "threads over elements": _contiguous,
    "threads over slices (cpu.py)": _shipped,
}


def measure() -> None:
    """Print nanoseconds per element for 64 and 1,024 digits of 28 x 28."""
    generator = np.random.default_rng(0)
    for count in (64, 1024):
        x = generator.standard_normal((count, 784), np.float32)
        for op in INLINED:
            calls = {title: partial(rung, op, x) for title, rung in RUNGS.items()}
            peers = {"np.tanh": partial(np.tanh, x)} if op == "tanh" else {}
            for title, seconds in medians({**calls, **peers}, 31).items():
                print(f"{count:5} {op:10}  {title:32} {seconds / x.size * 1e9:7.3f} ns")


if __name__ == "__main__":
    measure()
