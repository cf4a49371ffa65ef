"""Compute the binary cross-entropy of each element."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor
from .elementwise import elementwise_op, maximum
from .samples import uniform

__all__ = ["binary_cross_entropy"]

_MIN_DENOMINATOR = 1e-12  # as in PyTorch


def _cross_entropy_vjp(g: Tensor, y: Tensor, p: Any, t: Any) -> Tensor:
    """Return g (p - t) / (p (1 - p)), the denominator at least _MIN_DENOMINATOR."""
    variance = p * (1.0 - p)
    return g * ((p - t) / maximum(variance, _MIN_DENOMINATOR))


def _cross_entropy_target_vjp(g: Tensor, y: Tensor, p: Any, t: Any) -> Tensor:
    """Return g (log(1 - p) - log(p)): the cross-entropy of target 1 minus that of target 0."""
    return g * (binary_cross_entropy(p, 1.0) - binary_cross_entropy(p, 0.0))


binary_cross_entropy: Op = elementwise_op(
    "binary_cross_entropy",  # -(t log p + (1-t) log(1-p)), each log at least -100, as in PyTorch
    lambda p, t: -(t * np.maximum(np.log(p), -100) + (1 - t) * np.maximum(np.log1p(-p), -100)),
    (_cross_entropy_vjp, _cross_entropy_target_vjp),
    [
        (uniform(3, 4, low=0.1, high=0.9), uniform(3, 4, low=0, high=1)),
        (uniform(3, 4, low=0.1, high=0.9), 1.0),
    ],
)
"""Compute -(t log p + (1 - t) log(1 - p)) for probabilities p and targets t, each log at least
-100 (PyTorch).
"""
