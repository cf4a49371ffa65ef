"""Optimizer updates on a GPU: a launch for the numbers, and one that walks all parameters."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.cuda.launcher import Launcher, blocks
from ..shape.cuda import assign, contiguous

SOURCE = Path(__file__).with_name("cuda.cu")
# As in cuda.cu. A Table must fit into the 4 KiB that a launch can carry.
THREADS, CAPACITY, ARRAYS = 256, 88, 4
MOST = 2**31  # elements of one parameter


class Table(ctypes.Structure):
    """The parameters of one launch; `arrays` are those that it holds addresses of."""

    _fields_ = (
        ("count", ctypes.c_int32),
        ("unused", ctypes.c_int32),
        ("first_block", ctypes.c_uint32 * CAPACITY),
        ("sizes", ctypes.c_uint32 * CAPACITY),
        ("addresses", ctypes.c_uint64 * CAPACITY * ARRAYS),
    )
    arrays: list[Any]


def _table(gpu: Launcher, lists: list[list[Any]], per_block: int) -> tuple[Table, int]:
    """The table of up to CAPACITY parameters, and how many blocks it takes."""
    table, total = Table(), 0
    table.arrays = [x for xs in lists for x in xs]
    table.count = len(lists[0])
    for k, parameter in enumerate(lists[0]):
        table.first_block[k], table.sizes[k] = total, parameter.size
        total += blocks(parameter.size, per_block)
        for row, xs in zip(table.addresses, lists, strict=False):
            row[k] = gpu.address(xs[k])
    return table, total


def _step(gpu: Launcher, kernel: str, lists: list[list[Any]], begin: str, given: list[Any]) -> None:
    """Make the rule's numbers from what is given, then walk: parameters, gradients, moments."""
    dtype = lists[0][0].dtype
    if any(p.size >= MOST for p in lists[0]):
        raise ValueError(f"{kernel}: a parameter has {MOST} elements or more")
    numbers = gpu.empty((8,), dtype)
    gpu.launch(SOURCE, begin, dtype, (1,), (1,), [given[0], numbers, *given[1:]])
    packed = [[x if x.flags.c_contiguous else contiguous(gpu, x) for x in xs] for xs in lists]
    # An empty parameter has no address, and nothing to do.
    some = [k for k, p in enumerate(packed[0]) if p.size]
    for start in range(0, len(some), CAPACITY):
        chosen = [[xs[k] for k in some[start : start + CAPACITY]] for xs in packed]
        table, total = _table(gpu, chosen, THREADS * 16 // dtype.itemsize)
        gpu.launch(SOURCE, kernel, dtype, (total,), (THREADS,), [table, numbers])
    for xs, copies in zip((lists[0], *lists[2:]), (packed[0], *packed[2:]), strict=True):
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
    """Adam and AdamW; state is [lr, beta1^t, beta2^t]."""
    given = [state, *map(np.float64, (beta1, beta2, eps, weight_decay)), decoupled]
    _step(gpu, "adam", [parameters, gradients, means, squares], "adam_numbers", given)


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
    """RMSprop; state is [lr]."""
    given = [state, *map(np.float64, (alpha, eps, weight_decay))]
    _step(gpu, "rmsprop", [parameters, gradients, squares], "rmsprop_numbers", given)


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
    """SGD, with a list of means if there is momentum; state is [lr]."""
    given = [state, np.float64(momentum), nesterov, np.float64(weight_decay)]
    lists = [parameters, gradients, means] if means else [parameters, gradients]
    _step(gpu, "momentum" if means else "sgd", lists, "sgd_numbers", given)


KERNELS = {"adam": adam, "rmsprop": rmsprop, "sgd": sgd}
