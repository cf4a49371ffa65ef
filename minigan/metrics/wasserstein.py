"""The sliced Wasserstein distance."""

from __future__ import annotations

import numpy as np

from ..engine.random import Generator
from ..engine.tensor import no_grad, tensor
from .numbers import real_numbers

MAX_NUMBERS = 2**28  # in the directions, and in the projected samples, which take 1 GiB each


def sliced_wasserstein(
    x: np.ndarray, y: np.ndarray, projections: int = 256, seed: int = 0
) -> float:
    """Return the mean of the 1-Wasserstein distances of x and y projected on random directions.

    In one dimension, W1 of two samples of equal size is the mean absolute difference of their
    sorted values (Rabin et al. 2011; Bonneel et al. 2015). For images in [-1, 1] the unit is that
    of a pixel value, along a unit vector of pixel space.

        mg.metrics.sliced_wasserstein(generated, held_out)

    Args:
        x, y: (n, ...) arrays of equal shape; all axes but the first are flattened.
        projections: the number of directions, uniform on the sphere.
        seed: of the directions.

    Raises:
        ValueError: the shapes differ, or there are no samples, or no or too many directions.
    """
    if projections < 1:
        raise ValueError(f"sliced_wasserstein: projections = {projections} is not positive")
    x, y = (real_numbers("sliced_wasserstein", a) for a in (x, y))
    if x.shape != y.shape or not x.ndim or not len(x):
        raise ValueError(
            f"sliced_wasserstein: samples of shapes {x.shape} and {y.shape}; equal shapes with at"
            " least one sample are needed"
        )
    x, y = (np.asarray(a, np.float32).reshape(len(a), -1) for a in (x, y))
    limit = MAX_NUMBERS // max(x.shape)
    if projections > limit:
        raise ValueError(
            f"sliced_wasserstein: projections = {projections}; at most {limit:,} are accepted for"
            f" samples of shape {x.shape}"
        )
    directions = Generator(seed).normal((x.shape[1], projections), stream="directions").numpy()
    directions /= np.sqrt((directions * directions).sum(axis=0))
    with no_grad():
        projected = [(tensor(a) @ tensor(directions)).numpy() for a in (x, y)]
    x, y = (np.sort(a, axis=0) for a in projected)
    return float(np.abs(x - y).mean(dtype=np.float64))
