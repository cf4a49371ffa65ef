"""What goes wrong is said at once, by name: stale graphs, unused inputs, kinds that clash."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, leaf, values

import minigan as mg
from minigan import ops
from minigan.engine.op import Op

MakeOp = Callable[..., Op]


# --------------------------------------------------------------------------------- stale or cut
def test_an_input_that_the_output_does_not_depend_on() -> None:
    x, other = leaf(1), mg.tensor(np.ones((2, 3)), device="reference", requires_grad=True)
    with pytest.raises(ValueError, match=r"does not depend on input 1 \(shape \(2, 3\)\).*allow_u"):
        mg.grad(x * x, [x, other])
    gx, none = mg.grad(x * x, [x, other], allow_unused=True)
    assert none is None
    assert values(gx) == [[2]]


@pytest.mark.parametrize("cut", [lambda x: x.detach(), mg.tensor])
def test_what_was_cut_off_is_not_reached(cut: Callable[[mg.Tensor], mg.Tensor]) -> None:
    x = leaf(2)
    with pytest.raises(ValueError, match="does not depend on input 0"):
        mg.grad(cut(x * x) * 3, [x])


def test_no_gradient_through_comparisons() -> None:
    x = leaf(2)
    mask = x > 1
    assert not mask.requires_grad
    assert not ops.sign(x).requires_grad


def test_a_graph_is_stale_after_an_optimizer_step() -> None:
    w = leaf(1, 2)
    loss = (w * w).sum()
    mg.optim.SGD([w], lr=0.1).step(mg.grad(loss, [w]))
    with pytest.raises(
        ValueError, match=r"input 0 of op 'multiply' \(shape \(2,\)\).*version 0, n"
    ):
        mg.grad(loss, [w])
    assert values(*mg.grad((w * w).sum(), [w])) == [[1.6, 3.2]]


def test_a_stale_second_input_is_named() -> None:
    x, w = leaf(1, 2), leaf(3, 4)
    y = ops.divide(x, w).sum()
    mg.optim.SGD([w], lr=0.1).step([w.detach()])
    with pytest.raises(ValueError, match="input 1 of op 'divide'"):
        mg.grad(y, [x])


def test_an_output_that_was_changed_is_stale(make_op: MakeOp) -> None:
    x = leaf(1, 2)
    y = ops.exp(x)
    mg.optim.assign(y, mg.tensor([0.0, 0.0], "float64", "reference"))
    with pytest.raises(ValueError, match="the output of op 'exp'"):
        mg.grad(y.sum(), [x])


@pytest.mark.parametrize(
    "view", [lambda x: x.reshape(2, 1), lambda x: x.T, lambda x: x[1:], lambda x: x.detach()]
)
def test_views_share_their_version(view: Callable[[mg.Tensor], mg.Tensor]) -> None:
    """A change of the parameter is seen by what was recorded from a view of it."""
    w = leaf(1, 2)
    v = view(w)
    x = leaf(1)
    loss = (v * x).sum()
    mg.optim.SGD([w], lr=0.1).step([mg.tensor([1.0, 1.0], "float64", "reference")])
    assert v.version == w.version == 1
    with pytest.raises(ValueError, match="input 0 of op 'multiply'"):
        mg.grad(loss, [x])


def test_load_state_dict_makes_graphs_stale() -> None:
    layer = mg.nn.Dense(2, 1, dtype="float64", device="reference")
    x = mg.tensor([[1.0, 2.0]], "float64", "reference")
    loss = ops.sum(layer(x))
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(ValueError, match="stale"):
        mg.grad(loss, layer.parameters())


def test_an_output_that_is_no_scalar() -> None:
    x = leaf(1, 2)
    with pytest.raises(ValueError, match=r"output has shape \(2,\); give grad_output"):
        mg.grad(x * x, [x])


@pytest.mark.parametrize(
    ("make_grad_output", "error"),
    [
        (lambda: mg.tensor([1.0], "float64", "reference"), r"float64\(1,\) on 'reference', but"),
        (lambda: mg.tensor([1.0, 2.0], "float32", "reference"), r"float32\(2,\) on 'reference'"),
        (lambda: mg.tensor([1.0, 2.0], "float64", "cpu"), r"float64\(2,\) on 'cpu'"),
    ],
)
def test_a_grad_output_that_does_not_fit(
    make_grad_output: Callable[[], mg.Tensor], error: str
) -> None:
    x = leaf(1, 2)
    with pytest.raises(ValueError, match=error):
        mg.grad(x * x, [x], make_grad_output())


def test_arguments_of_grad_that_are_no_tensors() -> None:
    x: Any = leaf(1)
    with pytest.raises(TypeError, match="the output is float"):
        mg.grad(1.0, [x])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="input 1 is ndarray"):
        mg.grad(x * x, [x, np.ones(1)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="grad_output is ndarray"):
        mg.grad(x * x, [x], np.ones(1))  # type: ignore[arg-type]


def test_an_input_that_requires_no_gradient() -> None:
    x, data = leaf(1), mg.tensor([1.0], "float64", "reference")
    with pytest.raises(ValueError, match=r"input 0 \(shape \(1,\), float64\) does not require"):
        mg.grad(x * data, [data])


def test_integers_take_no_gradient() -> None:
    for dtype in ("int64", "bool"):
        with pytest.raises(TypeError, match=f"{dtype} cannot require gradients"):
            mg.tensor([1], dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: x * mg.tensor([1.0], "float32", "reference"), "multiply: argument 1 is float32"),
        (lambda x: x + mg.tensor([1], device="reference"), "add: argument 1 is int64"),
        (lambda x: x + np.ones(1), "add: argument 1 is ndarray"),
        (lambda x: np.ones(1) * x, "multiply: argument 0 is ndarray"),
        (lambda x: ops.tanh([1.0]), "tanh: argument 0 is list"),
        (lambda x: ops.tanh(np.ones(1)), "tanh: argument 0 is ndarray"),
        (lambda x: ops.add(1.0, 2.0), "add: no argument is a tensor"),
        (lambda x: ops.exp(mg.tensor([1], device="reference")), "exp: argument 0 is int64"),
        (lambda x: ops.where(x, x, x), "where: argument 0 is float64, not a bool tensor"),
        (lambda x: ops.gather(x, x), "gather: the indices are float64, not an integer tensor"),
        (lambda x: ops.gather(x, np.zeros(1, int)), "gather: argument 1 is ndarray, not a tensor"),
        (lambda x: np.ones((1, 1)) @ x, "matmul: argument 0 is ndarray"),
        (lambda x: ops.add(x, x, x), "add: takes inputs: 2; not inputs: 3"),
        (lambda x: ops.add(x, x, dtype="float32"), "add: takes inputs: 2; not inputs: 2, dtype="),
        (lambda x: ops.cast(x, "float32"), "cast: takes inputs: 1, dtype="),
        (lambda x: ops.clip(x, x, 1.0), "clip: min is Tensor, not a number"),
        (lambda x: ops.leaky_relu(x, x), "leaky_relu: slope is Tensor, not a number"),
        (lambda x: ops.dropout(x, x), "dropout: p is Tensor, not a number"),
        (lambda x: ops.pad(x, [(0, 1)], x), "pad: value is Tensor, not a number"),
        (lambda x: ops.pad(x, [(0.5, 1)]), "pad: widths"),
        (lambda x: x.reshape(1.0), "reshape: shape .1.0,.; integers are needed"),
        (lambda x: x.transpose(0.0), "transpose: axes .0.0,.; integers are needed"),
        (lambda x: x.sum(axis=0.0), "sum: axis .0.0,.; integers are needed"),
        (ops.concatenate, "concatenate: Tensor is not a list or tuple"),
        (lambda x: ops.concatenate([x, x], 0.0), "concatenate: axis"),
        (
            lambda x: mg.tensor([1], device="reference") * 0.5,
            "multiply: a tensor of int64 does not mix with a float; convert",
        ),
    ],
)
def test_kinds_and_dtypes_do_not_mix(call: Callable[[mg.Tensor], Any], error: str) -> None:
    with pytest.raises(TypeError, match=error):
        call(leaf(1))


INTEGER_IMAGE = np.ones((1, 1, 2, 2), int)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("mean", lambda x: x.mean()),
        ("log_softmax", ops.log_softmax),
        ("dropout", lambda x: ops.dropout(x, 0.5)),
        ("clip", lambda x: ops.clip(x, 0, 1)),
        ("relu", ops.relu),
        ("maximum", lambda x: ops.maximum(x, 0)),
        ("power", lambda x: x**0.5),
        ("divide", lambda x: x / 2),
        ("matmul", lambda x: x[0, 0] @ x[0, 0]),
        ("dense", lambda x: ops.dense(x[0, 0], x[0, 0])),
        ("conv2d", lambda x: ops.conv2d(x, x)),
        ("conv_transpose2d", lambda x: ops.conv_transpose2d(x, x)),
        ("avg_pool2d", lambda x: ops.avg_pool2d(x, 2)),
        ("upsample_nearest", ops.upsample_nearest),
        ("batch_norm", ops.batch_norm),
        ("group_norm", lambda x: ops.group_norm(x, 1)),
        ("layer_norm", ops.layer_norm),
        ("l1_distances", lambda x: ops.l1_distances(x, x)),
        ("cross_entropy", lambda x: mg.nn.functional.cross_entropy(x[0, 0], x[0, 0, 0])),
        ("binary_cross_entropy", lambda x: mg.nn.functional.binary_cross_entropy(x, 1.0)),
        (
            "binary_cross_entropy_with_logits",
            lambda x: mg.nn.functional.binary_cross_entropy_with_logits(x, 1.0),
        ),
    ],
)
def test_integers_are_refused_by_the_function_that_was_called(
    name: str, call: Callable[[mg.Tensor], Any]
) -> None:
    """The message names that function, not an op that it calls."""
    for array in (INTEGER_IMAGE, INTEGER_IMAGE > 0):
        x = mg.tensor(array, device="reference")
        with pytest.raises(TypeError, match=rf"^{name}: .*{x.dtype}"):
            call(x)


@DEVICES
def test_arithmetic_on_bools_is_refused(device: str) -> None:
    x = mg.tensor([True, False], device=device)
    for name, call in {
        "subtract": lambda: x - x,
        "negative": lambda: -x,
        "sign": lambda: ops.sign(x),
    }.items():
        with pytest.raises(TypeError, match=f"^{name}: bool tensors are not accepted; convert"):
            call()
    assert (1 - x).numpy().tolist() == [0, 1]
    assert (x + x).dtype == bool


@DEVICES
def test_clip_with_one_bound(device: str) -> None:
    x = leaf(-2, 0, 2, device=device)
    for low, high, expected, slope in (
        (None, 1.0, [-2, 0, 1], [1, 1, 0]),
        (-1.0, None, [-1, 0, 2], [0, 1, 1]),
    ):
        y = x.clip(low, high)
        assert values(y, *mg.grad(y.sum(), [x])) == [expected, slope]
    with pytest.raises(ValueError, match="clip: min and max are None"):
        ops.clip(x)
    with pytest.raises(ValueError, match="clip: min = nan"):
        ops.clip(x, np.nan, 1.0)


# --------------------------------------------------------------------------- values that do not fit
@pytest.mark.parametrize(
    "bad",
    [
        [2**63],
        [2**64, 1],
        [2**63, -1],
        [-(2**63) - 1],
        np.array([2**63], np.uint64),
        np.array([2**64 - 1, 0], np.uint64),
    ],
)
def test_integers_outside_int64_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"tensor: the value -?[0-9]+ does not fit into int64"):
        mg.tensor(bad)


@DEVICES
def test_numbers_beside_tensors_fit_or_are_refused(device: str) -> None:
    """No number wraps around, as in numpy's `where`, and all devices agree."""
    i, b = mg.tensor([1, -1], device=device), mg.tensor([True, False], device=device)
    x = mg.tensor([1.0, 2.0], device=device)
    for name, call in {
        "add": lambda n: i + n,
        "multiply": lambda n: n * i,
        "equal": lambda n: i == n,
        "greater": lambda n: i > n,
        "where": lambda n: ops.where(b, i, n),
        "subtract": lambda n: b - n,
    }.items():
        for n in (2**63, -(2**63) - 1, np.uint64(2**64 - 1)):
            with pytest.raises(ValueError, match=rf"^{name}: the number -?\d+ does not fit into"):
                call(n)
    assert (x + 2**70).numpy().tolist() == [2.0**70, 2.0**70]
    with pytest.raises(ValueError, match="add: an integer of 1329 bits is too large"):
        x + 10**400
    with pytest.raises(ValueError, match="leaky_relu: slope is too large"):
        ops.leaky_relu(x, 10**400)
    for number in (np.longdouble(2), np.float16(2), np.float64(2), np.int8(2)):
        assert ((x + number).dtype, (x + number).numpy().tolist()) == (np.float32, [3, 4])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, 2.0**63, -1e19])
def test_floats_that_are_no_int64_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"tensor: the value .* does not fit into int64"):
        mg.tensor([1.0, bad], dtype="int64")


def test_numbers_at_the_ends_of_int64() -> None:
    ends = [-(2**63), 2**63 - 1]
    assert mg.tensor(ends).numpy().tolist() == ends
    assert mg.tensor(np.array(ends[1:], np.uint64)).numpy().tolist() == ends[1:]
    assert mg.tensor([-(2.0**63), 2.0**62], dtype="int64").numpy().tolist() == [-(2**63), 2**62]
    assert mg.tensor([-1.7, 1.7], dtype="int64").numpy().tolist() == [-1, 1]  # as PyTorch
    assert mg.tensor(np.array([2**63], np.uint64), "float64").item() == 2.0**63


@pytest.mark.parametrize(
    "call",
    [
        np.exp,
        np.sum,
        np.mean,
        np.asarray,
        np.linalg.norm,
        lambda x: np.concatenate([x, x]),
        lambda x: np.maximum(x, 0),
        lambda x: np.add(np.ones(2), x),
        lambda x: mg.tensor([x, x]),
        lambda x: mg.tensor([[x[0], x[1]]]),
    ],
)
def test_numpy_does_not_lose_a_gradient(call: Callable[[Any], Any]) -> None:
    x = leaf(1, 2)
    with pytest.raises(
        RuntimeError, match=r"minigan.ops .*concatenate.* x.numpy\(\) returns a copy"
    ):
        call(x)
    call(x.detach())


def test_numpy_functions_of_tensors_without_a_gradient() -> None:
    x = mg.tensor([[3.0, 4.0]])
    assert np.sum(x) == np.float32(7)
    assert np.reshape(x, (2, 1)).tolist() == [[3], [4]]
    assert np.concatenate([x, x]).shape == (2, 2)
    assert np.allclose(x, [3, 4])
    assert np.where(x > 3, x, x).tolist() == [[3, 4]]


@DEVICES
def test_probabilities_outside_0_and_1_are_refused_or_give_nan(device: str) -> None:
    for bad in (1.1, -0.1):
        p = leaf(0.5, bad, device=device)
        if device == "cuda":  # The host cannot read p without waiting for the GPU.
            assert np.isnan(mg.nn.functional.binary_cross_entropy(p, 1.0).item())
            continue
        with pytest.raises(ValueError, match=f"binary_cross_entropy: {bad} is not a probability"):
            mg.nn.functional.binary_cross_entropy(p, 1.0)
    for p, loss in ((0.0, 100.0), (1.0, 0.0), (np.nan, np.nan)):
        y = mg.nn.functional.binary_cross_entropy(leaf(p, device=device), 1.0)
        assert np.array_equal(y.item(), loss, equal_nan=True)


def test_devices_do_not_mix() -> None:
    with pytest.raises(ValueError, match="add: argument 1 is on device 'cpu', the first on 'refe"):
        leaf(1) + leaf(1, device="cpu")
    w = leaf(1)
    with pytest.raises(ValueError, match="sgd: tensors lie on 'reference' and on 'cpu'"):
        mg.optim.SGD([w], lr=0.1).step([leaf(1, device="cpu")])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (
            lambda x: x + mg.tensor(np.ones((3, 2)), device="reference"),
            "add: shapes.*do not broadcast",
        ),
        (lambda x: x.reshape(4, -1), "reshape"),
        (lambda x: x.transpose(0, 0), "transpose"),
        (lambda x: ops.broadcast_to(x, (3, 2)), "broadcast_to"),
        (lambda x: x.sum(axis=2), "sum: axis 2"),
        (lambda x: x.sum(axis=(0, -2)), "sum: axis .* twice"),
        (lambda x: ops.max(x[:0]), "max: shape"),
        (lambda x: x @ x, "matmul: shapes"),
        (lambda x: ops.dense(x, x, x), "dense: input"),
        (lambda x: ops.clip(x, 1.0, 0.0), "clip: min"),
        (lambda x: ops.pad(x, [(1, 1)]), "pad: widths"),
        (lambda x: ops.concatenate([x, x.T]), "concatenate: shapes"),
        (lambda x: ops.concatenate([]), "concatenate: there is no"),
        (lambda x: ops.dropout(x, 1.0), "dropout: p"),
        (lambda x: x[0, 0, 0], "slice: 3 indices"),
    ],
)
def test_shapes_that_do_not_fit(call: Callable[[mg.Tensor], Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        call(mg.tensor(np.ones((2, 3)), device="reference"))


def test_indices_outside_raise() -> None:
    x = mg.tensor(np.ones((2, 3)), device="reference")
    for bad in (-1, 2):
        with pytest.raises(IndexError, match=f"gather: index {bad}"):
            ops.gather(x, mg.tensor([[bad]], device="reference"))
    with pytest.raises(IndexError, match="slice: index 3"):
        x[:, 3]
    with pytest.raises(TypeError, match="slice: an index of type Tensor; integers, slices"):
        ops.slice(x, x > 0)


# ------------------------------------------------------------------------ a VJP that is not right
def _wrong(make_op: MakeOp, vjp: Callable[..., Any], **options: Any) -> mg.Tensor:
    op = make_op("wrong", lambda x: x * 1, (vjp,), **options)
    x = leaf(1, 2, 3)
    mg.grad(op(x).sum(), [x])
    return x


@pytest.mark.parametrize(
    ("vjp", "error", "what"),
    [
        (lambda g, y, x: g[:2], ValueError, r"wrong: the VJP of input 0 gave float64\(2,\)"),
        (lambda g, y, x: g.to("float32"), ValueError, r"gave float32\(3,\) .* float64\(3,\)"),
        (lambda g, y, x: g.to("cpu"), ValueError, "on 'cpu', but the input .* on 'reference'"),
        (lambda g, y, x: g.numpy(), TypeError, "wrong: the VJP of input 0 gave ndarray, no tensor"),
        (lambda g, y, x: None, TypeError, "gave NoneType, no tensor"),
    ],
)
def test_a_vjp_that_returns_what_does_not_fit(
    make_op: MakeOp, vjp: Callable[..., Any], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        _wrong(make_op, vjp)


def test_a_broadcasting_op_still_names_a_wrong_dtype(make_op: MakeOp) -> None:
    with pytest.raises(ValueError, match="wrong: the VJP of input 0 gave float32"):
        _wrong(make_op, lambda g, y, x: g.to("float32"), broadcasts=True)
