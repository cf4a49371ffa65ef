"""Is a gradient right? Finite differences against VJPs, in float64, at any order.

One random direction v and one random cotangent g tell: <g, J v>, from central differences of f,
must equal <vjp(g), v>, from `grad`. (A cotangent of ones would let a wrong permutation pass.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .autograd import grad
from .device import Device, get_device
from .tensor import Tensor, tensor

if TYPE_CHECKING:
    from .op import Op

Function = Callable[..., Tensor]


class GradientError(AssertionError):
    """A gradient that finite differences contradict."""


def check_gradients(
    f: Function,
    arrays: Sequence[np.ndarray],
    *,
    order: int = 2,
    device: str | Device = "reference",
    seed: int = 0,
    eps: float = 1e-6,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    name: str = "f",
) -> list[float]:
    """Check d f / d arrays, then the derivative of that, up to `order`.

    Args:
        f: of as many tensors as there are arrays; smooth within `eps` of them. Arrays that are
            not floating (masks, indices) are passed on and not differentiated.
    Returns:
        The error of each order, relative to its tolerance: at most 1.
    Raises:
        GradientError: an error above atol + rtol * max(|exact|, |numeric|), or a NaN.
    """
    rng = np.random.default_rng(seed)
    target = get_device(device)
    errors = []
    for k in range(1, order + 1):
        exact, numeric = _compare(f, arrays, rng, eps, target)
        allowed = atol + rtol * max(abs(exact), abs(numeric))
        error = abs(exact - numeric) / allowed
        if not error <= 1:  # so written that NaN fails
            raise GradientError(
                f"{name}, order {k}: the VJPs say {exact:.12g}, finite differences {numeric:.12g}"
            )
        errors.append(error)
        if k < order:
            f, arrays = _derivative(f, arrays, rng, target)
    return errors


def _tensors(arrays: Sequence[np.ndarray], device: Device) -> list[Tensor]:
    return [tensor(a, device=device, requires_grad=a.dtype.kind == "f") for a in arrays]


def _directions(arrays: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray | None]:
    return [rng.standard_normal(a.shape) if a.dtype.kind == "f" else None for a in arrays]


def _compare(
    f: Function, arrays: Sequence[np.ndarray], rng: np.random.Generator, eps: float, device: Device
) -> tuple[float, float]:
    """<vjp(g), v> and <g, J v> for one random g and v."""
    xs = _tensors(arrays, device)
    y = f(*xs)
    g = rng.standard_normal(y.shape)
    vs = _directions(arrays, rng)
    if not y.requires_grad:  # a constant: its derivative is zero, and so must be the differences
        exact = 0.0
    else:
        wanted = [(x, v) for x, v in zip(xs, vs, strict=True) if v is not None]
        gxs = grad(y, [x for x, _ in wanted], tensor(g, device=device), allow_unused=True)
        pairs = zip(gxs, wanted, strict=True)
        exact = sum(float((gx.numpy() * v).sum()) for gx, (_, v) in pairs if gx is not None)

    def at(step: float) -> float:
        moved = [a if v is None else a + step * v for a, v in zip(arrays, vs, strict=True)]
        return float((f(*_tensors(moved, device)).numpy() * g).sum())

    return exact, (at(eps) - at(-eps)) / (2 * eps)


def _derivative(
    f: Function, arrays: Sequence[np.ndarray], rng: np.random.Generator, device: Device
) -> tuple[Function, list[np.ndarray]]:
    """The function (x, g) -> sum_i <v_i, vjp_i(g)> with fixed random v, and where to check it."""
    y = f(*_tensors(arrays, device))
    vs = _directions(arrays, rng)

    def derivative(*arguments: Tensor) -> Tensor:
        *xs, g = arguments
        y = f(*xs)
        wanted = [(x, v) for x, v in zip(xs, vs, strict=True) if v is not None]
        total: Any = (g * 0.0).sum()
        if not y.requires_grad:
            return total
        gxs = grad(y, [x for x, _ in wanted], g, create_graph=True, allow_unused=True)
        for gx, (_, v) in zip(gxs, wanted, strict=True):
            if gx is not None:
                total = total + (gx * tensor(v, device=device)).sum()
        return total

    return derivative, [*arrays, rng.standard_normal(y.shape)]


@dataclass(frozen=True)
class OpCheck:
    """What `check_op` found: how many samples, the largest error of each order, what failed."""

    samples: int
    errors: tuple[float, ...]
    failure: str


def op_samples(op: Op, seed: int = 0) -> Iterator[tuple[Function, list[np.ndarray], bool]]:
    """(f, arrays, smooth) per sample of an op: f(*tensors of the arrays) is the op's result.

    Numbers and attributes of the sample are bound in f; `smooth` is False where the sample lies on
    a kink, and there is no derivative to check.
    """
    rng = np.random.default_rng(seed)
    for sample in op.samples:
        attributes = sample[-1] if isinstance(sample[-1], dict) else {}
        inputs = sample[: len(sample) - bool(attributes)]
        makers = [x for x in inputs if callable(x)]

        def f(*xs: Tensor, inputs: Any = inputs, attributes: Any = attributes) -> Tensor:
            given = iter(xs)
            return op(*(next(given) if callable(x) else x for x in inputs), **attributes)

        yield f, [make(rng) for make in makers], all(make.smooth for make in makers)


def check_op(op: Op, device: str | Device = "cpu", order: int = 2) -> OpCheck:
    """Check an op's gradients on all of its samples."""
    worst = [0.0] * order
    count = 0
    for f, arrays, smooth in op_samples(op):
        y = f(*_tensors(arrays, get_device(device)))
        if not smooth or y.dtype.kind != "f":
            continue
        try:
            errors = check_gradients(f, arrays, order=order, device=device, name=op.name)
        except GradientError as error:
            return OpCheck(count, tuple(worst), f"   FAIL: {error}")
        worst = [max(pair) for pair in zip(worst, errors, strict=True)]
        count += 1
    return OpCheck(count, tuple(worst) if count else (), "")
