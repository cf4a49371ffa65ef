"""Max pooling of images, by two ops of which each is the VJP of the other.

`max_pool(x, by)` takes the element of x at which `by` is largest in each window, and
`max_pool_grad(g, by)`, its adjoint, adds each g to the pixel at which `by` is largest. Both are
linear in their first input. `max_pool2d(x)` is max_pool(x, x), with no gradient to the second x: a
small change of it does not move the maxima.
"""

from __future__ import annotations

import math

import numpy as np

from ..engine.op import Op, require_floats
from ..engine.tensor import Tensor
from ..kernels.conv2d.geometry import Pair
from .conv import check_images, image_size, is_pair, pair, refuse_options
from .samples import Sampler, distinct, uniform

__all__ = ["max_pool2d"]


# ------------------------------------------------------------------------------------- the ops
def _maxima(by: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, pooled: Pair) -> np.ndarray:
    """Return the number in its plane, row * width + column, of each window's maximum.

    Among equal maxima it is the first, among NaNs the last, as in PyTorch. Padding has no maximum.
    """
    height, width = by.shape[2:]
    best = np.full((*by.shape[:2], *pooled), -np.inf)
    where = np.full(best.shape, -1)
    for h, v in np.ndindex(kernel):
        rows = np.arange(pooled[0])[:, None] * stride[0] + h - padding[0]
        columns = np.arange(pooled[1]) * stride[1] + v - padding[1]
        is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        values = by[:, :, rows.clip(0, height - 1), columns.clip(0, width - 1)]
        is_better = is_inside & ((values > best) | (values != values) | (where < 0))
        best = np.where(is_better, values, best)
        where = np.where(is_better, rows * width + columns, where)
    return where


def _take_maxima(x: np.ndarray, by: np.ndarray, **window: Pair) -> np.ndarray:
    where = _maxima(by, **window)
    planes = x.reshape(*x.shape[:2], -1)
    y = np.take_along_axis(planes, where.reshape(*x.shape[:2], -1), axis=2)
    return y.reshape(where.shape)


def _add_at_maxima(g: np.ndarray, by: np.ndarray, **window: Pair) -> np.ndarray:
    x = np.zeros((by.shape[0] * by.shape[1], by.shape[2] * by.shape[3]), g.dtype)
    where = _maxima(by, **window).reshape(len(x), -1)
    np.add.at(x, (np.arange(len(x))[:, None], where), g.reshape(where.shape))
    return x.reshape(by.shape)


def _check_max_pool(x: Tensor, by: Tensor, **window: Pair) -> None:
    check_images("max_pool", x, by)
    if x.shape != by.shape:
        raise ValueError(f"max_pool: inputs {x.shape} and {by.shape} differ")
    _check_max_windows("max_pool", by, **window)


def _check_max_pool_grad(g: Tensor, by: Tensor, **window: Pair) -> None:
    check_images("max_pool_grad", g, by)
    if g.shape != (*by.shape[:2], *window["pooled"]):
        raise ValueError(
            f"max_pool_grad: inputs {g.shape} and {by.shape}, for {window['pooled']} windows"
        )
    _check_max_windows("max_pool_grad", by, **window)


def _check_max_windows(
    op: str, by: Tensor, kernel: Pair, stride: Pair, padding: Pair, pooled: Pair
) -> None:
    """Raise ValueError unless each window has a pixel of the image `by`."""
    if math.prod(image_size(by)) >= 2**31:
        raise ValueError(f"{op}: an image of {image_size(by)} has 2^31 pixels or more")
    pairs = [(kernel, 1), (stride, 1), (padding, 0), (pooled, 1)]
    if all(is_pair(value, least) for value, least in pairs) and all(
        2 * p <= k and (m - 1) * s - p < n
        for n, k, s, p, m in zip(image_size(by), kernel, stride, padding, pooled, strict=True)
    ):
        return
    raise ValueError(
        f"{op}: {pooled} windows of {kernel} with stride {stride} and padding {padding}, for an"
        f" image of {image_size(by)}; padding is at most half a window, and each window has a pixel"
    )


def _max_windows(kernel: Pair, stride: Pair, padding: Pair, pooled: Pair) -> dict[str, Pair]:
    return {"kernel": kernel, "stride": stride, "padding": padding, "pooled": pooled}


# Windows that touch; windows that overlap and reach into the padding; and, in a row, gaps.
_MAX_SAMPLES: list[tuple[Sampler, Sampler, dict[str, Pair]]] = [
    (uniform(2, 3, 4, 6), distinct(2, 3, 4, 6), _max_windows((2, 3), (2, 3), (0, 0), (2, 2))),
    (uniform(2, 2, 5, 7), distinct(2, 2, 5, 7), _max_windows((3, 2), (1, 3), (1, 0), (5, 3))),
]
_max_pool: Op = Op(
    "max_pool",
    _take_maxima,
    (lambda g, y, x, by, **window: _max_pool_grad(g, by, **window), None),
    _MAX_SAMPLES,
    check=_check_max_pool,
)
_max_pool_grad: Op = Op(
    "max_pool_grad",
    _add_at_maxima,
    (lambda gg, x, g, by, **window: _max_pool(gg, by, **window), None),
    [(uniform(*by.shape[:2], *window["pooled"]), by, window) for _, by, window in _MAX_SAMPLES],
    check=_check_max_pool_grad,
)


# ------------------------------------------------------------------------------- the functions
def max_pool2d(
    x: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Return the maximum of each window; padding is never the maximum.

    The gradient goes to the window's maximum: to the first of several that are equal. A window with
    a NaN gives NaN, and its gradient goes to the last NaN. So does PyTorch's `max_pool2d`.

    Args:
        x: (n, c, height, width).
        kernel_size: the size of a window; an integer, or (vertical, horizontal), as all sizes here.
        stride: the distance between windows, by default their size.
        padding: rows and columns around the image, at most half a window.
        dilation: 1; others are refused.
        ceil_mode: whether windows may end outside of the image and its padding. They begin inside
            of the image or of the padding before it.

    Returns:
        (n, c, floor((height + 2p - k) / s) + 1, the same of the width), with `ceil_mode` the
        quotients rounded up.

    Raises:
        ValueError: a size does not fit.
    """
    name = "max_pool2d"
    require_floats(name, x)
    check_images(name, x)
    refuse_options(name, dilation=dilation)
    kernel, steps, border = check_max_window(name, kernel_size, stride, padding)
    sides = list(zip(image_size(x), kernel, steps, border, strict=True))
    if any(n + 2 * p < k for n, k, _, p in sides):
        raise ValueError(
            f"{name}: a window of {kernel} does not fit into an image of"
            f" {x.shape[2]} x {x.shape[3]} with padding {border}"
        )
    rows, columns = (_max_pool_count(*side, bool(ceil_mode)) for side in sides)
    window = _max_windows(kernel, steps, border, (rows, columns))
    return _max_pool(x, x.detach(), **window)


def check_max_window(
    name: str, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair
) -> tuple[Pair, Pair, Pair]:
    """Return kernel, stride and padding as pairs; ValueError, with the name, if one is wrong."""
    kernel = pair(name, "kernel_size", kernel_size, 1)
    steps = kernel if stride is None else pair(name, "stride", stride, 1)
    border = pair(name, "padding", padding, 0)
    if any(2 * p > k for p, k in zip(border, kernel, strict=True)):
        raise ValueError(f"{name}: padding = {padding!r} is more than half a window of {kernel}")
    return kernel, steps, border


def _max_pool_count(n: int, k: int, s: int, p: int, ceil_mode: bool) -> int:
    """Return the number of windows along an axis of n pixels."""
    if not ceil_mode:
        return (n + 2 * p - k) // s + 1
    count = -(-(n + 2 * p - k) // s) + 1
    return count - ((count - 1) * s >= n + p)  # no window begins in the padding behind
