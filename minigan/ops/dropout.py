"""Dropout: a product with a random mask."""

from ..engine.tensor import Tensor

__all__ = ["dropout"]


def dropout(x: Tensor, p: float) -> Tensor:
    """Return x with each element zeroed with probability p and the others divided by 1 - p.

    The mask is drawn from the stream "dropout" and is a constant to the gradient (Srivastava et al.
    2014).

    Raises:
        ValueError: p is not in [0, 1).
    """
    from ..engine.random import bernoulli  # imported here, as random imports ops

    if not 0 <= p < 1:
        raise ValueError(f"dropout: p = {p} is not in [0, 1)")
    mask = bernoulli(x.shape, 1 - p, dtype=x.dtype, device=x.device, stream="dropout")
    return x * (mask * (1 / (1 - p)))
