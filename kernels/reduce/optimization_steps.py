"""The rungs below cpu.py, for sums.

`python -m minigan.kernels.reduce.optimization_steps` measures them.

`RUNGS[title](x, axis)` is the sum of x, a C-contiguous float32 or float64 matrix, over axis 0 (a
bias's gradient), axis 1 or, for None, both.
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


# ----------------------------------------------------------------------------- rung 1: one chain
# x is flat memory, seen as (outer, size, width), and its middle is summed: out is (outer, width).
@jit
def one_chain(out, x, size):
    """Each addition waits for the one before it."""
    outer, width = out.shape
    for o in range(outer):
        for j in range(width):
            total = out[o, j]
            for i in range(size):
                total += x[(o * size + i) * width + j]
            out[o, j] = total


# ------------------------------------------------------------------ rung 2: chains side by side
@jit
def add(total, x):
    for i in range(total.size):
        total[i] += x[i]


@jit
def many_chains(out, x, size):
    """LANES chains for a row; one for each column, all carried on row by row."""
    outer, width = out.shape
    chains = np.empty(LANES, x.dtype)
    for o in range(outer):
        if width > 1:
            for i in range(o * size, (o + 1) * size):
                add(out[o], x[i * width : (i + 1) * width])
            continue
        row = x[o * size : (o + 1) * size]
        whole = size // LANES * LANES
        chains[:] = 0
        for i in range(0, whole, LANES):
            add(chains, row[i : i + LANES])
        add(chains[: size - whole], row[whole:])
        for lane in range(LANES):
            out[o, 0] += chains[lane]


# ------------------------------------------------------------------------- what not to ship
@jit(parallel=True)
def _prange(x):
    total = x.dtype.type(0)
    for i in prange(x.size):
        total += x[i]
    return total


def prange_sum(x: np.ndarray) -> Any:
    """The sum of all elements, one chain per thread: other bits for another number of threads."""
    return _prange(x.reshape(-1))


@jit
def _largest(x):
    largest = x[0]
    for i in range(x.size):
        largest = x[i] if x[i] > largest else largest
    return largest


def largest_but_nan(x: np.ndarray) -> Any:
    """The largest element; a NaN is passed over, unless it comes first."""
    return _largest(x.reshape(-1))


# ------------------------------------------------------------------------------------ the table
def _seen(x: np.ndarray, axis: int | None) -> tuple[int, int, int]:
    """(outer, size, width): the middle is what is summed."""
    n, m = x.shape
    return {None: (1, n * m, 1), 0: (1, n, m), 1: (n, m, 1)}[axis]


def _chains(kernel: Any, x: np.ndarray, axis: int | None) -> np.ndarray:
    outer, size, width = _seen(x, axis)
    out = np.zeros((outer, width), x.dtype)
    kernel(out, x.reshape(-1), size)
    return out.reshape(() if axis is None else -1)


def _blocks(x: np.ndarray, axis: int | None) -> np.ndarray:
    """What cpu.py does with one thread."""
    outer, size, width = _seen(x, axis)
    zero = x.dtype.type(0)
    if axis == 0:
        out = empty((outer, width), x.dtype)
        cpu.columns(out, x.reshape(-1), size, zero, False, 0, width)
        return out.reshape(-1)
    while True:
        out = empty((outer, max(1, -(-size // cpu.BLOCK))), x.dtype)
        cpu.rows(out, x.reshape(-1), size, zero, False, 0, out.size)
        x, size = out, out.shape[1]
        if size == 1:
            return out.reshape(() if axis is None else -1)


def _shipped(x: np.ndarray, axis: int | None) -> np.ndarray:
    return cpu.reduce(x, (0, 1) if axis is None else (axis,), False)


RUNGS: dict[str, Callable[[np.ndarray, int | None], np.ndarray]] = {
    "one chain": partial(_chains, one_chain),
    "many chains": partial(_chains, many_chains),
    "blocks": _blocks,
    "threads over blocks (cpu.py)": _shipped,
}


def measure() -> None:
    """Print times per element, the error's growth, and what the number of threads does."""
    generator = np.random.default_rng(0)
    for shape in ((64, 784), (4096, 784)):
        x = generator.random(shape, np.float32)
        for form, axis in AXES.items():
            calls = {title: partial(rung, x, axis) for title, rung in RUNGS.items()}
            calls["numpy"] = partial(np.sum, x, axis)
            for title, seconds in medians(calls, 31).items():
                print(f"{shape}  {form:8} {title:30} {seconds / x.size * 1e9:6.3f} ns")
    for n in (10**3, 10**5, 10**7):
        x = generator.random((n, 1), np.float32)
        exact = np.sum(x, dtype=np.float64)
        peers: dict[str, Callable[..., Any]] = {**RUNGS, "numpy": np.sum}
        for title, rung in peers.items():
            error = abs(float(rung(x, None)) / exact - 1) / np.finfo(np.float32).eps
            print(f"{n:9} elements  {title:30} {error:9.2f} eps")
    x = generator.standard_normal((1000, 1000), np.float32)
    most = numba.get_num_threads()
    sums: dict[str, Callable[[np.ndarray], Any]] = {
        "prange": prange_sum,
        "cpu.py": partial(_shipped, axis=None),
    }
    for title, function in sums.items():
        for threads in range(1, most + 1):
            numba.set_num_threads(threads)
            print(f"{title:8} {threads} threads  {float(function(x)).hex()}")
    numba.set_num_threads(most)


if __name__ == "__main__":
    measure()
