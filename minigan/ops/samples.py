"""Makers of sample inputs, on which the tests check each op: `maker(rng) -> array`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Maker:
    """Draws an array of `shape`; `at(shape)` draws the same way in another shape."""

    shape: tuple[int, ...]
    draw: Draw
    smooth: bool = True  # False: drawn on a kink or a jump, where no derivative is to be checked

    def __call__(self, rng: np.random.Generator) -> np.ndarray:
        return self.draw(rng, self.shape)

    def at(self, shape: tuple[int, ...]) -> Maker:
        return replace(self, shape=shape)


def uniform(*shape: int, low: float = -2.0, high: float = 2.0) -> Maker:
    """Float64, uniform in [low, high)."""
    return Maker(shape, lambda rng, shape: rng.uniform(low, high, shape))


def away_from_zero(*shape: int) -> Maker:
    """Either sign, magnitude in [0.2, 2): for functions with a kink at 0."""
    return Maker(
        shape, lambda rng, shape: rng.choice([-1.0, 1.0], shape) * rng.uniform(0.2, 2, shape)
    )


def distinct(*shape: int) -> Maker:
    """Distinct values, at least 0.05 apart: for functions that compare their elements."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        return (0.1 * (rng.permutation(size) - size / 2)).reshape(shape) + rng.uniform(0, 0.05)

    return Maker(shape, draw)


def booleans(*shape: int) -> Maker:
    return Maker(shape, lambda rng, shape: rng.random(shape) < 0.5)


def indices(*shape: int, below: int) -> Maker:
    """Int64 in [0, below), with repetitions."""
    return Maker(shape, lambda rng, shape: rng.integers(0, below, shape))


def constant(values: list[float]) -> Maker:
    """These values, whatever the generator: for ties and kinks."""
    array = np.array(values, np.float64)
    return Maker(array.shape, lambda rng, shape: np.resize(array, shape), smooth=False)
