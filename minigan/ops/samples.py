"""Samplers of the inputs that each op is checked on: `sampler(rng) -> array`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Sampler:
    """A distribution of arrays of one shape."""

    shape: tuple[int, ...]
    draw: Draw
    smooth: bool = True  # False: the values lie on a kink or jump, where there is no derivative

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        """Draw an array."""
        return self.draw(rng, self.shape)

    def at(self, shape: tuple[int, ...]) -> Sampler:
        """Return the sampler that draws arrays of another shape in the same way."""
        return replace(self, shape=shape)


def uniform(*shape: int, low: float = -2.0, high: float = 2.0) -> Sampler:
    """Sample float64 numbers, uniform in [low, high)."""
    return Sampler(shape, lambda rng, shape: rng.uniform(low, high, shape))


def away_from_zero(*shape: int) -> Sampler:
    """Sample numbers of either sign and magnitude in [0.2, 2), for functions with a kink at 0."""
    return Sampler(
        shape, lambda rng, shape: rng.choice([-1.0, 1.0], shape) * rng.uniform(0.2, 2, shape)
    )


def distinct(*shape: int) -> Sampler:
    """Sample values at least 0.05 apart, for functions that compare their elements."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        return (0.1 * (rng.permutation(size) - size / 2)).reshape(shape) + rng.uniform(0, 0.05)

    return Sampler(shape, draw)


def booleans(*shape: int) -> Sampler:
    """Sample True and False with equal probability."""
    return Sampler(shape, lambda rng, shape: rng.random(shape) < 0.5)


def indices(*shape: int, below: int) -> Sampler:
    """Sample int64 numbers in [0, below), with repetitions."""
    return Sampler(shape, lambda rng, shape: rng.integers(0, below, shape))


def special_points(values: list[float]) -> Sampler:
    """Return these values, at which a function is smooth but its formula has a special case."""
    return replace(constant(values), smooth=True)


def constant(values: list[float]) -> Sampler:
    """Return these values, repeated to the shape, for ties and kinks."""
    array = np.array(values, np.float64)
    return Sampler(array.shape, lambda rng, shape: np.resize(array, shape), smooth=False)


def zeros_and_ones(*shape: int) -> Sampler:
    """Sample 0.0 and 1.0 with equal probability."""
    return Sampler(shape, lambda rng, shape: rng.integers(0, 2, shape).astype(np.float64))
