"""The optimization steps that lead to `cpu.py`, for sums.

`STEPS[title](x, axis)` returns the sum of x, a C-contiguous float32 or float64 matrix, over axis 0
(the gradient of a bias), over axis 1 or, for None, over both.
`python -m minigan.kernels.reduce.optimization_steps` measures the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
from numba import prange

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty
from ..runtime.timing import medians
from . import cpu

LANES = cpu.LANES
AXES = {"all": None, "rows": 1, "columns": 0}


# Of the kernels below, x is flat memory of shape (outer, size, width), and `out`, of zeros, is
# (outer, width): the middle axis is summed.
@jit
def one_accumulator(out, x, size):
    """Sum with one accumulator for each result.

    for o, j in the results:
        for i in range(size):
            total += x[o, i, j]     waits for the addition before it
        out[o, j] = total
    """
    outer, width = out.shape
    for o in range(outer):
        for j in range(width):
            total = out[o, j]
            for i in range(size):
                total += x[(o * size + i) * width + j]
            out[o, j] = total


@jit
def add(total, x):
    """Add x to total, element by element."""
    for i in range(total.size):
        total[i] += x[i]


@jit
def multiple_accumulators(out, x, size):
    """Sum with several accumulators side by side.

    for o in range(outer):
        columns:  for each row i: out[o] += x[o, i]             vectorized over the columns
        rows:     for each chunk of LANES: lanes += chunk       vectorized over the lanes
                  out[o] = sum of the lanes

    Optimizations:
        - Multiple accumulators (instruction-level parallelism).
        - Loop order: columns are accumulated row by row, so that memory is read in order.
    """
    outer, width = out.shape
    lanes = np.empty(LANES, x.dtype)
    for o in range(outer):
        if width > 1:
            for i in range(o * size, (o + 1) * size):
                add(out[o], x[i * width : (i + 1) * width])
            continue
        row = x[o * size : (o + 1) * size]
        whole = size // LANES * LANES
        lanes[:] = 0
        for i in range(0, whole, LANES):
            add(lanes, row[i : i + LANES])
        add(lanes[: size - whole], row[whole:])
        for lane in range(LANES):
            out[o, 0] += lanes[lane]


# ----------------------------------------------------- faulty kernels, for the README and tests
@jit(parallel=True)
def _prange_sum(x):
    total = x.dtype.type(0)
    for i in prange(x.size):
        total += x[i]
    return total


def prange_sum(x: np.ndarray) -> Any:
    """Return the sum of all elements, one accumulator per thread.

    The bits of the result depend on the number of threads.
    """
    return _prange_sum(x.reshape(-1))


@jit
def _max_without_nan(x):
    largest = x[0]
    for i in range(x.size):
        largest = x[i] if x[i] > largest else largest
    return largest


def max_without_nan(x: np.ndarray) -> Any:
    """Return the largest element, but lose a NaN unless it is the first element."""
    return _max_without_nan(x.reshape(-1))


# ----------------------------------------------------------------------------------- the steps
def _split_shape(x: np.ndarray, axis: int | None) -> tuple[int, int, int]:
    """Return x's shape as (outer, size, width), of which the middle axis is summed."""
    n, m = x.shape
    return {None: (1, n * m, 1), 0: (1, n, m), 1: (n, m, 1)}[axis]


def _run(kernel: Any, x: np.ndarray, axis: int | None) -> np.ndarray:
    outer, size, width = _split_shape(x, axis)
    out = np.zeros((outer, width), x.dtype)
    kernel(out, x.reshape(-1), size)
    return out.reshape(() if axis is None else -1)


def _one_thread(x: np.ndarray, axis: int | None) -> np.ndarray:
    """Compute by cpu.py, on one thread."""
    outer, size, width = _split_shape(x, axis)
    zero = x.dtype.type(0)
    if axis == 0:
        out = empty((outer, width), x.dtype)
        cpu.reduce_columns(out, x.reshape(-1), size, zero, False, 0, width)
        return out.reshape(-1)
    while True:
        out = empty((outer, max(1, -(-size // cpu.BLOCK_ELEMENTS))), x.dtype)
        cpu.reduce_row_blocks(out, x.reshape(-1), size, zero, False, 0, out.size)
        x, size = out, out.shape[1]
        if size == 1:
            return out.reshape(() if axis is None else -1)


def _cpu(x: np.ndarray, axis: int | None) -> np.ndarray:
    return cpu.reduce(x, (0, 1) if axis is None else (axis,), False)


STEPS: dict[str, Callable[[np.ndarray, int | None], np.ndarray]] = {
    "naive, one accumulator": partial(_run, one_accumulator),
    "multiple accumulators": partial(_run, multiple_accumulators),
    "blocked summation": _one_thread,
    "multithreading over blocks (cpu.py)": _cpu,
}


def measure() -> None:
    """Print the time per element, the rounding error, and the bits for each number of threads."""
    generator = np.random.default_rng(0)
    for shape in ((64, 784), (4096, 784)):
        x = generator.random(shape, np.float32)
        for form, axis in AXES.items():
            calls = {title: partial(step, x, axis) for title, step in STEPS.items()}
            calls["numpy"] = partial(np.sum, x, axis)
            for title, seconds in medians(calls, 31).items():
                print(f"{shape}  {form:8} {title:36} {seconds / x.size * 1e9:6.3f} ns")
    for n in (10**3, 10**5, 10**7):
        x = generator.random((n, 1), np.float32)
        exact = np.sum(x, dtype=np.float64)
        peers: dict[str, Callable[..., Any]] = {**STEPS, "numpy": np.sum}
        for title, step in peers.items():
            error = abs(float(step(x, None)) / exact - 1) / np.finfo(np.float32).eps
            print(f"{n:9} elements  {title:36} {error:9.2f} eps")
    x = generator.standard_normal((1000, 1000), np.float32)
    max_threads = numba.get_num_threads()
    sums: dict[str, Callable[[np.ndarray], Any]] = {
        "prange": prange_sum,
        "cpu.py": partial(_cpu, axis=None),
    }
    for title, function in sums.items():
        for threads in range(1, max_threads + 1):
            numba.set_num_threads(threads)
            print(f"{title:8} {threads} threads  {float(function(x)).hex()}")
    numba.set_num_threads(max_threads)


if __name__ == "__main__":
    measure()
