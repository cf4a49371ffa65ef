"""Gradient checks: VJPs against central finite differences, in float64, at any order.

For a function f with Jacobian J, a random direction v and a random cotangent g are drawn. Then
<g, J v>, from central differences of f, must equal <vjp(g), v>, from `grad`. (The cotangent is
random because a cotangent of ones would not detect a wrong permutation.)

A direction moves all inputs at once. At order 2, each gradient is also compared along each input
alone, so that every pair of inputs, d2f / dx_i dx_j, is held to its own tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .autograd import grad
from .device import Device, get_device
from .tensor import Tensor, tensor

if TYPE_CHECKING:
    from .op import Op

Function = Callable[..., Tensor]


class CheckError(AssertionError):
    """A kernel, a result or a gradient of an op that is wrong, or an op that cannot be checked."""


class GradientError(CheckError):
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
    """Check the gradient of f at `arrays`, then the derivative of that, up to `order`.

    From order 2 on, every pair of inputs is checked too.

        mg.check_gradients(lambda x, w: (x @ w).tanh(), [x_array, w_array])

    Args:
        f: a function of as many tensors as there are arrays, smooth within `eps` of them.
        arrays: float64 arrays. Others (masks, indices) are passed on and not differentiated.
        order: the highest order of the derivative.
        device: a name or a Device to run on.
        seed: of the random directions and cotangents.
        eps: the step of the central differences.
        rtol, atol: the tolerance is atol + rtol * max(|exact|, |numeric|).
        name: of the function, for error messages.

    Returns:
        The error of each order divided by its tolerance: at most 1.

    Raises:
        GradientError: an error is above its tolerance, or NaN.
    """
    rng = np.random.default_rng(seed)
    target = get_device(device)

    def error(f: Function, arrays: Sequence[np.ndarray], what: str, along: int | None) -> float:
        exact, numeric = _compare(f, arrays, rng, eps, target, along)
        result = abs(exact - numeric) / (atol + rtol * max(abs(exact), abs(numeric)))
        if not result <= 1:  # not `result > 1`, which is false for NaN
            raise GradientError(
                f"{name}, {what}: the VJPs say {exact:.12g}, finite differences {numeric:.12g}"
            )
        return result

    errors = []
    function, inputs = f, arrays
    for k in range(1, order + 1):
        errors.append(error(function, inputs, f"order {k}", None))
        if k < order:
            function, inputs = _derivative(function, inputs, rng, target)
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    if order >= 2 and len(floats) > 1:
        for i in floats:
            function, inputs = _derivative(f, arrays, rng, target, i)
            pairs = [error(function, inputs, f"order 2, inputs {i} and {j}", j) for j in floats]
            errors[1] = max(errors[1], *pairs)
    return errors


def _tensors(arrays: Sequence[np.ndarray], device: Device) -> list[Tensor]:
    return [tensor(a, device=device, requires_grad=a.dtype.kind == "f") for a in arrays]


def _directions(
    arrays: Sequence[np.ndarray], rng: np.random.Generator, along: int | None = None
) -> list[np.ndarray | None]:
    """Return a random direction for each array of floats, or for the one numbered `along`."""
    return [
        rng.standard_normal(a.shape) if a.dtype.kind == "f" and along in (None, i) else None
        for i, a in enumerate(arrays)
    ]


def _compare(
    f: Function,
    arrays: Sequence[np.ndarray],
    rng: np.random.Generator,
    eps: float,
    device: Device,
    along: int | None,
) -> tuple[float, float]:
    """Return <vjp(g), v> and <g, J v> for one random g and v, which moves all inputs or one."""
    xs = _tensors(arrays, device)
    y = f(*xs)
    g = rng.standard_normal(y.shape)
    vs = _directions(arrays, rng, along)
    if not y.requires_grad:  # y is a constant, so the differences must be zero too
        exact = 0.0
    else:
        pairs = [(x, v) for x, v in zip(xs, vs, strict=True) if v is not None]
        gxs = grad(y, [x for x, _ in pairs], tensor(g, device=device), allow_unused=True)
        terms = zip(gxs, pairs, strict=True)
        exact = sum(float((gx.numpy() * v).sum()) for gx, (_, v) in terms if gx is not None)

    def along_v(step: float) -> float:
        """Return <g, f(arrays + step * v)>."""
        moved = [a if v is None else a + step * v for a, v in zip(arrays, vs, strict=True)]
        return float((f(*_tensors(moved, device)).numpy() * g).sum())

    return exact, (along_v(eps) - along_v(-eps)) / (2 * eps)


def _derivative(
    f: Function,
    arrays: Sequence[np.ndarray],
    rng: np.random.Generator,
    device: Device,
    along: int | None = None,
) -> tuple[Function, list[np.ndarray]]:
    """Return the function (x, g) -> sum_i <v_i, vjp_i(g)>, v random and fixed, and its arrays.

    The sum is over all inputs, or the one numbered `along`.
    """
    y = f(*_tensors(arrays, device))
    vs = _directions(arrays, rng, along)

    def derivative(*arguments: Tensor) -> Tensor:
        *xs, g = arguments
        y = f(*xs)
        pairs = [(x, v) for x, v in zip(xs, vs, strict=True) if v is not None]
        total: Any = (g * 0.0).sum()
        if not y.requires_grad:
            return total
        gxs = grad(y, [x for x, _ in pairs], g, create_graph=True, allow_unused=True)
        for gx, (_, v) in zip(gxs, pairs, strict=True):
            if gx is not None:
                total = total + (gx * tensor(v, device=device)).sum()
        return total

    return derivative, [*arrays, rng.standard_normal(y.shape)]


@dataclass(frozen=True)
class OpCheck:
    """The result of `check_op`."""

    samples: int  # the number of samples that were checked
    errors: tuple[float, ...]  # the largest error of each order, divided by its tolerance
    failure: str  # empty if all samples passed


def op_samples(op: Op, seed: int = 0) -> Iterator[tuple[Function, list[np.ndarray], bool]]:
    """Yield (f, arrays, smooth) for each sample of an op.

    `f`, of as many tensors as there are arrays, applies the op; the numbers and attributes of the
    sample are bound in it. `smooth` is False for a sample on a kink, which has no derivative.
    """
    rng = np.random.default_rng(seed)
    for sample in op.samples:
        attributes = sample[-1] if isinstance(sample[-1], dict) else {}
        inputs = sample[: len(sample) - bool(attributes)]
        makers = [x for x in inputs if callable(x)]

        def f(*xs: Tensor, inputs: Any = inputs, attributes: Any = attributes) -> Tensor:
            tensors = iter(xs)
            return op(*(next(tensors) if callable(x) else x for x in inputs), **attributes)

        yield (
            f,
            [make(rng) for make in makers],
            all(getattr(make, "smooth", True) for make in makers),
        )


def _check_results(op: Op, f: Function, arrays: Sequence[np.ndarray], device: Device) -> Tensor:
    """Compare the shape and dtype of a result with the reference's, in float32 and float64.

    Returns:
        The result in float64.
    """
    for dtype in ("float32", "float64"):
        xs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in arrays]
        y, expected = (f(*_tensors(xs, where)) for where in (device, get_device("reference")))
        what = f"{op.name} on {device.name}, {dtype}: the result"
        if (y.shape, y.dtype) != (expected.shape, expected.dtype):
            reference = f"{expected.dtype}{expected.shape}"
            raise CheckError(f"{what} is {y.dtype}{y.shape}, the reference's {reference}")
        require_dtype(y.dtype, xs, op.attribute_names or (), what)
    return y


def require_samples(op: Op) -> None:
    """Raise CheckError for an op that has no samples to be checked on."""
    if not op.samples:
        raise CheckError(
            f"{op.name}: it has no samples to be checked on; Op(..., samples=[(uniform(3, 4),)]),"
            " with uniform of minigan.ops.samples, gives it one"
        )


def require_dtype(
    actual: np.dtype, arrays: Sequence[Any], attributes: Container[str], what: str
) -> None:
    """Raise CheckError if a result of floats has another dtype than the inputs of floats."""
    floats = [x.dtype for x in arrays if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    if floats and actual.kind == "f" and actual != floats[0] and "dtype" not in attributes:
        raise CheckError(f"{what} is {actual}, its inputs {floats[0]}; write .astype(x.dtype)")


def check_op(op: Op, device: str | Device = "cpu", order: int = 2) -> OpCheck:
    """Check the results' shapes and dtypes, and the gradients, of an op on all of its samples.

    Every pair of inputs is checked, too.
    """
    worst = [0.0] * order
    count = 0
    try:
        require_samples(op)
    except CheckError as error:
        return OpCheck(0, (), f"   FAIL: {error}")
    for f, arrays, smooth in op_samples(op):
        try:
            y = _check_results(op, f, arrays, get_device(device))
            if not smooth or y.dtype.kind != "f":
                continue
            errors = check_gradients(f, arrays, order=order, device=device, name=op.name)
        except CheckError as error:
            return OpCheck(count, tuple(worst), f"   FAIL: {error}")
        worst = [max(pair) for pair in zip(worst, errors, strict=True)]
        count += 1
    return OpCheck(count, tuple(worst) if count else (), "")
