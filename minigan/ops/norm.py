"""Normalization: batch_norm, group_norm and layer_norm, and the fused ops that they call.

All of them are one op, `normalize`, on x of shape (a, m, b), with mean and variance over the axes a
and b, for each m:

    BatchNorm                 a = samples, m = channels, b = pixels
    LayerNorm, InstanceNorm,
    GroupNorm                 a = 1, m = samples x groups, b = the elements of a group

Over the N = a*b elements of an m, with mean u, variance v and r = 1 / sqrt(v + eps), let

    h = (x - u) r,    H(g) = r (g - mean(g) - h mean(g h)),    S(g) = (sum(g), sum(g h)).

Then normalize(x) = scale*h + shift, and its gradients are scale*H(g) and S(g). Their derivatives
consist of the same functions, since the derivatives of h and S are H, and H is symmetric:
<u, H(g)> = <H(u), g>. So a derivative of any order is a few of these fused launches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..engine.op import Op, require_floats
from ..engine.tensor import Tensor
from ..engine.update import Update
from .reduce import sum
from .samples import uniform
from .shape import reshape

__all__ = ["batch_norm", "group_norm", "layer_norm"]


# -------------------------------------------------------------------------------- the references
def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (divided by N, not N - 1) of each m, as (1, m, 1)."""
    mean = x.mean((0, 2), keepdims=True)
    return mean, np.square(x - mean).mean((0, 2), keepdims=True)


def _standardize(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Return h, and r as (1, m, 1)."""
    mean, variance = _moments(x)
    r = 1 / np.sqrt(variance + x.dtype.type(eps))
    return (x - mean) * r, r


def _column(x: Any) -> Any:
    """Return an array (m,) as (m, 1), and a number as it is."""
    return x[:, None] if isinstance(x, np.ndarray) else x


def _normalize(x: np.ndarray, scale: Any, shift: Any, eps: float) -> np.ndarray:
    return _column(scale) * _standardize(x, eps)[0] + _column(shift)


def _normalize_grad(g: np.ndarray, x: np.ndarray, scale: Any, eps: float) -> np.ndarray:
    h, r = _standardize(x, eps)
    means = [y.mean((0, 2), keepdims=True) for y in (g, g * h)]
    return _column(scale) * r * (g - means[0] - h * means[1])


def _normalize_sums(g: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    return np.stack([y.sum((0, 2)) for y in (g, g * _standardize(x, eps)[0])])


def _inverse_std(x: np.ndarray, eps: float) -> np.ndarray:
    return _standardize(x, eps)[1].reshape(-1)


# -------------------------------------------------------------------------------------- the ops
_EPS = {"eps": 1e-5}
_X, _ROW = uniform(3, 2, 4), uniform(2)


def _check_rows(op: str, x: Tensor, rows: tuple[Any, ...], eps: Any) -> None:
    """Raise ValueError unless x is (a, m, b), not empty, and each row (m,) or a number."""
    shapes = [row.shape for row in rows if isinstance(row, Tensor)]
    if not isinstance(x, Tensor) or x.ndim != 3 or any(s != x.shape[1:2] for s in shapes):
        shape = x.shape if isinstance(x, Tensor) else "a number"
        raise ValueError(f"{op}: input {shape} and rows {shapes}; (a, m, b) and (m,) are needed")
    check_eps(op, eps)


def _check_pair(op: str, g: Tensor, x: Tensor, rows: tuple[Any, ...], eps: Any) -> None:
    """Raise ValueError unless g and x are (a, m, b), not empty, and each row (m,) or a number."""
    _check_rows(op, x, rows, eps)
    if not isinstance(g, Tensor) or g.shape != x.shape:
        raise ValueError(f"{op}: the first input is not of the shape {x.shape} of the second")


def _share_sums(
    g: Tensor, y: Tensor, x: Tensor, scale: Any, shift: Any, eps: float
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Return g and a function of S(g), which is computed once if scale or shift needs it."""
    return g, cache(lambda: normalize_sums(g, x, eps=eps))


normalize: Op = Op(
    "normalize",
    _normalize,
    (
        lambda s, y, x, scale, shift, eps: normalize_grad(s[0], x, scale, eps=eps),
        lambda s, y, x, scale, shift, eps: s[1]()[1],
        lambda s, y, x, scale, shift, eps: s[1]()[0],
    ),
    [(_X, _ROW, _ROW, _EPS), (_X, 1.0, 0.0, _EPS)],
    prepare=_share_sums,
    check=lambda x, *rows, eps: _check_rows("normalize", x, rows, eps),
    numbers=True,
)
normalize_sums: Op = Op(
    "normalize_sums",
    _normalize_sums,
    (
        lambda v, s, g, x, eps: normalize(x, v[1], v[0], eps=eps),
        lambda v, s, g, x, eps: normalize_grad(g, x, v[1], eps=eps),
    ),
    [(_X, _X, _EPS)],
    check=lambda g, x, eps: _check_pair("normalize_sums", g, x, (), eps),
)
inverse_std: Op = Op(
    "inverse_std",
    _inverse_std,
    (lambda v, r, x, eps: normalize(x, _divide_by_count(v * r**2, x, -1), 0.0, eps=eps),),
    [(_X, _EPS)],
    check=lambda x, eps: _check_rows("inverse_std", x, (), eps),
)


def _divide_by_count(row: Tensor, x: Tensor, factor: float) -> Tensor:
    """Return row * factor / N."""
    return row * (factor / (x.shape[0] * x.shape[2]))


def _inner_product(u: Tensor, g: Tensor, x: Tensor, eps: float) -> Tensor:
    """Return <u, H(g)> of each m, as (m,): r (<u, g> - (sum(u) sum(g) + sum(u h) sum(g h)) / N)."""
    products = normalize_sums(u, x, eps=eps) * normalize_sums(g, x, eps=eps)
    rest = sum(u * g, axis=(0, 2)) - _divide_by_count(sum(products, axis=0), x, 1.0)
    return inverse_std(x, eps=eps) * rest


def _normalize_grad_vjp_x(
    u: Tensor, y: Tensor, g: Tensor, x: Tensor, scale: Any, eps: float
) -> Tensor:
    """Return -scale r / N (<u, H(g)> h + sum(g h) H(u) + sum(u h) H(g))."""
    factor = _divide_by_count(inverse_std(x, eps=eps) * scale, x, -1)
    sum_uh, sum_gh = (normalize_sums(z, x, eps=eps)[1] for z in (u, g))
    through_r = normalize(x, factor * _inner_product(u, g, x, eps), 0.0, eps=eps)
    through_h = normalize_grad(u, x, factor * sum_gh, eps=eps) + normalize_grad(
        g, x, factor * sum_uh, eps=eps
    )
    return through_r + through_h


normalize_grad: Op = Op(
    "normalize_grad",  # scale * H(g)
    _normalize_grad,
    (
        lambda u, y, g, x, scale, eps: normalize_grad(u, x, scale, eps=eps),
        _normalize_grad_vjp_x,
        lambda u, y, g, x, scale, eps: _inner_product(u, g, x, eps),
    ),
    [(_X, _X, _ROW, _EPS), (_X, _X, 1.0, _EPS)],
    check=lambda g, x, scale, eps: _check_pair("normalize_grad", g, x, (scale,), eps),
    numbers=True,
)


def _running_moments(
    means: np.ndarray, variances: np.ndarray, x: np.ndarray, momentum: float
) -> None:
    mean, variance = (y.reshape(-1) for y in _moments(x))
    count = x.shape[0] * x.shape[2]
    T = x.dtype.type
    means[...] += T(momentum) * (mean - means)
    variances[...] += T(momentum) * (variance * T(count / (count - 1)) - variances)


# The running variance is the unbiased one, divided by N - 1, as in PyTorch.
running_moments = Update("running_moments", _running_moments, "f(c) f(c) f(n,c,k)", writes=(0, 1))


# ------------------------------------------------------------------------------- the functions
def check_eps(op: str, eps: float) -> float:
    """Return eps as a float; ValueError unless it is positive and finite."""
    if not isinstance(eps, (int, float)) or not 0 < eps < math.inf:
        raise ValueError(f"{op}: eps = {eps!r} is not a positive number")
    return float(eps)


def flatten_pixels(op: str, x: Tensor, *rows: Tensor | None) -> Tensor:
    """Return x (n, c, ...) as (n, c, pixels); raise unless each row is None or (c,) of x's dtype.

    Raises:
        ValueError: x is empty or has no channels, or a row has another shape.
        TypeError: a row has another dtype.
    """
    require_floats(op, x, *(row for row in rows if row is not None))
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
    """Return weight * (x - mean) / sqrt(variance + eps) + bias (Ioffe and Szegedy 2015).

    Mean and variance are those of each channel over the batch and all pixels.

    Args:
        x: (n, channels, ...).
        weight, bias: (channels,), or None for 1 and 0.
        eps: positive; avoids a division by zero where the variance is 0.
    """
    rows = flatten_pixels("batch_norm", x, weight, bias)
    scale: Any = 1.0 if weight is None else weight
    shift: Any = 0.0 if bias is None else bias
    y = normalize(rows, scale, shift, eps=check_eps("batch_norm", eps))
    return reshape(y, x.shape)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """Return weight * (x - mean) / sqrt(variance + eps) + bias (Wu and He 2018).

    Mean and variance are those of each sample and group of neighbouring channels. As many groups as
    channels are instance norm (Ulyanov et al. 2016).

    Args:
        x: (n, channels, ...).
        groups: the number of groups, a divisor of the number of channels.
        weight, bias: (channels,), or None for 1 and 0.
        eps: positive; avoids a division by zero where the variance is 0.
    """
    flatten_pixels("group_norm", x, weight, bias)
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
    """Return weight * (x - mean) / sqrt(variance + eps) + bias (Ba, Kiros and Hinton 2016).

    Mean and variance are those of each sample over the last `ndim` axes.

    Args:
        x: (..., *axes).
        ndim: the number of axes to normalize over.
        weight, bias: of the shape of these axes, or None for 1 and 0.
        eps: positive; avoids a division by zero where the variance is 0.
    """
    require_floats("layer_norm", x, *(row for row in (weight, bias) if row is not None))
    if not 1 <= ndim <= x.ndim or not x.size:
        raise ValueError(f"layer_norm: input {x.shape} has no {ndim} last axes to normalize over")
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
    """Return y * weight + bias, both reshaped so that they broadcast to y."""
    y = y if weight is None else y * reshape(weight, shape)
    return y if bias is None else y + reshape(bias, shape)
