"""Initializers with the names and defaults of `torch.nn.init`: they fill a parameter in place.

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

Numbers come from the random stream "init". Values are copied by `mg.optim.assign`, so the version
of the parameter rises, and `grad` refuses a graph that was recorded before.

Fans are the sizes of a weight (out, in, ...), as in PyTorch: fan_in = in * kernel and fan_out =
out * kernel. The weight of `nn.Dense` is (in, out), and known to be so. Other matrices are taken as
(out, in).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..engine import random
from ..engine.assign import assign
from ..engine.dtypes import REALS
from ..engine.op import require_floats
from ..engine.tensor import Tensor, no_grad, tensor
from ..utils.names import choose
from .parameters import DenseWeight

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

_GAINS: dict[str, Callable[[float], float]] = {
    **dict.fromkeys(("linear", "conv2d", "conv_transpose2d", "sigmoid"), lambda slope: 1.0),
    "tanh": lambda slope: 5 / 3,
    "relu": lambda slope: math.sqrt(2),
    "leaky_relu": lambda slope: math.sqrt(2 / (1 + slope**2)),
    "selu": lambda slope: 3 / 4,
}
_BLOCK = 64  # columns that are orthogonalized together


def calculate_gain(nonlinearity: str, param: float = 0.01) -> float:
    """Return the factor by which weights before a nonlinearity are larger than after none.

    Args:
        nonlinearity: linear, conv2d, conv_transpose2d, sigmoid, tanh, relu, leaky_relu or selu.
        param: the slope of leaky_relu.
    """
    return choose("nonlinearity", nonlinearity, _GAINS)(_number("calculate_gain", "param", param))


# ---------------------------------------------------------------------------- numbers as given
def constant_(x: Tensor, value: float) -> Tensor:
    """Fill a tensor with one number, in place, and return it."""
    require_floats("constant_", x)
    number = np.array(_number("constant_", "value", value))
    assign(x, tensor(number, dtype=x.dtype, device=x.device))
    return x


def zeros_(x: Tensor) -> Tensor:
    """Fill a tensor with zeros, in place, and return it."""
    return constant_(x, 0.0)


def ones_(x: Tensor) -> Tensor:
    """Fill a tensor with ones, in place, and return it."""
    return constant_(x, 1.0)


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill a tensor with normal numbers, in place, and return it."""
    return _normal("normal_", x, mean, std)


def uniform_(x: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Fill a tensor with uniform numbers in [a, b), in place, and return it."""
    return _uniform("uniform_", x, a, b)


# --------------------------------------------------------------------------- numbers by fan
def xavier_normal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Fill a weight with normal numbers of variance 2 gain^2 / (fan_in + fan_out), in place.

    (Glorot and Bengio 2010, equation 12.)

    Raises:
        ValueError: x has fewer than two axes, as for all initializers by fan.
    """
    return _normal("xavier_normal_", x, 0.0, _xavier_std("xavier_normal_", x, gain))


def xavier_uniform_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Fill a weight with uniform numbers of the variance of `xavier_normal_`, in place."""
    bound = math.sqrt(3) * _xavier_std("xavier_uniform_", x, gain)
    return _uniform("xavier_uniform_", x, -bound, bound)


def kaiming_normal_(
    x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Fill a weight with normal numbers of variance gain^2 / fan, in place (He et al. 2015).

    Args:
        x: the weight.
        a: the slope of leaky_relu.
        mode: "fan_in" keeps the variance in the forward pass, "fan_out" in the backward pass.
        nonlinearity: what follows the layer; see `calculate_gain`.
    """
    return _normal("kaiming_normal_", x, 0.0, _kaiming_std(x, a, mode, nonlinearity))


def kaiming_uniform_(
    x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Fill a weight with uniform numbers of the variance of `kaiming_normal_`, in place."""
    bound = math.sqrt(3) * _kaiming_std(x, a, mode, nonlinearity)
    return _uniform("kaiming_uniform_", x, -bound, bound)


def orthogonal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Fill a weight with gain times an orthogonal matrix, in place, and return it.

    The weight is taken as a matrix (first axis, product of the others), whose rows are orthonormal,
    or its columns if it has more rows than columns; it is drawn uniformly from all of these (Saxe
    et al. 2014).
    """
    require_floats("orthogonal_", x)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"orthogonal_: a tensor of shape {x.shape}; two axes or more are needed")
    rows, columns = x.shape[0], x.size // x.shape[0]
    shape = max(rows, columns), min(rows, columns)
    with no_grad():
        drawn = random.normal(shape, dtype=x.dtype, device=x.device, stream="init")
        q = _orthonormal_columns(drawn.to(dtype="float64"))
        matrix = (q if rows >= columns else q.T) * _number("orthogonal_", "gain", gain)
        assign(x, matrix.reshape(x.shape).to(dtype=x.dtype))
    return x


def _orthonormal_columns(a: Tensor) -> Tensor:
    """Return the factor Q of a = QR, float64 (m, n <= m), where the diagonal of R is positive.

    Block Gram-Schmidt, twice for each block, against rounding. Only minigan's own products are
    used: the bits of LAPACK's QR depend on the number of threads.
    """
    blocks: list[Tensor] = []
    for start in range(0, a.shape[1], _BLOCK):
        block = a[:, start : start + _BLOCK]
        for _ in range(2):
            for q in blocks:
                block = block - q @ (q.T @ block)
            columns = block.numpy()
            for k in range(columns.shape[1]):
                v, before = columns[:, k], columns[:, :k]
                v -= (before * (before * v[:, None]).sum(0)).sum(1)
                v /= np.sqrt((v * v).sum())
            block = tensor(columns, device=a.device)
        blocks.append(block)
    return ops.concatenate(blocks, axis=1)


# ------------------------------------------------------------------------------------- helpers
def _number(name: str, key: str, value: Any) -> float:
    if not isinstance(value, REALS) or not math.isfinite(value):
        raise ValueError(f"{name}: {key} = {value!r} is not a finite number")
    return float(value)


def _normal(name: str, x: Tensor, mean: float, std: float) -> Tensor:
    require_floats(name, x)
    if _number(name, "std", std) < 0:
        raise ValueError(f"{name}: std = {std} is negative")
    drawn = random.normal(x.shape, dtype=x.dtype, device=x.device, stream="init")
    assign(x, drawn * float(std) + _number(name, "mean", mean))
    return x


def _uniform(name: str, x: Tensor, a: float, b: float) -> Tensor:
    require_floats(name, x)
    low, high = _number(name, "a", a), _number(name, "b", b)
    if low > high:
        raise ValueError(f"{name}: a = {a} is above b = {b}")
    assign(x, random.uniform(x.shape, low, high, dtype=x.dtype, device=x.device, stream="init"))
    return x


def _fans(name: str, x: Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight."""
    require_floats(name, x)
    if x.ndim < 2 or not x.size:
        raise ValueError(
            f"{name}: a tensor of shape {x.shape} has no fans; a weight (out, in, ...) is needed"
        )
    outputs, inputs = x.shape[:2]
    if isinstance(x, DenseWeight):
        outputs, inputs = inputs, outputs
    kernel = math.prod(x.shape[2:])
    return inputs * kernel, outputs * kernel


def _xavier_std(name: str, x: Tensor, gain: float) -> float:
    return _number(name, "gain", gain) * math.sqrt(2 / sum(_fans(name, x)))


def _kaiming_std(x: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans("kaiming", x), strict=True))
    return calculate_gain(nonlinearity, a) / math.sqrt(choose("mode", mode, fans))
