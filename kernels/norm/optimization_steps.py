"""The optimization steps that lead to `cpu.py`, for `normalize`.

`STEPS[title](x, scale, shift, eps)` returns x (a, m, b), C-contiguous, float32 or float64,
normalized by mean and variance of each channel m.
`python -m minigan.kernels.norm.optimization_steps` measures the steps.
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
from . import cpu

Step = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]


@jit
def _by_channel(x, y, scale, shift, eps):
    """Normalize channel by channel.

    for each channel m:
        for i in range(a), j in range(b): mean += x[i, m, j]                 one accumulator
        for i in range(a), j in range(b): variance += (x[i, m, j] - mean)^2  one accumulator
        for i in range(a), j in range(b): y[i, m, j] = ...
    """
    a, _, b = x.shape
    for m in range(x.shape[1]):
        mean, variance = x.dtype.type(0), x.dtype.type(0)
        for i in range(a):
            for j in range(b):
                mean += x[i, m, j]
        mean /= x.dtype.type(a * b)
        for i in range(a):
            for j in range(b):
                variance += (x[i, m, j] - mean) * (x[i, m, j] - mean)
        variance /= x.dtype.type(a * b)
        r = x.dtype.type(1) / np.sqrt(variance + eps)
        for i in range(a):
            for j in range(b):
                y[i, m, j] = scale[m] * ((x[i, m, j] - mean) * r) + shift[m]


@jit
def _one_pass(x, y, scale, shift, eps):
    """Normalize channel by channel, with variance = mean of squares - square of mean.

    That is one pass less over x, but the variance is wrong where |mean| >> standard deviation.
    """
    a, _, b = x.shape
    count = x.dtype.type(a * b)
    for m in range(x.shape[1]):
        total, squares = x.dtype.type(0), x.dtype.type(0)
        for i in range(a):
            for j in range(b):
                total += x[i, m, j]
                squares += x[i, m, j] * x[i, m, j]
        mean = total / count
        r = x.dtype.type(1) / np.sqrt(squares / count - mean * mean + eps)
        for i in range(a):
            for j in range(b):
                y[i, m, j] = scale[m] * ((x[i, m, j] - mean) * r) + shift[m]


def _step(kernel: Any) -> Step:
    def run(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, eps: float) -> np.ndarray:
        y = empty(x.shape, x.dtype)
        kernel(x, y, scale, shift, x.dtype.type(eps))
        return y

    return run


def _one_thread(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, eps: float, task_bytes: int
) -> np.ndarray:
    """Compute by cpu.py with one thread and tasks of `task_bytes`."""
    task_bytes_before, cpu.TASK_BYTES = cpu.TASK_BYTES, task_bytes
    try:
        with thread_limit(1):
            return cpu.normalize(x, scale, shift, eps)
    finally:
        cpu.TASK_BYTES = task_bytes_before


STEPS: dict[str, Step] = {
    "naive, channel by channel": _step(_by_channel),
    "loop order, row by row": partial(_one_thread, task_bytes=2**62),
    "cache blocking": partial(_one_thread, task_bytes=cpu.TASK_BYTES),
    "multithreading (cpu.py)": cpu.normalize,
}
# No op uses this step: it loses the variance of numbers with a mean much larger than it.
UNSTABLE_STEPS: dict[str, Step] = {"one-pass variance": _step(_one_pass)}


def measure() -> None:
    """Print nanoseconds per element at the sizes of a DCGAN on digits, and the errors."""
    generator = np.random.default_rng(0)
    steps = {**STEPS, **UNSTABLE_STEPS}
    for shape in ((128, 128, 49), (64, 64, 196)):
        x = generator.standard_normal(shape, np.float32)
        rows = np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)
        calls = {title: partial(step, x, *rows, 1e-5) for title, step in steps.items()}
        for title, seconds in medians(calls, 31).items():
            print(f"{shape}  {title:32} {seconds / x.size * 1e9:6.3f} ns")
    x = generator.standard_normal((128, 1, 49), np.float32)
    one = np.ones(1, np.float32)
    for mean in (0, 10, 100, 1000, 10000):
        y = x + np.float32(mean)
        exact = (y.astype(np.float64) - y.mean(dtype=np.float64)) / y.std(dtype=np.float64)
        errors = [np.abs(step(y, one, 0 * one, 1e-12) - exact).max() for step in steps.values()]
        print(f"mean {mean:6}  " + "  ".join(f"{error:9.1e}" for error in errors))


if __name__ == "__main__":
    measure()
