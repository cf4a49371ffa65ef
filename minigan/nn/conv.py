"""Layers for images (n, channels, height, width): convolutions, pooling, upsampling."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..engine.tensor import Tensor
from ..kernels.conv2d.geometry import Pair
from ..ops.conv import pair, refuse_options
from ..ops.max_pool import check_max_window
from .module import Module
from .parameters import check_input, check_sizes, uniform_parameter


class _Convolution(Module):
    """The parameters of both convolutions, and the checks of their options."""

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
        check_sizes(name, in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = pair(name, "kernel_size", kernel_size, 1)
        self.stride = pair(name, "stride", stride, 1)
        self.padding = pair(name, "padding", padding, 0)
        shape = (*self._weight_channels(), *self.kernel_size)
        # As in PyTorch, the fan-in is the weight's second axis times the kernel for both layers.
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = uniform_parameter(shape, bound, dtype, device)
        self.bias = uniform_parameter((out_channels,), bound, dtype, device) if bias else None

    def _weight_channels(self) -> Pair:
        """Return the first two sizes of the weight."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(x, self.weight)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the layer's output with `weight` in the place of its own weight."""
        is_fitting = isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == self.in_channels
        check_input(self, x, is_fitting, f"(n, {self.in_channels}, height, width)")
        return self._convolve(x, weight)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        words = [str(self.in_channels), str(self.out_channels), f"kernel_size={self.kernel_size}"]
        words += [f"stride={self.stride}"] * (self.stride != (1, 1))
        words += [f"padding={self.padding}"] * (self.padding != (0, 0))
        return ", ".join(words + ["bias=False"] * (self.bias is None))


class Conv2d(_Convolution):
    """A convolution of images with `out_channels` kernels; see `ops.conv2d`.

    weight is (out, in, kh, kw), bias (out,). Both start uniform in +-1/sqrt(in*kh*kw), as in
    PyTorch, from the random stream "init". Kernel size, stride and padding are integers or pairs
    (vertical, horizontal).

        layer = nn.Conv2d(3, 64, 4, 2, 1)       # kernel 4 x 4, stride 2, padding 1: halves the side

    Raises:
        ValueError: an option is not accepted; dilation and groups can only be 1.
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
        refuse_options("Conv2d", dilation=dilation, groups=groups)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, dtype, device
        )

    def _weight_channels(self) -> Pair:
        return self.out_channels, self.in_channels

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.conv2d(x, weight, self.bias, self.stride, self.padding)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """Return the weight as the matrix (out, in*kh*kw) that maps an image patch to a pixel."""
        return weight.reshape(weight.shape[0], -1)


class ConvTranspose2d(_Convolution):
    """A transposed convolution, the adjoint of `Conv2d`; see `ops.conv_transpose2d`.

    weight is (in, out, kh, kw), bias (out,). Both start uniform in +-1/sqrt(out*kh*kw), as in
    PyTorch, from the random stream "init". Kernel size, stride and padding are integers or pairs
    (vertical, horizontal).

        layer = nn.ConvTranspose2d(128, 64, 4, 2, 1)     # doubles the side of an image

    Raises:
        ValueError: an option is not accepted; dilation and groups can only be 1.
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
        refuse_options("ConvTranspose2d", dilation=dilation, groups=groups)
        self.output_padding = pair("ConvTranspose2d", "output_padding", output_padding, 0)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias, dtype, device
        )
        if any(m >= s for m, s in zip(self.output_padding, self.stride, strict=True)):
            raise ValueError(
                f"ConvTranspose2d: output_padding = {output_padding} is not less than stride ="
                f" {stride}"
            )

    def _weight_channels(self) -> Pair:
        return self.in_channels, self.out_channels

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.conv_transpose2d(
            x, weight, self.bias, self.stride, self.padding, self.output_padding
        )

    def as_matrix(self, weight: Tensor) -> Tensor:
        """Return the weight as a matrix (out, in*kh*kw)."""
        return weight.transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)


class _ResampledConv2d(Conv2d):
    """A convolution of stride 1 that keeps the size of an image, fused with resizing.

    Its stride and padding are those of the convolution, for its text, exports and benchmarks.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        name = type(self).__name__
        kernel = pair(name, "kernel_size", kernel_size, 1)
        if any(k % 2 == 0 for k in kernel):
            raise ValueError(f"{name}: kernel_size = {kernel_size} is not odd")
        padding = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(
            in_channels, out_channels, kernel, 1, padding, bias, dtype=dtype, device=device
        )


class UpsampleConv2d(_ResampledConv2d):
    """Double the sides of an image by repeating pixels, then convolve; see `ops.upsample_conv2d`.

    It is `Upsample(2)` and `Conv2d(in_channels, out_channels, kernel_size, 1, kernel_size // 2)`,
    but for rounding, with fewer multiply-adds. The weight is that of the Conv2d.

    Raises:
        ValueError: the kernel size is even.
    """

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.upsample_conv2d(x, weight, self.bias)


class ConvAvgPool2d(_ResampledConv2d):
    """Convolve an image, then halve its sides by average pooling; see `ops.conv2d_avg_pool`.

    It is `Conv2d(in_channels, out_channels, kernel_size, 1, kernel_size // 2)` and `AvgPool2d(2)`,
    but for rounding, with fewer multiply-adds. The weight is that of the Conv2d.

    Raises:
        ValueError: the kernel size is even.
    """

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.conv2d_avg_pool(x, weight, self.bias)


class AvgPool2d(Module):
    """Average pooling: the mean of each window; see `ops.avg_pool2d`."""

    def __init__(
        self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}"


class MaxPool2d(Module):
    """Max pooling: the maximum of each window; see `ops.max_pool2d`.

    Raises:
        ValueError: an option is not accepted; dilation can only be 1.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        *,
        dilation: int = 1,
        ceil_mode: bool = False,
    ) -> None:
        refuse_options("MaxPool2d", dilation=dilation)
        check_max_window("MaxPool2d", kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode = bool(ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        options: dict[str, Any] = {"padding": self.padding, "ceil_mode": self.ceil_mode}
        return ops.max_pool2d(x, self.kernel_size, self.stride, **options)

    def extra_repr(self) -> str:
        words = [f"{self.kernel_size}"]
        words += [f"stride={self.stride}"] * (self.stride is not None)
        words += [f"padding={self.padding}"] * (self.padding not in (0, (0, 0)))
        return ", ".join(words + ["ceil_mode=True"] * self.ceil_mode)


class Upsample(Module):
    """Repeat each pixel in a block of `scale` x `scale`; see `ops.upsample_nearest`."""

    def __init__(self, scale: int | Pair = 2) -> None:
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample_nearest(x, self.scale)

    def extra_repr(self) -> str:
        return f"{self.scale}"


class DepthToSpace(Module):
    """Rearrange channels into `block` x `block` pixels; see `ops.depth_to_space`.

    PyTorch's PixelShuffle.
    """

    def __init__(self, block: int) -> None:
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return ops.depth_to_space(x, self.block)

    def extra_repr(self) -> str:
        return f"{self.block}"
