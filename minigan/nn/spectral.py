"""Spectral normalisation: a layer whose weight, as a matrix, stretches nothing by more than 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..engine import random
from ..engine.tensor import Tensor
from ..engine.update import Update
from ..ops.norm import check_eps
from .module import Module


def _unit(x: np.ndarray, eps: float) -> np.ndarray:
    return x / max(np.sqrt(np.square(x).sum()), x.dtype.type(eps))


def _power_iteration(u: np.ndarray, v: np.ndarray, w: np.ndarray, steps: int, eps: float) -> None:
    for _ in range(steps):
        v[...] = _unit(u @ w, eps)
        u[...] = _unit(w @ v, eps)


# u (m,) and v (n,) move towards the left and right singular vectors of w (m, n) whose singular
# value is the largest.
power_iteration = Update("power_iteration", _power_iteration, "f(m) f(n) f(m,n)", writes=(0, 1))


class SpectralNorm(Module):
    """A layer with weight / sigma in the place of its weight, sigma its largest singular value.

    So the layer is 1-Lipschitz where a convolution is taken as the matrix (out, in*kh*kw)
    (Miyato et al. 2018, section 2). u and v, which are saved with the weights, hold the singular
    vectors: each forward pass in training moves them by `steps` of the power iteration, and
    sigma = u W v. To the gradient they are constants, as in the paper (its equation 9 ff.).

    Raises:
        TypeError: the layer has no weight that can be taken as a matrix.
    """

    def __init__(self, module: Any, steps: int = 1, eps: float = 1e-12) -> None:
        if not hasattr(module, "as_matrix"):
            raise TypeError(
                f"spectral_norm: {type(module).__name__} has no weight to normalise; Dense, Conv2d,"
                " ConvTranspose2d and Embedding have"
            )
        if type(steps) is not int or steps < 1:
            raise ValueError(f"spectral_norm: steps = {steps!r} is not a positive integer")
        self.module, self.steps, self.eps = module, steps, check_eps("spectral_norm", eps)
        w = module.as_matrix(module.weight.detach())
        like = {"dtype": w.dtype, "device": w.device, "stream": "init"}
        self.u = random.normal((w.shape[0],), **like)
        self.v = random.normal((w.shape[1],), **like)
        power_iteration(self.u, self.v, w, steps=15, eps=self.eps)

    def normalized_weight(self) -> Tensor:
        """The layer's weight divided by its largest singular value."""
        w = self.module.as_matrix(self.module.weight)
        if self.training:
            power_iteration(self.u, self.v, w.detach(), steps=self.steps, eps=self.eps)
        # Copies: the next pass changes u and v, and this one's graph needs them as they are now.
        u, v = (ops.multiply(x, 1.0) for x in (self.u, self.v))
        stretched = ops.reshape(ops.matmul(w, ops.reshape(v, -1, 1)), -1)
        sigma = ops.sum(ops.multiply(u, stretched))
        return ops.divide(self.module.weight, sigma)

    def forward(self, x: Tensor) -> Tensor:
        return self.module.apply_weight(x, self.normalized_weight())


def spectral_norm(module: Any, steps: int = 1, eps: float = 1e-12) -> SpectralNorm:
    """The layer, spectrally normalised; see `SpectralNorm`."""
    return SpectralNorm(module, steps, eps)
