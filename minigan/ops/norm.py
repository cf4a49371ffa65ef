"""Normalisers: subtract a mean, divide by a standard deviation, scale and shift.

All of them are one op on x of shape (a, m, b), whose statistics are those of each m, over a and b:

    BatchNorm                 a = samples, m = channels, b = pixels
    LayerNorm, InstanceNorm,
    GroupNorm                 a = 1, m = samples x groups, b = what is in a group

Over the N = a*b numbers of an m, with mean u, variance v and r = 1 / sqrt(v + eps), let

    h = (x - u) r,    H(g) = r (g - mean(g) - h mean(g h)),    S(g) = (sum(g), sum(g h)).

Then normalize(x) = scale*h + shift, its gradients are scale*H(g) and S(g), and their derivatives
are made of the same functions again, since h' and S' are H, and H is symmetric: <u, H(g)> =
<H(u), g>. So a derivative of any order is a few of these fused launches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..engine.op import Op, Update
from ..engine.tensor import Tensor, require_tensors
from . import elementwise as ew
from .reduce import sum
from .samples import uniform
from .shape import reshape, slice


# -------------------------------------------------------------------------------- the reference_ops
def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (divided by N, not N - 1) of each m, as (1, m, 1)."""
    mean = x.mean((0, 2), keepdims=True)
    return mean, np.square(x - mean).mean((0, 2), keepdims=True)


def _standard(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """h, and r as (1, m, 1)."""
    mean, variance = _moments(x)
    r = 1 / np.sqrt(variance + x.dtype.type(eps))
    return (x - mean) * r, r


def _column(x: Any) -> Any:
    """(m,) as (m, 1); a number as it is."""
    return x[:, None] if isinstance(x, np.ndarray) else x


def _normalize(x: np.ndarray, scale: Any, shift: Any, eps: float) -> np.ndarray:
    return _column(scale) * _standard(x, eps)[0] + _column(shift)


def _normalize_grad(g: np.ndarray, x: np.ndarray, scale: Any, eps: float) -> np.ndarray:
    h, r = _standard(x, eps)
    means = [y.mean((0, 2), keepdims=True) for y in (g, g * h)]
    return _column(scale) * r * (g - means[0] - h * means[1])


def _normalize_sums(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    return np.stack([y.sum((0, 2)) for y in (g, g * _standard(x, eps)[0])])


def _inverse_std(x: np.ndarray, eps: float) -> np.ndarray:
    return _standard(x, eps)[1].reshape(-1)


# -------------------------------------------------------------------------------------- the ops
_EPS = {"eps": 1e-5}
_X, _ROW = uniform(3, 2, 4), uniform(2)


def _share_sums(
    g: Tensor, y: Tensor, x: Tensor, scale: Any, shift: Any, eps: float
) -> tuple[Tensor, Callable[[], Tensor]]:
    """g, and S(g), which the gradients of scale and shift share, where one is asked for."""
    return g, cache(lambda: normalize_sums(g, x, eps=eps))


normalize: Op = Op(
    "normalize",
    _normalize,
    (
        lambda s, y, x, scale, shift, eps: normalize_grad(s[0], x, scale, eps=eps),
        lambda s, y, x, scale, shift, eps: slice(s[1](), 1),
        lambda s, y, x, scale, shift, eps: slice(s[1](), 0),
    ),
    [(_X, _ROW, _ROW, _EPS), (_X, 1.0, 0.0, _EPS)],
    prepare=_share_sums,
)
normalize_sums: Op = Op(
    "normalize_sums",
    _normalize_sums,
    (
        lambda v, s, g, x, eps: normalize(x, slice(v, 1), slice(v, 0), eps=eps),
        lambda v, s, g, x, eps: normalize_grad(g, x, slice(v, 1), eps=eps),
    ),
    [(_X, _X, _EPS)],
)
inverse_std: Op = Op(
    "inverse_std",
    _inverse_std,
    (
        lambda v, r, x, eps: normalize(
            x, _over(x, ew.multiply(v, ew.power(r, 2)), -1), 0.0, eps=eps
        ),
    ),
    [(_X, _EPS)],
)


def _over(x: Tensor, row: Tensor, factor: float) -> Tensor:
    """row * factor / N"""
    return ew.multiply(row, factor / (x.shape[0] * x.shape[2]))


def _product(u: Tensor, g: Tensor, x: Tensor, eps: float) -> Tensor:
    """<u, H(g)> of each m, as (m,)."""
    both = ew.multiply(normalize_sums(u, x, eps=eps), normalize_sums(g, x, eps=eps))
    dot = sum(ew.multiply(u, g), axis=(0, 2))
    rest = ew.subtract(dot, _over(x, sum(both, axis=0), 1.0))
    return ew.multiply(inverse_std(x, eps=eps), rest)


def _normalize_grad_vjp_x(
    u: Tensor, y: Tensor, g: Tensor, x: Tensor, scale: Any, eps: float
) -> Tensor:
    """-scale r / N (<u, H(g)> h + sum(g h) H(u) + sum(u h) H(g))"""
    factor = _over(x, ew.multiply(inverse_std(x, eps=eps), scale), -1)
    of_u, of_g = (slice(normalize_sums(z, x, eps=eps), 1) for z in (u, g))
    through_r = normalize(x, ew.multiply(factor, _product(u, g, x, eps)), 0.0, eps=eps)
    through_h = ew.add(
        normalize_grad(u, x, ew.multiply(factor, of_g), eps=eps),
        normalize_grad(g, x, ew.multiply(factor, of_u), eps=eps),
    )
    return ew.add(through_r, through_h)


normalize_grad: Op = Op(
    "normalize_grad",  # scale * H(g)
    _normalize_grad,
    (
        lambda u, y, g, x, scale, eps: normalize_grad(u, x, scale, eps=eps),
        _normalize_grad_vjp_x,
        lambda u, y, g, x, scale, eps: _product(u, g, x, eps),
    ),
    [(_X, _X, _ROW, _EPS), (_X, _X, 1.0, _EPS)],
)


def _running_moments(
    means: np.ndarray, variances: np.ndarray, x: np.ndarray, momentum: float
) -> None:
    mean, variance = (y.reshape(-1) for y in _moments(x))
    count = x.shape[0] * x.shape[2]
    T = x.dtype.type
    means[...] += T(momentum) * (mean - means)
    variances[...] += T(momentum) * (variance * T(count / (count - 1)) - variances)


# The variance that is kept is the unbiased one, divided by N - 1, as in PyTorch.
running_moments = Update("running_moments", _running_moments, "f(c) f(c) f(n,c,k)", writes=(0, 1))


# ------------------------------------------------------------------------------- the functions
def check_eps(op: str, eps: float) -> float:
    if not isinstance(eps, (int, float)) or not 0 < eps < math.inf:
        raise ValueError(f"{op}: eps = {eps!r} is not a positive number")
    return float(eps)


def _or(x: Tensor | None, otherwise: float) -> Any:
    return otherwise if x is None else x


def by_channel(op: str, x: Tensor, *rows: Tensor | None) -> Tensor:
    """x (n, c, ...) as (n, c, the rest); ValueError unless each row is (c,) or None."""
    require_tensors(op, x, *(row for row in rows if row is not None))
    if x.ndim < 2 or not x.size:
        raise ValueError(f"{op}: input {x.shape}; (n, channels, ...), not empty, is needed")
    for row in rows:
        if row is not None and row.dtype != x.dtype:
            raise TypeError(
                f"{op}: the input is {x.dtype}, its numbers for each channel {row.dtype}; convert"
                " one with .to(dtype)"
            )
        if row is not None and row.shape != (x.shape[1],):
            raise ValueError(
                f"{op}: {row.shape} numbers for an input {x.shape} of {x.shape[1]} channels"
            )
    return reshape(x, x.shape[0], x.shape[1], -1)


def batch_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5
) -> Tensor:
    """weight * (x - mean) / sqrt(variance + eps) + bias, statistics by channel over the batch.

    x (n, channels, ...), weight and bias (channels,) or None (Ioffe and Szegedy 2015).
    """
    rows = by_channel("batch_norm", x, weight, bias)
    y = normalize(rows, _or(weight, 1.0), _or(bias, 0.0), eps=check_eps("batch_norm", eps))
    return reshape(y, x.shape)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """Statistics by sample and group of neighbouring channels (Wu and He 2018).

    x (n, channels, ...), weight and bias (channels,) or None. One group: all channels; as many as
    there are channels: instance norm (Ulyanov et al. 2016).
    """
    by_channel("group_norm", x, weight, bias)
    if not isinstance(groups, int) or groups < 1 or x.shape[1] % groups:
        raise ValueError(f"group_norm: {x.shape[1]} channels do not make {groups!r} equal groups")
    rows = reshape(x, 1, x.shape[0] * groups, -1)
    y = reshape(normalize(rows, 1.0, 0.0, eps=check_eps("group_norm", eps)), x.shape)
    return _affine(y, weight, bias, (-1, *(1,) * (x.ndim - 2)))


def layer_norm(
    x: Tensor,
    ndim: int = 1,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """Statistics by sample over the last `ndim` axes, the shape of weight and bias (Ba 2016)."""
    require_tensors("layer_norm", x)
    if not 1 <= ndim <= x.ndim or not x.size:
        raise ValueError(f"layer_norm: input {x.shape} has no {ndim} last axes to normalise over")
    shape = x.shape[x.ndim - ndim :]
    for row in (weight, bias):
        if row is not None and row.shape != shape:
            raise ValueError(f"layer_norm: {row.shape} numbers for last axes {shape}")
    rows = reshape(x, 1, -1, math.prod(shape))
    y = reshape(normalize(rows, 1.0, 0.0, eps=check_eps("layer_norm", eps)), x.shape)
    return _affine(y, weight, bias, shape)


def _affine(
    y: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]
) -> Tensor:
    y = y if weight is None else ew.multiply(y, reshape(weight, shape))
    return y if bias is None else ew.add(y, reshape(bias, shape))
