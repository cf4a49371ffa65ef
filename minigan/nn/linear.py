"""Layers y = x W + b: `Dense`, with a weight (in, out), and `Linear`, with PyTorch's (out, in)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .. import ops
from ..engine.tensor import Tensor
from .module import Module
from .parameters import DenseWeight, check_input, check_sizes, uniform_parameter


class _Affine(Module):
    """The base of both layers, which differ only in the order of the weight's axes."""

    inputs_first: ClassVar[bool]

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        check_sizes(type(self).__name__, in_features=in_features, out_features=out_features)
        sizes = self.in_features, self.out_features = int(in_features), int(out_features)
        bound = 1 / math.sqrt(in_features)
        shape = sizes if self.inputs_first else sizes[::-1]
        self.weight = uniform_parameter(shape, bound, dtype, device)
        if self.inputs_first:
            self.weight = DenseWeight(self.weight.array, self.weight.device, requires_grad=True)
        self.bias = uniform_parameter((sizes[1],), bound, dtype, device) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(x, self.weight)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the layer's output with `weight` in the place of its own weight."""
        is_fitting = isinstance(x, Tensor) and x.shape[-1:] == (self.in_features,)
        check_input(self, x, is_fitting, f"(..., {self.in_features})")
        return ops.dense(x, weight if self.inputs_first else weight.T, self.bias)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """Return the weight as a matrix (out_features, in_features)."""
        return weight.T if self.inputs_first else weight

    def extra_repr(self) -> str:
        text = f"{self.in_features}, {self.out_features}"
        return text + ("" if self.bias is not None else ", bias=False")


class Dense(_Affine):
    """A linear layer: y = x @ weight + bias for x (..., in_features).

    weight is (in_features, out_features), bias (out_features,). Both start uniform in
    +-1/sqrt(in_features), as in PyTorch's `Linear`, from the random stream "init". `nn.Linear` is
    the same layer with its weight transposed.

        layer = nn.Dense(784, 10)
        logits = layer(mg.random.normal((64, 784)))      # (64, 10)
    """

    inputs_first = True


class Linear(_Affine):
    """A linear layer in PyTorch's layout: y = x @ weight.T + bias for x (..., in_features).

    weight is (out_features, in_features), so that a state dict of PyTorch's `Linear` fits. All else
    is as in `nn.Dense`: the product reads either layout without a copy.

        net = nn.Sequential(nn.Linear(784, 10))
        net.load_state_dict(torch_net.state_dict())
    """

    inputs_first = False
