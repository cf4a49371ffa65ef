"""Dropout: a product with a random mask."""

from ..engine.tensor import Tensor
from .elementwise import multiply


def dropout(x: Tensor, p: float) -> Tensor:
    """x with each element zeroed with probability p and the others divided by 1 - p.

    The mask comes from the stream "dropout" and is a constant to the gradient.
    """
    from ..engine.random import bernoulli  # made of ops itself

    if not 0 <= p < 1:
        raise ValueError(f"dropout: p = {p} is not in [0, 1)")
    mask = bernoulli(x.shape, 1 - p, dtype=x.dtype, device=x.device, stream="dropout")
    return multiply(x, multiply(mask, 1 / (1 - p)))
