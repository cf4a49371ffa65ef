"""The graph and `grad`: what it computes, how deep it goes, and what it must not keep."""

import contextlib
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
from helpers import DEVICES, leaf, values

import minigan as mg
from minigan import ops
from minigan.engine.device import Device, get_device
from minigan.engine.op import Op
from minigan.engine.update import Update

MakeOp = Callable[..., Op]


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
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
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
        with contextlib.suppress(ValueError):
            mg.grad(y, [x])
        return [weakref.ref(t) for t in (x, y, gx, penalty, ggx)]

    step()
    gc.collect()
    gc.disable()
    try:
        assert [ref() for ref in step()] == [None] * 5
        alive = sum(type(o) is mg.Tensor for o in gc.get_objects())
        for _ in range(3):
            step()
        assert sum(type(o) is mg.Tensor for o in gc.get_objects()) == alive
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
    flags = []

    def other() -> None:
        inside.wait(10)
        flags.append((x * x).requires_grad)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with mg.no_grad():
        inside.set()
        assert done.wait(10)
        flags.append((x * x).requires_grad)
    thread.join(10)
    assert flags == [True, False]


def test_recording_is_restored_after_an_error(make_op: MakeOp) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError

    x = leaf(1)
    y = make_op("fails", lambda x: x * 1, (fails,))(x)
    with pytest.raises(RuntimeError):
        mg.grad(y, [x])
    assert (x * x).requires_grad


# -------------------------------------------------------------------------------------- prepare
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
    update = Update("test_update", lambda xs, y, z: xs[0].__iadd__(y), "[f] f f", writes=(0, 2))
    of_lists = Update("test_lists", lambda xs, ys: 1 / 0, "[f] [f]", writes=(0, 1))
    try:
        update([a, b], c, c)
        assert (a.version, b.version, c.version) == (1, 1, 1)
        assert values(a) == [[4]]
        of_lists([], [])  # nothing to change
    finally:
        del Update.registry["test_update"], Update.registry["test_lists"]
    with pytest.raises(ValueError, match="an update named 'adam' exists"):
        Update("adam", lambda x: None, "x")


def test_an_update_on_the_device_it_is_given() -> None:
    assert get_device("reference") is leaf(1).device


def test_integers_have_no_gradient():
    for elements in ([1, 2], [True, False]):
        x = mg.tensor(elements)
        x.requires_grad = True
        loss = (x.to("float32") * 0.5).sum()
        with pytest.raises(TypeError, match=r"grad: input 0 is (int64|bool); float32 and float64"):
            mg.grad(loss, [x])
