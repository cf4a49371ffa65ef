"""Ops on each element: arithmetic, functions, comparisons, casts and cross-entropy.

Inputs broadcast against each other. Gradients at ties and kinks are those of PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor
from .samples import away_from_zero, booleans, constant, distinct, uniform

__all__ = [
    "abs",
    "add",
    "binary_cross_entropy",
    "cast",
    "clip",
    "divide",
    "equal",
    "exp",
    "greater",
    "greater_equal",
    "leaky_relu",
    "less",
    "less_equal",
    "log",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "relu",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "subtract",
    "tanh",
    "where",
]


def _elementwise(name: str, reference: Any, vjps: Any, samples: Any, dtypes: str = "f") -> Op:
    """Return a new op whose inputs broadcast."""
    return Op(name, reference, vjps, samples, dtypes=dtypes, broadcasts=True)


_PAIR = [
    (uniform(3, 4), uniform(3, 4)),
    (uniform(3, 1), uniform(1, 4)),
    (uniform(2, 3, 4), uniform(4)),
    (uniform(3, 4), 2.0),
    (2.0, uniform(3, 4)),
]

# ------------------------------------------------------------------------------- arithmetic
add = _elementwise("add", np.add, (lambda g, y, a, b: g, lambda g, y, a, b: g), _PAIR, dtypes="x")
"""Compute a + b, elementwise with broadcasting."""
subtract = _elementwise(
    "subtract",
    np.subtract,
    (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    _PAIR,
    dtypes="x",
)
"""Compute a - b, elementwise with broadcasting."""
multiply = _elementwise(
    "multiply",
    np.multiply,
    (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    _PAIR,
    dtypes="x",
)
"""Compute a * b, elementwise with broadcasting."""
divide = _elementwise(
    "divide",
    np.divide,
    (lambda g, y, a, b: g / b, lambda g, y, a, b: -(g * y / b)),
    [
        (uniform(3, 4), away_from_zero(3, 4)),
        (uniform(3, 1), away_from_zero(1, 4)),
        (uniform(4), 0.5),
        (0.5, away_from_zero(4)),
    ],
)
"""Compute a / b, elementwise with broadcasting; floats only."""
negative = _elementwise(
    "negative", np.negative, (lambda g, y, x: -g,), [(uniform(3, 4),)], dtypes="x"
)
"""Compute -x."""


def _power_vjp(g: Tensor, y: Tensor, x: Any, p: Any) -> Tensor:
    """Return g p x^(p-1), and 0 where p = 0, also for x = 0, where the formula gives 0 * inf."""
    if isinstance(p, Tensor):
        slope = p * _power(x, p - 1.0)
        return g * where(equal(p, 0.0), 0.0, slope)
    return g * 0.0 if p == 0 else g * float(p) * power(x, p - 1)


def _exponent_vjp(g: Tensor, y: Tensor, x: Any, p: Any) -> Tensor:
    """Return g x^p log(x), and 0 where x^p = 0, where the formula gives 0 * -inf."""
    with np.errstate(all="ignore"):
        log_x = log(x) if isinstance(x, Tensor) else float(np.log(x))
    return g * where(equal(y, 0.0), 0.0, y * log_x)


_power = _elementwise(
    "power",
    np.power,
    (_power_vjp, _exponent_vjp),
    [
        (uniform(3, 4, low=0.3), uniform(3, 4)),
        (uniform(3, 1, low=0.3), uniform(1, 4)),
        (uniform(3, 4, low=0.3), -1.5),
        (uniform(4), 3),
        (uniform(4), 0),
        (2.0, uniform(4)),
    ],
)


def power(x: Any, p: Any) -> Tensor:
    """Return x^p; x or p is a tensor, the other a tensor or a number.

    The powers 1 and 2 of a tensor are x and x * x, exact and differentiable everywhere.
    """
    if isinstance(x, Tensor) and not isinstance(p, Tensor) and p in (1, 2):
        return x if p == 1 else x * x
    return _power(x, p)


# ---------------------------------------------------------------------- functions of one input
exp = _elementwise("exp", np.exp, (lambda g, y, x: g * y,), [(uniform(3, 4),)])
"""Compute e to the power of each element."""
log = _elementwise("log", np.log, (lambda g, y, x: g / x,), [(uniform(3, 4, low=0.3),)])
"""Compute the natural logarithm of each element."""
sqrt = _elementwise("sqrt", np.sqrt, (lambda g, y, x: g / (y * 2.0),), [(uniform(3, 4, low=0.3),)])
"""Compute the square root of each element."""


def _sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), computed from exp(-|x|), which cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


sigmoid: Op = _elementwise(
    "sigmoid", _sigmoid, (lambda g, y, x: sigmoid_grad(g, y),), [(uniform(3, 4),)]
)
"""Compute 1 / (1 + exp(-x)), without overflow."""
sigmoid_grad: Op = _elementwise(
    "sigmoid_grad",
    lambda g, y: g * y * (1 - y),
    (
        lambda gg, _, g, y: sigmoid_grad(gg, y),
        lambda gg, _, g, y: gg * g * (1.0 - y * 2.0),
    ),
    [(uniform(3, 4), uniform(3, 4, low=0, high=1))],
)
tanh = _elementwise("tanh", np.tanh, (lambda g, y, x: tanh_grad(g, y),), [(uniform(3, 4),)])
"""Compute the hyperbolic tangent of each element."""
tanh_grad: Op = _elementwise(
    "tanh_grad",
    lambda g, y: g * (1 - y * y),
    (
        lambda gg, _, g, y: tanh_grad(gg, y),
        lambda gg, _, g, y: gg * g * (y * -2.0),
    ),
    [(uniform(3, 4), uniform(3, 4, low=-1, high=1))],
)
softplus = _elementwise(
    "softplus",
    lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    (lambda g, y, x: g * sigmoid(x),),
    [(uniform(3, 4),)],
)
"""Compute log(1 + exp(x)), without overflow."""

# --------------------------------------------------------------- functions with a kink or a jump
# The VJP of such a function is an op `f_grad(g, x)`, linear in g. It depends on x only by the side
# of the kink on which x lies, so no gradient flows to x.
relu = _elementwise(
    "relu",
    lambda x: np.maximum(x, 0),
    (lambda g, y, x: relu_grad(g, x),),
    [(away_from_zero(3, 4),)],
)
"""Compute max(x, 0); its derivative at 0 is 0, as in PyTorch."""
relu_grad: Op = _elementwise(
    "relu_grad",
    lambda g, x: np.where(x <= 0, g.dtype.type(0), g),
    (lambda gg, y, g, x: relu_grad(gg, x), None),
    [(uniform(3, 4), away_from_zero(3, 4))],
)
_leaky_relu = _elementwise(
    "leaky_relu",
    lambda x, slope: np.where(x > 0, x, x * x.dtype.type(slope)),
    (lambda g, y, x, slope: leaky_relu_grad(g, x, slope=slope),),
    [(away_from_zero(3, 4), {"slope": 0.2})],
)
leaky_relu_grad: Op = _elementwise(
    "leaky_relu_grad",
    lambda g, x, slope: np.where(x > 0, g, g * g.dtype.type(slope)),
    (lambda gg, y, g, x, slope: leaky_relu_grad(gg, x, slope=slope), None),
    [(uniform(3, 4), away_from_zero(3, 4), {"slope": 0.2})],
)


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """Return x where x > 0, else slope * x (Maas, Hannun, Ng 2013)."""
    return _leaky_relu(x, slope=float(slope))


abs = _elementwise(
    "abs", np.abs, (lambda g, y, x: g * sign(x),), [(away_from_zero(3, 4),)], dtypes="x"
)
"""Compute |x|; its derivative at 0 is 0."""
sign: Op = _elementwise("sign", np.sign, (None,), [(away_from_zero(3, 4),)], dtypes="x")
"""Compute the sign of each element: -1, 0 or 1; its derivative is 0."""
_DISTINCT = [
    (uniform(3, 4), uniform(3, 4, low=2, high=3)),
    (uniform(3, 1, low=2.1, high=3), uniform(1, 4)),
]
maximum = _elementwise(
    "maximum",
    np.maximum,
    (lambda g, y, a, b: g * tie_weight(a, b), lambda g, y, a, b: g * tie_weight(b, a)),
    [*_DISTINCT, (away_from_zero(4), 0.0), (0.0, away_from_zero(4))],
)
"""Compute the larger of a and b, elementwise; equal elements share the gradient."""
minimum = _elementwise(
    "minimum",
    np.minimum,
    (lambda g, y, a, b: g * tie_weight(b, a), lambda g, y, a, b: g * tie_weight(a, b)),
    [*_DISTINCT, (away_from_zero(4), 0.0), (0.0, away_from_zero(4))],
)
"""Compute the smaller of a and b, elementwise; equal elements share the gradient."""
tie_weight: Op = _elementwise(
    "tie_weight",  # the gradient of maximum(a, b) by a: 1 where a > b, 1/2 at a tie, 0 elsewhere
    lambda a, b: ((np.greater(a, b) * 1.0 + np.greater_equal(a, b)) / 2).astype(
        np.result_type(a, b)
    ),
    (None, None),
    [*_DISTINCT, (constant([0, 1, 2]), constant([1, 1, 1]))],
)
_clip = _elementwise(
    "clip",
    lambda x, low, high: np.clip(x, low, high),  # noqa: PLW0108  (np.clip has other names)
    (lambda g, y, x, low, high: clip_grad(g, x, low=low, high=high),),
    [
        (away_from_zero(3, 4), {"low": -0.1, "high": 0.1}),
        (distinct(12), {"low": -0.475, "high": 0.375}),
    ],
)
clip_grad: Op = _elementwise(
    "clip_grad",
    lambda g, x, low, high: np.where((x >= low) & (x <= high), g, g.dtype.type(0)),
    (lambda gg, y, g, x, low, high: clip_grad(gg, x, low=low, high=high), None),
    [(uniform(12), distinct(12), {"low": -0.475, "high": 0.375})],
)


def clip(x: Tensor, low: float, high: float) -> Tensor:
    """Return x limited to [low, high]; the gradient is 1 within, bounds included.

    Raises:
        ValueError: low is above high.
    """
    if not low <= high:
        raise ValueError(f"clip: low = {low} is not at most high = {high}")
    return _clip(x, low=float(low), high=float(high))


# ---------------------------------------------------------------------- selection and comparison
where: Op = _elementwise(
    "where",
    np.where,
    (None, lambda g, y, c, a, b: where(c, g, 0.0), lambda g, y, c, a, b: where(c, 0.0, g)),
    [
        (booleans(3, 4), uniform(3, 4), uniform(3, 4)),
        (booleans(3, 1), uniform(4), uniform(2, 1, 4)),
        (booleans(4), uniform(4), 1.0),
        (booleans(4), 1.0, uniform(4)),
    ],
    dtypes="bx",
)
"""Select a where the bool tensor `condition` is True, else b: where(condition, a, b)."""


def _comparison(name: str, reference: Any) -> Op:
    samples = [*_PAIR, (constant([0, 1, 2]), constant([1, 1, 1]))]
    return _elementwise(name, reference, (None, None), samples, dtypes="x")


greater = _comparison("greater", np.greater)
"""Compute a > b as a bool tensor."""
greater_equal = _comparison("greater_equal", np.greater_equal)
"""Compute a >= b as a bool tensor."""
less = _comparison("less", np.less)
"""Compute a < b as a bool tensor."""
less_equal = _comparison("less_equal", np.less_equal)
"""Compute a <= b as a bool tensor."""
equal = _comparison("equal", np.equal)
"""Compute a == b as a bool tensor."""
not_equal = _comparison("not_equal", np.not_equal)
"""Compute a != b as a bool tensor."""


# --------------------------------------------------------------------------------------- dtypes
cast: Op = Op(
    "cast",
    lambda x, dtype: x.astype(dtype),
    (lambda g, y, x, dtype: cast(g, dtype=x.dtype),),
    [
        (uniform(3, 4), {"dtype": np.dtype("float64")}),
        (booleans(3, 4), {"dtype": np.dtype("float64")}),
    ],
    dtypes="x",
)
"""Convert to another dtype: cast(x, dtype=...); differentiable between float dtypes."""

# ------------------------------------------------------------------------------- cross-entropy
_MIN_DENOMINATOR = 1e-12  # as in PyTorch


def _cross_entropy_vjp(g: Tensor, y: Tensor, p: Any, t: Any) -> Tensor:
    """Return g (p - t) / (p (1 - p)), the denominator at least _MIN_DENOMINATOR."""
    variance = p * (1.0 - p)
    return g * ((p - t) / maximum(variance, _MIN_DENOMINATOR))


def _cross_entropy_target_vjp(g: Tensor, y: Tensor, p: Any, t: Any) -> Tensor:
    """Return g (log(1 - p) - log(p)): the cross-entropy of target 1 minus that of target 0."""
    return g * (binary_cross_entropy(p, 1.0) - binary_cross_entropy(p, 0.0))


binary_cross_entropy: Op = _elementwise(
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
