"""Methods of tensors made of other ops: numpy's values, gradients of order 2, and edges."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan import ops
from minigan.engine.check import check_gradients
from minigan.nn import functional

A = np.random.default_rng(0).standard_normal((2, 3, 4))
# Functions of a tensor or an array, by methods that both have.
SAME: list[Callable[[Any], Any]] = [
    lambda x: x.min(), lambda x: x.min(axis=1), lambda x: x.min(axis=(0, 2), keepdims=True),
    lambda x: x.argmax(), lambda x: x.argmax(axis=-1), lambda x: x.argmax(axis=1, keepdims=True),
    lambda x: x.argmax(keepdims=True), lambda x: x.var(), lambda x: x.var(axis=(0, 1)),
    lambda x: x.var(axis=2, keepdims=True), lambda x: x.std(), lambda x: x.std(axis=0),
    lambda x: x.flatten(), lambda x: x[:1].squeeze(), lambda x: x[:1, :, :1].squeeze(axis=2),
    lambda x: x[:1, :, :1].squeeze(axis=(0, -1)), lambda x: (x > 9).any(),
    lambda x: (x > 0).any(axis=1), lambda x: (x > 0).all(axis=(0, 2)), lambda x: x.all(),
    lambda x: x[:0].any(), lambda x: x[:0].all(), lambda x: x.clip(min=0.1),
    lambda x: x.clip(-1, 1),
    lambda x: (x > 0) & (x < 1), lambda x: (x < 0) | (x > 1), lambda x: ~(x > 0),
    lambda x: True & (x > 0), lambda x: False | (x > 0),
]  # fmt: skip
# Functions of a tensor, and the same of an array.
PAIRS: dict[str, tuple[Callable[[mg.Tensor], mg.Tensor], Callable[[np.ndarray], Any]]] = {
    "var, correction": (lambda x: x.var(1, correction=1), lambda a: a.var(1, ddof=1)),
    "std, correction": (lambda x: x.std(correction=1), lambda a: a.std(ddof=1)),
    "norm": (lambda x: x.norm(), np.linalg.vector_norm),
    "norm 2": (
        lambda x: x.norm(2, axis=1, keepdims=True),
        lambda a: np.linalg.vector_norm(a, axis=1, keepdims=True),
    ),
    "norm 1": (lambda x: x.norm(1, axis=(0, 1)), lambda a: np.abs(a).sum((0, 1))),
    "norm inf": (lambda x: x.norm(math.inf), lambda a: np.abs(a).max()),
    "flatten 1": (lambda x: x.flatten(1), lambda a: a.reshape(2, 12)),
    "flatten 0, 1": (lambda x: x.flatten(0, -2), lambda a: a.reshape(6, 4)),
    "clone": (lambda x: x.clone(), lambda a: a),
    "sigmoid": (lambda x: x.sigmoid(), lambda a: 1 / (1 + np.exp(-a))),
    "softmax": (ops.softmax, lambda a: np.exp(a) / np.exp(a).sum(-1, keepdims=True)),
    "softmax 0": (lambda x: ops.softmax(x, 0), lambda a: np.exp(a) / np.exp(a).sum(0)),
    "stack": (lambda x: mg.stack([x, x * 2]), lambda a: np.stack([a, a * 2])),
    "stack -1": (lambda x: mg.stack([x, -x], axis=-1), lambda a: np.stack([a, -a], -1)),
    "stack 1": (lambda x: mg.stack([x[0], x[1]], 1), lambda a: np.stack([a[0], a[1]], 1)),
    "mse_loss": (lambda x: functional.mse_loss(x, x[:1] * 0 + x), lambda a: 0.0),
    "mse_loss 1": (lambda x: functional.mse_loss(x, 1.0), lambda a: ((a - 1) ** 2).mean()),
    "l1_loss": (lambda x: functional.l1_loss(x[0], x[1]), lambda a: np.abs(a[0] - a[1]).mean()),
}


def _check(x: mg.Tensor, y: mg.Tensor, expected: Any) -> None:
    expected = np.asarray(expected)
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    assert np.allclose(y.numpy(), expected, rtol=1e-13, atol=1e-15)


@DEVICES
@pytest.mark.parametrize("i", range(len(SAME)))
def test_methods_are_numpys(i: int, device: str) -> None:
    x = mg.tensor(A, device=device)
    _check(x, SAME[i](x), SAME[i](A))


@DEVICES
@pytest.mark.parametrize("name", list(PAIRS))
def test_values_are_numpys(name: str, device: str) -> None:
    ours, numpys = PAIRS[name]
    x = mg.tensor(A, device=device)
    _check(x, ours(x), numpys(A))


@DEVICES
@pytest.mark.parametrize("name", [*PAIRS, "min", "min 1", "var", "std", "std 0", "squeeze", "clip"])
def test_gradients_of_order_2(name: str, device: str) -> None:
    more: dict[str, Callable[[mg.Tensor], mg.Tensor]] = {
        "min": lambda x: x.min(),
        "min 1": lambda x: x.min(axis=1),
        "var": lambda x: x.var(),
        "std": lambda x: x.std(),
        "std 0": lambda x: x.std(axis=0, correction=1),
        "squeeze": lambda x: x[:1].squeeze(),
        "clip": lambda x: x.clip(max=0.5),
    }
    f = more[name] if name in more else PAIRS[name][0]
    check_gradients(f, [A], device=device, name=name)


@DEVICES
@pytest.mark.parametrize("dtype", ["int64", "bool", "float32"])
def test_extremes_of_integers_and_bools(dtype: str, device: str) -> None:
    ends = np.iinfo(np.int64)
    values = {
        "int64": np.array([[3, ends.min, 0], [ends.max, 5, 5]]),
        "bool": np.array([[True, False, True], [True, True, True]]),
        "float32": np.array([[3, -np.inf, 0], [np.inf, 5, 5]], np.float32),
    }[dtype]
    x = mg.tensor(values, device=device)
    for axis in (None, 0, 1):
        for name in ("min", "max", "argmax"):
            y, expected = getattr(x, name)(axis), getattr(values, name)(axis)
            assert np.array_equal(y.numpy(), expected), name
            assert y.dtype == expected.dtype, name


@DEVICES
def test_nan_is_the_smallest_and_the_largest(device: str) -> None:
    a = np.array([[1.0, np.nan, 3.0, np.nan], [4.0, 4.0, -1.0, 0.0]])
    x = mg.tensor(a, device=device)
    assert np.array_equal(x.min(axis=1).numpy(), [np.nan, -1], equal_nan=True)
    assert x.argmax(axis=1).tolist() == a.argmax(axis=1).tolist() == [1, 0]
    assert np.isnan(ops.softmax(x)[0].numpy()).all()


@DEVICES
def test_softmax_does_not_overflow(device: str) -> None:
    x = mg.tensor([[1000.0, 0.0], [-1e30, 1e30]], device=device)
    assert ops.softmax(x).tolist() == [[1, 0], [0, 1]]


def test_variance_of_too_few_elements() -> None:
    x = mg.tensor([[1.0], [2.0]])
    assert x.var(axis=1).tolist() == [0, 0]
    assert np.isnan(x.var(axis=1, correction=1).numpy()).all()


def test_the_distance_of_a_point_to_itself_has_gradient_0() -> None:
    x = mg.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    (gx,) = mg.grad(x.norm(2, axis=1).sum(), [x], create_graph=True)
    assert np.allclose(gx.numpy(), [[0, 0], [0.6, 0.8]])
    (ggx,) = mg.grad((gx * gx).sum(), [x])
    assert np.allclose(ggx.numpy(), 0, atol=1e-7)


def test_a_clone_has_memory_and_gradient() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = x.clone()
    mg.optim.assign(x, mg.tensor([5.0, 5.0]))
    assert (y.tolist(), y.version) == ([1, 2], 0)
    z = x.clone()
    assert mg.grad((z * z).sum(), [x])[0].tolist() == [10, 10]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x[:0].min(), ValueError, "min: shape .0, 3, 4. has no element along axis None"),
        (lambda x: x[:0].argmax(), ValueError, "argmax: shape .0,. has no element along axis 0"),
        (lambda x: x.argmax(axis=3), ValueError, "argmax: axis 3 is outside shape"),
        (lambda x: x.norm(3), ValueError, "norm: p = 3 is not 1, 2 or math.inf"),
        (
            lambda x: x.squeeze(0),
            ValueError,
            r"squeeze: axis 0 of shape \(2, 3, 4\) is not of size",
        ),
        (lambda x: x.flatten(2, 1), ValueError, "flatten: end_axis 1 of shape .* is before start_"),
        (lambda x: x.clip(1, 0), ValueError, "clip: min = 1.0 is not at most max = 0.0"),
        (lambda x: mg.stack([x, x[0]]), ValueError, r"stack: shapes \(2, 3, 4\), \(3, 4\) differ"),
        (lambda x: mg.stack([]), ValueError, "stack: there is no tensor to join"),
        (mg.stack, TypeError, "stack: Tensor is not a list or tuple of tensors"),
        (lambda x: x.to("int64").var(), TypeError, "^var: argument 0 is int64.*to.'float32'"),
        (lambda x: x.to("int64").std(), TypeError, "^std: argument 0 is int64"),
        (lambda x: x.to("int64").norm(), TypeError, "^norm: argument 0 is int64"),
        (lambda x: ops.softmax(x > 0), TypeError, "^softmax: argument 0 is bool"),
        (
            lambda x: x & x,
            TypeError,
            r"logical_and: argument 0 is float64, not a bool.*\(x > 0\) &",
        ),
        (lambda x: x > 0 & x < 1, TypeError, "logical_and: argument 0 is int, not a bool"),
        (lambda x: ~x, TypeError, "logical_not: argument 0 is float64"),
        (lambda x: functional.mse_loss(x, x[0]), ValueError, "mse_loss: the target has shape"),
        (lambda x: functional.l1_loss(x, x.T), ValueError, "l1_loss: the target has shape"),
        (lambda x: functional.l1_loss(x > 0, 1.0), TypeError, "l1_loss: argument 0 is bool"),
    ],
)
def test_what_is_refused(
    call: Callable[[mg.Tensor], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(mg.tensor(A, device="reference"))


def test_argmax_has_no_gradient() -> None:
    x = mg.tensor(A, requires_grad=True)
    assert not x.argmax().requires_grad
    with pytest.raises(TypeError, match="output is int64, which has no gradient: argmax, compari"):
        mg.grad(x.argmax(), [x])


@DEVICES
def test_they_are_captured(device: str) -> None:
    step = mg.capture(lambda x: [f(x) for f in SAME])
    for scale in (1.0, -1.0, 2.0):
        for y, f in zip(step(mg.tensor(A * scale, device=device)), SAME, strict=True):
            assert np.allclose(y.numpy(), f(A * scale), rtol=1e-13, atol=1e-15)
