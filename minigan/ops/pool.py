"""Resizing of images: average pooling, nearest upsampling, and channels moved to pixels and back.

`sum_pool` and `sum_pool_grad` are each other's adjoint. Average pooling is the first, divided by
the size of its window; nearest upsampling is the second, with windows that touch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op, require_floats
from ..engine.tensor import Tensor, require_tensors
from ..kernels.conv2d.geometry import Pair, output_size
from .conv import check_images, check_windows, image_size, pair, windows
from .samples import uniform
from .shape import pad, reshape, transpose

__all__ = ["avg_pool2d", "depth_to_space", "space_to_depth", "upsample_nearest"]


# ------------------------------------------------------------------------------------- the ops
def _sum_windows(x: np.ndarray, kernel: Pair, stride: Pair) -> np.ndarray:
    return windows(x, kernel, stride).sum((4, 5))


def _add_to_windows(g: np.ndarray, kernel: Pair, stride: Pair, size: Pair) -> np.ndarray:
    x = np.zeros((*g.shape[:2], *size), g.dtype)
    view = windows(x, kernel, stride, writeable=True)
    for h, v in np.ndindex(kernel):  # At one position (h, v) the windows have distinct pixels.
        view[..., h, v] += g
    return x


def _check_sum_pool(x: Tensor, kernel: Pair, stride: Pair) -> None:
    check_images("sum_pool", x)
    check_windows("sum_pool", image_size(x), kernel, stride, (0, 0))


def _check_sum_pool_grad(g: Tensor, kernel: Pair, stride: Pair, size: Pair) -> None:
    check_images("sum_pool_grad", g)
    check_windows("sum_pool_grad", size, kernel, stride, (0, 0), image_size(g))


_TOUCHING = {"kernel": (2, 3), "stride": (2, 3)}
_OVERLAPPING = {"kernel": (3, 1), "stride": (1, 2)}  # in one axis, with gaps in the other
_sum_pool: Op = Op(
    "sum_pool",
    _sum_windows,
    (
        lambda g, y, x, kernel, stride: _sum_pool_grad(
            g, kernel=kernel, stride=stride, size=image_size(x)
        ),
    ),
    [(uniform(2, 3, 4, 6), _TOUCHING), (uniform(2, 3, 5, 6), _OVERLAPPING)],
    check=_check_sum_pool,
)
_sum_pool_grad: Op = Op(
    "sum_pool_grad",
    _add_to_windows,
    (lambda gg, x, g, kernel, stride, size: _sum_pool(gg, kernel=kernel, stride=stride),),
    [
        (uniform(2, 3, 2, 2), {**_TOUCHING, "size": (4, 6)}),
        (uniform(2, 3, 3, 3), {**_OVERLAPPING, "size": (5, 6)}),
    ],
    check=_check_sum_pool_grad,
)


# ------------------------------------------------------------------------------- the functions
def _check_image(op: str, x: Tensor) -> None:
    """Raise ValueError unless x has the axes (n, channels, height, width)."""
    require_tensors(op, x)
    if x.ndim != 4:
        raise ValueError(f"{op}: input {x.shape}; (n, channels, height, width) is needed")


def avg_pool2d(
    x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Tensor:
    """Return the mean of each window; padding counts as zeros.

    (n, c, height, width) -> (n, c, floor((height + 2p - k) / s) + 1, the same of the width).

    Args:
        x: (n, c, height, width).
        kernel_size: the size of a window; an integer, or (vertical, horizontal), as all sizes here.
        stride: the distance between windows, by default their size.
        padding: rows and columns of zeros on each side.

    Raises:
        ValueError: a size does not fit.
    """
    require_floats("avg_pool2d", x)
    check_images("avg_pool2d", x)
    kernel = pair("avg_pool2d", "kernel_size", kernel_size, 1)
    steps = kernel if stride is None else pair("avg_pool2d", "stride", stride, 1)
    rows, columns = pair("avg_pool2d", "padding", padding, 0)
    if min(output_size(image_size(x), kernel, steps, (rows, columns))) < 1:
        raise ValueError(
            f"avg_pool2d: a window of {kernel} does not fit into an image of"
            f" {x.shape[2]} x {x.shape[3]} with padding {(rows, columns)}"
        )
    if rows or columns:
        x = pad(x, [(0, 0), (0, 0), (rows, rows), (columns, columns)])
    return _sum_pool(x, kernel=kernel, stride=steps) / float(kernel[0] * kernel[1])


def upsample_nearest(x: Tensor, scale: int | Pair = 2) -> Tensor:
    """Repeat each pixel in a block: (n, c, h, w) -> (n, c, h * scale, w * scale)."""
    require_floats("upsample_nearest", x)
    check_images("upsample_nearest", x)
    block = pair("upsample_nearest", "scale", scale, 1)
    size = (x.shape[2] * block[0], x.shape[3] * block[1])
    return _sum_pool_grad(x, kernel=block, stride=block, size=size)


def _check_block(op: str, x: Tensor, block: Any) -> int:
    """Return `block`, or raise ValueError unless it is a positive integer and x is of images."""
    _check_image(op, x)
    if not isinstance(block, int) or block < 1:
        raise ValueError(f"{op}: block = {block!r} is not a positive integer")
    return block


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """Move channels to blocks of pixels: (n, c*block*block, h, w) -> (n, c, h*block, w*block).

    Channel c*block^2 + i*block + j goes to row i, column j of each block, as in PyTorch's
    PixelShuffle (Shi et al. 2016). Its adjoint, and inverse, is `space_to_depth`.
    """
    r = _check_block("depth_to_space", x, block)
    n, c, h, w = x.shape
    if c % (r * r):
        raise ValueError(f"depth_to_space: {c} channels are no multiple of {r} x {r}")
    x = transpose(reshape(x, n, c // (r * r), r, r, h, w), 0, 1, 4, 2, 5, 3)
    return reshape(x, n, c // (r * r), h * r, w * r)


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """Move blocks of pixels to channels: (n, c, h*block, w*block) -> (n, c*block*block, h, w).

    It is the inverse of `depth_to_space`.
    """
    r = _check_block("space_to_depth", x, block)
    n, c, h, w = x.shape
    if h % r or w % r:
        raise ValueError(f"space_to_depth: {h} x {w} pixels are no whole blocks of {r} x {r}")
    x = transpose(reshape(x, n, c, h // r, r, w // r, r), 0, 1, 3, 5, 2, 4)
    return reshape(x, n, c * r * r, h // r, w // r)
