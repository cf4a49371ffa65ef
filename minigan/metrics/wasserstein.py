"""The sliced Wasserstein distance."""

from __future__ import annotations

import numpy as np

from ..engine.random import Generator
from ..engine.tensor import no_grad, tensor
from .neighbours import row_blocks
from .numbers import real_numbers

MAX_NUMBERS = 2**28  # in the float32 directions, which take 1 GiB


def sliced_wasserstein(
    x: np.ndarray, y: np.ndarray, projections: int = 256, seed: int = 0
) -> float:
    """Return the mean of the 1-Wasserstein distances of x and y projected on random directions.

    In one dimension, W1 of two samples of equal size is the mean absolute difference of their
    sorted values (Rabin et al. 2011; Bonneel et al. 2015). For images in [-1, 1] the unit is that
    of a pixel value, along a unit vector of pixel space. Samples are projected in float64, as an
    offset much larger than the distance costs digits.

        mg.metrics.sliced_wasserstein(generated, held_out)

    Args:
        x, y: (n, ...) arrays of equal shape; all axes but the first are flattened.
        projections: the number of directions, uniform on the sphere.
        seed: of the directions.

    Returns:
        The distance in the unit of the coordinates; NaN if a coordinate is not finite.

    Raises:
        TypeError: the samples are not real numbers.
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
    x, y = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (x, y))
    limit = MAX_NUMBERS // max(x.shape)
    if projections > limit:
        raise ValueError(
            f"sliced_wasserstein: projections = {projections}; at most {limit:,} are accepted for"
            f" samples of shape {x.shape}"
        )
    directions = Generator(seed).normal((x.shape[1], projections), stream="directions").numpy()
    distances = np.empty(projections)
    columns = [tensor(z).T for z in (x, y)]
    for block in row_blocks(projections, max(x.shape)):
        part = directions[:, block].T.astype(np.float64)
        part /= np.sqrt((part * part).sum(axis=1, keepdims=True))
        with no_grad():
            a, b = (np.sort((tensor(part) @ z).numpy(), axis=1) for z in columns)
        if not (np.isfinite(a[:, [0, -1]]).all() and np.isfinite(b[:, [0, -1]]).all()):
            return float("nan")
        distances[block] = np.abs(a - b).mean(axis=1)
    return float(distances.mean())
