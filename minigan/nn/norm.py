"""Normalization layers: their parameters and modes. The arithmetic is in `ops/norm.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..engine.dtypes import INTEGERS, REALS
from ..engine.tensor import Tensor, tensor
from ..ops.norm import check_eps, flatten_pixels, running_moments
from .module import Module


def _full(
    shape: tuple[int, ...], value: float, dtype: Any, device: Any, requires_grad: bool
) -> Tensor:
    values = np.full(shape, value)
    return tensor(values, dtype=dtype or "float32", device=device, requires_grad=requires_grad)


class _Norm(Module):
    """The weight, initially ones, and bias, initially zeros; both are None without `affine`."""

    def __init__(
        self, shape: tuple[int, ...], eps: float, affine: bool, dtype: Any, device: Any
    ) -> None:
        name = type(self).__name__
        if not shape or any(not isinstance(n, INTEGERS) or n < 1 for n in shape):
            raise ValueError(f"{name}: {shape} are not positive integers")
        shape = tuple(map(int, shape))
        self.eps = check_eps(name, eps)
        self.weight = _full(shape, 1.0, dtype, device, True) if affine else None
        self.bias = _full(shape, 0.0, dtype, device, True) if affine else None


class _BatchNorm(_Norm):
    """Normalize each channel by its mean and variance (Ioffe and Szegedy 2015).

    y = weight (x - mean) / sqrt(variance + eps) + bias. In train mode mean and variance are the
    batch's, and the running statistics are updated: running += momentum (batch - running), with
    the unbiased variance. In eval mode the running statistics are used, so a sample's output does
    not depend on its batch. Names are PyTorch's; its `num_batches_tracked` does not exist here.

    In train mode a sample's output depends on the whole batch, so a gradient penalty *per sample*
    is not valid: use `LayerNorm` or `InstanceNorm2d` in a discriminator with such a penalty
    (Gulrajani et al. 2017, section 4).

    Raises:
        ValueError: x has another number of channels or axes, or, in train mode, only one number per
            channel.
    """

    axes: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        super().__init__((num_features,), eps, affine, dtype, device)
        self.num_features, self.momentum = int(num_features), momentum
        self._check_momentum()
        self.running_mean = _full((num_features,), 0.0, dtype, device, False)
        self.running_var = _full((num_features,), 1.0, dtype, device, False)

    @property
    def mixes_batch(self) -> bool:
        return self.training

    def _check_momentum(self) -> None:
        if not isinstance(self.momentum, REALS) or not 0 <= self.momentum <= 1:
            name = type(self).__name__
            raise ValueError(f"{name}: momentum = {self.momentum!r} is not in [0, 1]")

    def forward(self, x: Tensor) -> Tensor:
        name = type(self).__name__
        rows = flatten_pixels(name, x, self.weight, self.bias, self.running_mean)
        if x.ndim not in self.axes:
            accepted = " or ".join(map(str, self.axes))
            raise ValueError(f"{name}: input {x.shape}; {accepted} axes are needed")
        if not self.training:
            return self._normalize_by_running_statistics(x)
        if rows.shape[0] * rows.shape[2] < 2:
            raise ValueError(
                f"{name}: input {x.shape} has one number to a channel, which has no variance; a"
                " larger batch is needed in training"
            )
        self._check_momentum()
        y = ops.batch_norm(x, self.weight, self.bias, eps=self.eps)
        running_moments(
            self.running_mean, self.running_var, rows.detach(), momentum=float(self.momentum)
        )
        return y

    def _normalize_by_running_statistics(self, x: Tensor) -> Tensor:
        """Return x * scale + shift, two launches for the whole batch."""
        deviation = ops.sqrt(self.running_var + self.eps)
        scale = (1.0 if self.weight is None else self.weight) / deviation
        # The mean is copied: training updates the buffer, and the graph needs its present values.
        shift = -(self.running_mean * 1.0 * scale)
        if self.bias is not None:
            shift = shift + self.bias
        by_channel_shape = (1, -1, *(1,) * (x.ndim - 2))
        return x * scale.reshape(by_channel_shape) + shift.reshape(by_channel_shape)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    axes = (4,)


class LayerNorm(_Norm):
    """Normalize each sample over its last axes, of `normalized_shape` (Ba et al. 2016)."""

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        *,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        shape: Any = normalized_shape
        sizes = tuple(shape) if np.iterable(shape) else (shape,)
        super().__init__(sizes, eps, affine, dtype, device)
        self.normalized_shape = tuple(map(int, sizes))

    def forward(self, x: Tensor) -> Tensor:
        ndim = len(self.normalized_shape)
        if x.shape[max(0, x.ndim - ndim) :] != self.normalized_shape:
            raise ValueError(
                f"LayerNorm: input {x.shape} does not end in the axes {self.normalized_shape}"
            )
        return ops.layer_norm(x, ndim, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(_Norm):
    """Normalize each sample over groups of neighboring channels (Wu and He 2018)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        super().__init__((num_channels,), eps, affine, dtype, device)
        if not isinstance(num_groups, INTEGERS) or num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"{type(self).__name__}: {num_channels} channels do not make {num_groups!r} equal"
                " groups"
            )
        self.num_groups, self.num_channels = int(num_groups), int(num_channels)

    def forward(self, x: Tensor) -> Tensor:
        name = type(self).__name__
        if x.ndim < 3 or x.shape[1] != self.num_channels:
            raise ValueError(f"{name}: input {x.shape}; (n, {self.num_channels}, ...) is needed")
        if math.prod(x.shape[1:]) == self.num_groups:
            raise ValueError(f"{name}: input {x.shape} has one number to a group: no variance")
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


class InstanceNorm2d(GroupNorm):
    """Normalize each channel of each sample (Ulyanov et al. 2016).

    It has no weight and bias unless `affine`, as in PyTorch.
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        affine: bool = False,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        super().__init__(
            num_features, num_features, eps=eps, affine=affine, dtype=dtype, device=device
        )

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}"


class PixelNorm(Module):
    """Divide the channels of each pixel by their root mean square (Karras et al. 2018, 4.2).

    y = x / sqrt(mean over axis 1 of x^2 + eps), for x (n, channels, ...) or (n, features). It has
    no parameters, and a sample's output does not depend on its batch.

    Raises:
        ValueError: x has one axis, or `eps` is not a positive number.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = check_eps("PixelNorm", eps)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2:
            raise ValueError(f"PixelNorm: input {x.shape}; (n, channels, ...) is needed")
        return x / ops.sqrt((x * x).mean(axis=1, keepdims=True) + self.eps)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"


def has_batch_norm(net: Any) -> bool:
    """Return whether the network has batch norm in train mode, which uses batch statistics."""
    return isinstance(net, Module) and any(
        isinstance(x, _BatchNorm) and x.training for x in net.modules()
    )
