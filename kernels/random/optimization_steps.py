"""The optimization steps that lead to `cpu.py`, for float32 numbers; all give the same bits.

`STEPS[distribution]` holds the steps for "uniform" numbers in [0, 1) and for "normal" ones. Each is
`step(count, position, seed, stream) -> float32 array`, with int64 arrays of shape (1,) for position
and seed, as in cpu.py.
`python -m minigan.kernels.random.optimization_steps` measures the steps beside numpy's
Generator(Philox).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..runtime.cpu.compiler import jit
from ..runtime.cpu.launch import empty, launch
from ..runtime.cpu.thread_pool import threads
from . import cpu

UNIT = np.float32(2.0**-24)
SHIFT = np.uint64(8)


# Without inline="always" the compiler does not inline these: the loops below have a call each.
@jit
def philox(block: Any, stream: Any, seed: Any) -> Any:
    return cpu.philox(block, stream, seed)


@jit
def box_muller(word_0: Any, word_1: Any) -> Any:
    return cpu.box_muller(word_0, word_1, 0, 2.0**-32)


# --------------------------------------------------------------------------------------- naive
@jit
def uniform_by_number(out: Any, first: Any, stream: Any, seed: Any) -> None:
    """Compute number by number.

    for each number i:
        words = Philox of block i / 4     three of four words are not used
        out[i] = words[i % 4] to uniform
    """
    for i in range(out.size):
        words = philox(first + np.uint64(i // 4), stream, seed)
        out[i] = np.float32(words[i % 4] >> SHIFT) * UNIT


@jit
def normal_by_number(out: Any, first: Any, stream: Any, seed: Any) -> None:
    """Compute number by number, with one of each block and of each Box-Muller pair used."""
    for i in range(out.size):
        words = philox(first + np.uint64(i // 4), stream, seed)
        pair = i % 4 // 2 * 2
        out[i] = box_muller(words[pair], words[pair + 1])[i % 2]


# --------------------------------------------------------------------- four numbers per block
@jit
def uniform_by_block(out: Any, first: Any, stream: Any, seed: Any) -> None:
    """Compute block by block.

    for each block:
        words = Philox of the block
        out[4 numbers] = words to uniform

    Optimizations:
        - Loop unrolling by 4: all words of a block are used.
    """
    for i in range(0, out.size, 4):
        words = philox(first + np.uint64(i // 4), stream, seed)
        for j in range(min(4, out.size - i)):
            out[i + j] = np.float32(words[j] >> SHIFT) * UNIT


@jit
def normal_by_block(out: Any, first: Any, stream: Any, seed: Any) -> None:
    """Compute block by block: all words, and both numbers of each Box-Muller pair, are used."""
    for i in range(0, out.size, 4):
        words = philox(first + np.uint64(i // 4), stream, seed)
        a, b = box_muller(words[0], words[1])
        c, d = box_muller(words[2], words[3])
        numbers = (a, b, c, d)
        for j in range(min(4, out.size - i)):
            out[i + j] = numbers[j]


# ----------------------------------------------------------------------------------- the steps
def _run(kernel: Any, count: int, position: Any, seed: Any, stream: int) -> np.ndarray:
    out = empty((count,), np.float32)
    kernel(out, *(np.uint64(int(n) % 2**64) for n in (position[0], stream, seed[0])))
    return out


def _cpu(parts: int, kernel: Any, count: int, position: Any, seed: Any, stream: int) -> np.ndarray:
    """Run cpu.py's kernel in `parts` parts; if 0, in one part for each thread."""
    out = empty((count,), np.float32)
    arguments = out, position, seed, stream, np.empty(0, np.uint32), 0.0, 1.0
    launch(kernel, *arguments, over=-(-count // 4), parts=parts or threads())
    return out


def _steps(by_number: Any, by_block: Any, kernel: Any) -> dict[str, Callable[..., np.ndarray]]:
    return {
        "naive, one number per block": partial(_run, by_number),
        "four numbers per block": partial(_run, by_block),
        "vectorization": partial(_cpu, 1, kernel),
        "multithreading (cpu.py)": partial(_cpu, 0, kernel),
    }


STEPS = {
    "uniform": _steps(uniform_by_number, uniform_by_block, cpu.draw_uniform),
    "normal": _steps(normal_by_number, normal_by_block, cpu.draw_normal),
}


def measure(count: int = 100_000, rounds: int = 21) -> None:
    """Print nanoseconds per number: medians over rounds that interleave all steps."""
    position, seed = np.array([0]), np.array([0])
    numpy = np.random.Generator(np.random.Philox(0))
    peers: dict[str, Any] = {"uniform": numpy.random, "normal": numpy.standard_normal}
    for distribution, steps in STEPS.items():
        draws = {name: partial(step, count, position, seed, 0) for name, step in steps.items()}
        draws["numpy's Philox"] = partial(peers[distribution], count, dtype=np.float32)
        times: dict[str, list[float]] = {name: [] for name in draws}
        for _ in range(rounds):
            for name, draw in draws.items():
                start = time.perf_counter()
                draw()
                times[name].append(time.perf_counter() - start)
        for name, seconds in times.items():
            print(f"{distribution:8} {name:28} {np.median(seconds) / count * 1e9:6.2f} ns")


if __name__ == "__main__":
    measure()
