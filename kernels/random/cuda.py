"""Launch counter-based random numbers on a GPU: the bits are those of every other device."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.cuda.launcher import Launcher, ceil_div

SOURCE = Path(__file__).with_name("cuda.cu")
THREADS_PER_BLOCK = 128
FLOAT32 = np.dtype("float32")  # the dtype for which kernels without REAL are compiled


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
    """Fill a new array; a thread makes one Philox block, of `per_block` numbers or of 16 bytes."""
    dtype = np.dtype(dtype)
    y = gpu.empty(shape, dtype)
    philox_blocks = ceil_div(math.prod(shape), per_block or 16 // dtype.itemsize)
    arguments = (y, position, seed, stream, y.size, *numbers)
    grid = (ceil_div(philox_blocks, THREADS_PER_BLOCK),)
    gpu.launch(SOURCE, kernel, dtype, grid, (THREADS_PER_BLOCK,), arguments)
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
    """Draw uniformly from [low, high)."""
    real = np.dtype(dtype).type
    a, b = real(low), real(high)
    bounds = (a, b, b - a, np.nextafter(b, a))
    return _draw(gpu, "uniform", position, seed, stream, shape, dtype, *bounds)


def random_normal(
    gpu: Launcher, position: Any, seed: Any, *, stream: int, shape: Any, dtype: Any
) -> Any:
    """Draw from the normal distribution of mean 0 and variance 1."""
    return _draw(gpu, "normal", position, seed, stream, shape, dtype)


def random_laplace(
    gpu: Launcher, position: Any, seed: Any, *, stream: int, shape: Any, dtype: Any
) -> Any:
    """Draw from the Laplace distribution, of density exp(-|x|) / 2."""
    return _draw(gpu, "laplace", position, seed, stream, shape, dtype)


def random_bernoulli(
    gpu: Launcher, position: Any, seed: Any, *, stream: int, shape: Any, dtype: Any, p: float
) -> Any:
    """Draw 1 with probability p, else 0."""
    threshold = round(p * 2**32)
    return _draw(gpu, "bernoulli", position, seed, stream, shape, dtype, threshold, per_block=4)


def random_permutation(gpu: Launcher, position: Any, seed: Any, *, stream: int, n: int) -> Any:
    """Return 0 .. n - 1 in random order, made by one thread."""
    y = gpu.empty((n,), np.dtype("int64"))
    gpu.launch(SOURCE, "permutation", FLOAT32, (1,), (1,), (y, position, seed, stream, n))
    return y


def advance(gpu: Launcher, position: Any, blocks: int) -> None:
    """Advance a stream's position by a number of Philox blocks."""
    gpu.launch(SOURCE, "advance", FLOAT32, (1,), (1,), (position, blocks))


def reseed(gpu: Launcher, position: Any, seed: Any, to_position: int, to_seed: int) -> None:
    """Set a stream's seed and its position in that seed's sequence."""
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
