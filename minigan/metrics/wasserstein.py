"""The sliced Wasserstein distance."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..engine.random import Generator
from ..engine.tensor import no_grad, tensor


def sliced_wasserstein(
    x: np.ndarray, y: np.ndarray, projections: int = 256, seed: int = 0
) -> float:
    """Mean over random directions of the 1-Wasserstein distance between x and y along them.

    In one dimension, W1 of two samples of equal size is the mean |difference| of their sorted
    values (Rabin et al. 2011 for the sliced distance, Bonneel et al. 2015). For images in [-1, 1]
    the unit is that of a pixel value, along a unit vector of pixel space.

    Args:
        x, y: (n, ...) arrays of equal shape; all axes but the first are flattened.
        projections: the number of directions, uniform on the sphere, drawn by `seed`.
    Raises:
        ValueError: the shapes differ, or there is no sample or no direction.
    """
    if projections < 1:
        raise ValueError(f"sliced_wasserstein: projections = {projections} is not positive")
    if x.shape != y.shape or not len(x):
        raise ValueError(
            f"sliced_wasserstein: samples of shapes {x.shape} and {y.shape}; equal shapes with at"
            " least one sample are needed"
        )
    x, y = (np.asarray(a, np.float32).reshape(len(a), -1) for a in (x, y))
    directions = Generator(seed).normal((x.shape[1], projections), stream="directions").numpy()
    directions /= np.sqrt((directions * directions).sum(axis=0))
    with no_grad():
        along = [np.sort(ops.matmul(tensor(a), tensor(directions)).numpy(), axis=0) for a in (x, y)]
    return float(np.abs(along[0] - along[1]).mean(dtype=np.float64))
