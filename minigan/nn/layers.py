"""Layers: Dense, activations, Dropout, and changes of shape."""

from __future__ import annotations

import math
from typing import Any

from .. import ops, random
from ..tensor import Tensor
from .module import Module


class Dense(Module):
    """y = x @ weight + bias, for x (..., in_features); weight is (in_features, out_features).

    Weight and bias start uniform in +-1/sqrt(in_features), as PyTorch's Linear, drawn from the
    stream "init".
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"Dense: {name} = {size!r} is not a positive integer")
        bound = 1 / math.sqrt(in_features)

        def parameter(*shape: int) -> Tensor:
            x = random.uniform(shape, -bound, bound, dtype=dtype, device=device, stream="init")
            x.requires_grad = True
            return x

        self.weight = parameter(in_features, out_features)
        self.bias = parameter(out_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(x, self.weight)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """What the layer does, with another weight in the place of its own."""
        return ops.dense(x, weight, self.bias)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """(out_features, in_features)"""
        return ops.transpose(weight)

    def extra(self) -> str:
        inputs, outputs = self.weight.shape
        return f"{inputs}, {outputs}" + ("" if self.bias is not None else ", bias=False")


class LeakyReLU(Module):
    """x where x > 0, else slope * x. PyTorch's default slope is 0.01; GANs use 0.2."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = float(slope)

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.slope)

    def extra(self) -> str:
        return f"{self.slope}"


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)). A discriminator trained on logits does not end in one."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """tanh(x), in [-1, 1] as the images are."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Dropout(Module):
    """Zero each element with probability p and divide the rest by 1 - p; in eval mode, nothing.

    The stream "dropout" says which (Srivastava et al. 2014).
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p = {p} is not in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p) if self.training else x

    def extra(self) -> str:
        return f"{self.p}"


class Flatten(Module):
    """(n, ...) to (n, product of the rest)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.reshape(x, x.shape[0], math.prod(x.shape[1:]))


class Reshape(Module):
    """(n, ...) to (n, *shape)."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return ops.reshape(x, x.shape[0], *self.shape)

    def extra(self) -> str:
        return ", ".join(map(str, self.shape))
