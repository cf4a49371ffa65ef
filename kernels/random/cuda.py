"""Random numbers by counter on a GPU: the bits of every other device."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.cuda.launcher import Launcher, blocks

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS = 128  # of a block
FLOAT32 = np.dtype("float32")  # what kernels without a REAL are compiled for


def _draw(
    gpu: Launcher,
    kernel: str,
    position: Any,
    seed: Any,
    stream: int,
    shape: Any,
    dtype: Any,
    *numbers: Any,
    per_block: int | None = None,
) -> Any:
    dtype = np.dtype(dtype)
    y = gpu.empty(shape, dtype)
    count = blocks(math.prod(shape), per_block or 16 // dtype.itemsize)
    arguments = (y, position, seed, stream, y.size, *numbers)
    gpu.launch(SOURCE, kernel, dtype, (blocks(count, THREADS),), (THREADS,), arguments)
    return y


def random_uniform(
    gpu: Launcher,
    position: Any,
    seed: Any,
    *,
    stream: int,
    shape: Any,
    dtype: Any,
    low: float,
    high: float,
) -> Any:
    """Uniform in [low, high)."""
    real = np.dtype(dtype).type
    a, b = real(low), real(high)
    bounds = (a, b, b - a, np.nextafter(b, a))
    return _draw(gpu, "uniform", position, seed, stream, shape, dtype, *bounds)


def random_normal(
    gpu: Launcher, position: Any, seed: Any, *, stream: int, shape: Any, dtype: Any
) -> Any:
    """Mean 0, variance 1."""
    return _draw(gpu, "normal", position, seed, stream, shape, dtype)


def random_laplace(
    gpu: Launcher, position: Any, seed: Any, *, stream: int, shape: Any, dtype: Any
) -> Any:
    """Density exp(-|x|) / 2."""
    return _draw(gpu, "laplace", position, seed, stream, shape, dtype)


def random_bernoulli(
    gpu: Launcher, position: Any, seed: Any, *, stream: int, shape: Any, dtype: Any, p: float
) -> Any:
    """1 with probability p, else 0."""
    below = round(p * 2**32)
    return _draw(gpu, "bernoulli", position, seed, stream, shape, dtype, below, per_block=4)


def random_permutation(gpu: Launcher, position: Any, seed: Any, *, stream: int, n: int) -> Any:
    """0 .. n - 1 in random order, by one thread."""
    y = gpu.empty((n,), np.dtype("int64"))
    gpu.launch(SOURCE, "permutation", FLOAT32, (1,), (1,), (y, position, seed, stream, n))
    return y


def advance(gpu: Launcher, position: Any, blocks: int) -> None:
    """position += blocks."""
    gpu.launch(SOURCE, "advance", FLOAT32, (1,), (1,), (position, blocks))


def reseed(gpu: Launcher, position: Any, seed: Any, to_position: int, to_seed: int) -> None:
    """Put a stream at a position of a seed's sequence."""
    arguments = (position, seed, to_position, to_seed)
    gpu.launch(SOURCE, "reseed", FLOAT32, (1,), (1,), arguments)


KERNELS = {
    "random_uniform": random_uniform,
    "random_normal": random_normal,
    "random_laplace": random_laplace,
    "random_bernoulli": random_bernoulli,
    "random_permutation": random_permutation,
    "advance": advance,
    "reseed": reseed,
}
