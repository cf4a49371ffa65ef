"""The optimization steps that lead to `cpu.py`, for LeakyReLU and tanh.

`STEPS[title](op, x)` returns a new C-contiguous array. `op` is "leaky_relu" (slope 0.2) or "tanh",
x is a float32 or float64 array of any strides.
`python -m minigan.kernels.elementwise.optimization_steps` measures the steps.
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

# The op that a kernel computes is a number, so that one compiled kernel serves both ops.
LEAKY_RELU, LIBM_TANH, POLYNOMIAL_TANH = range(3)
WITH_CALLS = {"leaky_relu": LEAKY_RELU, "tanh": LIBM_TANH}
INLINED = {"leaky_relu": LEAKY_RELU, "tanh": POLYNOMIAL_TANH}
SLOPE = 0.2


# --------------------------------------------------------------------------------------- numpy
def by_numpy(op: str, x: np.ndarray) -> np.ndarray:
    """Compute the formula with numpy: one pass and one temporary array for each operator."""
    if op == "leaky_relu":
        return np.ascontiguousarray(np.where(x > 0, x, x * x.dtype.type(SLOPE)))
    e = np.expm1(np.abs(x) * -2)
    return np.ascontiguousarray(np.copysign(-e / (e + 2), x))


# ------------------------------------------------------------------------- loops on one thread
# Row 0 of `layout` is the shape, row 1 the strides of x.
@jit
def _value(op, x, slope):
    """Return the op of one element."""
    if op == LIBM_TANH:
        return math.tanh(x)
    if op == POLYNOMIAL_TANH:
        return functions.tanh(x)
    return x if x > 0 else x * slope


@jit
def by_element(op, slope, out, x, offset, layout):
    """Compute all elements in one loop.

    for each element i:
        find x's element          a division for each axis
        out[i] = op(x)

    Optimizations:
        - Loop fusion: one pass over memory, no temporary arrays.
    """
    for i in range(out.size):
        position = offset
        rest = i
        for axis in range(layout.shape[1] - 1, -1, -1):
            position += rest % layout[0, axis] * layout[1, axis]
            rest //= layout[0, axis]
        out[i] = _value(op, x[position], slope)


@jit
def _row_start(row, offset, layout):
    """Return the position in memory where row `row` of the innermost axis begins."""
    position = offset
    for axis in range(layout.shape[1] - 2, -1, -1):
        position += row % layout[0, axis] * layout[1, axis]
        row //= layout[0, axis]
    return position


@jit
def by_row(op, slope, out, x, offset, layout):
    """Compute row by row.

    for each row of the innermost axis:
        find the row's start in x     a division for each other axis
        for i in the row:
            out[i] = op(x)

    Optimizations:
        - Index arithmetic once per row: it is hoisted out of the inner loop.
    """
    row_length, stride = layout[0, -1], layout[1, -1]
    for first in range(0, out.size, row_length):
        position = _row_start(first // row_length, offset, layout)
        for i in range(row_length):
            out[first + i] = _value(op, x[position + i * stride], slope)


@jit
def by_unit_stride_row(op, slope, out, x, offset, layout):
    """Compute row by row, with a second loop for rows of unit stride.

    Optimizations:
        - As before, and the inner loop of a row of unit stride has no multiplication.
    """
    row_length, stride = layout[0, -1], layout[1, -1]
    for first in range(0, out.size, row_length):
        position = _row_start(first // row_length, offset, layout)
        if stride == 1:
            for i in range(row_length):
                out[first + i] = _value(op, x[position + i], slope)
        else:
            for i in range(row_length):
                out[first + i] = _value(op, x[position + i * stride], slope)


@jit
def _compute_row(op, out, x, slope):
    """Compute one row of unit stride.

    Each op has a loop of its own: where a loop selects between ops without calls, LLVM computes
    all of them for every element and then selects.
    """
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
def by_slice(op, slope, out, x, offset, layout):
    """Compute row by row, each row a slice.

    Optimizations:
        - As before, and vectorized access: a row of unit stride is sliced first and indexed from
          0. So the compiler knows that no index is negative, and vectorizes the loop.
        - With POLYNOMIAL_TANH, no call in the inner loop: so tanh is vectorized, too.
    """
    row_length, stride = layout[0, -1], layout[1, -1]
    for first in range(0, out.size, row_length):
        position = _row_start(first // row_length, offset, layout)
        if stride == 1:
            _compute_row(op, out[first : first + row_length], x[position:], slope)
        else:
            for i in range(row_length):
                out[first + i] = _value(op, x[position + i * stride], slope)


# ------------------------------------------------------------------------------ multithreading
@jit(parallel=True)
def over_elements(op, slope, out, x, offset, layout):
    """Compute one contiguous row, its elements shared among threads.

    for i in the row:                 prange: threads share out the elements
        out[i] = op(x[offset + i])

    Optimizations:
        - Multithreading. The index offset + i prevents vectorization again.
    """
    if op == POLYNOMIAL_TANH:
        for i in prange(layout[0, 0]):
            out[i] = functions.tanh(x[offset + i])
    else:
        for i in prange(layout[0, 0]):
            out[i] = x[offset + i] if x[offset + i] > 0 else x[offset + i] * slope


# ----------------------------------------------------------------------------------- the steps
def _run(kernel: Any, codes: dict[str, int], op: str, x: np.ndarray) -> np.ndarray:
    """Run one of the loops above; `codes` are the numbers that stand for the ops."""
    out = empty(x.shape, x.dtype)
    if x.size:
        memory, offset, strides = flat(x)
        merged = layout(x.shape, (strides,))
        kernel(codes[op], x.dtype.type(SLOPE), out.reshape(-1), memory, offset, merged)
    return out


def _over_elements(op: str, x: np.ndarray) -> np.ndarray:
    return _run(over_elements, INLINED, op, np.ascontiguousarray(x))


def _cpu(op: str, x: np.ndarray) -> np.ndarray:
    return cpu.elementwise(op, x, **({"slope": SLOPE} if op == "leaky_relu" else {}))


STEPS: dict[str, Callable[[str, np.ndarray], np.ndarray]] = {
    "numpy, one temporary per operator": by_numpy,
    "loop fusion": partial(_run, by_element, WITH_CALLS),
    "index arithmetic once per row": partial(_run, by_row, WITH_CALLS),
    "loop for unit stride": partial(_run, by_unit_stride_row, WITH_CALLS),
    "vectorized access": partial(_run, by_slice, WITH_CALLS),
    "polynomial instead of calls": partial(_run, by_slice, INLINED),
    "multithreading over elements": _over_elements,
    "multithreading over slices (cpu.py)": _cpu,
}


def measure() -> None:
    """Print nanoseconds per element for 64 and 1,024 digits of 28 x 28."""
    generator = np.random.default_rng(0)
    for count in (64, 1024):
        x = generator.standard_normal((count, 784), np.float32)
        for op in INLINED:
            calls = {title: partial(step, op, x) for title, step in STEPS.items()}
            peers = {"np.tanh": partial(np.tanh, x)} if op == "tanh" else {}
            for title, seconds in medians({**calls, **peers}, 31).items():
                print(f"{count:5} {op:10}  {title:36} {seconds / x.size * 1e9:7.3f} ns")


if __name__ == "__main__":
    measure()
