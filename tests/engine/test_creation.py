"""zeros, ones, full, arange and their likes; text, formats and lists of tensors."""

import sys
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg


@DEVICES
def test_tensors_of_one_value(device: str) -> None:
    for x, shape, dtype, value in (
        (mg.zeros((2, 3), device=device), (2, 3), "float32", 0),
        (mg.zeros(4, "int64", device), (4,), "int64", 0),
        (mg.ones([2], device=device, requires_grad=True), (2,), "float32", 1),
        (mg.ones((), "bool", device), (), "bool", True),
        (mg.full((2, 0), 3, device=device), (2, 0), "int64", 3),
        (mg.full(2, 0.1, device=device), (2,), "float32", np.float32(0.1)),
        (mg.full(2, True, device=device), (2,), "bool", True),
        (mg.full(2, np.float64(0.1), device=device), (2,), "float64", 0.1),
        (mg.full(2, 2.9, "int64", device), (2,), "int64", 2),
    ):
        assert (x.shape, x.dtype, x.device.name) == (shape, dtype, device)
        assert (x.numpy() == value).all()
    assert mg.ones(1, requires_grad=True).requires_grad
    assert not mg.ones(1).requires_grad
    with mg.use_device(device):
        assert mg.zeros(1).device.name == device


@DEVICES
def test_tensors_like_another(device: str) -> None:
    x = mg.tensor([[1, 2]], "float64", device, requires_grad=True)
    for y, value in ((mg.zeros_like(x), 0), (mg.ones_like(x), 1)):
        assert (y.dtype, y.device, y.requires_grad) == (x.dtype, x.device, False)
        assert y.tolist() == [[value, value]]
    assert mg.ones_like(x, "int64", "reference").dtype == np.int64
    assert mg.ones_like(x, "int64", "reference").device.name == "reference"


@pytest.mark.parametrize(
    "arguments",
    [(5,), (2, 5), (2, 10, 3), (5, 0, -2), (0,), (3.5,), (1.0, 0.0, -0.25), (0, 1, 0.1)],
)
def test_arange_is_numpys(arguments: tuple[Any, ...]) -> None:
    x, expected = mg.arange(*arguments), np.arange(*arguments)
    assert x.dtype == ("int64" if expected.dtype.kind == "i" else "float32")
    assert np.array_equal(x.numpy(), expected.astype(x.dtype))
    assert mg.arange(*arguments, dtype="float64").dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: mg.zeros(2, 3),
            TypeError,
            r"unknown dtype 3; .*a shape is one argument: \(2, 3\)",
        ),
        (lambda: mg.random.normal(2, 3), TypeError, "a shape is one argument"),
        (lambda: mg.random.uniform(2, 3), ValueError, "uniform: low = 3 .*a shape is one argument"),
        (lambda: mg.ones((2, -1)), ValueError, r"shape \(2, -1\): size -1 is negative"),
        (lambda: mg.ones(2.0), TypeError, "shape 2.0 is neither an integer nor a tuple of them"),
        (lambda: mg.full(2, [1]), TypeError, "full: the value is list, not a number"),
        (lambda: mg.full(2, 2**63), ValueError, "the value 9223372036854775808 does not fit"),
        (lambda: mg.ones(2, "int64", requires_grad=True), TypeError, "int64 cannot require grad"),
        (lambda: mg.arange("5"), TypeError, "arange: '5' is str, not a number"),
        (
            lambda: mg.arange(0, 5, 0),
            ValueError,
            r"arange: start, stop, step = \(0, 5, 0\); finite",
        ),
        (lambda: mg.arange(np.inf), ValueError, "finite numbers"),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@DEVICES
def test_formats(device: str) -> None:
    x = mg.tensor([1.0, 2.0, 1 / 3], device=device, requires_grad=True)
    assert f"loss {x[2]:.3f} {x.mean():8.2e} {x[:1]:5.1f}" == "loss 0.333 1.11e+00   1.0"
    assert f"{mg.tensor(7, device=device):04d} {mg.tensor(0.1, device=device)}" == "0007 0.1"
    assert f"{mg.tensor(True, device=device)}" == "True"
    assert f"{x}" == repr(x) == str(x)
    with pytest.raises(
        TypeError, match=r"a tensor of shape \(3,\) has no format '.3f': format its"
    ):
        f"{x:.3f}"


def test_lists() -> None:
    assert mg.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert mg.tensor(2.5).tolist() == 2.5
    assert mg.tensor([True]).tolist() == [True]
    with pytest.raises(RuntimeError, match="a captured step cannot read values"):
        mg.capture(lambda x: x.tolist())(mg.zeros(2))


def test_the_public_names_are_those_of_the_modules() -> None:
    """The list in ops/__init__.py, which tools read, holds each name of the modules once."""
    modules = [m for name, m in sys.modules.items() if name.startswith("minigan.ops.")]
    names = sorted(name for m in modules for name in getattr(m, "__all__", ()))
    assert names == sorted(mg.ops.__all__)
    assert all(getattr(mg.ops, name) is not None for name in names)
