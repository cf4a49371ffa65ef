"""From seven loops to `cpu.py`, one idea a rung: `RUNGS[title][face](..., **attributes)`.

Faces, arrays and attributes are those of `cpu.KERNELS`; every rung takes contiguous arrays of one
dtype, float32 or float64. The README tells what each changes and what it brought.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np

from ..elementwise.optimization_steps import medians
from ..matmul.cpu import matmul
from ..reduce.cpu import reduce
from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty
from . import cpu
from .geometry import Pair, output_size

Face = Callable[..., np.ndarray]


# ------------------------------------------------------------------------- seven loops, as written
@jit
def _direct_forward(x, w, y, stride, padding):
    for n in range(y.shape[0]):
        for o in range(y.shape[1]):
            for a in range(y.shape[2]):
                for b in range(y.shape[3]):
                    total = y.dtype.type(0)
                    for c in range(x.shape[1]):
                        for h in range(w.shape[2]):
                            i = a * stride[0] + h - padding[0]
                            for v in range(w.shape[3]):
                                j = b * stride[1] + v - padding[1]
                                if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                                    total += x[n, c, i, j] * w[o, c, h, v]
                    y[n, o, a, b] = total


@jit
def _direct_input_grad(g, w, x, stride, padding):
    x[:] = 0
    for n in range(g.shape[0]):
        for o in range(g.shape[1]):
            for a in range(g.shape[2]):
                for b in range(g.shape[3]):
                    for c in range(x.shape[1]):
                        for h in range(w.shape[2]):
                            i = a * stride[0] + h - padding[0]
                            for v in range(w.shape[3]):
                                j = b * stride[1] + v - padding[1]
                                if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                                    x[n, c, i, j] += g[n, o, a, b] * w[o, c, h, v]


@jit
def _direct_weight_grad(x, g, w, stride, padding):
    w[:] = 0
    for n in range(g.shape[0]):
        for o in range(g.shape[1]):
            for c in range(x.shape[1]):
                for h in range(w.shape[2]):
                    for v in range(w.shape[3]):
                        total = w.dtype.type(0)
                        for a in range(g.shape[2]):
                            i = a * stride[0] + h - padding[0]
                            for b in range(g.shape[3]):
                                j = b * stride[1] + v - padding[1]
                                if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                                    total += x[n, c, i, j] * g[n, o, a, b]
                        w[o, c, h, v] += total


def _into(kernel: Any, a: np.ndarray, b: np.ndarray, shape: Any, **places: Pair) -> np.ndarray:
    y = empty(tuple(shape), a.dtype)
    kernel(a, b, y, places["stride"], places["padding"])
    return y


def _output_shape(x: np.ndarray, w: np.ndarray, **places: Pair) -> tuple[int, ...]:
    size, kernel = (x.shape[2], x.shape[3]), (w.shape[2], w.shape[3])
    return len(x), len(w), *output_size(size, kernel, **places)


_direct: dict[str, Face] = {
    "conv2d": lambda x, w, **places: _into(
        _direct_forward, x, w, _output_shape(x, w, **places), **places
    ),
    "conv2d_input_grad": lambda g, w, size, **places: _into(
        _direct_input_grad, g, w, (len(g), w.shape[1], *size), **places
    ),
    "conv2d_weight_grad": lambda x, g, kernel, **places: _into(
        _direct_weight_grad, x, g, (g.shape[1], x.shape[1], *kernel), **places
    ),
}


# --------------------------------------------------------------- im2col, and a product of matrices
@jit
def _spread(x, columns, kernel, out, stride, padding):
    """columns[n, (c, h, v), (a, b)] = x[n, c, a*s + h - p, b*s + v - p], 0 outside."""
    for n in range(x.shape[0]):
        row = 0
        for c in range(x.shape[1]):
            for h in range(kernel[0]):
                for v in range(kernel[1]):
                    at = 0
                    for a in range(out[0]):
                        i = a * stride[0] + h - padding[0]
                        for b in range(out[1]):
                            j = b * stride[1] + v - padding[1]
                            there = 0 <= i < x.shape[2] and 0 <= j < x.shape[3]
                            columns[n, row, at] = x[n, c, i, j] if there else 0
                            at += 1
                    row += 1


@jit
def _gather(columns, x, kernel, out, stride, padding):
    """The adjoint: each element of `columns` is added to the pixel that it is a copy of."""
    x[:] = 0
    for n in range(x.shape[0]):
        row = 0
        for c in range(x.shape[1]):
            for h in range(kernel[0]):
                for v in range(kernel[1]):
                    at = 0
                    for a in range(out[0]):
                        i = a * stride[0] + h - padding[0]
                        for b in range(out[1]):
                            j = b * stride[1] + v - padding[1]
                            if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                                x[n, c, i, j] += columns[n, row, at]
                            at += 1
                    row += 1


def im2col(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """(n, c*kh*kw, rows*columns): every pixel as often as the kernel sees it."""
    out = output_size((x.shape[2], x.shape[3]), kernel, stride, padding)
    columns = empty((len(x), x.shape[1] * math.prod(kernel), math.prod(out)), x.dtype)
    _spread(x, columns, kernel, out, stride, padding)
    return columns


def _im2col_forward(x: np.ndarray, w: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    columns = im2col(x, (w.shape[2], w.shape[3]), stride, padding)
    shape = _output_shape(x, w, stride=stride, padding=padding)
    return matmul(w.reshape(len(w), -1), columns).reshape(shape)


def _im2col_input_grad(
    g: np.ndarray, w: np.ndarray, size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    n, outputs, *out = g.shape
    columns = matmul(w.reshape(outputs, -1).T, g.reshape(n, outputs, -1))
    x = empty((n, w.shape[1], *size), g.dtype)
    _gather(columns, x, (w.shape[2], w.shape[3]), (out[0], out[1]), stride, padding)
    return x


def _im2col_weight_grad(
    x: np.ndarray, g: np.ndarray, kernel: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    columns = im2col(x, kernel, stride, padding)
    each = matmul(g.reshape(*g.shape[:2], -1), columns.transpose(0, 2, 1))
    return reduce(each, (0,), False).reshape(g.shape[1], x.shape[1], *kernel)


_im2col: dict[str, Face] = {
    "conv2d": _im2col_forward,
    "conv2d_input_grad": _im2col_input_grad,
    "conv2d_weight_grad": _im2col_weight_grad,
}


# ---------------------------------------------------------------------------------- what is shipped
def _one_thread(kernel: Face) -> Face:
    """The kernel by one thread, whatever the size."""

    def run(*arrays: np.ndarray, **attributes: Any) -> np.ndarray:
        before = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            return kernel(*arrays, **attributes)
        finally:
            numba.set_num_threads(before)

    return run


RUNGS: dict[str, dict[str, Face]] = {
    "direct": _direct,
    "im2col and matmul": {face: _one_thread(rung) for face, rung in _im2col.items()},
    "implicit": {face: _one_thread(kernel) for face, kernel in cpu.KERNELS.items()},
    "threads": dict(cpu.KERNELS),
}


def measure() -> None:
    """Print GFLOP/s of each rung and face at the sizes of a DCGAN on digits."""
    generator = np.random.default_rng(0)
    for n, c, o, size, k, s, p in ((64, 64, 128, 14, 4, 2, 1), (64, 1, 64, 28, 4, 2, 1)):
        places = {"stride": (s, s), "padding": (p, p)}
        out = output_size((size, size), (k, k), **places)
        shapes = (n, c, size, size), (o, c, k, k), (n, o, *out)
        x, w, g = (generator.standard_normal(shape, np.float32) for shape in shapes)
        given: dict[str, tuple[Any, ...]] = {
            "conv2d": ((x, w), {}),
            "conv2d_input_grad": ((g, w), {"size": (size, size)}),
            "conv2d_weight_grad": ((x, g), {"kernel": (k, k)}),
        }
        work = 2 * g.size * c * k * k
        title = f"{n}x{c}x{size}x{size}, {o} of {k}x{k}"
        for face, (arrays, attributes) in given.items():
            calls = {
                rung: partial(faces[face], *arrays, **attributes, **places)
                for rung, faces in RUNGS.items()
            }
            for rung, seconds in medians(calls, 9).items():
                print(f"{title}  {face:18} {rung:18} {work / seconds / 1e9:6.1f} GFLOP/s")


if __name__ == "__main__":
    measure()
