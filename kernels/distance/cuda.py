"""L1 distances of all pairs of columns on a GPU, and their gradients: one launch each."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import Any

from ..runtime.cuda.launcher import Launcher, blocks
from ..shape.cuda import contiguous

SOURCE = Path(__file__).with_name("cuda.cu")
TILE, CHUNK, THREADS = 32, 4, 256  # as in cuda.cu


class Pairs(ctypes.Structure):
    """`Pairs` of cuda.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64) for name in ("c", "n", "m", "down", "across", "row", "column")
    )


def _dense(gpu: Launcher, x: Any) -> Any:
    return x if x.flags.c_contiguous else contiguous(gpu, x)


def _of_pairs(gpu: Launcher, name: str, *arrays: Any) -> Any:
    """A number of each pair of the last two arrays' columns: (.., n, m)."""
    a, b = arrays[-2:]
    (c, n), m = a.shape[-2:], b.shape[-1]
    y = gpu.empty((*a.shape[:-2], n, m), a.dtype)
    pairs = Pairs(c, n, m, blocks(n, TILE), blocks(m, TILE), 0, 0)
    grid = (math.prod(a.shape[:-2]) * pairs.down * pairs.across,)
    given = (y, *(_dense(gpu, x) for x in arrays), pairs)
    gpu.launch(SOURCE, name, a.dtype, grid, (THREADS,), given)
    return y


def l1_distances(gpu: Launcher, a: Any, b: Any) -> Any:
    """(.., c, n) and (.., c, m) to (.., n, m): sum over c of |a[c, i] - b[c, j]|."""
    return _of_pairs(gpu, "l1_distances", a, b)


def l1_distances_jvp(gpu: Launcher, v: Any, a: Any, b: Any) -> Any:
    """(.., n, m): sum over c of v[c, i] sign(a[c, i] - b[c, j])."""
    return _of_pairs(gpu, "l1_distances_jvp", v, a, b)


def l1_distances_grad(gpu: Launcher, g: Any, a: Any, b: Any) -> Any:
    """(.., c, n): sum over j of g[i, j] sign(a[c, i] - b[c, j])."""
    (c, n), m = a.shape[-2:], b.shape[-1]
    y = gpu.empty(a.shape, a.dtype)
    along_i = g.swapaxes(-1, -2).flags.c_contiguous
    g = g if along_i else _dense(gpu, g)
    steps = (1, n) if along_i else (m, 1)
    pairs = Pairs(c, n, m, blocks(n, TILE), blocks(c, CHUNK), *steps)
    grid = (math.prod(a.shape[:-2]) * pairs.down * pairs.across,)
    given = (y, g, _dense(gpu, a), _dense(gpu, b), pairs)
    gpu.launch(SOURCE, "l1_distances_grad", a.dtype, grid, (THREADS,), given)
    return y


KERNELS = {
    "l1_distances": l1_distances,
    "l1_distances_grad": l1_distances_grad,
    "l1_distances_jvp": l1_distances_jvp,
}
