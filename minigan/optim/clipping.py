"""Clipping of gradients before an optimizer step, and of weights after one.

All arithmetic is on the device, so it works in a captured step.

    gradients = clip_grad_norm(mg.grad(loss, net.parameters()), max_norm=1.0)
    optimizer.step(gradients)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from functools import reduce
from typing import Any

from .. import ops
from ..engine.assign import assign
from ..engine.dtypes import REALS
from ..engine.tensor import Tensor, no_grad


def clip_grad_norm(gradients: Iterable[Tensor | None], max_norm: float) -> list[Tensor]:
    """Return the gradients scaled by min(1, max_norm / (norm + 1e-6)).

    The norm is the L2 norm of all gradients as one vector, as in PyTorch's `clip_grad_norm_`
    (Pascanu et al. 2013, algorithm 1). The results are new tensors without a graph, NaN if the norm
    is.

        gradients = mg.optim.clip_grad_norm(mg.grad(loss, net.parameters()), max_norm=1.0)
        optimizer.step(gradients)

    Raises:
        TypeError: a gradient is not a tensor, or their dtypes differ.
        ValueError: there are no gradients, or one is None; max_norm is not positive and finite.
    """
    limit = _check_positive("clip_grad_norm", "max_norm", max_norm)
    tensors = _check_tensors("clip_grad_norm", gradients)
    with no_grad():
        squared_norm = reduce(operator.add, [(g * g).sum() for g in tensors])
        scale = ops.minimum(limit / (ops.sqrt(squared_norm) + 1e-6), 1.0)
        return [g * scale for g in tensors]


def clip_grad_value(gradients: Iterable[Tensor | None], value: float) -> list[Tensor]:
    """Return the gradients with each element limited to [-value, value].

    The results are new tensors without a graph, otherwise as PyTorch's `clip_grad_value_`.

    Raises:
        TypeError: a gradient is not a tensor.
        ValueError: there are no gradients, or one is None; value is not positive and finite.
    """
    limit = _check_positive("clip_grad_value", "value", value)
    with no_grad():
        return [ops.clip(g, -limit, limit) for g in _check_tensors("clip_grad_value", gradients)]


def clip_weights(parameters: Iterable[Tensor], limit: float) -> None:
    """Limit each parameter to [-limit, limit], in place.

    After each step of a WGAN's critic it keeps the critic Lipschitz (Arjovsky et al. 2017,
    algorithm 1, with limit 0.01):

        optimizer.step(mg.grad(loss, critic.parameters()))
        mg.optim.clip_weights(critic.parameters(), 0.01)

    Raises:
        TypeError: a parameter is not a tensor.
        ValueError: there are no parameters, or one was computed by an op; limit is not positive and
            finite.
    """
    bound = _check_positive("clip_weights", "limit", limit)
    weights = _check_tensors("clip_weights", parameters, "parameter")
    for p in weights:
        if p.op is not None:
            raise ValueError(f"clip_weights: a parameter of shape {p.shape} was computed by an op")
    for p in weights:
        assign(p, ops.clip(p.detach(), -bound, bound))


def _check_positive(name: str, key: str, value: Any) -> float:
    if not isinstance(value, REALS) or not 0 < value < math.inf:
        raise ValueError(f"{name}: {key} = {value!r} is not a positive, finite number")
    return float(value)


def _check_tensors(name: str, values: Iterable[Any], kind: str = "gradient") -> list[Tensor]:
    """Return the values as a list; raise unless they are tensors, and gradients are no leaves."""
    values = list(values)
    if not values:
        raise ValueError(f"{name}: there are no {kind}s")
    for i, x in enumerate(values):
        if x is None:
            raise ValueError(f"{name}: {kind} {i} is None")
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: {kind} {i} is {type(x).__name__}, not a tensor")
        if kind == "gradient" and x.requires_grad and x.op is None:
            raise TypeError(
                f"{name}: gradient {i} is a parameter; gradients are accepted, as in"
                f" optimizer.step({name}(grad(loss, parameters), ..))"
            )
    return values
