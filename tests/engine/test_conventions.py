"""Derivatives at kinks, ties, bounds and infinities equal the table in minigan/ops/README.md."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from convention_helpers import OURS, derivatives, read_table, torch_derivatives
from helpers import DEVICES

import minigan as mg
from minigan import ops

ROWS = read_table()


def _assert_equal(actual: list[float], expected: list[float], what: str) -> None:
    assert np.allclose(actual, expected, rtol=1e-10, atol=0, equal_nan=True), (
        f"{what}: {actual}, and the table says {expected}"
    )


@DEVICES
def test_our_derivatives_are_those_of_the_table(device: str) -> None:
    assert len(ROWS) > 100
    for row in ROWS:
        gradient, second = derivatives(row, device)
        what = f"{row.expression} at {row.point}"
        _assert_equal(gradient, row.gradient, f"{what}, gradient")
        _assert_equal(second, row.second, f"{what}, second derivatives")


def test_pytorchs_derivatives_are_those_of_the_table() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    for row in ROWS:
        gradient, second = torch_derivatives(row)
        what = f"PyTorch's {row.expression} at {row.point}"
        _assert_equal(gradient, row.torch_gradient, f"{what}, gradient")
        _assert_equal(second, row.torch_second, f"{what}, second derivatives")


def test_the_table_has_each_function_with_a_kink_or_a_pole() -> None:
    expressions = " ".join(row.expression for row in ROWS)
    smooth = {"add", "subtract", "multiply", "divide", "negative", "power", "cast"}  # or operators
    comparisons = {"equal", "not_equal", "greater", "greater_equal", "less", "less_equal"}
    missing = {name for name in OURS if f"{name}(" not in expressions} - {"elementwise_op"}
    assert missing <= smooth | comparisons


# ---------------------------------------------------------------------- branches that are not taken
X = [-1.0, 0.5, 3.0]
# Functions of x (and a second input z), and where their derivative by x is 0 by selection.
SELECTIONS: dict[str, tuple[Callable[..., Any], list[bool]]] = {
    "relu": (lambda x, z: ops.relu(x), [True, False, False]),
    "maximum": (lambda x, z: ops.maximum(x, 1.0), [True, True, False]),
    "maximum, second": (lambda x, z: ops.maximum(1.0, x), [True, True, False]),
    "maximum of tensors": (lambda x, z: ops.maximum(z + 1.0, x), [True, True, False]),
    "minimum": (lambda x, z: ops.minimum(x, 1.0), [False, False, True]),
    "minimum of tensors": (lambda x, z: ops.minimum(z + 1.0, x), [False, False, True]),
    "clip": (lambda x, z: ops.clip(x, 0.0, 1.0), [True, False, True]),
    "where": (lambda x, z: ops.where(x > 1.0, x, z), [True, True, False]),
    "max": (lambda x, z: x.max(keepdims=True) + z, [True, True, False]),
    "power of 0": (lambda x, z: x**0, [True, True, True]),
}


@DEVICES
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", list(SELECTIONS))
def test_a_branch_that_is_not_taken_has_gradient_0(name: str, bad: float, device: str) -> None:
    """An infinite or NaN cotangent becomes 0 there, also at order 2."""
    f, unused = SELECTIONS[name]
    x = mg.tensor(X, "float64", device, requires_grad=True)
    z = mg.tensor([0.0, 0.0, 0.0], "float64", device)
    y = f(x, z)
    values = np.where(unused, bad, 1.0)
    g = mg.tensor(values, device=device, requires_grad=True)
    (gx,) = mg.grad(y, [x], g, create_graph=True)
    good = np.where(unused, 0.0, 1.0 if name != "max" else gx.numpy())
    assert np.array_equal(gx.numpy(), good, equal_nan=True)
    (gg,) = mg.grad(gx, [g], mg.tensor(values, device=device), allow_unused=True)
    if name != "max":
        assert np.array_equal(gg.numpy(), good)


@DEVICES
def test_dropout_removes_an_infinity_that_it_drops(device: str) -> None:
    bad = [np.inf, -np.inf, np.nan] * 20
    x = mg.tensor(bad, "float64", device, requires_grad=True)
    g = mg.tensor(bad, "float64", device)
    mg.manual_seed(1)
    y = ops.dropout(x, 0.5)
    (gx,) = mg.grad(y, [x], g)
    dropped = y.numpy() == 0
    assert 10 < dropped.sum() < 50
    assert np.array_equal(gx.numpy() == 0, dropped)
    kept = ~dropped
    assert np.array_equal(y.numpy()[kept], np.array(bad)[kept], equal_nan=True)


@DEVICES
def test_powers_agree_between_devices_at_infinities_and_zeros(device: str) -> None:
    """`pow` of C: numpy's own takes a square root for the exponent 0.5."""
    x = np.array([-np.inf, -0.0, 0.0, np.inf, -2.0, np.nan])
    for dtype in ("float32", "float64"):
        for p, expected in {
            0.5: [np.inf, 0.0, 0.0, np.inf, np.nan, np.nan],
            -0.5: [0.0, np.inf, np.inf, 0.0, np.nan, np.nan],
            3: [-np.inf, -0.0, 0.0, np.inf, -8.0, np.nan],
            -1: [-0.0, -np.inf, np.inf, 0.0, -0.5, np.nan],
            0: [1.0] * 6,
        }.items():
            for exponent in (p, mg.tensor([float(p)], dtype, device)):
                y = (mg.tensor(x, dtype, device) ** exponent).numpy()
                assert np.array_equal(y, np.array(expected, dtype), equal_nan=True), p
                assert np.array_equal(np.signbit(y)[:4], np.signbit(expected)[:4]), p


@DEVICES
def test_empty_arrays(device: str) -> None:
    """Values and gradients of no elements have their shapes."""
    for f in (
        ops.relu,
        ops.sqrt,
        lambda x: ops.maximum(x, 0.0),
        lambda x: x**2.5,
        lambda x: ops.where(x > 0, x, 0.0),
        lambda x: ops.clip(x, 0.0, None),
        lambda x: x.sum(axis=0),
        lambda x: x.max(axis=1),
        lambda x: ops.concatenate([x, x]),
        lambda x: ops.dropout(x, 0.5),
        lambda x: ops.gather(x, mg.tensor(np.zeros((0, 1), int), device=device)),
        lambda x: x @ x.T,
    ):
        x = mg.tensor(np.zeros((0, 3)), device=device, requires_grad=True)
        y = f(x)
        (gx,) = mg.grad(y, [x], mg.tensor(np.ones(y.shape), device=device), create_graph=True)
        assert gx.shape == (0, 3)
    assert np.isnan(mg.tensor(np.zeros((0, 3)), device=device).mean().numpy())
