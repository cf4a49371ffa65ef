"""Launch L1 distances of all pairs of columns on a GPU, and their derivatives: one launch each."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import Any

from ..runtime.cuda.launcher import Launcher, ceil_div
from ..shape.cuda import contiguous

SOURCE = Path(__file__).with_name("cuda.cu")
TILE, ROWS_PER_BLOCK, THREADS_PER_BLOCK = 32, 4, 256  # as in cuda.cu


class Pairs(ctypes.Structure):
    """`Pairs` of cuda.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("c", "n", "m", "blocks_down", "blocks_across", "g_stride_i", "g_stride_j")
    )


def _for_all_pairs(gpu: Launcher, name: str, *arrays: Any) -> Any:
    """Compute a number for each pair of columns of the last two arrays: (.., n, m)."""
    a, b = arrays[-2:]
    (c, n), m = a.shape[-2:], b.shape[-1]
    y = gpu.empty((*a.shape[:-2], n, m), a.dtype)
    pairs = Pairs(c, n, m, ceil_div(n, TILE), ceil_div(m, TILE), 0, 0)
    grid = (math.prod(a.shape[:-2]) * pairs.blocks_down * pairs.blocks_across,)
    arguments = (y, *(contiguous(gpu, x) for x in arrays), pairs)
    gpu.launch(SOURCE, name, a.dtype, grid, (THREADS_PER_BLOCK,), arguments)
    return y


def l1_distances(gpu: Launcher, a: Any, b: Any) -> Any:
    """Compute y[i, j] = sum over c of |a[c, i] - b[c, j]|: (.., c, n), (.., c, m) -> (.., n, m)."""
    return _for_all_pairs(gpu, "l1_distances", a, b)


def l1_distances_jvp(gpu: Launcher, v: Any, a: Any, b: Any) -> Any:
    """Compute y[i, j] = sum over c of v[c, i] sign(a[c, i] - b[c, j]): (.., n, m)."""
    return _for_all_pairs(gpu, "l1_distances_jvp", v, a, b)


def l1_distances_grad(gpu: Launcher, g: Any, a: Any, b: Any) -> Any:
    """Compute y[c, i] = sum over j of g[i, j] sign(a[c, i] - b[c, j]): (.., c, n)."""
    (c, n), m = a.shape[-2:], b.shape[-1]
    y = gpu.empty(a.shape, a.dtype)
    along_i = g.swapaxes(-1, -2).flags.c_contiguous
    g = g if along_i else contiguous(gpu, g)
    steps = (1, n) if along_i else (m, 1)
    pairs = Pairs(c, n, m, ceil_div(n, TILE), ceil_div(c, ROWS_PER_BLOCK), *steps)
    grid = (math.prod(a.shape[:-2]) * pairs.blocks_down * pairs.blocks_across,)
    arguments = (y, g, contiguous(gpu, a), contiguous(gpu, b), pairs)
    gpu.launch(SOURCE, "l1_distances_grad", a.dtype, grid, (THREADS_PER_BLOCK,), arguments)
    return y


KERNELS = {
    "l1_distances": l1_distances,
    "l1_distances_grad": l1_distances_grad,
    "l1_distances_jvp": l1_distances_jvp,
}
