"""The rungs below cpu.py, for Adam.

`python -m minigan.kernels.optimizer.optimization_steps` measures them.

`RUNGS[title](lists, state)` makes one step in place, with the betas and eps below. lists holds
four lists of C-contiguous arrays of one dtype: parameters, gradients, means and squares. state is
float64, [learning rate, beta1^(t-1), beta2^(t-1)], and leaves with the next powers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numba
import numpy as np
from numba import prange

from ..runtime.cpu.compiler import jit
from ..runtime.timing import medians
from . import cpu

Arrays = list[np.ndarray]
Lists = tuple[Arrays, Arrays, Arrays, Arrays]
BETA1, BETA2, EPS = 0.5, 0.999, 1e-8
# The widths of the generator and the discriminator that are measured.
WIDTHS = ((100, 256, 512, 784), (784, 512, 256, 1))
BYTES = 28  # moved for a float32 parameter: p, g, m, v are read and p, m, v written


def _numbers(state: np.ndarray) -> list[float]:
    """1 - beta1, beta2, 1 - beta2, lr / (1 - beta1^t), sqrt(1 - beta2^t), eps."""
    state[1:] *= (BETA1, BETA2)
    lr, power1, power2 = map(float, state)
    return [1 - BETA1, BETA2, 1 - BETA2, lr / (1 - power1), math.sqrt(1 - power2), EPS]


# ----------------------------------------------------------------------------------- the rungs
def by_numpy(lists: Lists, state: np.ndarray) -> None:
    """Each operator is a pass over memory and leaves a temporary array."""
    numbers = _numbers(state)
    for p, g, m, v in zip(*lists, strict=True):
        blend, keep, fresh, rate, root, eps = map(p.dtype.type, numbers)
        m[...] = m + (g - m) * blend
        v[...] = v * keep + fresh * g * g
        p[...] = p - rate * m / (np.sqrt(v) / root + eps)


@jit
def fused(p, g, m, v, blend, keep, fresh, rate, root, eps):
    """Nothing but the four arrays touches memory."""
    for i in range(p.size):
        mean = m[i] + (g[i] - m[i]) * blend
        square = v[i] * keep + fresh * g[i] * g[i]
        m[i] = mean
        v[i] = square
        p[i] -= rate * mean / (np.sqrt(square) / root + eps)


def by_tensor(lists: Lists, state: np.ndarray) -> None:
    """One loop and one launch for each tensor."""
    numbers = _numbers(state)
    for arrays in zip(*lists, strict=True):
        fused(*(x.reshape(-1) for x in arrays), *map(arrays[0].dtype.type, numbers))


def by_table(lists: Lists, state: np.ndarray) -> None:
    """One launch: the kernel finds the tensors in a table of addresses."""
    table = np.array([[x.ctypes.data for x in arrays] for arrays in lists], np.int64)
    sizes = np.array([x.size for x in lists[0]], np.int64)
    no_weight_decay = [1.0, 0.0]
    numbers = np.array([*no_weight_decay, *_numbers(state)], lists[0][0].dtype)
    cpu.walk(cpu.ADAM, table, sizes, numbers, 0, int(sizes.sum()))


def shipped(lists: Lists, state: np.ndarray) -> None:
    """Each thread takes an equal stretch of all elements."""
    cpu.adam(*lists, state, BETA1, BETA2, EPS, weight_decay=0.0, decoupled=False)


RUNGS: dict[str, Callable[[Lists, np.ndarray], None]] = {
    "numpy, a temporary per operator": by_numpy,
    "one loop and launch per tensor": by_tensor,
    "one launch for all": by_table,
    "threads over elements (cpu.py)": shipped,
}


# ----------------------------------------------------------------------------------- measuring
@jit
def copy(y, x):
    for i in range(x.size):
        y[i] = x[i]


@jit
def touch(p, g, m, v):
    """The memory that a step moves, without its arithmetic."""
    for i in range(p.size):
        p[i] += g[i]
        m[i] += g[i]
        v[i] += g[i]


@jit(parallel=True)
def touch_parallel(p, g, m, v, parts):
    for part in prange(parts):
        begin, end = p.size * part // parts, p.size * (part + 1) // parts
        touch(p[begin:end], g[begin:end], m[begin:end], v[begin:end])


def tensors(widths: tuple[tuple[int, ...], ...] = WIDTHS) -> Lists:
    """Parameters, gradients, means and squares of dense nets of these widths."""
    shapes = [shape for net in widths for n, m in pairwise(net) for shape in ((n, m), (m,))]
    generator = np.random.default_rng(0)
    p, g, m, v = ([generator.standard_normal(s, np.float32) for s in shapes] for _ in range(4))
    return p, g, m, [np.square(x) for x in v]


def measure() -> None:
    """Print the time of a step beside that of the memory traffic alone."""
    lists = tensors()
    count = sum(p.size for p in lists[0])
    state = np.array([2e-4, 1.0, 1.0])
    p, g, m, v = (np.zeros(count, np.float32) for _ in range(4))
    y, x = np.zeros((2, 2 * count), np.float32)
    threads = numba.get_num_threads()
    steps = {title: partial(rung, lists, state) for title, rung in RUNGS.items()}
    peers = {
        "its traffic alone": partial(touch, p, g, m, v),
        f"its traffic alone, {threads} threads": partial(touch_parallel, p, g, m, v, threads),
    }
    for title, seconds in medians({**steps, **peers, "copy": partial(copy, y, x)}).items():
        moved = (16 if title == "copy" else BYTES) * count
        print(f"{title:34} {seconds * 1e3:7.3f} ms  {moved / seconds / 1e9:6.1f} GB/s")


if __name__ == "__main__":
    measure()
