"""Smooth activations: x times a function that rises from 0 to 1 (GELU, SiLU)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.op import Op, require_floats
from ..engine.tensor import Tensor
from .elementwise import elementwise_op, exp, sigmoid, tanh
from .samples import uniform

__all__ = ["gelu", "silu"]

_ROOT_HALF, _PEAK = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)  # the normal density is _PEAK at 0


def _normal_cdf(x: Any) -> Any:
    """Return the probability that a standard normal number is at most x, exact in both tails."""
    return np.vectorize(lambda x: math.erfc(-x * _ROOT_HALF) / 2, otypes=[np.float64])(x)


def _normal_density(x: Tensor) -> Tensor:
    return exp(x * x * -0.5) * _PEAK


_gelu = elementwise_op(
    "gelu",
    lambda x: (x * _normal_cdf(x)).astype(x.dtype),
    (lambda g, y, x: gelu_grad(g, x),),
    [(uniform(3, 4),), (uniform(6, low=-6, high=6),)],
)
gelu_grad: Op = elementwise_op(
    "gelu_grad",
    lambda g, x: (g * (_normal_cdf(x) + x * np.exp(-x * x / 2) * _PEAK)).astype(g.dtype),
    (
        lambda gg, _, g, x: gelu_grad(gg, x),
        lambda gg, _, g, x: gg * g * (2.0 - x * x) * _normal_density(x),
    ),
    [(uniform(3, 4), uniform(3, 4)), (uniform(6), uniform(6, low=-6, high=6))],
)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Return x times the probability that a standard normal number is below x.

    It is x (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel 2016), as in PyTorch, without its
    cancellation for x far below 0. At -inf it is NaN, as in PyTorch.

    Args:
        x: of any shape.
        approximate: "none", or "tanh" for x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, which
            differs by at most 0.0005.

    Raises:
        ValueError: `approximate` is another word.
    """
    require_floats("gelu", x)
    if approximate == "none":
        return _gelu(x)
    if approximate != "tanh":
        raise ValueError(f"gelu: approximate = {approximate!r}; 'none' and 'tanh' are accepted")
    inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
    return x * 0.5 * (tanh(inner) + 1.0)


def silu(x: Tensor) -> Tensor:
    """Return x sigmoid(x), also called swish (Ramachandran et al. 2017); NaN at -inf."""
    require_floats("silu", x)
    return x * sigmoid(x)
