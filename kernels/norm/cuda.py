"""Launch normalization on a GPU, and divide x (a, m, b) among blocks and launches."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..matmul.cuda import multiply
from ..matmul.split_k import allocate_partial_sums, count_splits, sum_splits
from ..runtime.cuda.launcher import Launcher, ceil_div
from ..runtime.strides import elements, scalar
from ..shape.cuda import contiguous

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS_PER_BLOCK = 256  # as in cuda.cu
MIN_PIECE_ELEMENTS, MAX_PIECES = 4096, 64


class Shape(ctypes.Structure):
    """`Shape` of cuda.cu."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("a", "m", "b", "channels", "row_threads", "rows", "width"),
            *("pieces_across", "pieces"),
        )
    )


class Plan(NamedTuple):
    """The division of a shape: blocks along m, pieces of each, and the numbers per mean."""

    shape: Shape
    groups: int
    pieces: int
    numbers: float


def plan(a: int, m: int, b: int) -> Plan:
    """Divide (a, m, b) among blocks and pieces by the shape alone, since it determines the bits."""
    if m == 1:  # all numbers are one row
        a, b = 1, a * b
    channels = max(1, min(32 // max(1, b), m))
    row_threads = min(THREADS_PER_BLOCK, max(32, 1 << max(0, channels * b - 1).bit_length()))
    groups, width = ceil_div(m, channels), channels * b
    splits = count_splits(groups, a * width, MIN_PIECE_ELEMENTS, MAX_PIECES)
    rows, pieces_across = max(1, ceil_div(a, splits)), 1
    if a == 1 and channels == 1:
        width = max(1, ceil_div(b, splits))
        pieces_across = max(1, ceil_div(b, width))
    pieces = max(1, ceil_div(a, rows)) * pieces_across
    shape = Shape(a, m, b, channels, row_threads, rows, width, pieces_across, pieces)
    return Plan(shape, groups, pieces, float(a * b))


def _row_or_number(gpu: Launcher, x: Any, dtype: np.dtype) -> tuple[Any, np.generic]:
    """Return two kernel arguments: (the row, 0), or (None, the number)."""
    if isinstance(x, gpu.array_type):
        return contiguous(gpu, x), scalar(0, dtype)
    return None, scalar(x, dtype)


def _moments(gpu: Launcher, x: Any, p: Plan) -> Any:
    """Compute the count, mean and squared distances of each piece: (pieces, m, 3).

    None where there is one piece: then the next kernel computes them itself.
    """
    if p.pieces == 1:
        return None
    parts = gpu.empty((p.pieces, x.shape[1], 3), x.dtype)
    grid = (p.groups, p.pieces)
    gpu.launch(SOURCE, "moments", x.dtype, grid, (THREADS_PER_BLOCK,), (parts, x, p.shape))
    return parts


def normalize(gpu: Launcher, x: Any, scale: Any, shift: Any, eps: float) -> Any:
    """Compute scale * (x - mean) / sqrt(variance + eps) + shift; scale, shift (m,) or numbers."""
    y, x = gpu.empty(x.shape, x.dtype), contiguous(gpu, x)
    if not x.size:
        return y
    p = plan(*x.shape)
    rows = (*_row_or_number(gpu, scale, x.dtype), *_row_or_number(gpu, shift, x.dtype))
    arguments = (y, x, *rows, float(eps), _moments(gpu, x, p), p.numbers, p.shape)
    gpu.launch(SOURCE, "normalize", x.dtype, (p.groups, p.pieces), (THREADS_PER_BLOCK,), arguments)
    return y


def _sums(gpu: Launcher, g: Any, x: Any, eps: float, p: Plan, parts: Any) -> Any:
    """Compute (2, m): sum(g) and sum(g h), those of the pieces added in order."""
    y = gpu.empty((2, x.shape[1]), x.dtype)
    out = allocate_partial_sums(gpu, y, p.pieces)
    arguments = (out, g, x, float(eps), parts, p.numbers, p.shape)
    gpu.launch(
        SOURCE, "normalize_sums", x.dtype, (p.groups, p.pieces), (THREADS_PER_BLOCK,), arguments
    )
    if p.pieces > 1:
        sum_splits(gpu, y, out)
    return y


def normalize_sums(gpu: Launcher, g: Any, x: Any, eps: float) -> Any:
    """Compute (2, m): sum(g) and sum(g h) for each m."""
    g, x, p = contiguous(gpu, g), contiguous(gpu, x), plan(*x.shape)
    return _sums(gpu, g, x, eps, p, _moments(gpu, x, p))


def normalize_grad(gpu: Launcher, g: Any, x: Any, scale: Any, eps: float) -> Any:
    """Compute scale * r (g - mean(g) - h mean(g h)): one launch, or four where there are pieces."""
    y, g, x = gpu.empty(x.shape, x.dtype), contiguous(gpu, g), contiguous(gpu, x)
    if not x.size:
        return y
    p = plan(*x.shape)
    parts = _moments(gpu, x, p)
    sums = None if parts is None else _sums(gpu, g, x, eps, p, parts)
    arguments = (
        y,
        g,
        x,
        *_row_or_number(gpu, scale, x.dtype),
        float(eps),
        parts,
        sums,
        p.numbers,
        p.shape,
    )
    gpu.launch(
        SOURCE, "normalize_grad", x.dtype, (p.groups, p.pieces), (THREADS_PER_BLOCK,), arguments
    )
    return y


def inverse_std(gpu: Launcher, x: Any, eps: float) -> Any:
    """Compute 1 / sqrt(variance + eps) for each m."""
    x, p, y = contiguous(gpu, x), plan(*x.shape), gpu.empty((x.shape[1],), x.dtype)
    arguments = (y, x, float(eps), _moments(gpu, x, p), p.numbers, p.shape)
    gpu.launch(SOURCE, "inverse_std", x.dtype, (p.groups,), (THREADS_PER_BLOCK,), arguments)
    return y


def running_moments(gpu: Launcher, means: Any, variances: Any, x: Any, momentum: float) -> None:
    """Update running means and unbiased variances (m,): y += momentum * (that of x - y)."""
    x, p, count = contiguous(gpu, x), plan(*x.shape), x.shape[0] * x.shape[2]
    strides = (*elements(means), *elements(variances))
    unbiased = count / (count - 1)
    numbers = (float(momentum), unbiased, *strides, _moments(gpu, x, p), p.numbers, p.shape)
    arguments = (means, variances, x, *numbers)
    gpu.launch(SOURCE, "running_moments", x.dtype, (p.groups,), (THREADS_PER_BLOCK,), arguments)


def _normalize_vector(gpu: Launcher, y: Any, x: Any, eps: float) -> None:
    """Compute y = x / max(|x|, eps) for a vector x."""
    arguments = (y, x, x.size, *elements(y), scalar(eps, x.dtype))
    gpu.launch(SOURCE, "normalize_vector", x.dtype, (1,), (THREADS_PER_BLOCK,), arguments)


def power_iteration(gpu: Launcher, u: Any, v: Any, w: Any, steps: int, eps: float) -> None:
    """Update u and v, `steps` times: v = u w / |u w|, then u = w v / |w v|."""
    for _ in range(steps):
        _normalize_vector(gpu, v, multiply(gpu, u[None], w), eps)
        _normalize_vector(gpu, u, multiply(gpu, w, v[:, None]), eps)


KERNELS = {
    "normalize": normalize,
    "normalize_grad": normalize_grad,
    "normalize_sums": normalize_sums,
    "inverse_std": inverse_std,
    "running_moments": running_moments,
    "power_iteration": power_iteration,
}
