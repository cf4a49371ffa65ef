"""The optimization steps from seven loops to `cpu.py`: `STEPS[name][operation](..., **attributes)`.

Operations, arrays and attributes are those of `cpu.KERNELS`; each step takes contiguous arrays of
one dtype, float32 or float64:

    naive             the formula: seven loops
    im2col            `columns.py` by one thread: the images unrolled into a matrix, and `matmul`
    implicit GEMM     `cpu.py` by one thread: the product reads the images through tables; a layer
                      of one channel stays im2col
    multithreading    `cpu.py`

The README has the measured speed of each step;
`python -m minigan.kernels.conv2d.optimization_steps` measures it again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty
from ..runtime.cpu.thread_pool import thread_limit
from ..runtime.timing import medians
from . import columns, cpu
from .geometry import Pair, output_size

Operation = Callable[..., np.ndarray]


# ------------------------------------------------------------------------------- naive: seven loops
@jit
def _naive_forward(x, w, y, stride, padding):
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
def _naive_input_grad(g, w, x, stride, padding):
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
def _naive_weight_grad(x, g, w, stride, padding):
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


def _run_naive(
    kernel: Any, a: np.ndarray, b: np.ndarray, shape: Any, **geometry: Pair
) -> np.ndarray:
    y = empty(tuple(shape), a.dtype)
    kernel(a, b, y, geometry["stride"], geometry["padding"])
    return y


def _output_shape(x: np.ndarray, w: np.ndarray, **geometry: Pair) -> tuple[int, ...]:
    size, kernel = (x.shape[2], x.shape[3]), (w.shape[2], w.shape[3])
    return len(x), len(w), *output_size(size, kernel, **geometry)


_naive: dict[str, Operation] = {
    "conv2d": lambda x, w, **geometry: _run_naive(
        _naive_forward, x, w, _output_shape(x, w, **geometry), **geometry
    ),
    "conv2d_input_grad": lambda g, w, size, **geometry: _run_naive(
        _naive_input_grad, g, w, (len(g), w.shape[1], *size), **geometry
    ),
    "conv2d_weight_grad": lambda x, g, kernel, **geometry: _run_naive(
        _naive_weight_grad, x, g, (g.shape[1], x.shape[1], *kernel), **geometry
    ),
}


# --------------------------------------------------------------- the kernels of columns.py, cpu.py
def _one_thread(operation: Operation) -> Operation:
    """Return a function that runs an operation on one thread, for any size."""

    def run(*arrays: np.ndarray, **attributes: Any) -> np.ndarray:
        with thread_limit(1):
            return operation(*arrays, **attributes)

    return run


STEPS: dict[str, dict[str, Operation]] = {
    "naive": _naive,
    "im2col": {name: _one_thread(operation) for name, operation in columns.OPERATIONS.items()},
    "implicit GEMM": {name: _one_thread(kernel) for name, kernel in cpu.KERNELS.items()},
    "multithreading": dict(cpu.KERNELS),
}


def measure() -> None:
    """Print the GFLOP/s of each step and operation at the sizes of a DCGAN on digits."""
    generator = np.random.default_rng(0)
    for n, c, o, size, k, s, p in ((64, 64, 128, 14, 4, 2, 1), (64, 1, 64, 28, 4, 2, 1)):
        geometry = {"stride": (s, s), "padding": (p, p)}
        out = output_size((size, size), (k, k), **geometry)
        shapes = (n, c, size, size), (o, c, k, k), (n, o, *out)
        x, w, g = (generator.standard_normal(shape, np.float32) for shape in shapes)
        cases: dict[str, tuple[Any, ...]] = {
            "conv2d": ((x, w), {}),
            "conv2d_input_grad": ((g, w), {"size": (size, size)}),
            "conv2d_weight_grad": ((x, g), {"kernel": (k, k)}),
        }
        flops = 2 * g.size * c * k * k
        title = f"{n}x{c}x{size}x{size}, {o} of {k}x{k}"
        for name, (arrays, attributes) in cases.items():
            calls = {
                step: partial(operations[name], *arrays, **attributes, **geometry)
                for step, operations in STEPS.items()
            }
            for step, seconds in medians(calls, 9).items():
                print(f"{title}  {name:18} {step:18} {flops / seconds / 1e9:6.1f} GFLOP/s")


if __name__ == "__main__":
    measure()
