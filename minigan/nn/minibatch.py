"""Layers that give a discriminator statistics of the whole batch, against mode collapse.

With them a sample's output depends on its batch in training and in eval mode, so real and generated
samples go through the discriminator in separate batches (see `nn.depends_on_batch`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..engine.tensor import Tensor, tensor
from .module import Module
from .parameters import check_sizes, uniform_parameter


class _MinibatchLayer(Module):
    """The base class of layers that mix the samples of a batch in train and eval mode."""

    @property
    def mixes_batch(self) -> bool:
        return True


class MinibatchDiscrimination(_MinibatchLayer):
    """Append features of closeness to the other samples: (n, in) to (n, in + out).

    With M_i = x_i weight, of shape (out_features, kernel_dims), the new features are

        o(x_i)_b = sum over j != i of exp(-|M_ib - M_jb|_1)

    (Salimans et al. 2016, section 3.2). The paper's sum includes j = i, a constant 1; the authors'
    code leaves it out, as here.

    weight is (in_features, out_features, kernel_dims) and starts uniform in +-1/sqrt(in_features),
    as Dense's, from the random stream "init": the distances are then small enough for exp not to
    underflow. Time is O(n^2 * out_features * kernel_dims), memory O(n^2 * out_features).

    Raises:
        ValueError: a size is not a positive integer; x is not (n, in_features).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_dims: int,
        *,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        check_sizes(
            "MinibatchDiscrimination",
            in_features=in_features,
            out_features=out_features,
            kernel_dims=kernel_dims,
        )
        shape = (in_features, out_features, kernel_dims)
        self.weight = uniform_parameter(shape, 1 / math.sqrt(in_features), dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        features, out, kernel = self.weight.shape
        if x.ndim != 2 or x.shape[1] != features:
            raise ValueError(f"MinibatchDiscrimination: input {x.shape}; (n, {features}) is needed")
        n = x.shape[0]
        m = (x @ self.weight.reshape(features, out * kernel)).T.reshape(out, kernel, n)
        # The diagonal is -inf, so that a sample adds exp(-inf) = 0 to its own sum.
        diagonal = tensor(np.diag(np.full(n, -np.inf)), dtype=x.dtype, device=x.device)
        closeness = ops.exp(diagonal - ops.l1_distances(m, m))
        return ops.concatenate([x, closeness.sum(axis=2).T], axis=1)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))


class MinibatchStdDev(_MinibatchLayer):
    """Append one channel: the standard deviation over a group of samples, averaged to one number.

    (n, c, h, w) to (n, c + 1, h, w), or (n, f) to (n, f + 1). In each group of samples the standard
    deviation sqrt(variance + 1e-8) of every feature at every position is computed; their mean
    fills the new channel of all samples of the group (Karras et al. 2018, section 3). As in the
    authors' code, sample i belongs to group i mod (n / group_size), and a batch smaller than
    group_size is one group.

    Raises:
        ValueError: group_size is not a positive integer, or does not divide the batch; x has
            neither 2 nor 4 axes, or is empty.
    """

    def __init__(self, group_size: int = 4) -> None:
        check_sizes("MinibatchStdDev", group_size=group_size)
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in {2, 4} or not x.size:
            raise ValueError(
                f"MinibatchStdDev: input {x.shape}; (n, features) or (n, channels, height, width)"
                " is needed"
            )
        n, _, *pixels = x.shape
        group = min(self.group_size, n)
        if n % group:
            raise ValueError(
                f"MinibatchStdDev: a batch of {n} does not divide into groups of {group}"
            )
        y = x.reshape(group, n // group, *x.shape[1:])
        centered = y - y.mean(axis=0, keepdims=True)
        variance = (centered * centered).mean(axis=0)
        # Without 1e-8, equal samples would give sqrt an infinite derivative.
        deviation = ops.sqrt(variance + 1e-8)
        statistic = deviation.mean(axis=tuple(range(1, x.ndim)))
        statistic = statistic.reshape(1, n // group, 1, *(1 for _ in pixels))
        channel = ops.broadcast_to(statistic, (group, n // group, 1, *pixels))
        return ops.concatenate([x, channel.reshape(n, 1, *pixels)], axis=1)

    def extra_repr(self) -> str:
        return f"{self.group_size}"
