"""Activations, as layers."""

from __future__ import annotations

import math

from .. import ops
from ..engine.dtypes import REALS
from ..engine.tensor import Tensor
from ..utils.names import choose
from .module import Module


class LeakyReLU(Module):
    """Compute x where x > 0, else slope * x.

    PyTorch's default slope is 0.01; GANs usually have 0.2.
    """

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = float(slope)

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.slope)

    def extra_repr(self) -> str:
        return f"{self.slope}"


class ReLU(Module):
    """Compute max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Sigmoid(Module):
    """Compute 1 / (1 + exp(-x)).

    The losses in `mg.losses` take logits, so a discriminator does not end in a sigmoid.
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """Compute tanh(x), in [-1, 1]: the last layer of a generator of images."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Softplus(Module):
    """Compute log(1 + exp(beta x)) / beta, exactly for numbers of any size.

    Raises:
        ValueError: beta is not a positive, finite number.
    """

    def __init__(self, beta: float = 1.0) -> None:
        if not isinstance(beta, REALS) or not 0 < beta < math.inf:
            raise ValueError(f"Softplus: beta = {beta!r} is not a positive, finite number")
        self.beta = float(beta)

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x) if self.beta == 1 else ops.softplus(x * self.beta) / self.beta

    def extra_repr(self) -> str:
        return "" if self.beta == 1 else f"beta={self.beta}"


class GELU(Module):
    """Compute x times the normal probability of numbers below x; see `ops.gelu`.

    Raises:
        ValueError: `approximate` is neither "none" nor "tanh".
    """

    def __init__(self, approximate: str = "none") -> None:
        choose("approximation of GELU", approximate, dict.fromkeys(("none", "tanh")))
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return "" if self.approximate == "none" else f"approximate={self.approximate!r}"


class SiLU(Module):
    """Compute x sigmoid(x); see `ops.silu`."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x)
