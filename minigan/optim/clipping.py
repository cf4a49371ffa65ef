"""Limits on gradients before a step, and on weights after one.

All of it is done on the device, so that it works in a captured step.

    gradients = clip_grad_norm(mg.grad(loss, net.parameters()), max_norm=1.0)
    optimizer.step(gradients)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from .. import ops
from ..engine.assign import assign
from ..engine.tensor import Tensor, no_grad


def clip_grad_norm(gradients: Sequence[Tensor | None], max_norm: float) -> list[Tensor]:
    """g * min(1, max_norm / (norm + 1e-6)), norm that of all gradients as one vector.

    As PyTorch's `clip_grad_norm_` (Pascanu et al. 2013, algorithm 1), but new tensors, without a
    graph; the gradients stay as they are. Where the norm is NaN, so is all of the result.

    Raises:
        TypeError: a gradient is no tensor, or their dtypes differ.
        ValueError: there is no gradient, or one is None; max_norm is not positive and finite.
    """
    limit = _positive("clip_grad_norm", "max_norm", max_norm)
    given = _checked("clip_grad_norm", gradients)
    with no_grad():
        square, *squares = (ops.sum(ops.multiply(g, g)) for g in given)
        for more in squares:
            square = ops.add(square, more)
        scale = ops.minimum(ops.divide(limit, ops.add(ops.sqrt(square), 1e-6)), 1.0)
        return [ops.multiply(g, scale) for g in given]


def clip_grad_value(gradients: Sequence[Tensor | None], value: float) -> list[Tensor]:
    """Each element of each gradient limited to [-value, value], as new tensors without a graph.

    Raises:
        TypeError: a gradient is no tensor.
        ValueError: there is no gradient, or one is None; value is not positive and finite.
    """
    limit = _positive("clip_grad_value", "value", value)
    with no_grad():
        return [ops.clip(g, -limit, limit) for g in _checked("clip_grad_value", gradients)]


def clip_weights(parameters: Iterable[Tensor], limit: float) -> None:
    """Limit each parameter to [-limit, limit], in place, after the critic's step.

    A WGAN's critic is so kept Lipschitz (Arjovsky et al. 2017, algorithm 1, with limit 0.01).

    Raises:
        TypeError: a parameter is no tensor.
        ValueError: there is no parameter, or one was computed by an op; limit is not positive and
            finite.
    """
    bound = _positive("clip_weights", "limit", limit)
    weights = _checked("clip_weights", list(parameters), "parameter")
    for p in weights:
        if p.op is not None:
            raise ValueError(f"clip_weights: a parameter of shape {p.shape} was computed by an op")
    for p in weights:
        assign(p, ops.clip(p.detach(), -bound, bound))


def _positive(name: str, key: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{name}: {key} = {value!r} is not a positive, finite number")
    return float(value)


def _checked(name: str, values: Sequence[Any], what: str = "gradient") -> list[Tensor]:
    if not values:
        raise ValueError(f"{name}: there are no {what}s")
    for i, x in enumerate(values):
        if x is None:
            raise ValueError(f"{name}: {what} {i} is None")
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: {what} {i} is {type(x).__name__}, not a tensor")
        if what == "gradient" and x.requires_grad and x.op is None:
            raise TypeError(
                f"{name}: gradient {i} is a parameter; gradients are taken, and new ones returned:"
                f" optimizer.step({name}(grad(loss, parameters), ..))"
            )
    return list(values)
