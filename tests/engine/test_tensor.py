"""Tensors: construction, conversion, operators and methods, and their repr."""

import operator
import pickle
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan.engine.device import current_device, get_device


# ------------------------------------------------------------------------------------- making
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (1, "int64"),
        (1.5, "float32"),
        ([1, 2.5], "float32"),
        ([True], "bool"),
        ([], "float32"),
        (np.float64(2), "float64"),
        (np.ones(2, "float32"), "float32"),
        (np.ones(2, "float16"), "float32"),
        (np.ones(2, "uint8"), "int64"),
        (np.ones(2, "int32"), "int64"),
    ],
)
def test_dtype_of_values(values: Any, dtype: str) -> None:
    x = mg.tensor(values)
    assert x.dtype == dtype
    assert np.array_equal(x.numpy(), np.asarray(values))
    assert x.device is get_device("cpu")


def test_values_that_make_no_tensor() -> None:
    for bad in ("text", [None], 1j, np.array(["a"])):
        with pytest.raises(TypeError, match="not numbers"):
            mg.tensor(bad)
    with pytest.raises(ValueError, match="form no array"):
        mg.tensor([[1], [1, 2]])
    for dtype in ("float16", "int32", "no such", object):
        with pytest.raises(TypeError, match="accepted: float32, float64, int64, bool"):
            mg.tensor([1.0], dtype=dtype)


@DEVICES
def test_values_are_copied_in_and_out(device: str) -> None:
    a = np.ones(2)
    x = mg.tensor(a, device=device)
    a[0] = 5
    out = x.numpy()
    out[1] = 7
    np.asarray(x)[1] = 9
    assert x.numpy().tolist() == [1, 1]
    with pytest.raises(ValueError, match="without a copy"):
        np.array(x, copy=False)


def test_a_tensor_from_a_tensor_is_new() -> None:
    x = mg.tensor([1.0], requires_grad=True)
    y = mg.tensor(x * 2, dtype="float64", device="reference")
    assert (y.device.name, y.dtype, y.requires_grad) == ("reference", np.float64, False)


# -------------------------------------------------------------------------------- to and from
def test_moving_and_converting() -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert x.to("cpu") is x
    assert x.to("float32") is x
    for y in (x.to("reference"), x.to(device="reference"), x.to(get_device("reference"))):
        assert (y.device.name, y.requires_grad, y.op) == ("reference", True, None)
    for y in (x.to("float64"), x.to(dtype=np.float64)):
        assert y.dtype == np.float64
        (gx,) = mg.grad((y * y).sum(), [x])
        assert (gx.dtype, gx.numpy().tolist()) == (np.float32, [2, 4])
    assert x.to("int64").dtype == np.int64
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        x.to("gpu")


def test_values_as_python_numbers() -> None:
    x = mg.tensor([[2.5]])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert [10, 20, 30][mg.tensor(1)] == 20
    with pytest.raises(ValueError, match=r"item\(\) needs a tensor of one element.*\(2,\)"):
        mg.tensor([1, 2]).item()
    with pytest.raises(ValueError, match="one element"):
        bool(mg.tensor([1, 2]) > 0)
    with pytest.raises(TypeError, match="only an integer tensor"):
        operator.index(mg.tensor(1.0))
    with pytest.raises(TypeError, match="has no length"):
        len(mg.tensor(1.0))
    assert len(mg.tensor([[1, 2]])) == 1


def test_dlpack_exports_a_copy() -> None:
    """In shared memory, `grad` would not notice what others write."""
    x = mg.tensor([1.0, 2.0])
    y = np.from_dlpack(x)
    assert y.tolist() == [1, 2]
    y[0] = 5
    assert x.numpy().tolist() == [1, 2]
    with pytest.raises(BufferError, match="copy=False"):
        np.from_dlpack(x, copy=False)
    with pytest.raises(BufferError, match="requires gradients"):
        np.from_dlpack(mg.tensor([1.0], requires_grad=True))


def test_detach_keeps_memory_and_version() -> None:
    x = mg.tensor([1.0], requires_grad=True)
    y = (x * 2).detach()
    assert (y.requires_grad, y.op, y.numpy().tolist()) == (False, None, [2])
    z = x.detach()
    mg.optim.SGD([x], lr=1.0).step([mg.tensor([0.5])])
    assert (z.numpy().tolist(), z.version) == ([0.5], 1)


# ---------------------------------------------------------------------------------- operators
@DEVICES
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x + 2, lambda x: 2 + x, lambda x: x - 2, lambda x: 2 - x, lambda x: x * 3,
        lambda x: 3 * x, lambda x: x / 4, lambda x: 4 / x, lambda x: x**2, lambda x: x**1,
        lambda x: x**3, lambda x: x**-1.5, lambda x: 2**x, lambda x: -x, abs,
        lambda x: x > 1, lambda x: x >= 1, lambda x: x < 1, lambda x: x <= 1,
        lambda x: x == 2, lambda x: x != 2,
        lambda x: x == x[0], lambda x: x != x[:, :1], lambda x: x == np.float64(3),
        lambda x: np.float64(3) != x,
        lambda x: x @ x.T, lambda x: x.T, lambda x: x[0], lambda x: x[..., 1], lambda x: x[:, ::-1],
        lambda x: x[-1, 0], lambda x: x[None, 1:], lambda x: x.reshape(-1),
        lambda x: x.reshape(3, 2), lambda x: x.reshape((1, -1)), lambda x: x.transpose(1, 0),
        lambda x: x.sum(), lambda x: x.sum(axis=0), lambda x: x.sum(axis=-1, keepdims=True),
        lambda x: x.mean(), lambda x: x.mean(axis=(0, 1)), lambda x: x.max(),
        lambda x: x.max(axis=1),
        lambda x: x.sum(axis=np.int64(0)), lambda x: x.reshape(np.int64(6)),
        lambda x: x.flatten(), lambda x: x.T.flatten(), lambda x: x.clip(2, 4.5),
        lambda x: x * 2 ** x / (x + 1) - x**3, lambda x: -x + 1 >= 2 - x,
    ],
)  # fmt: skip
def test_operators_and_methods_are_numpys(f: Callable[[Any], Any], device: str) -> None:
    a = np.arange(1.0, 7.0).reshape(2, 3)
    expected = np.asarray(f(a))
    y = f(mg.tensor(a, device=device))
    assert (y.shape, y.dtype, y.ndim, y.size) == (
        expected.shape,
        expected.dtype,
        expected.ndim,
        expected.size,
    )
    assert np.allclose(y.numpy(), expected, rtol=1e-15)


@DEVICES
@pytest.mark.parametrize("name", ["abs", "exp", "log", "sqrt", "tanh"])
def test_functions_are_methods_too(name: str, device: str) -> None:
    a = np.arange(1.0, 7.0).reshape(2, 3)
    x = mg.tensor(a, device=device, requires_grad=True)
    y = getattr(x, name)()
    assert y.op is mg.Op.registry[name]
    assert y.inputs == (x,)
    assert np.allclose(y.numpy(), getattr(np, name)(a), rtol=1e-14)


def test_a_method_is_one_op_with_its_operands_in_their_order() -> None:
    """So that a formula in operators has the bits of the same formula in ops."""
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    cases: list[tuple[mg.Tensor, str, tuple[Any, ...]]] = [
        (x * 2.0, "multiply", (x, 2.0)),
        (2.0 * x, "multiply", (2.0, x)),
        (1.0 - x, "subtract", (1.0, x)),
        (1.0 / x, "divide", (1.0, x)),
        (2.0**x, "power", (2.0, x)),
        (x**3, "power", (x, 3)),
        (x**2, "multiply", (x, x)),
        (x.clip(0.0, 1.0), "clip", (x,)),
        (x.flatten(), "reshape", (x,)),
    ]
    for y, name, inputs in cases:
        assert y.op is mg.Op.registry[name]
        assert len(y.inputs) == len(inputs)
        assert all(a is b or a == b for a, b in zip(y.inputs, inputs, strict=True))


@DEVICES
def test_iteration_is_over_the_first_axis(device: str) -> None:
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], device=device, requires_grad=True)
    rows = list(x)
    assert [row.numpy().tolist() for row in rows] == x.numpy().tolist()
    first, *_, last = x
    (gx,) = mg.grad((first * last).sum(), [x])
    assert gx.numpy().tolist() == [[5, 6], [0, 0], [1, 2]]
    assert list(x[:0]) == []
    assert [i for i, _ in enumerate(x)] == [0, 1, 2]
    with pytest.raises(TypeError, match=r"shape \(\) cannot be iterated over"):
        iter(x.sum())


@DEVICES
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_equality_is_elementwise(dtype: str, device: str) -> None:
    a, b = np.array([0, 1, 2, 1]).astype(dtype), np.array([0, 2, 1, 1]).astype(dtype)
    x, y = (mg.tensor(v, dtype=dtype, device=device) for v in (a, b))
    one = np.ones((), dtype).item()
    for got, wanted in (
        (x == y, a == b), (x != y, a != b), (x == one, a == one), (one != x, one != a),
    ):  # fmt: skip
        assert got.dtype == np.bool_
        assert got.numpy().tolist() == wanted.tolist()
        assert not got.requires_grad


@DEVICES
def test_equality_of_special_values_is_numpys(device: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0])
    for dtype in ("float32", "float64"):
        x = mg.tensor(values[:, None], dtype=dtype, device=device)
        y = mg.tensor(values, dtype=dtype, device=device)
        assert np.array_equal((x == y).numpy(), values[:, None] == values)
        assert np.array_equal((x != y).numpy(), values[:, None] != values)
        assert (y != y).numpy().tolist() == [True, False, False, False, False]
    x = mg.tensor([0.0, 1.0, 2.0], device=device)
    assert mg.ops.where(x == 0, 10.0, x).numpy().tolist() == [10, 1, 2]


def test_a_tensor_is_unequal_to_what_is_no_number() -> None:
    x = mg.tensor([1.0, 2.0])
    for other in (None, "1.0", [1.0, 2.0], (1.0, 2.0), object(), {}):
        assert (x == other) is False
        assert (other == x) is False
        assert (x != other) is True
        assert (other != x) is True


def test_what_equality_refuses() -> None:
    x = mg.tensor([1.0, 2.0])
    a = np.array([1.0, 2.0], "f")
    for f in (lambda: x == a, lambda: a == x, lambda: x != a):
        with pytest.raises(TypeError, match="equal: argument 1 is ndarray; tensors and numbers"):
            f()
    with pytest.raises(TypeError, match="equal: argument 1 is complex"):
        _ = x == 1j
    with pytest.raises(TypeError, match="equal: argument 1 is float64, the others float32"):
        _ = x == mg.tensor([1.0], "float64")
    with pytest.raises(ValueError, match=r"equal: shapes \(2,\) and \(3,\) do not broadcast"):
        _ = x == mg.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="one element"):
        bool(x == x)


def test_tensors_are_hashed_by_identity() -> None:
    x, y = mg.tensor([1.0, 2.0]), mg.tensor([1.0, 2.0])
    assert hash(x) != hash(y)
    assert {x: "x", y: "y"}[y] == "y"
    assert len({x, y, x}) == 2
    assert y not in {x}


@DEVICES
def test_gather_takes_rows_and_scatter_add_puts_them_back(device: str) -> None:
    table = mg.tensor(np.arange(6.0).reshape(3, 2), device=device)
    i = mg.tensor([[2], [0], [2]], device=device)
    assert mg.ops.gather(table, i).numpy().tolist() == [[4, 5], [0, 1], [4, 5]]
    ones = mg.tensor(np.ones((3, 2)), device=device)
    assert mg.ops.scatter_add(ones, i, 4).numpy().tolist() == [[1, 1], [0, 0], [2, 2], [0, 0]]


@DEVICES
def test_log_softmax_does_not_overflow(device: str) -> None:
    x = mg.tensor([[1000.0, 0.0], [-(2.0**100), 2.0**100]], device=device)
    assert mg.ops.log_softmax(x).numpy().tolist() == [[0, -1000], [-(2.0**101), 0]]
    a = np.random.default_rng(0).standard_normal((3, 5))
    f = lambda x: mg.ops.log_softmax(x, axis=0)  # noqa: E731
    mg.check_gradients(f, [a], device=device)
    expected = a - np.log(np.exp(a).sum(0))
    assert np.allclose(f(mg.tensor(a, device=device)).numpy(), expected)


@DEVICES
def test_pad_and_concatenate_join_integers_too(device: str) -> None:
    x = mg.tensor([[1, 2]], device=device)
    assert mg.ops.pad(x, [(1, 0), (0, 2)], value=7).numpy().tolist() == [[7] * 4, [1, 2, 7, 7]]
    assert mg.ops.concatenate([x, x], axis=-1).numpy().tolist() == [[1, 2, 1, 2]]


@DEVICES
def test_vectors_multiply_as_numpys(device: str) -> None:
    rng = np.random.default_rng(0)
    v, m, t = rng.standard_normal(3), rng.standard_normal((3, 3)), rng.standard_normal((2, 3, 3))
    for a, b in [(v, v), (v, m), (m, v), (t, v), (v, t), (t, m)]:
        y = mg.tensor(a, device=device) @ mg.tensor(b, device=device)
        assert y.shape == (a @ b).shape
        assert np.allclose(y.numpy(), a @ b)


# -------------------------------------------------------------------------------------- looks
def test_repr() -> None:
    x = mg.tensor([1.0, 2.5], requires_grad=True)
    assert repr(x) == "tensor([1. , 2.5], dtype=float32, device='cpu', requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 5.], dtype=float32, device='cpu', op=multiply)"
    assert len(repr(mg.tensor(np.zeros((100, 100))))) < 2000


# ------------------------------------------------------------------------------------ devices
def test_the_current_device() -> None:
    assert current_device().name == "cpu"
    with mg.use_device("reference") as device:
        assert device is current_device() is mg.tensor(1).device
        with mg.use_device("cpu"):
            assert mg.random.normal(2).device.name == "cpu"
        assert current_device().name == "reference"
    assert current_device().name == "cpu"
    with pytest.raises(ValueError, match="unknown device 'refrence'; did you mean 'reference'"):
        mg.use_device("refrence")
    assert repr(get_device("cpu")) == "Device('cpu')"


# ------------------------------------------------------------------------------ changes in place
@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ipow", "imatmul"])
def test_operators_do_not_change_a_parameter(name: str) -> None:
    p = mg.tensor([[2.0]], requires_grad=True)
    operator_function = getattr(operator, name)
    with mg.no_grad(), pytest.raises(TypeError, match=r"= does not change a parameter in place"):
        operator_function(p, p.detach())
    x, y = mg.tensor([[2.0]]), p * 1.0
    for left in (x, y):
        result = operator_function(left, mg.tensor([[3.0]]))
        assert result is not left
        plain = getattr(operator, name.removeprefix("i"))(left, mg.tensor([[3.0]]))
        assert result.item() == plain.item()
        assert left.item() == 2


def test_elements_cannot_be_assigned() -> None:
    with pytest.raises(TypeError, match="elements of a tensor cannot be assigned"):
        mg.tensor([1.0, 2.0])[0] = 3.0


# --------------------------------------------------------------------- arrays of other libraries
def test_arrays_of_other_byte_orders_and_widths_keep_their_precision():
    for values in (np.array([1.1], ">f8"), np.array([1.1], np.longdouble)):
        x = mg.tensor(values)
        assert (x.dtype, x.item()) == (np.float64, 1.1)
    for values in (np.array([1.1], ">f4"), np.array([1.5], np.float16)):
        assert mg.tensor(values).dtype == np.float32
    torch = pytest.importorskip("torch")
    assert mg.tensor(torch.tensor([1.1], dtype=torch.float64)).item() == 1.1
    assert mg.tensor([np.float64(1.1)]).dtype == np.float32


def test_masked_elements_are_refused():
    values = np.ma.array([1.0, 2.0], mask=[False, True])
    with pytest.raises(ValueError, match=r"tensor: elements are masked; values.filled"):
        mg.tensor(values)
    assert mg.tensor(values[:1]).item() == mg.tensor(values.filled(0)).numpy()[0] == 1
    with pytest.raises(ValueError, match="Dense: bias: elements are masked"):
        mg.nn.Dense(1, 2).load_state_dict({"weight": np.zeros((1, 2), "f"), "bias": values})


def test_equality_with_arrays_and_numbers_of_others_is_refused():
    class Array:
        def __array__(self, *options):
            return np.array([1.0])

    for other in (Array(), Fraction(1, 2), Decimal(1)):
        for f in (operator.eq, operator.ne, operator.gt):
            with pytest.raises(TypeError, match=r"argument 1 is (Array|Fraction|Decimal); tensors"):
                f(mg.tensor([1.0]), other)


def test_bools_of_numpy_are_those_of_python():
    x = mg.tensor([True, False])
    assert (x == np.bool_(True)).numpy().tolist() == [True, False]
    y = x * np.bool_(True)
    assert (y.dtype, y.numpy().tolist()) == (bool, [True, False])
    assert (mg.tensor([2.0]) * np.bool_(True)).item() == 2


def test_to_takes_no_tensor():
    x, y = mg.tensor([1.0], device="reference"), mg.tensor([1.0], dtype="float64", device="cpu")
    with pytest.raises(
        TypeError, match=r"to: a tensor is no device or dtype; write x.to\(y.device"
    ):
        x.to(y)
    assert x.to(y.device, y.dtype).dtype == np.float64


def test_a_tensor_of_another_process_is_on_this_ones_device():
    for device in ("reference", "cpu"):
        x = mg.tensor([1.0, 2.0], device=device, requires_grad=True)
        y = pickle.loads(pickle.dumps(x))
        assert y.device is x.device
        assert (x + y).numpy().tolist() == [2, 4]
        assert y.requires_grad
    net = mg.nn.Dense(2, 1)
    x = mg.tensor([[1.0, 2.0]])
    assert pickle.loads(pickle.dumps(net))(x).item() == net(x).item()
