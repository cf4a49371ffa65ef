"""Spectral normalisation: a layer whose weight, as a matrix, stretches nothing by more than 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops, random
from ..op import Update
from ..tensor import Tensor, no_grad
from .module import Module


def _unit(x: np.ndarray, eps: float) -> np.ndarray:
    return x / max(np.sqrt(np.square(x).sum()), x.dtype.type(eps))


def _power_iteration(u: np.ndarray, v: np.ndarray, w: np.ndarray, steps: int, eps: float) -> None:
    for _ in range(steps):
        v[...] = _unit(u @ w, eps)
        u[...] = _unit(w @ v, eps)


# u (m,) and v (n,) move towards the left and right singular vectors of w (m, n) whose singular
# value is the largest.
power_iteration = Update("power_iteration", _power_iteration, writes=(0, 1))
