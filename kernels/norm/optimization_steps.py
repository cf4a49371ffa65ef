"""From plain loops to `cpu.py`, one idea a rung: `rung(x, scale, shift, eps) -> y` in RUNGS.

Every rung normalises x (a, m, b), contiguous, float32 or float64, by the moments of each m.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty
from ..runtime.timing import medians
from . import cpu

Rung = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]


@jit
def _by_channel(x, y, scale, shift, eps):
    """One m after the other; each sum is one chain of additions."""
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
    """variance = mean of squares - square of mean: one walk less, and wrong where |mean| >> std."""
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


def _rung(kernel: Any) -> Rung:
    def run(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, eps: float) -> np.ndarray:
        y = empty(x.shape, x.dtype)
        kernel(x, y, scale, shift, x.dtype.type(eps))
        return y

    return run


def _blocks(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, eps: float, task_bytes: int
) -> np.ndarray:
    """What cpu.py does with one thread, in tasks of that size."""
    before, threads = cpu.TASK_BYTES, numba.get_num_threads()
    cpu.TASK_BYTES = task_bytes
    numba.set_num_threads(1)
    try:
        return cpu.normalize(x, scale, shift, eps)
    finally:
        cpu.TASK_BYTES = before
        numba.set_num_threads(threads)


# Not to be shipped: it loses the variance of what lies far from zero.
WRONG: dict[str, Rung] = {"one pass": _rung(_one_pass)}
RUNGS: dict[str, Rung] = {
    "by channel": _rung(_by_channel),
    "segments": partial(_blocks, task_bytes=2**62),
    "segments that stay in the cache": partial(_blocks, task_bytes=cpu.TASK_BYTES),
    "threads": cpu.normalize,
}


def measure() -> None:
    """Print nanoseconds per element at the sizes of a DCGAN on digits, and what one pass loses."""
    generator = np.random.default_rng(0)
    for shape in ((128, 128, 49), (64, 64, 196)):
        x = generator.standard_normal(shape, np.float32)
        rows = np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)
        calls = {title: partial(rung, x, *rows, 1e-5) for title, rung in {**RUNGS, **WRONG}.items()}
        for title, seconds in medians(calls, 31).items():
            print(f"{shape}  {title:32} {seconds / x.size * 1e9:6.3f} ns")
    x = generator.standard_normal((128, 1, 49), np.float32)
    one = np.ones(1, np.float32)
    for far in (0, 10, 100, 1000, 10000):
        y = x + np.float32(far)
        want = (y.astype(np.float64) - y.mean(dtype=np.float64)) / y.std(dtype=np.float64)
        errors = [
            np.abs(rung(y, one, 0 * one, 1e-12) - want).max()
            for rung in (*RUNGS.values(), *WRONG.values())
        ]
        print(f"mean {far:6}  " + "  ".join(f"{error:9.1e}" for error in errors))


if __name__ == "__main__":
    measure()
