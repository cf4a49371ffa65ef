"""The optimization steps that lead to `cpu.py`, for Adam.

`STEPS[title](lists, state)` does one step of Adam in place, with the betas and eps below. `lists`
are four lists of C-contiguous arrays of one dtype: parameters, gradients, means and squares.
`state` is float64, [learning rate, beta1^(t-1), beta2^(t-1)]; the step advances the powers.
`python -m minigan.kernels.optimizer.optimization_steps` measures the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numba
import numpy as np
from numba import prange

from ..runtime.cpu.call import function_addresses
from ..runtime.cpu.compiler import jit
from ..runtime.timing import medians
from . import cpu

Arrays = list[np.ndarray]
Lists = tuple[Arrays, Arrays, Arrays, Arrays]
BETA1, BETA2, EPS = 0.5, 0.999, 1e-8
# The layer widths of the generator and the discriminator that are measured.
WIDTHS = ((100, 256, 512, 784), (784, 512, 256, 1))
BYTES_PER_PARAMETER = 28  # in float32: p, g, m, v are read and p, m, v written


def _numbers(state: np.ndarray) -> list[float]:
    """Advance the powers in the state, and return the numbers of the rule.

    They are 1 - beta1, beta2, 1 - beta2, lr / (1 - beta1^t), sqrt(1 - beta2^t) and eps.
    """
    state[1:] *= (BETA1, BETA2)
    lr, power1, power2 = map(float, state)
    return [1 - BETA1, BETA2, 1 - BETA2, lr / (1 - power1), math.sqrt(1 - power2), EPS]


# ----------------------------------------------------------------------------------- the steps
def by_numpy(lists: Lists, state: np.ndarray) -> None:
    """Compute the formula with numpy: one pass and one temporary array for each operator."""
    numbers = _numbers(state)
    for p, g, m, v in zip(*lists, strict=True):
        one_minus_beta1, beta2, one_minus_beta2, lr, root, eps = map(p.dtype.type, numbers)
        m[...] = m + (g - m) * one_minus_beta1
        v[...] = v * beta2 + one_minus_beta2 * g * g
        p[...] = p - lr * m / (np.sqrt(v) / root + eps)


@jit
def fused(p, g, m, v, one_minus_beta1, beta2, one_minus_beta2, lr, root, eps):
    """Update one parameter in one loop.

    for i in the elements:       vectorized by LLVM
        load p, g, m, v; compute; store p, m, v

    Optimizations:
        - Loop fusion: no temporary arrays; intermediate values stay in registers.
    """
    for i in range(p.size):
        mean = m[i] + (g[i] - m[i]) * one_minus_beta1
        square = v[i] * beta2 + one_minus_beta2 * g[i] * g[i]
        m[i] = mean
        v[i] = square
        p[i] -= lr * mean / (np.sqrt(square) / root + eps)


def by_tensor(lists: Lists, state: np.ndarray) -> None:
    """Launch the fused loop once for each tensor."""
    numbers = _numbers(state)
    for arrays in zip(*lists, strict=True):
        fused(*(x.reshape(-1) for x in arrays), *map(arrays[0].dtype.type, numbers))


def by_table(lists: Lists, state: np.ndarray) -> None:
    """Launch once for all tensors (multi-tensor apply): their addresses are in a table."""
    table = np.array([[x.ctypes.data for x in arrays] for arrays in lists], np.int64)
    sizes = np.array([x.size for x in lists[0]], np.int64)
    no_weight_decay = [1.0, 0.0]
    numbers = np.array([*no_weight_decay, *_numbers(state)], lists[0][0].dtype)
    (rule,) = function_addresses((cpu.adam_rule,), numbers.dtype)
    cpu.update_elements(rule, table, sizes, numbers, 0, int(sizes.sum()))


def _cpu(lists: Lists, state: np.ndarray) -> None:
    """Launch once, each thread with an equal part of all elements."""
    cpu.adam(*lists, state, BETA1, BETA2, EPS, weight_decay=0.0, decoupled=False)


STEPS: dict[str, Callable[[Lists, np.ndarray], None]] = {
    "numpy, one temporary per operator": by_numpy,
    "loop fusion": by_tensor,
    "multi-tensor apply": by_table,
    "multithreading over elements (cpu.py)": _cpu,
}


# -------------------------------------------------------------------------------- measurement
@jit
def copy(y, x):
    """Copy x to y, for the time of a kernel without arithmetic."""
    for i in range(x.size):
        y[i] = x[i]


@jit
def touch(p, g, m, v):
    """Move the memory that a step of Adam moves, without its arithmetic."""
    for i in range(p.size):
        p[i] += g[i]
        m[i] += g[i]
        v[i] += g[i]


@jit(parallel=True)
def touch_parallel(p, g, m, v, parts):
    """Move that memory with `parts` threads."""
    for part in prange(parts):
        begin, end = p.size * part // parts, p.size * (part + 1) // parts
        touch(p[begin:end], g[begin:end], m[begin:end], v[begin:end])


def tensors(widths: tuple[tuple[int, ...], ...] = WIDTHS) -> Lists:
    """Return parameters, gradients, means and squares of dense nets with these layer widths."""
    shapes = [shape for net in widths for n, m in pairwise(net) for shape in ((n, m), (m,))]
    generator = np.random.default_rng(0)
    p, g, m, v = ([generator.standard_normal(s, np.float32) for s in shapes] for _ in range(4))
    return p, g, m, [np.square(x) for x in v]


def measure() -> None:
    """Print the time of a step of Adam beside that of its memory traffic alone."""
    lists = tensors()
    count = sum(p.size for p in lists[0])
    state = np.array([2e-4, 1.0, 1.0])
    p, g, m, v = (np.zeros(count, np.float32) for _ in range(4))
    y, x = np.zeros((2, 2 * count), np.float32)
    threads = numba.get_num_threads()
    steps = {title: partial(step, lists, state) for title, step in STEPS.items()}
    peers = {
        "memory traffic alone": partial(touch, p, g, m, v),
        f"memory traffic alone, {threads} threads": partial(touch_parallel, p, g, m, v, threads),
    }
    for title, seconds in medians({**steps, **peers, "copy": partial(copy, y, x)}).items():
        moved = (16 if title == "copy" else BYTES_PER_PARAMETER) * count
        print(f"{title:38} {seconds * 1e3:7.3f} ms  {moved / seconds / 1e9:6.1f} GB/s")


if __name__ == "__main__":
    measure()
