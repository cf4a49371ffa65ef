"""Spectral normalization: a layer whose weight matrix has the largest singular value 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import random
from ..engine.dtypes import INTEGERS
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


# It moves u (m,) and v (n,) towards the left and right singular vectors of w (m, n) that belong to
# its largest singular value.
power_iteration = Update("power_iteration", _power_iteration, "f(m) f(n) f(m,n)", writes=(0, 1))


class SpectralNorm(Module):
    """A layer with weight / sigma instead of its weight; sigma is its largest singular value.

    The weight of a convolution is taken as the matrix (out, in*kh*kw) (Miyato et al. 2018, section
    2). The buffers u and v approximate the singular vectors: each forward pass in train mode does
    `steps` power iterations, and sigma = u W v. For gradients u and v are constants, as in the
    paper (equation 9).

        layer = nn.spectral_norm(nn.Conv2d(64, 128, 4, 2, 1))

    Raises:
        TypeError: the layer has no weight that can be taken as a matrix.
        ValueError: `steps` is not a positive integer, or `eps` not a positive number.
    """

    def __init__(self, module: Any, steps: int = 1, eps: float = 1e-12) -> None:
        if not hasattr(module, "as_matrix"):
            raise TypeError(
                f"spectral_norm: {type(module).__name__} has no weight to normalize; Dense, Conv2d,"
                " ConvTranspose2d and Embedding have"
            )
        if not isinstance(steps, INTEGERS) or isinstance(steps, bool) or steps < 1:
            raise ValueError(f"spectral_norm: steps = {steps!r} is not a positive integer")
        self.module, self.steps, self.eps = module, int(steps), check_eps("spectral_norm", eps)
        w = module.as_matrix(module.weight.detach())
        options = {"dtype": w.dtype, "device": w.device, "stream": "init"}
        self.u = random.normal((w.shape[0],), **options)
        self.v = random.normal((w.shape[1],), **options)
        power_iteration(self.u, self.v, w, steps=15, eps=self.eps)

    def normalized_weight(self) -> Tensor:
        """Return the layer's weight divided by its largest singular value."""
        w = self.module.as_matrix(self.module.weight)
        if self.training:
            power_iteration(self.u, self.v, w.detach(), steps=self.steps, eps=self.eps)
        # u and v are copied: the next forward pass updates them, and this graph needs these values.
        u, v = (x * 1.0 for x in (self.u, self.v))
        sigma = (u * (w @ v.reshape(-1, 1)).reshape(-1)).sum()
        return self.module.weight / sigma

    def forward(self, x: Tensor) -> Tensor:
        return self.module.apply_weight(x, self.normalized_weight())


def spectral_norm(module: Any, steps: int = 1, eps: float = 1e-12) -> SpectralNorm:
    """Return the layer with spectral normalization; see `SpectralNorm`."""
    return SpectralNorm(module, steps, eps)
