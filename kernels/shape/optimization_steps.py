"""The optimization steps that lead to `cpu.py`, for copies and for gather.

`STEPS[title](x, index)` returns x[index] in new C-contiguous memory. The index is a tuple of slices
for the steps "copy: ..", an integer array, rows of the matrix x, for the steps "gather: ..".
`python -m minigan.kernels.shape.optimization_steps` measures the steps.
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

Step = Callable[[np.ndarray, Any], np.ndarray]


# ---------------------------------------------------------------------------------------- copy
# Row 0 of `layout` is the shape, rows 1 and 2 are the strides of y and x, as for
# cpu.copy_elements.
@jit
def _positions(y_position, x_position, number, layout, axes):
    """Return the positions in y and x of the element `number` of the first `axes` axes."""
    for axis in range(axes - 1, -1, -1):
        index = number % layout[0, axis]
        number //= layout[0, axis]
        y_position += index * layout[1, axis]
        x_position += index * layout[2, axis]
    return y_position, x_position


@jit
def by_element(y, y_offset, x, x_offset, layout, begin, end):
    """Copy element by element.

    for each element:
        find it in y and x       a division for each axis
        y[..] = x[..]
    """
    for i in range(begin, end):
        y_position, x_position = _positions(y_offset, x_offset, i, layout, layout.shape[1])
        y[y_position] = x[x_position]


@jit
def by_slice_assignment(y, y_offset, x, x_offset, layout, begin, end):
    """Copy row by row, with numba's slice assignment.

    for each row of the last axis:
        find it in y and x       a division for each other axis
        y[row] = x[row]

    Optimizations:
        - Index arithmetic once per row.
    """
    last = layout.shape[1] - 1
    row_length = layout[0, last]
    for row in range(begin // row_length, end // row_length):
        y_start, x_start = _positions(y_offset, x_offset, row, layout, last)
        if layout[1, last] == 1 and layout[2, last] == 1:
            y[y_start : y_start + row_length] = x[x_start : x_start + row_length]
        else:
            for i in range(row_length):
                y[y_start + i * layout[1, last]] = x[x_start + i * layout[2, last]]


@jit
def copy_row(y, x):
    """Copy a contiguous row."""
    for i in range(y.size):
        y[i] = x[i]


@jit
def by_row(y, y_offset, x, x_offset, layout, begin, end):
    """Copy row by row, with a loop over two slices.

    for each row of the last axis:
        find it in y and x       a division for each other axis
        for i in the row:        a memcpy, if both strides are 1
            y[i] = x[i]

    Optimizations:
        - Index arithmetic once per row.
        - Vectorized access: LLVM replaces the loop by a memcpy.
        - With `layout` instead of `unmerged_layout`, axes are merged: fewer and longer rows.
    """
    last = layout.shape[1] - 1
    row_length = layout[0, last]
    for row in range(begin // row_length, end // row_length):
        y_start, x_start = _positions(y_offset, x_offset, row, layout, last)
        if layout[1, last] == 1 and layout[2, last] == 1:
            copy_row(y[y_start : y_start + row_length], x[x_start : x_start + row_length])
        else:
            for i in range(row_length):
                y[y_start + i * layout[1, last]] = x[x_start + i * layout[2, last]]


def unmerged_layout(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Return the result of `layout` without merging axes."""
    return np.array([shape, *strides], np.int64)


def _copy(
    kernel: Any, make_layout: Callable[..., np.ndarray], x: np.ndarray, index: Any
) -> np.ndarray:
    view = x[index]
    y = empty(view.shape, x.dtype)
    if y.size:
        memory, offset, strides = flat(view)
        axes = make_layout(view.shape, (elements(y), strides))
        kernel(y.reshape(-1), 0, memory, offset, axes, 0, y.size)
    return y


def _cpu_copy(x: np.ndarray, index: Any) -> np.ndarray:
    return cpu.concatenate(x[index], axis=0)


# -------------------------------------------------------------------------------------- gather
@jit
def gather_elements(y, x, rows, width):
    """Gather element by element: an index, a multiplication and a division for each."""
    for i in range(y.size):
        y[i] = x[rows[i // width] * width + i % width]


@jit
def gather_rows(y, x, rows, width):
    """Gather row by row, with numba's slice assignment."""
    for i in range(rows.size):
        y[i * width : (i + 1) * width] = x[rows[i] * width : (rows[i] + 1) * width]


def _cpu_gather(y: np.ndarray, x: np.ndarray, rows: np.ndarray, width: int) -> None:
    """Gather row by row, with a loop over two slices, which LLVM replaces by a memcpy."""
    cpu.take(y, x, rows, 0, (0, 1, 0), (1, rows.size, width), x.size // width)


def _gather(kernel: Callable[..., None], x: np.ndarray, index: np.ndarray) -> np.ndarray:
    y = empty((index.size, x.shape[1]), x.dtype)
    kernel(y.reshape(-1), x.reshape(-1), index, x.shape[1])
    return y


STEPS: dict[str, Step] = {
    "copy: naive": partial(_copy, by_element, unmerged_layout),
    "copy: index arithmetic once per row": partial(_copy, by_slice_assignment, unmerged_layout),
    "copy: vectorized access": partial(_copy, by_row, unmerged_layout),
    "copy: merged axes": partial(_copy, by_row, layout),
    "copy: no divisions (cpu.py)": partial(_copy, cpu.copy_elements, layout),
    "copy: multithreading (cpu.py)": _cpu_copy,
    "gather: naive": partial(_gather, gather_elements),
    "gather: index arithmetic once per row": partial(_gather, gather_rows),
    "gather: vectorized access (cpu.py)": partial(_gather, _cpu_gather),
}
# The measured cases: the middle of images, a part of their channels, rows of a data set.
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
        positions = generator.integers(len(x), size=index) if isinstance(index, int) else index
        kind = case.split()[0]
        calls = {t: partial(step, x, positions) for t, step in STEPS.items() if t.startswith(kind)}
        calls["numpy"] = partial(lambda x, index: np.array(x[index], order="C"), x, positions)
        for title, seconds in medians(calls).items():
            print(f"{case:42} {title:38} {seconds / x[positions].size * 1e9:7.3f} ns")


if __name__ == "__main__":
    measure()
