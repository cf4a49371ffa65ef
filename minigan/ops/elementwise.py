"""Ops on each element. Inputs broadcast against each other; ties and kinks follow PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor
from .samples import away_from_zero, booleans, constant, distinct, uniform


def _elementwise(name: str, reference: Any, vjps: Any, samples: Any, dtypes: str = "f") -> Op:
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
subtract = _elementwise(
    "subtract",
    np.subtract,
    (lambda g, y, a, b: g, lambda g, y, a, b: negative(g)),
    _PAIR,
    dtypes="x",
)
multiply: Op = _elementwise(
    "multiply",
    np.multiply,
    (lambda g, y, a, b: multiply(g, b), lambda g, y, a, b: multiply(g, a)),
    _PAIR,
    dtypes="x",
)
divide: Op = _elementwise(
    "divide",
    np.divide,
    (lambda g, y, a, b: divide(g, b), lambda g, y, a, b: negative(divide(multiply(g, y), b))),
    [
        (uniform(3, 4), away_from_zero(3, 4)),
        (uniform(3, 1), away_from_zero(1, 4)),
        (uniform(4), 0.5),
        (0.5, away_from_zero(4)),
    ],
)
negative: Op = _elementwise(
    "negative", np.negative, (lambda g, y, x: negative(g),), [(uniform(3, 4),)], dtypes="x"
)


def _power_vjp(g: Tensor, y: Tensor, x: Any, p: Any) -> Tensor:
    """p x^(p-1), without the 0 * inf that x = 0 would give at p = 0."""
    if isinstance(p, Tensor):
        slope = multiply(p, _power(x, subtract(p, 1.0)))
        return multiply(g, where(equal(p, 0.0), 0.0, slope))
    return multiply(g, 0.0) if p == 0 else multiply(multiply(g, float(p)), power(x, p - 1))


def _exponent_vjp(g: Tensor, y: Tensor, x: Any, p: Any) -> Tensor:
    """x^p log(x), without the 0 * -inf that x = 0 would give."""
    with np.errstate(all="ignore"):
        log_x = log(x) if isinstance(x, Tensor) else float(np.log(x))
    return multiply(g, where(equal(y, 0.0), 0.0, multiply(y, log_x)))


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
    """x^p. Powers 1 and 2 of a tensor are x and x * x, exact and differentiable everywhere."""
    if isinstance(x, Tensor) and not isinstance(p, Tensor) and p in (1, 2):
        return x if p == 1 else multiply(x, x)
    return _power(x, p)


# ---------------------------------------------------------------------- functions of one input
exp = _elementwise("exp", np.exp, (lambda g, y, x: multiply(g, y),), [(uniform(3, 4),)])
log: Op = _elementwise("log", np.log, (lambda g, y, x: divide(g, x),), [(uniform(3, 4, low=0.3),)])
sqrt = _elementwise(
    "sqrt", np.sqrt, (lambda g, y, x: divide(g, multiply(y, 2.0)),), [(uniform(3, 4, low=0.3),)]
)


def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), from exp(-|x|), which cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


sigmoid: Op = _elementwise(
    "sigmoid", _sigmoid, (lambda g, y, x: sigmoid_grad(g, y),), [(uniform(3, 4),)]
)
sigmoid_grad: Op = _elementwise(
    "sigmoid_grad",
    lambda g, y: g * y * (1 - y),
    (
        lambda gg, _, g, y: sigmoid_grad(gg, y),
        lambda gg, _, g, y: multiply(multiply(gg, g), subtract(1.0, multiply(y, 2.0))),
    ),
    [(uniform(3, 4), uniform(3, 4, low=0, high=1))],
)
tanh = _elementwise("tanh", np.tanh, (lambda g, y, x: tanh_grad(g, y),), [(uniform(3, 4),)])
tanh_grad: Op = _elementwise(
    "tanh_grad",
    lambda g, y: g * (1 - y * y),
    (
        lambda gg, _, g, y: tanh_grad(gg, y),
        lambda gg, _, g, y: multiply(multiply(gg, g), multiply(y, -2.0)),
    ),
    [(uniform(3, 4), uniform(3, 4, low=-1, high=1))],
)
softplus = _elementwise(
    "softplus",
    lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    (lambda g, y, x: multiply(g, sigmoid(x)),),
    [(uniform(3, 4),)],
)

# --------------------------------------------------------------- functions with a kink or a jump
# The derivative of `f` on either side of its kink is an op `f_grad(g, x)`, linear in g; x only
# says which side, so no gradient flows to it.
relu = _elementwise(
    "relu",
    lambda x: np.maximum(x, 0),
    (lambda g, y, x: relu_grad(g, x),),
    [(away_from_zero(3, 4),)],
)
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
    """x where x > 0, else slope * x (Maas, Hannun, Ng 2013)."""
    return _leaky_relu(x, slope=float(slope))


abs = _elementwise(
    "abs", np.abs, (lambda g, y, x: multiply(g, sign(x)),), [(away_from_zero(3, 4),)], dtypes="x"
)
sign: Op = _elementwise("sign", np.sign, (None,), [(away_from_zero(3, 4),)], dtypes="x")
_DISTINCT = [
    (uniform(3, 4), uniform(3, 4, low=2, high=3)),
    (uniform(3, 1, low=2.1, high=3), uniform(1, 4)),
]
maximum = _elementwise(
    "maximum",
    np.maximum,
    (
        lambda g, y, a, b: multiply(g, tie_weight(a, b)),
        lambda g, y, a, b: multiply(g, tie_weight(b, a)),
    ),
    [*_DISTINCT, (away_from_zero(4), 0.0), (0.0, away_from_zero(4))],
)
minimum = _elementwise(
    "minimum",
    np.minimum,
    (
        lambda g, y, a, b: multiply(g, tie_weight(b, a)),
        lambda g, y, a, b: multiply(g, tie_weight(a, b)),
    ),
    [*_DISTINCT, (away_from_zero(4), 0.0), (0.0, away_from_zero(4))],
)
tie_weight: Op = _elementwise(
    "tie_weight",  # 1 where a > b, 1/2 where they tie, 0 elsewhere: who the maximum belongs to
    lambda a, b: ((np.greater(a, b) * 1.0 + np.greater_equal(a, b)) / 2).astype(
        np.result_type(a, b)
    ),
    (None, None),
    [*_DISTINCT, (constant([0, 1, 2]), constant([1, 1, 1]))],
)
_clip = _elementwise(
    "clip",
    lambda x, low, high: np.clip(x, low, high),  # noqa: PLW0108  (it names the attributes)
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
    """x limited to [low, high]; the gradient is 1 within, bounds included."""
    if not low <= high:
        raise ValueError(f"clip: low = {low} is not at most high = {high}")
    return _clip(x, low=float(low), high=float(high))


# ------------------------------------------------------------------------- choice and comparison
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


def _comparison(name: str, reference: Any) -> Op:
    samples = [*_PAIR, (constant([0, 1, 2]), constant([1, 1, 1]))]
    return _elementwise(name, reference, (None, None), samples, dtypes="x")


greater = _comparison("greater", np.greater)
greater_equal = _comparison("greater_equal", np.greater_equal)
less = _comparison("less", np.less)
less_equal = _comparison("less_equal", np.less_equal)
equal = _comparison("equal", np.equal)
not_equal = _comparison("not_equal", np.not_equal)


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

# ------------------------------------------------------------------------------- cross-entropy
_EPSILON = 1e-12  # PyTorch's


def _cross_entropy_vjp(g: Tensor, y: Tensor, p: Any, t: Any) -> Tensor:
    """(p - t) / (p (1 - p)), its denominator kept above 1e-12 as PyTorch's is."""
    spread = multiply(p, subtract(1.0, p))
    return multiply(g, divide(subtract(p, t), maximum(spread, _EPSILON)))


def _cross_entropy_target_vjp(g: Tensor, y: Tensor, p: Any, t: Any) -> Tensor:
    """d/dt = log(1 - p) - log(p), the difference of the entropies of targets 1 and 0."""
    return multiply(g, subtract(cross_entropy(p, 1.0), cross_entropy(p, 0.0)))


cross_entropy = _elementwise(
    "cross_entropy",  # -(t log p + (1-t) log(1-p)), each log at least -100, as PyTorch's
    lambda p, t: -(t * np.maximum(np.log(p), -100) + (1 - t) * np.maximum(np.log1p(-p), -100)),
    (_cross_entropy_vjp, _cross_entropy_target_vjp),
    [
        (uniform(3, 4, low=0.1, high=0.9), uniform(3, 4, low=0, high=1)),
        (uniform(3, 4, low=0.1, high=0.9), 1.0),
    ],
)
