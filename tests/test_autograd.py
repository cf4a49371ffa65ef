"""The graph and `grad`: what it computes, what it must refuse loudly, and what it must not keep."""

import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan import ops
from minigan.device import Device, get_device
from minigan.op import Op, Update

MakeOp = Callable[..., Op]


def leaf(*values: float, device: str = "reference", dtype: str = "float64") -> mg.Tensor:
    return mg.tensor(list(values), dtype=dtype, device=device, requires_grad=True)


def values(*tensors: mg.Tensor | None) -> list[list[float]]:
    return [x.numpy().tolist() for x in tensors if x is not None]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each op runs on the reference device."""
    counted: Counter[str] = Counter()
    run = Device.run

    def counting(self: Device, op: Op, *arguments: Any) -> Any:
        counted[op.name] += 1
        return run(self, op, *arguments)

    monkeypatch.setattr(Device, "run", counting)
    return counted


# ------------------------------------------------------------------------------ what it computes
@DEVICES
def test_gradients_of_every_input_in_their_order(device: str) -> None:
    a, b = leaf(1, 2, device=device), leaf(5, 7, device=device)
    y = (a * b * b).sum()
    assert values(*mg.grad(y, [b, a])) == [[10, 28], [25, 49]]
    (ga,) = mg.grad(y, a)
    assert values(ga) == [[25, 49]]
    assert not ga.requires_grad


def test_paths_that_meet_are_added() -> None:
    x = leaf(3)
    y = x * x
    assert values(*mg.grad(y * y + x + x, [x])) == [[4 * 27 + 2]]
    assert values(*mg.grad(x + x, [x, x])) == [[2], [2]]


def test_grad_output_weighs_the_output() -> None:
    x = leaf(1, 2)
    assert values(*mg.grad(x * x, [x], mg.tensor([10.0, 100.0], "float64", "reference"))) == [
        [20, 400]
    ]


def test_gradient_with_respect_to_what_was_computed() -> None:
    """Inputs need not be leaves; the path may go on beyond them, or through another input."""
    x = leaf(2)
    y = x * x
    z = y * y * y
    assert values(*mg.grad(z, [y])) == [[3 * 16]]
    assert values(*mg.grad(z, [x, y])) == [[6 * 32], [48]]
    assert values(*mg.grad(z, [z])) == [[1]]


@DEVICES
def test_third_derivative_of_tanh(device: str) -> None:
    x = leaf(-1.5, -0.1, 0.0, 0.3, 2.0, device=device)
    y: Any = ops.tanh(x)
    for _ in range(3):
        (y,) = mg.grad(y.sum(), [x], create_graph=True)
    t = np.tanh(x.numpy())
    assert np.allclose(y.numpy(), (1 - t**2) * (6 * t**2 - 2), rtol=1e-12, atol=1e-12)


def test_derivative_of_a_gradients_cotangent() -> None:
    """grad is linear in grad_output, and create_graph records that too (forward mode by two)."""
    x, v = leaf(0.5, 2.0), leaf(1, 1)
    (gx,) = mg.grad(ops.exp(x), [x], v, create_graph=True)
    (jv,) = mg.grad(gx, [v], mg.tensor([1.0, 3.0], "float64", "reference"))
    assert np.allclose(jv.numpy(), np.exp([0.5, 2.0]) * [1, 3])


def test_numbers_travel_by_value() -> None:
    x = leaf(4)
    y = 3 - 2 * x / 8
    assert values(y, *mg.grad(y, [x])) == [[2], [-0.25]]


# --------------------------------------------------------------------------------- loud errors
def test_an_input_that_the_output_does_not_depend_on() -> None:
    x, other = leaf(1), mg.tensor(np.ones((2, 3)), device="reference", requires_grad=True)
    with pytest.raises(ValueError, match=r"does not depend on input 1 \(shape \(2, 3\)\).*allow_u"):
        mg.grad(x * x, [x, other])
    gx, none = mg.grad(x * x, [x, other], allow_unused=True)
    assert none is None
    assert values(gx) == [[2]]


@pytest.mark.parametrize("cut", [lambda x: x.detach(), lambda x: mg.tensor(x)])
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
    with pytest.raises(ValueError, match=r"input 0 of op 'multiply' \(shape \(2,\)\).*version 0, n"):
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
    ("given", "error"),
    [
        (lambda: mg.tensor([1.0], "float64", "reference"), r"float64\(1,\) on 'reference', but"),
        (lambda: mg.tensor([1.0, 2.0], "float32", "reference"), r"float32\(2,\) on 'reference'"),
        (lambda: mg.tensor([1.0, 2.0], "float64", "cpu"), r"float64\(2,\) on 'cpu'"),
    ],
)
def test_a_grad_output_that_does_not_fit(given: Callable[[], mg.Tensor], error: str) -> None:
    x = leaf(1, 2)
    with pytest.raises(ValueError, match=error):
        mg.grad(x * x, [x], given())


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
        (lambda x: ops.gather(x, np.zeros(1, int)), "gather: the indices are ndarray"),
        (lambda x: mg.tensor([1], device="reference") * 0.5, "int64 tensor does not mix with a flo"),
    ],
)
def test_kinds_and_dtypes_do_not_mix(call: Callable[[mg.Tensor], Any], error: str) -> None:
    with pytest.raises(TypeError, match=error):
        call(leaf(1))


def test_devices_do_not_mix() -> None:
    with pytest.raises(ValueError, match="add: argument 1 is on device 'cpu', the first on 'refe"):
        leaf(1) + leaf(1, device="cpu")
    w = leaf(1)
    with pytest.raises(ValueError, match="sgd: tensors lie on 'reference' and on 'cpu'"):
        mg.optim.SGD([w], lr=0.1).step([leaf(1, device="cpu")])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: x + mg.tensor(np.ones((3, 2)), device="reference"), "add: shapes.*do not broadcast"),
        (lambda x: x.reshape(4, -1), "reshape"),
        (lambda x: x.transpose(0, 0), "transpose"),
        (lambda x: ops.broadcast_to(x, (3, 2)), "broadcast_to"),
        (lambda x: x.sum(axis=2), "sum: axis 2"),
        (lambda x: x.sum(axis=(0, -2)), "sum: axis .* twice"),
        (lambda x: ops.max(x[:0]), "max: shape"),
        (lambda x: x @ x, "matmul: shapes"),
        (lambda x: ops.dense(x, x, x), "dense: input"),
        (lambda x: ops.clip(x, 1.0, 0.0), "clip: low"),
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
    with pytest.raises(TypeError, match="slice: an index of type Tensor"):
        x[x > 0]


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


# ------------------------------------------------------------------------------- depth and memory
@DEVICES
def test_a_chain_of_20000_ops(device: str) -> None:
    x = leaf(1, device=device)
    y = x
    for _ in range(20_000):
        y = y * 1.0
    assert values(*mg.grad(y, [x])) == [[1]]


def test_200_stacked_diamonds(launches: Counter[str]) -> None:
    """2^200 paths, 400 VJPs: each tensor is visited once."""
    x = leaf(1)
    y = x
    for _ in range(200):
        y = ops.exp(y * 0.0) + y * 0.5 + y * 0.5
    launches.clear()
    assert values(*mg.grad(y, [x])) == [[1]]
    assert sum(launches.values()) < 200 * 10


def test_a_chain_of_200000_ops_is_freed() -> None:
    """In a process of its own: a recursion would overflow the C stack and end it."""
    script = """
        import minigan as mg
        x = mg.tensor([1.0], device="reference", requires_grad=True)
        y = x
        for _ in range(200_000):
            y = -y
        del y
        print("freed")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "freed\n"), done.stderr


def test_graphs_are_freed_without_the_garbage_collector() -> None:
    """No reference cycle holds a graph, of the first or the second order, or a failed one."""

    def step() -> list[weakref.ref[mg.Tensor]]:
        x = leaf(1, 2)
        y = ops.tanh(x * x)
        (gx,) = mg.grad(y.sum(), [x], create_graph=True)
        penalty = (gx * gx).sum()
        (ggx,) = mg.grad(penalty, [x])
        try:
            mg.grad(y, [x])
        except ValueError:
            pass
        return [weakref.ref(t) for t in (x, y, gx, penalty, ggx)]

    step()
    gc.collect()
    gc.disable()
    try:
        assert [ref() for ref in step()] == [None] * 5
        alive = sum(isinstance(o, mg.Tensor) for o in gc.get_objects())
        for _ in range(3):
            step()
        assert sum(isinstance(o, mg.Tensor) for o in gc.get_objects()) == alive
    finally:
        gc.enable()


def test_no_grad_leaves_nothing_behind() -> None:
    x = leaf(1)
    with mg.no_grad():
        y = x * x
    assert (y.requires_grad, y.op, y.inputs) == (False, None, ())
    assert (x * x).requires_grad


def test_no_grad_holds_for_one_thread() -> None:
    x = leaf(1)
    inside, done = threading.Event(), threading.Event()
    seen = []

    def other() -> None:
        inside.wait(10)
        seen.append((x * x).requires_grad)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with mg.no_grad():
        inside.set()
        assert done.wait(10)
        seen.append((x * x).requires_grad)
    thread.join(10)
    assert seen == [True, False]


def test_recording_is_restored_after_an_error(make_op: MakeOp) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError

    x = leaf(1)
    y = make_op("fails", lambda x: x * 1, (fails,))(x)
    with pytest.raises(RuntimeError):
        mg.grad(y, [x])
    assert (x * x).requires_grad


# ----------------------------------------------------------------------------- orders and prepare
def _once(make_op: MakeOp) -> Op:
    return make_op(
        "once", lambda x: x * x * x, (lambda g, y, x: g * x * x * 3.0,), max_order=1
    )


def test_max_order_is_kept(make_op: MakeOp) -> None:
    op, x = _once(make_op), leaf(2)
    y = op(x * 1.0) + x
    (gx,) = mg.grad(y, [x], create_graph=True)
    assert values(gx) == [[13]]
    with pytest.raises(ValueError, match="cannot be differentiated this often"):
        mg.grad(gx, [x])
    with pytest.raises(ValueError, match="cannot be differentiated this often"):
        mg.grad((gx * x).sum(), [x])


def test_max_order_of_one_op_does_not_bind_another_graph(make_op: MakeOp) -> None:
    """The cotangent given from outside stays as it was."""
    op = make_op("once", lambda x: x * 1, (lambda g, y, x: g,), max_order=1)
    x, g = leaf(2), leaf(1)
    mg.grad(op(x), [x], g, create_graph=True)
    assert values(*mg.grad(g * g, [g])) == [[2]]


def test_prepare_runs_once_per_backward(make_op: MakeOp, launches: Counter[str]) -> None:
    prepared = []

    def prepare(g: mg.Tensor, y: mg.Tensor, a: mg.Tensor, b: mg.Tensor) -> mg.Tensor:
        prepared.append(1)
        return ops.exp(g)

    both = (lambda s, y, a, b: s * b, lambda s, y, a, b: s * a)
    op = make_op("prepared", np.multiply, both, prepare=prepare)
    a, b = leaf(2), leaf(3)
    ga, gb = mg.grad(op(a, b), [a, b])
    assert len(prepared) == launches["exp"] == 1
    assert np.allclose(values(ga, gb), [[3 * np.e], [2 * np.e]])


def test_what_nobody_asked_for_is_not_computed(launches: Counter[str]) -> None:
    x, w = (mg.tensor(np.ones((3, 3)), device="reference", requires_grad=True) for _ in range(2))
    side = ops.exp(w)  # on no path to x
    y = (ops.tanh(x @ w) + side).sum()
    launches.clear()
    mg.grad(y, [x])
    assert launches["matmul"] == 1
    assert launches["tanh_grad"] == 1
    assert launches["multiply"] == launches["exp"] == 0
    launches.clear()
    mg.grad(y, [x, w])
    assert launches["matmul"] == 2
    assert launches["multiply"] == 1


def test_a_generators_gradient_skips_the_discriminators(launches: Counter[str]) -> None:
    g, d = (mg.nn.Sequential(mg.nn.Dense(3, 3, device="reference"), mg.nn.Tanh()) for _ in range(2))
    loss = d(g(mg.tensor(np.ones((2, 3), "f"), device="reference"))).mean()
    launches.clear()
    mg.grad(loss, g.parameters())
    assert launches["matmul"] == 2  # d's input and g's weight
    assert launches["sum"] == 1  # g's bias alone


# --------------------------------------------------------------------------------------- updates
def test_an_update_raises_the_versions_of_what_it_writes() -> None:
    a, b, c = leaf(1), leaf(2), leaf(3)
    update = Update("test_update", lambda xs, y, z: xs[0].__iadd__(y), writes=(0, 2))
    try:
        update([a, b], c, c)
        assert (a.version, b.version, c.version) == (1, 1, 1)
        assert values(a) == [[4]]
        update([], [], [])  # nothing to change
    finally:
        del Update.registry["test_update"]
    with pytest.raises(ValueError, match="an update named 'adam' exists"):
        Update("adam", lambda x: None)


def test_an_update_on_the_device_it_is_given() -> None:
    assert get_device("reference") is leaf(1).device
