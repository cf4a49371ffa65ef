"""The rungs below cpu.py. `python -m minigan.kernels.shape.optimization_steps` measures them.

`RUNGS[title](x, index)` is x[index] in fresh C-contiguous memory; index is a tuple of slices for
the rungs "copy: ..", an integer array, rows of the matrix x, for the rungs "gather: ..".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, flat, layout
from ..runtime.strides import elements
from ..runtime.timing import medians
from . import cpu

Rung = Callable[[np.ndarray, Any], np.ndarray]


# ---------------------------------------------------------------------------------------- copy
# Row 0 of `table` is the shape, rows 1 and 2 are the strides of y and x (as for cpu.move).
@jit
def _places(y_at, x_at, number, table, axes):
    """Where in y and x the element `number` of the first `axes` axes lies."""
    for axis in range(axes - 1, -1, -1):
        position = number % table[0, axis]
        number //= table[0, axis]
        y_at += position * table[1, axis]
        x_at += position * table[2, axis]
    return y_at, x_at


@jit
def by_element(y, y_start, x, x_start, table, begin, end):
    for i in range(begin, end):
        y_at, x_at = _places(y_start, x_start, i, table, table.shape[1])
        y[y_at] = x[x_at]


@jit
def by_assignment(y, y_start, x, x_start, table, begin, end):
    last = table.shape[1] - 1
    width = table[0, last]
    for line in range(begin // width, end // width):
        y_at, x_at = _places(y_start, x_start, line, table, last)
        if table[1, last] == 1 and table[2, last] == 1:
            y[y_at : y_at + width] = x[x_at : x_at + width]
        else:
            for i in range(width):
                y[y_at + i * table[1, last]] = x[x_at + i * table[2, last]]


@jit
def copy_line(y, x):
    for i in range(y.size):
        y[i] = x[i]


@jit
def by_loop(y, y_start, x, x_start, table, begin, end):
    last = table.shape[1] - 1
    width = table[0, last]
    for line in range(begin // width, end // width):
        y_at, x_at = _places(y_start, x_start, line, table, last)
        if table[1, last] == 1 and table[2, last] == 1:
            copy_line(y[y_at : y_at + width], x[x_at : x_at + width])
        else:
            for i in range(width):
                y[y_at + i * table[1, last]] = x[x_at + i * table[2, last]]


def unmerged(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """`layout` without its point: every axis as it was given."""
    return np.array([shape, *strides], np.int64)


def _copy(kernel: Any, axes: Callable[..., np.ndarray], x: np.ndarray, index: Any) -> np.ndarray:
    view = x[index]
    y = empty(view.shape, x.dtype)
    if y.size:
        memory, start, strides = flat(view)
        table = axes(view.shape, (elements(y), strides))
        kernel(y.reshape(-1), 0, memory, start, table, 0, y.size)
    return y


def _shipped_copy(x: np.ndarray, index: Any) -> np.ndarray:
    return cpu.concatenate(x[index], axis=0)


# -------------------------------------------------------------------------------------- gather
@jit
def gather_elements(y, x, rows, width):
    for i in range(y.size):
        y[i] = x[rows[i // width] * width + i % width]


@jit
def gather_rows(y, x, rows, width):
    for i in range(rows.size):
        y[i * width : (i + 1) * width] = x[rows[i] * width : (rows[i] + 1) * width]


def _shipped_rows(y: np.ndarray, x: np.ndarray, rows: np.ndarray, width: int) -> None:
    cpu.take(y, x, rows, 0, (0, 1, 0), (1, rows.size, width), x.size // width)


def _gather(kernel: Callable[..., None], x: np.ndarray, index: np.ndarray) -> np.ndarray:
    y = empty((index.size, x.shape[1]), x.dtype)
    kernel(y.reshape(-1), x.reshape(-1), index, x.shape[1])
    return y


RUNGS: dict[str, Rung] = {
    "copy: by element": partial(_copy, by_element, unmerged),
    "copy: by line, y[..] = x[..]": partial(_copy, by_assignment, unmerged),
    "copy: by line, a loop": partial(_copy, by_loop, unmerged),
    "copy: merged axes": partial(_copy, by_loop, layout),
    "copy: no divisions (cpu.py)": partial(_copy, cpu.move, layout),
    "copy: threads (cpu.py)": _shipped_copy,
    "gather: by element": partial(_gather, gather_elements),
    "gather: by row, y[..] = x[..]": partial(_gather, gather_rows),
    "gather: by row, a loop (cpu.py)": partial(_gather, _shipped_rows),
}
# What is measured: images in frames, a part of their channels, rows of a data set.
MIDDLE = (..., slice(2, 30), slice(2, 30))
CASES: dict[str, tuple[tuple[int, ...], Any]] = {
    "copy: (64, 3, 28, 28) of (64, 3, 32, 32)": ((64, 3, 32, 32), MIDDLE),
    "copy: (64, 16, 8, 8) of (64, 32, 8, 8)": ((64, 32, 8, 8), (slice(None), slice(16))),
    "gather: 64 of 20,000 rows of 784": ((20000, 784), 64),
}


def measure() -> None:
    """Print nanoseconds per element copied."""
    generator = np.random.default_rng(0)
    for case, (shape, index) in CASES.items():
        x = generator.standard_normal(shape, np.float32)
        chosen = generator.integers(len(x), size=index) if isinstance(index, int) else index
        task = case.split()[0]
        calls = {t: partial(rung, x, chosen) for t, rung in RUNGS.items() if t.startswith(task)}
        calls["numpy"] = partial(lambda x, index: np.array(x[index], order="C"), x, chosen)
        for title, seconds in medians(calls).items():
            print(f"{case:42} {title:32} {seconds / x[chosen].size * 1e9:7.3f} ns")


if __name__ == "__main__":
    measure()
