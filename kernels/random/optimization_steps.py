"""The rungs below cpu.py, float32, with the same bits.

`python -m minigan.kernels.random.optimization_steps`
measures them beside numpy's Generator(Philox).

Uniform numbers are in [0, 1). `LADDER[distribution]` lists the rungs, slowest first; each is
`rung(count, position, seed, stream) -> float32 array`, with int64 arrays of shape (1,) for position
and seed as in cpu.py.
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
DROP = np.uint64(8)


# As functions that the compiler keeps apart, these leave a call in every loop that uses them.
@jit
def philox(block: Any, stream: Any, seed: Any) -> Any:
    return cpu.philox(block, stream, seed)


@jit
def box_muller(word_0: Any, word_1: Any) -> Any:
    return cpu.box_muller(word_0, word_1, 0, 2.0**-32)


# -------------------------------------------------------------- rung 1: a block for each number
@jit
def uniform_by_number(out: Any, first: Any, stream: Any, seed: Any) -> None:
    for i in range(out.size):
        words = philox(first + np.uint64(i // 4), stream, seed)
        out[i] = np.float32(words[i % 4] >> DROP) * UNIT


@jit
def normal_by_number(out: Any, first: Any, stream: Any, seed: Any) -> None:
    for i in range(out.size):
        words = philox(first + np.uint64(i // 4), stream, seed)
        pair = i % 4 // 2 * 2
        out[i] = box_muller(words[pair], words[pair + 1])[i % 2]


# ------------------------------------------------------------------ rung 2: a block for each four
@jit
def uniform_by_block(out: Any, first: Any, stream: Any, seed: Any) -> None:
    for i in range(0, out.size, 4):
        words = philox(first + np.uint64(i // 4), stream, seed)
        for j in range(min(4, out.size - i)):
            out[i + j] = np.float32(words[j] >> DROP) * UNIT


@jit
def normal_by_block(out: Any, first: Any, stream: Any, seed: Any) -> None:
    for i in range(0, out.size, 4):
        words = philox(first + np.uint64(i // 4), stream, seed)
        a, b = box_muller(words[0], words[1])
        c, d = box_muller(words[2], words[3])
        numbers = (a, b, c, d)
        for j in range(min(4, out.size - i)):
            out[i + j] = numbers[j]


# ------------------------------------------------------------------------------------- the table
def _plain(kernel: Any, count: int, position: Any, seed: Any, stream: int) -> np.ndarray:
    out = empty((count,), np.float32)
    kernel(out, *(np.uint64(int(n) % 2**64) for n in (position[0], stream, seed[0])))
    return out


def _shipped(
    parts: int, kind: int, count: int, position: Any, seed: Any, stream: int
) -> np.ndarray:
    out = empty((count,), np.float32)
    given = kind, out, position, seed, stream, np.empty(0, np.uint32), 0.0, 1.0
    launch(cpu.draw, *given, over=-(-count // 4), parts=parts or threads())
    return out


def _rungs(by_number: Any, by_block: Any, kind: int) -> dict[str, Callable[..., np.ndarray]]:
    return {
        "a block for each number": partial(_plain, by_number),
        "a block for each four": partial(_plain, by_block),
        "vectors": partial(_shipped, 1, kind),
        "threads": partial(_shipped, 0, kind),
    }


LADDER = {
    "uniform": _rungs(uniform_by_number, uniform_by_block, cpu.UNIFORM),
    "normal": _rungs(normal_by_number, normal_by_block, cpu.NORMAL),
}


def measure(count: int = 100_000, rounds: int = 21) -> None:
    """Print nanoseconds per number: medians of rounds in which all take turns."""
    position, seed = np.array([0]), np.array([0])
    numpy = np.random.Generator(np.random.Philox(0))
    peers: dict[str, Any] = {"uniform": numpy.random, "normal": numpy.standard_normal}
    for distribution, rungs in LADDER.items():
        draws = {name: partial(rung, count, position, seed, 0) for name, rung in rungs.items()}
        draws["numpy's Philox"] = partial(peers[distribution], count, dtype=np.float32)
        times: dict[str, list[float]] = {name: [] for name in draws}
        for _ in range(rounds):
            for name, draw in draws.items():
                start = time.perf_counter()
                draw()
                times[name].append(time.perf_counter() - start)
        for name, seconds in times.items():
            print(f"{distribution:8} {name:24} {np.median(seconds) / count * 1e9:6.2f} ns")


if __name__ == "__main__":
    measure()
