"""Ops on each element: arithmetic, functions, comparisons and casts.

Inputs broadcast against each other. Gradients at ties and kinks are those of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.dtypes import check_dtype
from ..engine.op import NUMBERS, Op, check_broadcast
from ..engine.tensor import Tensor
from .samples import away_from_zero, booleans, constant, distinct, uniform

__all__ = [
    "abs",
    "add",
    "cast",
    "clip",
    "divide",
    "elementwise_op",
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
    "relu",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "subtract",
    "tanh",
    "where",
]


def elementwise_op(
    name: str,
    reference: Any,
    vjps: Any,
    samples: Any = (),
    dtypes: str = "f",
    expression: str | None = None,
) -> Op:
    """Return a new op whose inputs broadcast; its attributes are numbers.

        softsign = elementwise_op(
            "softsign",
            lambda x: x / (1 + abs(x)),
            (lambda g, y, x: g / ((1 + ops.abs(x)) ** 2),),
            [(uniform(3, 4),)],
            expression="x -> x / (1 + abs(x))",
        )

    Args:
        name, reference, vjps, samples, dtypes: as of `Op`.
        expression: the kernel for every device, `inputs -> expression` or `inputs ; attributes ->
            expression`: Python's arithmetic, comparisons and `a if c else b`, and C's math
            functions of floats (erf, hypot, atan2, ...). On `cuda`, an op without one raises.

    Raises:
        ValueError: the expression has another form, or the inputs are not all of kind f.
    """
    has_attributes = bool(samples) and isinstance(samples[0][-1], dict)
    check = check_elementwise(name) if has_attributes else None
    return Op(
        name,
        reference,
        vjps,
        samples,
        dtypes=dtypes,
        broadcasts=True,
        check=check,
        expression=expression,
    )


def check_elementwise(name: str) -> Callable[..., None]:
    """Return the check of an op whose inputs broadcast and whose attributes are numbers.

    It also checks that an attribute `low` is at most `high`.
    """

    def check(*inputs: Any, **attributes: Any) -> None:
        check_broadcast(name, inputs)
        for key, value in attributes.items():
            check_number(name, key, value)
        if "low" in attributes and not attributes["low"] <= attributes["high"]:
            low, high = attributes["low"], attributes["high"]
            raise ValueError(f"{name}: low = {low} is not at most high = {high}")

    return check


def check_number(name: str, key: str, value: Any) -> float:
    """Return the value as a float; TypeError for others: a tensor would lose its graph."""
    if not isinstance(value, NUMBERS):
        raise TypeError(f"{name}: {key} is {type(value).__name__}, not a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}: {key} is too large for a float") from None


_PAIR = [
    (uniform(3, 4), uniform(3, 4)),
    (uniform(3, 1), uniform(1, 4)),
    (uniform(2, 3, 4), uniform(4)),
    (uniform(3, 4), 2.0),
    (2.0, uniform(3, 4)),
]

# ------------------------------------------------------------------------------- arithmetic
add = elementwise_op("add", np.add, (lambda g, y, a, b: g, lambda g, y, a, b: g), _PAIR, dtypes="x")
"""Compute a + b, elementwise with broadcasting."""
subtract = elementwise_op(
    "subtract",
    np.subtract,
    (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    _PAIR,
    dtypes="n",
)
"""Compute a - b, elementwise with broadcasting."""
multiply = elementwise_op(
    "multiply",
    np.multiply,
    (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    _PAIR,
    dtypes="x",
)
"""Compute a * b, elementwise with broadcasting."""
divide = elementwise_op(
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
negative = elementwise_op(
    "negative", np.negative, (lambda g, y, x: -g,), [(uniform(3, 4),)], dtypes="n"
)
"""Compute -x."""


# ---------------------------------------------------------------------- functions of one input
exp = elementwise_op("exp", np.exp, (lambda g, y, x: g * y,), [(uniform(3, 4),)])
"""Compute e to the power of each element."""
log = elementwise_op("log", np.log, (lambda g, y, x: g / x,), [(uniform(3, 4, low=0.3),)])
"""Compute the natural logarithm of each element."""
sqrt = elementwise_op(
    "sqrt", np.sqrt, (lambda g, y, x: g / (y * 2.0),), [(uniform(3, 4, low=0.3),)]
)
"""Compute the square root of each element."""


def _sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)), computed from exp(-|x|), which cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


sigmoid: Op = elementwise_op(
    "sigmoid", _sigmoid, (lambda g, y, x: sigmoid_grad(g, y),), [(uniform(3, 4),)]
)
"""Compute 1 / (1 + exp(-x)), without overflow."""
sigmoid_grad: Op = elementwise_op(
    "sigmoid_grad",
    lambda g, y: g * y * (1 - y),
    (
        lambda gg, _, g, y: sigmoid_grad(gg, y),
        lambda gg, _, g, y: gg * g * (1.0 - y * 2.0),
    ),
    [(uniform(3, 4), uniform(3, 4, low=0, high=1))],
)
tanh = elementwise_op("tanh", np.tanh, (lambda g, y, x: tanh_grad(g, y),), [(uniform(3, 4),)])
"""Compute the hyperbolic tangent of each element."""
tanh_grad: Op = elementwise_op(
    "tanh_grad",
    lambda g, y: g * (1 - y * y),
    (
        lambda gg, _, g, y: tanh_grad(gg, y),
        lambda gg, _, g, y: gg * g * (y * -2.0),
    ),
    [(uniform(3, 4), uniform(3, 4, low=-1, high=1))],
)
softplus = elementwise_op(
    "softplus",
    lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    (lambda g, y, x: g * sigmoid(x),),
    [(uniform(3, 4),)],
)
"""Compute log(1 + exp(x)), without overflow."""

# --------------------------------------------------------------- functions with a kink or a jump
# The VJP of such a function is an op `f_grad(g, x)`, linear in g. It depends on x only by the side
# of the kink on which x lies, so no gradient flows to x.
relu = elementwise_op(
    "relu",
    lambda x: np.maximum(x, 0),
    (lambda g, y, x: relu_grad(g, x),),
    [(away_from_zero(3, 4),)],
)
"""Compute max(x, 0); its derivative at 0 is 0, as in PyTorch."""
relu_grad: Op = elementwise_op(
    "relu_grad",
    lambda g, x: np.where(x <= 0, 0.0, g),
    (lambda gg, y, g, x: relu_grad(gg, x), None),
    [(uniform(3, 4), away_from_zero(3, 4))],
)
_leaky_relu = elementwise_op(
    "leaky_relu",
    lambda x, slope: np.where(x > 0, x, x * slope),
    (lambda g, y, x, slope: leaky_relu_grad(g, x, slope=slope),),
    [(away_from_zero(3, 4), {"slope": 0.2})],
)
leaky_relu_grad: Op = elementwise_op(
    "leaky_relu_grad",
    lambda g, x, slope: np.where(x > 0, g, g * slope),
    (lambda gg, y, g, x, slope: leaky_relu_grad(gg, x, slope=slope), None),
    [(uniform(3, 4), away_from_zero(3, 4), {"slope": 0.2})],
)


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """Return x where x > 0, else slope * x (Maas, Hannun, Ng 2013)."""
    return _leaky_relu(x, slope=check_number("leaky_relu", "slope", slope))


abs = elementwise_op(
    "abs", np.abs, (lambda g, y, x: g * sign(x),), [(away_from_zero(3, 4),)], dtypes="x"
)
"""Compute |x|; its derivative at 0 is 0."""
sign: Op = elementwise_op("sign", np.sign, (None,), [(away_from_zero(3, 4),)], dtypes="n")
"""Compute the sign of each element: -1, 0 or 1; its derivative is 0."""
_DISTINCT = [
    (uniform(3, 4), uniform(3, 4, low=2, high=3)),
    (uniform(3, 1, low=2.1, high=3), uniform(1, 4)),
]
maximum = elementwise_op(
    "maximum",
    lambda a, b: np.where((a >= b) | (a != a), a, b),
    (lambda g, y, a, b: tie_grad(g, a, b), lambda g, y, a, b: tie_grad(g, b, a)),
    [*_DISTINCT, (away_from_zero(4), 0.0), (0.0, away_from_zero(4))],
)
"""Compute the larger of a and b, elementwise; equal elements share the gradient."""
minimum = elementwise_op(
    "minimum",
    lambda a, b: np.where((a <= b) | (a != a), a, b),
    (lambda g, y, a, b: tie_grad(g, b, a), lambda g, y, a, b: tie_grad(g, a, b)),
    [*_DISTINCT, (away_from_zero(4), 0.0), (0.0, away_from_zero(4))],
)
"""Compute the smaller of a and b, elementwise; equal elements share the gradient."""
tie_grad: Op = elementwise_op(
    "tie_grad",  # the gradient of maximum(a, b) by a: g where a > b, g / 2 at a tie, 0 where a < b
    lambda g, a, b: np.where(np.less(a, b), 0.0, np.where(np.equal(a, b), g / 2, g)),
    (lambda gg, y, g, a, b: tie_grad(gg, a, b), None, None),
    [
        *((uniform(3, 4), *pair) for pair in _DISTINCT),
        (uniform(3), constant([0, 1, 2]), constant([1, 1, 1])),
        (uniform(4), away_from_zero(4), 0.0),
    ],
)
_clip = elementwise_op(
    "clip",
    lambda x, low, high: np.clip(x, low, high),  # noqa: PLW0108  (np.clip has other names)
    (lambda g, y, x, low, high: clip_grad(g, x, low=low, high=high),),
    [
        (away_from_zero(3, 4), {"low": -0.1, "high": 0.1}),
        (distinct(12), {"low": -0.475, "high": 0.375}),
    ],
)
clip_grad: Op = elementwise_op(
    "clip_grad",
    lambda g, x, low, high: np.where((x >= low) & (x <= high), g, 0.0),
    (lambda gg, y, g, x, low, high: clip_grad(gg, x, low=low, high=high), None),
    [(uniform(12), distinct(12), {"low": -0.475, "high": 0.375})],
)


def clip(x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """Return x limited to [min, max]; the gradient is 1 within, bounds included.

    None means no bound. (`maximum` and `minimum` accept bounds that are tensors.)

    Raises:
        ValueError: min is above max, or both are None.
    """
    if min is None and max is None:
        raise ValueError("clip: min and max are None; at least one must be a number")
    low = check_number("clip", "min", -np.inf if min is None else min)
    high = check_number("clip", "max", np.inf if max is None else max)
    if not low <= high:
        raise ValueError(f"clip: min = {low} is not at most max = {high}")
    return _clip(x, low=low, high=high)


# ---------------------------------------------------------------------- selection and comparison
where: Op = elementwise_op(
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
    return elementwise_op(name, reference, (None, None), samples, dtypes="x")


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
    check=lambda x, dtype: check_dtype(dtype),
)
"""Convert to another dtype: cast(x, dtype=...); differentiable between float dtypes.

Floats lose their fraction on the way to integers. The integer for NaN, and for a float outside the
range of int64, is undefined, as in numpy and PyTorch. Integers above 2^53 (for float32: 2^24) are
rounded on the way to floats. NaN is True.
"""
