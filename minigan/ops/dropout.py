"""Dropout: a selection by a random mask."""

import numpy as np

from ..engine.op import Op, require_floats
from ..engine.tensor import Tensor
from .elementwise import check_elementwise, check_number
from .samples import uniform, zeros_and_ones

__all__ = ["dropout"]

# A selection, as a product with the mask would keep an infinity or NaN of a dropped element.
_dropout: Op = Op(
    "dropout",
    lambda x, mask, scale: np.where(mask > 0.5, x * scale, 0.0),
    (lambda g, y, x, mask, scale: _dropout(g, mask, scale=scale), None),
    [(uniform(3, 4), zeros_and_ones(3, 4), {"scale": 1.25})],
    broadcasts=True,
    check=check_elementwise("dropout"),
)


def dropout(x: Tensor, p: float) -> Tensor:
    """Return x with each element zeroed with probability p and the others divided by 1 - p.

    The mask is drawn from the stream "dropout" and is a constant to the gradient (Srivastava et al.
    2014).

    Raises:
        ValueError: p is not in [0, 1).
    """
    from ..engine.random import bernoulli  # imported here, as random imports ops

    require_floats("dropout", x)
    if not 0 <= check_number("dropout", "p", p) < 1:
        raise ValueError(f"dropout: p = {p} is not in [0, 1)")
    mask = bernoulli(x.shape, 1 - p, dtype=x.dtype, device=x.device, stream="dropout")
    return _dropout(x, mask, scale=1 / (1 - p))
