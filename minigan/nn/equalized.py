"""The equalized learning rate: a layer whose weight is scaled in each forward pass."""

from __future__ import annotations

import math
from typing import Any

from ..engine import random
from ..engine.assign import assign
from ..engine.dtypes import REALS
from ..engine.tensor import Tensor
from .layers import Embedding
from .module import Module


class EqualizedLR(Module):
    """A layer with weight * gain / sqrt(fan-in) instead of its weight (Karras et al. 2018, 4.1).

    The stored weight is drawn from N(0, 1) and the bias begins at 0. So each layer has He's initial
    weights, but Adam, whose steps do not depend on the size of a gradient, changes all weights by
    the same share of their size, whatever their fan-in.

        layer = nn.equalized_lr(nn.Conv2d(64, 128, 3, 1, 1))

    Args:
        module: `Dense`, `Linear` or a convolution. The fan-in is the width of its weight as a
            matrix (out, fan-in).
        gain: of the activation that follows; sqrt(2) for ReLU, 1 for none.

    Raises:
        TypeError: the layer has no weight with a fan-in.
        ValueError: `gain` is not a positive number.
    """

    def __init__(self, module: Any, gain: float = math.sqrt(2)) -> None:
        if not hasattr(module, "as_matrix") or isinstance(module, Embedding):
            raise TypeError(
                f"equalized_lr: {type(module).__name__} has no weight with a fan-in; Dense, Conv2d"
                " and ConvTranspose2d have"
            )
        if not isinstance(gain, REALS) or not 0 < gain < math.inf:
            raise ValueError(f"equalized_lr: gain = {gain!r} is not a positive number")
        self.module, self.gain = module, float(gain)
        weight = module.weight
        assign(weight, random.normal(weight.shape, weight.dtype, weight.device, stream="init"))
        if module.bias is not None:
            assign(module.bias, module.bias.detach() * 0.0)
        self.fan_in = module.as_matrix(weight.detach()).shape[1]

    @property
    def scale(self) -> float:
        """The factor of the weight, gain / sqrt(fan-in)."""
        return self.gain / math.sqrt(self.fan_in)

    def forward(self, x: Tensor) -> Tensor:
        return self.module.apply_weight(x, self.module.weight * self.scale)

    def extra_repr(self) -> str:
        return f"gain={self.gain:.4g}"


def equalized_lr(module: Any, gain: float = math.sqrt(2)) -> EqualizedLR:
    """Return the layer with an equalized learning rate; see `EqualizedLR`."""
    return EqualizedLR(module, gain)
