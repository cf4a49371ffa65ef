"""Compute powers, and their derivatives at zeros, infinities and the exponent 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from .elementwise import elementwise_op, equal, greater_equal, less, log, not_equal, where
from .samples import special_points, uniform

__all__ = ["power"]


def _power_vjp(g: Tensor, y: Tensor, x: Any, p: Any) -> Tensor:
    """Return g p x^(p-1), and 0 for 0^0 and NaN^0, where the formula gives 0 * inf or 0 * NaN.

    Other elements with p = 0 have no special case, as the derivative of the result by p is g / x
    there, which a constant 0 would lose.
    """
    if isinstance(p, Tensor):
        lower = _power(x, p - 1.0)
        undefined = equal(p, 0.0) * not_equal(lower - lower, 0.0)  # inf - inf is NaN
        return g * (p * where(undefined, 0.0, lower))
    if p == 0:
        return where(less(g, g), g, 0.0)  # 0, also where g is infinite
    return g * float(p) * power(x, p - 1)


def _exponent_vjp(g: Tensor, y: Tensor, x: Any, p: Tensor) -> Tensor:
    """Return g x^p log(x), and 0 for x = 0, p >= 0 and x = inf, p < 0, instead of 0 * inf."""
    if not isinstance(x, Tensor):
        if 0 < x < np.inf:
            return g * (y * float(np.log(x)))
        x = where(less(p, p), p, x)  # x as a tensor
    undefined = equal(x, 0.0) * greater_equal(p, 0.0) + equal(x, np.inf) * less(p, 0.0)
    return g * (y * log(where(undefined, 1.0, x)))


def _power_reference(x: Any, p: Any) -> Any:
    """Return x^p as C's `pow`, also for -0 and -inf, where numpy takes sqrt(x) if all p are 0.5."""
    x = x if isinstance(x, np.ndarray) else np.asarray(x, p.dtype)
    return np.power(np.where((p == 0.5) & ((x == 0) | (x == -np.inf)), np.abs(x), x), p)


_power = elementwise_op(
    "power",
    _power_reference,
    (_power_vjp, _exponent_vjp),
    [
        (uniform(3, 4, low=0.3), uniform(3, 4)),
        (uniform(3, 1, low=0.3), uniform(1, 4)),
        (uniform(3, 4, low=0.3), -1.5),
        (uniform(4), 3),
        (uniform(4), 0),
        (2.0, uniform(4)),
        (0.0, uniform(4, low=0.5)),
        (uniform(5, low=0.3), special_points([0.0, 1.0, 2.0, 0.5, -1.0])),
        (special_points([1.0, 1.0, 1.0]), special_points([0.0, 2.0, -0.5])),
        (special_points([-1.5, -1.0, 0.5]), -2.0),
        (special_points([0.0, -1.0, 1.0]), 4),
    ],
)


def power(x: Any, p: Any) -> Tensor:
    """Return x^p; x or p is a tensor, the other a tensor or a number.

    The powers 1 and 2 of a tensor are x and x * x, exact and differentiable everywhere.
    """
    if isinstance(x, Tensor) and not isinstance(p, Tensor) and p in (1, 2):
        return x if p == 1 else x * x
    return _power(x, p)
