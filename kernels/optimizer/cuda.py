"""Launch optimizer updates on a GPU: one launch for the coefficients, one over all parameters."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.cuda.launcher import Launcher, ceil_div
from ..shape.cuda import assign, contiguous

SOURCE = Path(__file__).with_name("cuda.cu")
# As in cuda.cu. A Table must fit into the 4 KiB that a kernel's arguments may take.
THREADS_PER_BLOCK, PACKS, CAPACITY, ARRAYS = 64, 4, 88, 4
MAX_ELEMENTS = 2**31 - 1  # of one parameter


class Table(ctypes.Structure):
    """`Table` of cuda.cu: the parameters of one launch. It holds the addresses of `arrays`."""

    _fields_ = (
        ("count", ctypes.c_int32),
        ("unused", ctypes.c_int32),
        ("first_block", ctypes.c_uint32 * CAPACITY),
        ("sizes", ctypes.c_uint32 * CAPACITY),
        ("addresses", ctypes.c_uint64 * CAPACITY * ARRAYS),
    )
    arrays: list[Any]


def _table(gpu: Launcher, lists: list[list[Any]], block_elements: int) -> tuple[Table, int]:
    """Return the table of up to CAPACITY parameters, and the number of blocks for them."""
    table, blocks = Table(), 0
    table.arrays = [x for xs in lists for x in xs]
    table.count = len(lists[0])
    for k, parameter in enumerate(lists[0]):
        table.first_block[k], table.sizes[k] = blocks, parameter.size
        blocks += ceil_div(parameter.size, block_elements)
        for row, xs in zip(table.addresses, lists, strict=False):
            row[k] = gpu.address(xs[k])
    return table, blocks


def _step(
    gpu: Launcher, kernel: str, lists: list[list[Any]], coefficients: str, options: list[Any]
) -> None:
    """Compute the rule's coefficients from [state, *options], then update all parameters.

    `lists` are parameters, gradients and moments; `coefficients` is the first kernel's name.
    """
    dtype = lists[0][0].dtype
    if any(p.size > MAX_ELEMENTS for p in lists[0]):
        raise ValueError(f"{kernel}: a parameter has more than {MAX_ELEMENTS} elements")
    values = gpu.empty((8,), dtype)
    state, *rest = options
    gpu.launch(SOURCE, coefficients, dtype, (1,), (1,), [state, values, *rest])
    dense = [[contiguous(gpu, x) for x in xs] for xs in lists]
    # An empty parameter has no address.
    nonempty = [k for k, p in enumerate(dense[0]) if p.size]
    for start in range(0, len(nonempty), CAPACITY):
        group = [[xs[k] for k in nonempty[start : start + CAPACITY]] for xs in dense]
        table, blocks = _table(gpu, group, THREADS_PER_BLOCK * PACKS * 16 // dtype.itemsize)
        gpu.launch(SOURCE, kernel, dtype, (blocks,), (THREADS_PER_BLOCK,), [table, values])
    # Updated contiguous copies are written back, of all lists but the gradients.
    for xs, copies in zip((lists[0], *lists[2:]), (dense[0], *dense[2:]), strict=True):
        for x, copy in zip(xs, copies, strict=True):
            if copy is not x:
                assign(gpu, x, copy)


def adam(
    gpu: Launcher,
    parameters: list[Any],
    gradients: list[Any],
    means: list[Any],
    squares: list[Any],
    state: Any,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Update by Adam or AdamW; state is [lr, beta1^t, beta2^t]."""
    options = [state, *map(np.float64, (beta1, beta2, eps, weight_decay)), decoupled]
    _step(gpu, "adam", [parameters, gradients, means, squares], "adam_coefficients", options)


def rmsprop(
    gpu: Launcher,
    parameters: list[Any],
    gradients: list[Any],
    squares: list[Any],
    state: Any,
    alpha: float,
    eps: float,
    weight_decay: float,
) -> None:
    """Update by RMSprop; state is [lr]."""
    options = [state, *map(np.float64, (alpha, eps, weight_decay))]
    _step(gpu, "rmsprop", [parameters, gradients, squares], "rmsprop_coefficients", options)


def sgd(
    gpu: Launcher,
    parameters: list[Any],
    gradients: list[Any],
    means: list[Any],
    state: Any,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Update by SGD; `means` is empty without momentum; state is [lr]."""
    options = [state, np.float64(momentum), nesterov, np.float64(weight_decay)]
    lists = [parameters, gradients, means] if means else [parameters, gradients]
    _step(gpu, "momentum" if means else "sgd", lists, "sgd_coefficients", options)


KERNELS = {"adam": adam, "rmsprop": rmsprop, "sgd": sgd}
