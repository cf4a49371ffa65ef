"""Convolutions: `conv2d`, its gradient by the input (the transposed convolution) and by the weight.

With i = a*stride + h - padding and j = b*stride + v - padding (zeros outside of x), the three are
the derivatives of one trilinear form,

    T(x, w, g) = sum over n, o, c, a, b, h, v of x[n, c, i, j] * w[o, c, h, v] * g[n, o, a, b],

by one of its arguments each: `conv2d` by g, `conv2d_input_grad` by x, `conv2d_weight_grad` by w. So
the VJPs of each are the other two, and a derivative of any order is one of these three launches.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.op import Op, require_floats
from ..engine.tensor import Tensor
from ..kernels.conv2d.geometry import Pair, output_size
from .linear import matmul
from .samples import uniform
from .shape import is_integer, reshape, transpose

__all__ = ["conv2d", "conv_transpose2d"]


# -------------------------------------------------------------------------------- the references
def windows(x: np.ndarray, kernel: Pair, stride: Pair, writeable: bool = False) -> np.ndarray:
    """Return the view (n, c, a, b, h, v) of the windows of x (n, c, height, width)."""
    dense = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3), writeable=writeable)
    return dense[:, :, :: stride[0], :: stride[1]]  # every stride-th window


def _padded_windows(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Return the windows of x with zeros around it."""
    rows, columns = padding
    return windows(np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns))), kernel, stride)


def _forward(x: np.ndarray, w: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    patches = _padded_windows(x, (w.shape[2], w.shape[3]), stride, padding)
    return np.einsum("ncabhv,ochv->noab", patches, w)


def _input_grad(
    g: np.ndarray, w: np.ndarray, size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """Add g[n, o, a, b] * w[o, c] to the window (a, b) of the result, for all a and b.

    g is padded with zeros, so that each pixel is a sum over the same weights as in the kernels, and
    an infinite weight, times zero, makes NaN of the same pixels.
    """
    axes = list(zip(g.shape[2:], w.shape[2:], size, stride, padding, strict=True))
    before = [-(-k // s) - 1 for _, k, _, s, _ in axes]
    after = [max(0, (n - 1 + p) // s - m + 1) for m, _, n, s, p in axes]
    g = np.pad(g, ((0, 0), (0, 0), *zip(before, after, strict=True)))
    starts = [b * s + p for b, (_, _, _, s, p) in zip(before, axes, strict=True)]
    ends = [start + n for start, n in zip(starts, size, strict=True)]
    covered = [(m - 1) * s + k for m, k, s in zip(g.shape[2:], w.shape[2:], stride, strict=True)]
    x = np.zeros((len(g), w.shape[1], *map(max, ends, covered)), g.dtype)
    for h, v in np.ndindex(w.shape[2:]):
        pixels = x[:, :, h : h + covered[0] - w.shape[2] + 1 : stride[0]]
        pixels = pixels[..., v : v + covered[1] - w.shape[3] + 1 : stride[1]]
        pixels += np.einsum("noab,oc->ncab", g, w[:, :, h, v])
    return x[:, :, starts[0] : ends[0], starts[1] : ends[1]]


def _weight_grad(
    x: np.ndarray, g: np.ndarray, kernel: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    return np.einsum("ncabhv,noab->ochv", _padded_windows(x, kernel, stride, padding), g)


# ---------------------------------------------------------------------- checks of attributes
def is_pair(value: Any, least: int) -> bool:
    """Return whether the value is a tuple of two integers of at least `least`."""
    if type(value) is not tuple or len(value) != 2:
        return False
    return is_integer(value[0], least) and is_integer(value[1], least)


def check_windows(
    op: str, size: Pair, kernel: Pair, stride: Pair, padding: Pair, positions: Pair | None = None
) -> None:
    """Raise ValueError unless the kernel fits into an image, at `positions` if they are given."""
    if is_pair(size, 1) and is_pair(kernel, 1) and is_pair(stride, 1) and is_pair(padding, 0):
        actual = output_size(size, kernel, stride, padding)
        if min(actual) >= 1 and positions in (None, actual):
            return
    expected = "" if positions is None else f" at {positions[0]} x {positions[1]} positions"
    raise ValueError(
        f"{op}: a kernel of {kernel} with stride {stride} and padding {padding} does not fit into"
        f" an image of {size}{expected}"
    )


def check_images(op: str, *tensors: Tensor) -> None:
    """Raise ValueError unless each tensor is (n, channels, height, width); only n may be 0."""
    for x in tensors:
        if x.ndim != 4 or 0 in x.shape[1:]:
            raise ValueError(
                f"{op}: input {x.shape}; (n, channels, height, width) is needed, where only n may"
                " be 0"
            )


def _check_conv2d(x: Tensor, w: Tensor, stride: Pair, padding: Pair) -> None:
    check_operands("conv2d", x, w, None, inputs=1, outputs=0)
    check_windows("conv2d", image_size(x), image_size(w), stride, padding)


def _check_input_grad(g: Tensor, w: Tensor, size: Pair, stride: Pair, padding: Pair) -> None:
    check_operands("conv2d_input_grad", g, w, None, inputs=0, outputs=1)
    check_windows("conv2d_input_grad", size, image_size(w), stride, padding, image_size(g))


def _check_weight_grad(x: Tensor, g: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> None:
    check_images("conv2d_weight_grad", x, g)
    if len(x) != len(g):
        raise ValueError(f"conv2d_weight_grad: inputs {x.shape} and {g.shape} differ in n")
    check_windows("conv2d_weight_grad", image_size(x), kernel, stride, padding, image_size(g))


# -------------------------------------------------------------------------------------- the ops
def image_size(x: Tensor) -> Pair:
    """Return (height, width) of x (n, c, height, width)."""
    return x.shape[2], x.shape[3]


def _geometry(stride: Pair, padding: Pair) -> dict[str, Pair]:
    return {"stride": stride, "padding": padding}


_HALF = _geometry((2, 2), (1, 1))
_ODD = _geometry((1, 2), (0, 1))  # the last column of x lies in no window
_conv2d: Op = Op(
    "conv2d",
    _forward,
    (
        lambda g, y, x, w, **geometry: _conv2d_input_grad(g, w, size=image_size(x), **geometry),
        lambda g, y, x, w, **geometry: _conv2d_weight_grad(x, g, kernel=image_size(w), **geometry),
    ),
    [
        (uniform(2, 3, 6, 6), uniform(4, 3, 4, 4), _HALF),
        (uniform(2, 2, 5, 6), uniform(3, 2, 2, 3), _ODD),
    ],
    check=_check_conv2d,
    needs_kernel=True,
)
_conv2d_input_grad: Op = Op(
    "conv2d_input_grad",
    _input_grad,
    (
        lambda gg, x, g, w, size, **geometry: _conv2d(gg, w, **geometry),
        lambda gg, x, g, w, size, **geometry: _conv2d_weight_grad(
            gg, g, kernel=image_size(w), **geometry
        ),
    ),
    [
        (uniform(2, 4, 3, 3), uniform(4, 3, 4, 4), {"size": (6, 6), **_HALF}),
        (uniform(2, 3, 4, 3), uniform(3, 2, 2, 3), {"size": (5, 6), **_ODD}),
    ],
    check=_check_input_grad,
    needs_kernel=True,
)
_conv2d_weight_grad: Op = Op(
    "conv2d_weight_grad",
    _weight_grad,
    (
        lambda gg, w, x, g, kernel, **geometry: _conv2d_input_grad(
            g, gg, size=image_size(x), **geometry
        ),
        lambda gg, w, x, g, kernel, **geometry: _conv2d(x, gg, **geometry),
    ),
    [
        (uniform(2, 3, 6, 6), uniform(2, 4, 3, 3), {"kernel": (4, 4), **_HALF}),
        (uniform(2, 2, 5, 6), uniform(2, 3, 4, 3), {"kernel": (2, 3), **_ODD}),
    ],
    check=_check_weight_grad,
    needs_kernel=True,
)


# ------------------------------------------------------------------------------- the functions
def pair(op: str, name: str, value: Any, least: int) -> Pair:
    """Return (vertical, horizontal) from one integer for both, or from two, of at least `least`."""
    numbers = value if isinstance(value, (tuple, list)) else (value, value)
    are_integers = all(
        isinstance(x, (int, np.integer)) and not isinstance(x, bool) for x in numbers
    )
    if len(numbers) != 2 or not are_integers or min(numbers) < least:
        raise ValueError(
            f"{op}: {name} = {value!r}; an integer of at least {least}, or two (vertical,"
            " horizontal), are accepted"
        )
    return int(numbers[0]), int(numbers[1])


def refuse_options(op: str, **options: Any) -> None:
    """Raise ValueError unless these options of PyTorch's convolutions are 1, as is supported."""
    for name, value in options.items():
        if value not in (1, (1, 1)):
            raise ValueError(f"{op}: {name} = {value!r} is not supported, only {name} = 1")


def check_operands(
    op: str, x: Tensor, w: Tensor, bias: Tensor | None, inputs: int, outputs: int
) -> None:
    """Raise ValueError unless x (n, c, height, width), w and bias fit; TypeError for integers.

    `inputs` and `outputs` are the axes of w that are channels of x and of the result.
    """
    require_floats(op, x, w, *([] if bias is None else [bias]))
    order = {0: "(out, in, kh, kw)", 1: "(in, out, kh, kw)"}[outputs]
    if x.ndim != 4 or w.ndim != 4 or 0 in (*x.shape[1:], *w.shape):
        raise ValueError(
            f"{op}: input {x.shape} and weight {w.shape}; (n, channels, height, width) and {order}"
            " are needed, none of them empty but n"
        )
    if x.shape[1] != w.shape[inputs]:
        raise ValueError(
            f"{op}: the input {x.shape} has {x.shape[1]} channels, the weight {w.shape} takes"
            f" {w.shape[inputs]}; weights are {order}"
        )
    if bias is not None and bias.shape != (w.shape[outputs],):
        raise ValueError(
            f"{op}: bias {bias.shape}; one number for each of {w.shape[outputs]} channels is needed"
        )


def _add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + reshape(bias, 1, -1, 1, 1)


def conv2d(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Return the convolution of a batch of images with a weight, plus a bias.

        y[n, o, a, b] = bias[o]
            + sum over c, h, v of x[n, c, a*s + h - p, b*s + v - p] w[o, c, h, v]

    Args:
        x: (n, in, height, width); zeros where an index is outside.
        w: (out, in, kh, kw).
        bias: (out,), or None.
        stride, padding: an integer, or (vertical, horizontal).
        dilation, groups: 1; others are refused.

    Returns:
        (n, out, floor((height + 2p - kh) / s) + 1, floor((width + 2p - kw) / s) + 1).

    Raises:
        ValueError: shapes or options that do not fit.
    """
    refuse_options("conv2d", dilation=dilation, groups=groups)
    geometry = _geometry(pair("conv2d", "stride", stride, 1), pair("conv2d", "padding", padding, 0))
    if bias is not None:
        check_operands("conv2d", x, w, bias, inputs=1, outputs=0)
    # A single window is a matrix product.
    is_product = isinstance(x, Tensor) and isinstance(w, Tensor) and x.shape[2:] == w.shape[2:]
    if is_product and geometry["padding"] == (0, 0):
        check_operands("conv2d", x, w, bias, inputs=1, outputs=0)
        terms = math.prod(w.shape[1:])
        y = matmul(reshape(x, x.shape[0], terms), transpose(reshape(w, w.shape[0], terms)))
        return _add_bias(reshape(y, *y.shape, 1, 1), bias)
    return _add_bias(_conv2d(x, w, **geometry), bias)


def conv_transpose2d(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int = 1,
) -> Tensor:
    """Return the transposed convolution, the adjoint of `conv2d`, plus a bias.

    Each x[n, i, a, b] adds x[n, i, a, b] * w[i, o] to the window of the result that begins `stride`
    pixels after that of its neighbour. conv2d takes several input sizes to one output size;
    `output_padding` chooses among them.

    Args:
        x: (n, in, height, width).
        w: (in, out, kh, kw): the weight of that conv2d, which maps `out` channels to `in`.
        bias: (out,), or None.
        stride, padding: those of that conv2d; an integer, or (vertical, horizontal).
        output_padding: rows below and columns to the right that are added, less than the stride.
        groups, dilation: 1; others are refused.

    Returns:
        (n, out, (height - 1)s - 2p + kh + output_padding, and the same of the width).

    Raises:
        ValueError: shapes or options that do not fit.
    """
    name = "conv_transpose2d"
    refuse_options(name, dilation=dilation, groups=groups)
    check_operands(name, x, w, bias, inputs=0, outputs=1)
    geometry = _geometry(pair(name, "stride", stride, 1), pair(name, "padding", padding, 0))
    extra = pair(name, "output_padding", output_padding, 0)
    if any(e >= s for e, s in zip(extra, geometry["stride"], strict=True)):
        raise ValueError(
            f"{name}: output_padding = {output_padding} is not less than stride = {stride}"
        )
    axes = zip(image_size(x), image_size(w), *geometry.values(), extra, strict=True)
    height, width = ((n - 1) * s - 2 * p + k + e for n, k, s, p, e in axes)
    if min(height, width) < 1:
        raise ValueError(
            f"{name}: an image of {x.shape[2]} x {x.shape[3]} under a kernel of {w.shape[2]} x"
            f" {w.shape[3]} with padding {geometry['padding']} leaves {height} x {width}"
        )
    # A single pixel is a matrix product.
    if image_size(x) == (1, 1) and (height, width) == image_size(w):
        y = matmul(reshape(x, *x.shape[:2]), reshape(w, w.shape[0], -1))
        return _add_bias(reshape(y, x.shape[0], *w.shape[1:]), bias)
    return _add_bias(_conv2d_input_grad(x, w, size=(height, width), **geometry), bias)
