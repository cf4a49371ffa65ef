"""Convolutions: three faces of one trilinear form.

With i = a*stride + h - padding and j = b*stride + v - padding (zeros outside of x),

    T(x, w, g) = sum over n, o, c, a, b, h, v of x[n, c, i, j] * w[o, c, h, v] * g[n, o, a, b]

Each face is the derivative of T by one of its three arguments: `conv2d` by g, `conv2d_input_grad`,
which is the transposed convolution, by x, and `conv2d_weight_grad` by w. So the VJPs of each are
the other two, and a derivative of any order is one of these three launches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.op import Op
from ..engine.tensor import Tensor, require_tensors
from ..kernels.conv2d.geometry import Pair, output_size
from .elementwise import add
from .linear import matmul
from .samples import uniform
from .shape import reshape, transpose


# -------------------------------------------------------------------------------- the reference_ops
def _windows(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """(n, c, a, b, h, v): what of x lies under the kernel at each place."""
    (down, across), (rows, columns) = padding, stride
    x = np.pad(x, ((0, 0), (0, 0), (down, down), (across, across)))
    found = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return found[:, :, ::rows, ::columns]


def _forward(x: np.ndarray, w: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    windows = _windows(x, (w.shape[2], w.shape[3]), stride, padding)
    return np.einsum("ncabhv,ochv->noab", windows, w)


def _input_grad(
    g: np.ndarray, w: np.ndarray, size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """Zeros outside of g, too: each pixel takes every weight that is a stride from another of its.

    So that infinite weights make NaN of the same pixels wherever it is computed.
    """
    numbers = list(zip(g.shape[2:], w.shape[2:], size, stride, padding, strict=True))
    before = [-(-k // s) - 1 for _, k, _, s, _ in numbers]
    after = [max(0, (n - 1 + p) // s - m + 1) for m, _, n, s, p in numbers]
    g = np.pad(g, ((0, 0), (0, 0), *zip(before, after, strict=True)))
    starts = [b * s + p for b, (_, _, _, s, p) in zip(before, numbers, strict=True)]
    ends = [b + n for b, n in zip(starts, size, strict=True)]
    covered = [(m - 1) * s + k for m, k, s in zip(g.shape[2:], w.shape[2:], stride, strict=True)]
    x = np.zeros((len(g), w.shape[1], *map(max, ends, covered)), g.dtype)
    for h, v in np.ndindex(w.shape[2:]):
        under = x[:, :, h : h + covered[0] - w.shape[2] + 1 : stride[0]]
        under = under[..., v : v + covered[1] - w.shape[3] + 1 : stride[1]]
        under += np.einsum("noab,oc->ncab", g, w[:, :, h, v])
    return x[:, :, starts[0] : ends[0], starts[1] : ends[1]]


def _weight_grad(
    x: np.ndarray, g: np.ndarray, kernel: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    return np.einsum("ncabhv,noab->ochv", _windows(x, kernel, stride, padding), g)


# -------------------------------------------------------------------------------------- the ops
def _size(x: Tensor) -> Pair:
    return x.shape[2], x.shape[3]


def _places(stride: Pair, padding: Pair) -> dict[str, Pair]:
    return {"stride": stride, "padding": padding}


_HALF = _places((2, 2), (1, 1))
_ODD = _places((1, 2), (0, 1))  # the last column of x lies under no kernel
_conv2d: Op = Op(
    "conv2d",
    _forward,
    (
        lambda g, y, x, w, **places: _conv2d_input_grad(g, w, size=_size(x), **places),
        lambda g, y, x, w, **places: _conv2d_weight_grad(x, g, kernel=_size(w), **places),
    ),
    [
        (uniform(2, 3, 6, 6), uniform(4, 3, 4, 4), _HALF),
        (uniform(2, 2, 5, 6), uniform(3, 2, 2, 3), _ODD),
    ],
)
_conv2d_input_grad: Op = Op(
    "conv2d_input_grad",
    _input_grad,
    (
        lambda gg, x, g, w, size, **places: _conv2d(gg, w, **places),
        lambda gg, x, g, w, size, **places: _conv2d_weight_grad(gg, g, kernel=_size(w), **places),
    ),
    [
        (uniform(2, 4, 3, 3), uniform(4, 3, 4, 4), {"size": (6, 6), **_HALF}),
        (uniform(2, 3, 4, 3), uniform(3, 2, 2, 3), {"size": (5, 6), **_ODD}),
    ],
)
_conv2d_weight_grad: Op = Op(
    "conv2d_weight_grad",
    _weight_grad,
    (
        lambda gg, w, x, g, kernel, **places: _conv2d_input_grad(g, gg, size=_size(x), **places),
        lambda gg, w, x, g, kernel, **places: _conv2d(x, gg, **places),
    ),
    [
        (uniform(2, 3, 6, 6), uniform(2, 4, 3, 3), {"kernel": (4, 4), **_HALF}),
        (uniform(2, 2, 5, 6), uniform(2, 3, 4, 3), {"kernel": (2, 3), **_ODD}),
    ],
)


# ------------------------------------------------------------------------------- the functions
def pair(op: str, name: str, value: Any, least: int) -> Pair:
    """(vertical, horizontal) from one integer for both, or from two."""
    given = value if isinstance(value, (tuple, list)) else (value, value)
    whole = all(isinstance(x, (int, np.integer)) and not isinstance(x, bool) for x in given)
    if len(given) != 2 or not whole or min(given) < least:
        raise ValueError(
            f"{op}: {name} = {value!r}; an integer of at least {least}, or two (vertical,"
            " horizontal), are accepted"
        )
    return int(given[0]), int(given[1])


def refuse(op: str, **options: Any) -> None:
    """Raise for what PyTorch's convolutions can do and these cannot."""
    for name, value in options.items():
        if value not in (1, (1, 1)):
            raise ValueError(f"{op}: {name} = {value!r} is not supported, only {name} = 1")


def _check(op: str, x: Tensor, w: Tensor, bias: Tensor | None, inputs: int, outputs: int) -> None:
    """Whether x (n, c, h, w) fits the weight, whose axes `inputs` and `outputs` are channels."""
    require_tensors(op, x, w, *([] if bias is None else [bias]))
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
    return y if bias is None else add(y, reshape(bias, 1, -1, 1, 1))


def conv2d(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """y[n, o, a, b] = sum of x[n, c, a*s + h - p, b*s + v - p] w[o, c, h, v] + bias[o].

    Args:
        x: (n, in, height, width), with zeros around it.
        w: (out, in, kh, kw).
        bias: (out,), or None.
        stride, padding: an integer, or (vertical, horizontal).
        dilation, groups: 1; others are refused.

    Returns:
        (n, out, floor((height + 2p - kh) / s) + 1, floor((width + 2p - kw) / s) + 1).

    Raises:
        ValueError: shapes or options that do not fit.
    """
    refuse("conv2d", dilation=dilation, groups=groups)
    _check("conv2d", x, w, bias, inputs=1, outputs=0)
    places = _places(pair("conv2d", "stride", stride, 1), pair("conv2d", "padding", padding, 0))
    if min(output_size(_size(x), _size(w), **places)) < 1:
        raise ValueError(
            f"conv2d: a kernel of {w.shape[2]} x {w.shape[3]} does not fit into an image of"
            f" {x.shape[2]} x {x.shape[3]} with padding {places['padding']}"
        )
    if _size(x) == _size(w) and places["padding"] == (0, 0):  # one place: a product of matrices
        y = matmul(reshape(x, x.shape[0], -1), transpose(reshape(w, w.shape[0], -1)))
        return _add_bias(reshape(y, *y.shape, 1, 1), bias)
    return _add_bias(_conv2d(x, w, **places), bias)


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
    """The adjoint of `conv2d`: each x[n, i, a, b] adds w[i, o] times itself, `stride` apart.

    Several input sizes have one output size under conv2d; `output_padding` says which is meant.

    Args:
        x: (n, in, height, width).
        w: (in, out, kh, kw): as of the conv2d that it is the adjoint of, which takes `out`.
        bias: (out,), or None.
        stride, padding: of that conv2d; an integer, or (vertical, horizontal).
        output_padding: rows and columns to add below and to the right, less than the stride.
        groups, dilation: 1; others are refused.

    Returns:
        (n, out, (height - 1)s - 2p + kh + output_padding, and the same of the width).

    Raises:
        ValueError: shapes or options that do not fit.
    """
    name = "conv_transpose2d"
    refuse(name, dilation=dilation, groups=groups)
    _check(name, x, w, bias, inputs=0, outputs=1)
    places = _places(pair(name, "stride", stride, 1), pair(name, "padding", padding, 0))
    more = pair(name, "output_padding", output_padding, 0)
    if any(m >= s for m, s in zip(more, places["stride"], strict=True)):
        raise ValueError(
            f"{name}: output_padding = {output_padding} is not less than stride = {stride}"
        )
    both = zip(_size(x), _size(w), *places.values(), more, strict=True)
    height, width = ((n - 1) * s - 2 * p + k + m for n, k, s, p, m in both)
    if min(height, width) < 1:
        raise ValueError(
            f"{name}: an image of {x.shape[2]} x {x.shape[3]} under a kernel of {w.shape[2]} x"
            f" {w.shape[3]} with padding {places['padding']} leaves {height} x {width}"
        )
    if _size(x) == (1, 1) and (height, width) == _size(w):  # one pixel: a product of matrices
        y = matmul(reshape(x, *x.shape[:2]), reshape(w, w.shape[0], -1))
        return _add_bias(reshape(y, x.shape[0], *w.shape[1:]), bias)
    return _add_bias(_conv2d_input_grad(x, w, size=(height, width), **places), bias)
