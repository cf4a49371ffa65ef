"""Logic on bool tensors, made of arithmetic: the product is `and`, the sum is `or`."""

from __future__ import annotations

from typing import Any

from ..engine.tensor import Tensor
from .elementwise import add, equal, multiply

__all__ = ["logical_and", "logical_not", "logical_or"]


def _require_bools(name: str, *values: Any) -> None:
    """Raise TypeError unless all values are bool tensors or Python bools."""
    for i, x in enumerate(values):
        kind = x.dtype.name if isinstance(x, Tensor) else type(x).__name__
        if kind not in ("bool", "bool_"):
            raise TypeError(
                f"{name}: argument {i} is {kind}, not a bool tensor; comparisons make them, and"
                " each needs parentheses: (x > 0) & (x < 1)"
            )


def logical_and(a: Any, b: Any) -> Tensor:
    """Return a & b of bool tensors: whether both are True."""
    _require_bools("logical_and", a, b)
    return multiply(a, b)


def logical_or(a: Any, b: Any) -> Tensor:
    """Return a | b of bool tensors: whether one or both are True."""
    _require_bools("logical_or", a, b)
    return add(a, b)


def logical_not(x: Tensor) -> Tensor:
    """Return ~x of a bool tensor."""
    _require_bools("logical_not", x)
    return equal(x, False)
