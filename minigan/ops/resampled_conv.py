"""Convolutions fused with resizing: after nearest upsampling, and before average pooling.

Four pixels that upsampling makes equal, or that pooling adds, need no products of their own. With
the sum of four copies of the kernel, shifted by 0 or 1 pixel along each axis, pooling becomes a
convolution of stride 2, and upsampling a transposed one. A 3 x 3 kernel becomes one of 4 x 4 for a
quarter of the pixels, with 16 multiply-adds instead of 36. (The code of Karras et al. 2018,
"Progressive growing of GANs", does this as `fused_scale`.) Results are those of the two steps, but
for rounding and for infinite pixels: where the two steps add inf and -inf, the sum of the weights
may have a sign.
"""

from __future__ import annotations

from ..engine.tensor import Tensor
from ..kernels.conv2d.geometry import Pair
from .conv import check_operands, conv2d, conv_transpose2d, image_size
from .shape import pad, transpose

__all__ = ["conv2d_avg_pool", "upsample_conv2d"]


def upsample_conv2d(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return conv2d(upsample_nearest(x, 2), w, bias) with the padding that keeps the size.

    Args:
        x: (n, in, height, width).
        w: (out, in, kh, kw), kh and kw odd.
        bias: (out,), or None.

    Returns:
        (n, out, 2 height, 2 width).

    Raises:
        ValueError: shapes that do not fit, or a kernel of an even size.
    """
    padding = _same_padding("upsample_conv2d", x, w, bias)
    kernel = _sum_of_shifts(w)[:, :, ::-1, ::-1]
    return conv_transpose2d(x, transpose(kernel, 1, 0, 2, 3), bias, 2, padding)


def conv2d_avg_pool(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return avg_pool2d(conv2d(x, w, bias), 2) with the padding that keeps the size.

    Args:
        x: (n, in, height, width), height and width 2 at least.
        w: (out, in, kh, kw), kh and kw odd.
        bias: (out,), or None.

    Returns:
        (n, out, floor(height / 2), floor(width / 2)).

    Raises:
        ValueError: shapes that do not fit, a kernel of an even size, or a smaller image.
    """
    padding = _same_padding("conv2d_avg_pool", x, w, bias)
    if min(image_size(x)) < 2:
        raise ValueError(
            f"conv2d_avg_pool: an image of {x.shape[2]} x {x.shape[3]} pixels; at least 2 x 2 are"
            " needed"
        )
    return conv2d(x, _sum_of_shifts(w) * 0.25, bias, 2, padding)


def _same_padding(op: str, x: Tensor, w: Tensor, bias: Tensor | None) -> Pair:
    """Check the operands; return the padding with which a convolution keeps an image's size."""
    check_operands(op, x, w, bias, inputs=1, outputs=0)
    height, width = image_size(w)
    if height % 2 == 0 or width % 2 == 0:
        raise ValueError(f"{op}: a kernel of {height} x {width}; both sides must be odd")
    return height // 2, width // 2


def _sum_of_shifts(w: Tensor) -> Tensor:
    """Return the sum of w at its four positions in a kernel of (out, in, kh + 1, kw + 1)."""
    w = pad(w, [(0, 0), (0, 0), (1, 1), (1, 1)])
    w = w[:, :, 1:] + w[:, :, :-1]
    return w[:, :, :, 1:] + w[:, :, :, :-1]
