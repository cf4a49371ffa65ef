"""Layers for images (n, channels, height, width): convolutions and changes of size."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..engine import random
from ..engine.tensor import Tensor
from ..kernels.conv2d.geometry import Pair
from ..ops.conv import pair, refuse
from .module import Module


class _Convolution(Module):
    """What both convolutions share: parameters, and the checks of their options."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair,
        padding: int | Pair,
        bias: bool,
        dtype: Any,
        device: Any,
    ) -> None:
        name = type(self).__name__
        for label, count in (("in_channels", in_channels), ("out_channels", out_channels)):
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"{name}: {label} = {count!r} is not a positive integer")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = pair(name, "kernel_size", kernel_size, 1)
        self.stride = pair(name, "stride", stride, 1)
        self.padding = pair(name, "padding", padding, 0)
        shape = (*self._channels(), *self.kernel_size)
        # PyTorch's rule, which counts the weight's second axis for either layer.
        bound = 1 / math.sqrt(math.prod(shape[1:]))

        def parameter(*shape: int) -> Tensor:
            x = random.uniform(shape, -bound, bound, dtype=dtype, device=device, stream="init")
            x.requires_grad = True
            return x

        self.weight = parameter(*shape)
        self.bias = parameter(out_channels) if bias else None

    def _channels(self) -> Pair:
        """The first two axes of the weight."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(x, self.weight)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """What the layer does, with another weight in the place of its own."""
        raise NotImplementedError

    def extra(self) -> str:
        words = [str(self.in_channels), str(self.out_channels), f"kernel_size={self.kernel_size}"]
        words += [f"stride={self.stride}"] * (self.stride != (1, 1))
        words += [f"padding={self.padding}"] * (self.padding != (0, 0))
        return ", ".join(words + ["bias=False"] * (self.bias is None))


class Conv2d(_Convolution):
    """The convolution of images with `out_channels` kernels; see `ops.conv2d`.

    weight (out, in, kh, kw), bias (out,). Both start uniform in +-1/sqrt(in*kh*kw), as PyTorch's,
    drawn from the stream "init". Sizes are integers, or (vertical, horizontal).

    Raises:
        ValueError: an option that is not accepted; dilation and groups other than 1 are not.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        bias: bool = True,
        *,
        dilation: int | Pair = 1,
        groups: int = 1,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        refuse("Conv2d", dilation=dilation, groups=groups)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, dtype, device
        )

    def _channels(self) -> Pair:
        return self.out_channels, self.in_channels

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.conv2d(x, weight, self.bias, self.stride, self.padding)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """(out, in*kh*kw): the layer as a linear map of what lies under the kernel."""
        return ops.reshape(weight, weight.shape[0], -1)


class ConvTranspose2d(_Convolution):
    """The adjoint of a Conv2d, which makes images larger; see `ops.conv_transpose2d`.

    weight (in, out, kh, kw), bias (out,). Both start uniform in +-1/sqrt(out*kh*kw), as PyTorch's,
    drawn from the stream "init". Sizes are integers, or (vertical, horizontal).

    Raises:
        ValueError: an option that is not accepted; dilation and groups other than 1 are not.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        output_padding: int | Pair = 0,
        bias: bool = True,
        *,
        dilation: int | Pair = 1,
        groups: int = 1,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        refuse("ConvTranspose2d", dilation=dilation, groups=groups)
        self.output_padding = pair("ConvTranspose2d", "output_padding", output_padding, 0)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, dtype, device
        )
        if any(m >= s for m, s in zip(self.output_padding, self.stride, strict=True)):
            raise ValueError(
                f"ConvTranspose2d: output_padding = {output_padding} is not less than stride ="
                f" {stride}"
            )

    def _channels(self) -> Pair:
        return self.in_channels, self.out_channels

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        places = self.stride, self.padding, self.output_padding
        return ops.conv_transpose2d(x, weight, self.bias, *places)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """(out, in*kh*kw)"""
        return ops.reshape(ops.transpose(weight, 1, 0, 2, 3), weight.shape[1], -1)


class AvgPool2d(Module):
    """The mean of each window; see `ops.avg_pool2d`."""

    def __init__(
        self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding)

    def extra(self) -> str:
        return f"{self.kernel_size}"


class Upsample(Module):
    """Each pixel becomes a block of `scale` x `scale`; see `ops.upsample_nearest`."""

    def __init__(self, scale: int | Pair = 2) -> None:
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample_nearest(x, self.scale)

    def extra(self) -> str:
        return f"{self.scale}"


class DepthToSpace(Module):
    """Channels become blocks of pixels; see `ops.depth_to_space`."""

    def __init__(self, block: int) -> None:
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return ops.depth_to_space(x, self.block)

    def extra(self) -> str:
        return f"{self.block}"
