"""Resizing images: pooling, nearest upsampling, and moving channels into space.

`sum_pool` and `sum_pool_grad` are each other's adjoint. Average pooling is the first, divided by
the size of its window; nearest upsampling is the second, with windows that touch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor, require_tensors
from ..kernels.conv2d.geometry import Pair, output_size
from .conv import pair
from .elementwise import divide
from .samples import uniform
from .shape import pad, reshape, transpose


# ------------------------------------------------------------------------------------- the ops
def _windows(x: np.ndarray, kernel: Pair, stride: Pair, writeable: bool = False) -> np.ndarray:
    found = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3), writeable=writeable)
    return found[:, :, :: stride[0], :: stride[1]]


def _sum_windows(x: np.ndarray, kernel: Pair, stride: Pair) -> np.ndarray:
    return _windows(x, kernel, stride).sum((4, 5))


def _add_windows(g: np.ndarray, kernel: Pair, stride: Pair, size: Pair) -> np.ndarray:
    x = np.zeros((*g.shape[:2], *size), g.dtype)
    windows = _windows(x, kernel, stride, writeable=True)
    for h, v in np.ndindex(kernel):
        windows[..., h, v] += g
    return x


_TOUCHING = {"kernel": (2, 3), "stride": (2, 3)}
_APART = {
    "kernel": (3, 1),
    "stride": (1, 2),
}  # windows overlap in one axis, leave gaps in the other
_sum_pool: Op = Op(
    "sum_pool",
    _sum_windows,
    (
        lambda g, y, x, kernel, stride: _sum_pool_grad(
            g, kernel=kernel, stride=stride, size=(x.shape[2], x.shape[3])
        ),
    ),
    [(uniform(2, 3, 4, 6), _TOUCHING), (uniform(2, 3, 5, 6), _APART)],
)
_sum_pool_grad: Op = Op(
    "sum_pool_grad",
    _add_windows,
    (lambda gg, x, g, kernel, stride, size: _sum_pool(gg, kernel=kernel, stride=stride),),
    [
        (uniform(2, 3, 2, 2), {**_TOUCHING, "size": (4, 6)}),
        (uniform(2, 3, 3, 3), {**_APART, "size": (5, 6)}),
    ],
)


# ------------------------------------------------------------------------------- the functions
def _check_image(op: str, x: Tensor) -> None:
    require_tensors(op, x)
    if x.ndim != 4:
        raise ValueError(f"{op}: input {x.shape}; (n, channels, height, width) is needed")


def avg_pool2d(
    x: Tensor, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Tensor:
    """The mean of each window; padding counts as zeros. The stride is the window's size if None.

    (n, c, height, width) -> (n, c, floor((height + 2p - k) / s) + 1, the same of the width).
    """
    _check_image("avg_pool2d", x)
    kernel = pair("avg_pool2d", "kernel_size", kernel_size, 1)
    step = kernel if stride is None else pair("avg_pool2d", "stride", stride, 1)
    down, across = pair("avg_pool2d", "padding", padding, 0)
    if min(output_size((x.shape[2], x.shape[3]), kernel, step, (down, across))) < 1:
        raise ValueError(
            f"avg_pool2d: a window of {kernel} does not fit into an image of"
            f" {x.shape[2]} x {x.shape[3]} with padding {(down, across)}"
        )
    if down or across:
        x = pad(x, [(0, 0), (0, 0), (down, down), (across, across)])
    return divide(_sum_pool(x, kernel=kernel, stride=step), float(kernel[0] * kernel[1]))


def upsample_nearest(x: Tensor, scale: int | Pair = 2) -> Tensor:
    """Each pixel becomes a block: (n, c, h, w) -> (n, c, h * scale, w * scale)."""
    _check_image("upsample_nearest", x)
    block = pair("upsample_nearest", "scale", scale, 1)
    size = (x.shape[2] * block[0], x.shape[3] * block[1])
    return _sum_pool_grad(x, kernel=block, stride=block, size=size)


def _check_block(op: str, x: Tensor, block: Any) -> int:
    _check_image(op, x)
    if not isinstance(block, int) or block < 1:
        raise ValueError(f"{op}: block = {block!r} is not a positive integer")
    return block


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """(n, c*block*block, h, w) -> (n, c, h*block, w*block): channels become blocks of pixels.

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
    """(n, c, h*block, w*block) -> (n, c*block*block, h, w): the inverse of `depth_to_space`."""
    r = _check_block("space_to_depth", x, block)
    n, c, h, w = x.shape
    if h % r or w % r:
        raise ValueError(f"space_to_depth: {h} x {w} pixels are no whole blocks of {r} x {r}")
    x = transpose(reshape(x, n, c, h // r, r, w // r, r), 0, 1, 3, 5, 2, 4)
    return reshape(x, n, c * r * r, h // r, w // r)
