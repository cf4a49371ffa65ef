"""Layers that let a discriminator see how much the samples of a batch differ: against collapse.

They mix samples in training and in eval mode, so that a sample's logit depends on its batch, and
real and generated samples go through the discriminator in batches of their own (see
`depends_on_batch`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..engine import random
from ..engine.tensor import Tensor, tensor
from .layers import check_sizes
from .module import Module


class _Minibatch(Module):
    @property
    def mixes_batch(self) -> bool:
        return True


class MinibatchDiscrimination(_Minibatch):
    """x (n, in_features) and beside it how close each sample is to the others: (n, in + out).

    With M_i = x_i weight, of shape (out_features, kernel_dims),

        o(x_i)_b = sum over the other samples j != i of exp(-|M_ib - M_jb|_1)

    (Salimans et al. 2016, section 3.2). The paper's formula has j = i in it as well, a constant 1;
    its authors' code leaves it out, as here.

    weight is (in_features, out_features, kernel_dims). It starts uniform in +-1/sqrt(in_features),
    as Dense's, drawn from the stream "init": M then stays of the size of x, where exp(-|..|) is not
    yet 0. Time is n^2 * out_features * kernel_dims, memory n^2 * out_features, several times over.

    Raises:
        ValueError: a size is no positive integer; x is not (n, in_features).
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
        shape = (in_features, out_features, kernel_dims)
        names = ("in_features", "out_features", "kernel_dims")
        check_sizes("MinibatchDiscrimination", **dict(zip(names, shape, strict=True)))
        like = {"dtype": dtype, "device": device, "stream": "init"}
        bound = 1 / math.sqrt(in_features)
        self.weight = random.uniform(shape, -bound, bound, **like)
        self.weight.requires_grad = True

    def forward(self, x: Tensor) -> Tensor:
        features, out, kernel = self.weight.shape
        if x.ndim != 2 or x.shape[1] != features:
            raise ValueError(f"MinibatchDiscrimination: input {x.shape}; (n, {features}) is needed")
        n = x.shape[0]
        m = ops.matmul(x, ops.reshape(self.weight, features, out * kernel))
        m = ops.reshape(ops.transpose(m), out, kernel, n)
        # From -inf itself a sample is infinitely far, and adds exp(-inf) = 0 to its own sum.
        itself = tensor(np.diag(np.full(n, -np.inf)), dtype=x.dtype, device=x.device)
        close = ops.exp(ops.subtract(itself, ops.l1_distances(m, m)))
        return ops.concatenate([x, ops.transpose(ops.sum(close, axis=2))], axis=1)

    def extra(self) -> str:
        return ", ".join(map(str, self.weight.shape))


class MinibatchStdDev(_Minibatch):
    """One more channel: the standard deviation over a group of samples, averaged to one number.

    (n, c, h, w) to (n, c + 1, h, w), and (n, f) to (n, f + 1). In each group the deviation of each
    feature at each place is taken, sqrt(variance + 1e-8), and their mean is written to all places
    of the new channel of all samples of the group (Karras et al. 2018, section 3, "increasing
    variation using minibatch standard deviation"). As in the authors' code sample i is in group
    i mod (n / group_size), and a batch smaller than group_size is one group.

    Raises:
        ValueError: group_size is no positive integer, or does not divide the batch; x has neither 2
            nor 4 axes, or no sample.
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
        n, _, *places = x.shape
        group = min(self.group_size, n)
        if n % group:
            raise ValueError(
                f"MinibatchStdDev: a batch of {n} does not divide into groups of {group}"
            )
        y = ops.reshape(x, group, n // group, *x.shape[1:])
        centred = ops.subtract(y, ops.mean(y, axis=0, keepdims=True))
        variance = ops.mean(ops.multiply(centred, centred), axis=0)
        # At equal samples the root alone would have an infinite slope.
        deviation = ops.sqrt(ops.add(variance, 1e-8))
        level = ops.mean(deviation, axis=tuple(range(1, x.ndim)))
        level = ops.reshape(level, 1, n // group, 1, *(1 for _ in places))
        channel = ops.broadcast_to(level, (group, n // group, 1, *places))
        return ops.concatenate([x, ops.reshape(channel, n, 1, *places)], axis=1)

    def extra(self) -> str:
        return f"{self.group_size}"
