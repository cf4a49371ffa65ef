"""Normalisers on a GPU: which threads take what of x (a, m, b), and in how many launches."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..matmul.cuda import JOIN_THREADS, multiply
from ..matmul.cuda import SOURCE as MATMUL
from ..runtime.cuda.launcher import Launcher, blocks
from ..runtime.strides import elements, scalar
from ..shape.cuda import contiguous

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS = 256  # of a block, as in cuda.cu
# Blocks that fill a large GPU, and the numbers that are worth a block of their own. They are
# constants: if they followed the GPU at hand, so would the bits of the result.
BUSY, LEAST_PIECE, MOST_PIECES = 264, 4096, 64


class Shape(ctypes.Structure):
    """`Shape` of cuda.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("a", "m", "b", "channels", "lanes", "rows", "width"),
            *("across", "pieces"),
        )
    )


class Plan(NamedTuple):
    """How a shape is worked on: blocks along m, pieces of each, and numbers that are averaged."""

    shape: Shape
    groups: int
    pieces: int
    numbers: float


def plan(a: int, m: int, b: int) -> Plan:
    """It follows from the shape alone."""
    if m == 1:  # one row of all numbers
        a, b = 1, a * b
    channels = max(1, min(32 // max(1, b), m))
    lanes = min(THREADS, max(32, 1 << max(0, channels * b - 1).bit_length()))
    groups, width = blocks(m, channels), channels * b
    wanted = max(1, min(blocks(BUSY, groups), a * width // LEAST_PIECE, MOST_PIECES))
    rows, across = max(1, blocks(a, wanted)), 1
    if a == 1 and channels == 1:
        width = max(1, blocks(b, wanted))
        across = max(1, blocks(b, width))
    pieces = max(1, blocks(a, rows)) * across
    shape = Shape(a, m, b, channels, lanes, rows, width, across, pieces)
    return Plan(shape, groups, pieces, float(a * b))


def _plain(gpu: Launcher, x: Any) -> Any:
    return x if x.flags.c_contiguous else contiguous(gpu, x)


def _row(gpu: Launcher, x: Any, dtype: np.dtype) -> tuple[Any, np.generic]:
    """(the row, 0), or (None, the number)."""
    if isinstance(x, gpu.array_type):
        return _plain(gpu, x), scalar(0, dtype)
    return None, scalar(x, dtype)


def _moments(gpu: Launcher, x: Any, p: Plan) -> Any:
    """Each piece's, (pieces, m, 3); None where a block has all and needs none."""
    if p.pieces == 1:
        return None
    parts = gpu.empty((p.pieces, x.shape[1], 3), x.dtype)
    grid = (p.groups, p.pieces)
    gpu.launch(SOURCE, "moments", x.dtype, grid, (THREADS,), (parts, x, p.shape))
    return parts


def normalize(gpu: Launcher, x: Any, scale: Any, shift: Any, eps: float) -> Any:
    """scale * (x - mean) / sqrt(variance + eps) + shift; scale and shift (m,), or numbers."""
    y, x = gpu.empty(x.shape, x.dtype), _plain(gpu, x)
    if not x.size:
        return y
    p = plan(*x.shape)
    rows = (*_row(gpu, scale, x.dtype), *_row(gpu, shift, x.dtype))
    arguments = (y, x, *rows, float(eps), _moments(gpu, x, p), p.numbers, p.shape)
    gpu.launch(SOURCE, "normalize", x.dtype, (p.groups, p.pieces), (THREADS,), arguments)
    return y


def _sums(gpu: Launcher, g: Any, x: Any, eps: float, p: Plan, parts: Any) -> Any:
    """(2, m): sum(g) and sum(g h), the pieces' added in order."""
    y = gpu.empty((2, x.shape[1]), x.dtype)
    out = y if p.pieces == 1 else gpu.empty((p.pieces, *y.shape), x.dtype)
    arguments = (out, g, x, float(eps), parts, p.numbers, p.shape)
    gpu.launch(SOURCE, "normalize_sums", x.dtype, (p.groups, p.pieces), (THREADS,), arguments)
    if p.pieces > 1:
        join = (y, out, None, p.pieces, y.size, 1)
        grid = (blocks(y.size, JOIN_THREADS),)
        gpu.launch(MATMUL, "join_splits", x.dtype, grid, (JOIN_THREADS,), join)
    return y


def normalize_sums(gpu: Launcher, g: Any, x: Any, eps: float) -> Any:
    """(2, m): sum(g) and sum(g h) of each m."""
    g, x, p = _plain(gpu, g), _plain(gpu, x), plan(*x.shape)
    return _sums(gpu, g, x, eps, p, _moments(gpu, x, p))


def normalize_grad(gpu: Launcher, g: Any, x: Any, scale: Any, eps: float) -> Any:
    """scale * r (g - mean(g) - h mean(g h)): one launch, or four where there are pieces."""
    y, g, x = gpu.empty(x.shape, x.dtype), _plain(gpu, g), _plain(gpu, x)
    if not x.size:
        return y
    p = plan(*x.shape)
    parts = _moments(gpu, x, p)
    sums = None if parts is None else _sums(gpu, g, x, eps, p, parts)
    arguments = (y, g, x, *_row(gpu, scale, x.dtype), float(eps), parts, sums, p.numbers, p.shape)
    gpu.launch(SOURCE, "normalize_grad", x.dtype, (p.groups, p.pieces), (THREADS,), arguments)
    return y


def inverse_std(gpu: Launcher, x: Any, eps: float) -> Any:
    """1 / sqrt(variance + eps) of each m."""
    x, p, y = _plain(gpu, x), plan(*x.shape), gpu.empty((x.shape[1],), x.dtype)
    arguments = (y, x, float(eps), _moments(gpu, x, p), p.numbers, p.shape)
    gpu.launch(SOURCE, "inverse_std", x.dtype, (p.groups,), (THREADS,), arguments)
    return y


def running_moments(gpu: Launcher, means: Any, variances: Any, x: Any, momentum: float) -> None:
    """Both (m,) move towards the mean and the unbiased variance of x, by `momentum` of the way."""
    x, p, count = _plain(gpu, x), plan(*x.shape), x.shape[0] * x.shape[2]
    steps = (*elements(means), *elements(variances))
    unbiased = count / (count - 1)
    numbers = (float(momentum), unbiased, *steps, _moments(gpu, x, p), p.numbers, p.shape)
    arguments = (means, variances, x, *numbers)
    gpu.launch(SOURCE, "running_moments", x.dtype, (p.groups,), (THREADS,), arguments)


def _unit(gpu: Launcher, y: Any, x: Any, eps: float) -> None:
    """y = x / max(|x|, eps)"""
    arguments = (y, x, x.size, *elements(y), scalar(eps, x.dtype))
    gpu.launch(SOURCE, "unit", x.dtype, (1,), (THREADS,), arguments)


def power_iteration(gpu: Launcher, u: Any, v: Any, w: Any, steps: int, eps: float) -> None:
    """`steps` times v = unit(u w), u = unit(w v)."""
    for _ in range(steps):
        _unit(gpu, v, multiply(gpu, u[None], w), eps)
        _unit(gpu, u, multiply(gpu, w, v[:, None]), eps)


KERNELS = {
    "normalize": normalize,
    "normalize_grad": normalize_grad,
    "normalize_sums": normalize_sums,
    "inverse_std": inverse_std,
    "running_moments": running_moments,
    "power_iteration": power_iteration,
}
