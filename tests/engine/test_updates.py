"""What updates refuse: arrays that do not agree as their signatures declare."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan import nn, optim
from minigan.engine.assign import assign
from minigan.nn.spectral import power_iteration
from minigan.ops.norm import running_moments
from minigan.ops.random import advance, reseed
from minigan.optim.optimizers import adam, rmsprop, sgd

OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "Adam": optim.Adam,
    "AdamW": optim.AdamW,
    "RMSprop": optim.RMSprop,
    "SGD": lambda parameters: optim.SGD(parameters, momentum=0.9),
}


def net_of(device: str) -> nn.Module:
    with mg.use_device(device):
        return nn.Sequential(nn.Dense(3, 5), nn.Tanh(), nn.Dense(5, 2))


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@DEVICES
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_of_a_net_that_was_converted_later_is_refused(
    name: str, device: str, captured: bool
) -> None:
    net = net_of(device)
    optimizer = OPTIMIZERS[name](net.parameters())

    def step(x: mg.Tensor) -> mg.Tensor:
        loss = net(x).mean()
        optimizer.step(mg.grad(loss, net.parameters()))
        return loss.detach()

    run = mg.capture(step) if captured else step
    x = np.ones((4, 3))
    for _ in range(2):
        run(mg.tensor(x, dtype="float32", device=device))
    net.to(dtype="float64")
    before, state = net.state_dict(), optimizer.state_dict()
    update, moment = {"SGD": ("sgd", "means"), "RMSprop": ("rmsprop", "squares")}.get(
        name, ("adam", "means")
    )
    for _ in range(2):
        with pytest.raises(
            TypeError, match=rf"^{update}: {moment}\[0\] is float32, the tensors before it float64;"
        ):
            run(mg.tensor(x, dtype="float64", device=device))
    for old, new in ((before, net.state_dict()), (state, optimizer.state_dict())):
        assert all(np.array_equal(old[key], new[key]) for key in old)
    net.to(dtype="float32")
    run(mg.tensor(x, dtype="float32", device=device))


def test_a_refused_step_leaves_the_heap_whole() -> None:
    """In a process of its own: without the check it ends in a signal, sooner or later."""
    program = """
import minigan as mg
net = mg.nn.Sequential(*(mg.nn.Dense(37, 37) for _ in range(8)))
optimizer = mg.optim.Adam(net.parameters())
net.to(dtype="float64")
x = mg.tensor([[1.0] * 37], dtype="float64")
for _ in range(20):
    try:
        optimizer.step(mg.grad(net(x).mean(), net.parameters()))
    except TypeError:
        print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["refused"] * 20), done.stderr


# ------------------------------------------------------------------------------ every declaration
def filled(*shape: int, dtype: str = "float32") -> Callable[[str], mg.Tensor]:
    return lambda device: mg.tensor(np.ones(shape), dtype=dtype, device=device)


P, G, LARGE, WIDE = filled(2, 3), filled(2, 3), filled(3, 2), filled(2, 3, dtype="float64")
SGD = {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
RMS = {"alpha": 0.9, "eps": 1e-8, "weight_decay": 0.0}
ADAM = {"beta1": 0.9, "beta2": 0.9, "eps": 1e-8, "weight_decay": 0.0, "decoupled": False}
ONE, THREE = filled(1, dtype="float64"), filled(3, dtype="float64")
INTEGER, ROW = filled(1, dtype="int64"), filled(3)
IMAGES = filled(2, 3, 4)
REFUSED: dict[str, tuple[Any, list[Any], dict[str, Any], type[Exception], str]] = {
    "a shape": (
        adam, [[P, P], [P, P], [P, LARGE], [P, P], THREE], ADAM, ValueError,
        r"adam: means\[1\] has shape \(3, 2\), parameters\[1\] \(2, 3\); elements of parameters,"
        r" gradients, means and squares agree in shape",
    ),
    "a length": (
        rmsprop, [[P, P], [P, P], [P], ONE], RMS, ValueError,
        r"rmsprop: squares has length 1, parameters 2; parameters, gradients and squares are lists"
        r" of one length",
    ),
    "no moments": (
        adam, [[P], [P], [], [P], THREE], ADAM, ValueError, "adam: means is an empty list",
    ),
    "a gradient's dtype": (
        sgd, [[P], [WIDE], [], ONE], SGD, TypeError,
        r"sgd: gradients\[0\] is float64, the tensors before it float32;",
    ),
    "integer parameters": (
        sgd, [[INTEGER], [INTEGER], [], ONE], SGD, TypeError,
        r"sgd: parameters\[0\] is int64, not a float32 or float64 tensor",
    ),
    "a short state": (
        adam, [[P], [P], [P], [P], ONE], ADAM, ValueError,
        r"adam: state has shape \(1,\); accepted is \(3,\)",
    ),
    "a state in float32": (
        rmsprop, [[P], [P], [P], filled(1)], RMS, TypeError,
        "rmsprop: state is float32, not float64",
    ),
    "a tensor for a list": (
        sgd, [P, [P], [], ONE], SGD, TypeError,
        "sgd: parameters is a tensor, not a list, each element a float32 or float64 tensor",
    ),
    "an array": (
        sgd, [[P], [lambda _: np.ones((2, 3), "f")], [], ONE], SGD, TypeError,
        r"sgd: element 0 of argument 1 is ndarray, not a tensor",
    ),
    "an argument too few": (
        sgd, [[P], [P], ONE], SGD, TypeError,
        r"sgd: takes 4 arguments \(parameters, gradients, means, state\), not 3",
    ),
    "channels": (
        running_moments, [ROW, filled(2), IMAGES], {"momentum": 0.1}, ValueError,
        r"running_moments: variances has shape \(2,\); accepted is \(c,\) with c = 3",
    ),
    "channels of the input": (
        running_moments, [ROW, ROW, filled(2, 4, 3)], {"momentum": 0.1}, ValueError,
        r"running_moments: x has shape \(2, 4, 3\); accepted is \(n, c, k\) with n = 2, c = 3",
    ),
    "a variance in float64": (
        running_moments, [ROW, filled(3, dtype="float64"), IMAGES], {"momentum": 0.1}, TypeError,
        "running_moments: variances is float64, the tensors before it float32",
    ),
    "a singular vector": (
        power_iteration, [ROW, ROW, P], {"steps": 1, "eps": 1e-12}, ValueError,
        r"power_iteration: w has shape \(2, 3\); accepted is \(m, n\) with m = 3",
    ),
    "a position": (
        advance, [filled(2, dtype="int64")], {"blocks": 1}, ValueError,
        r"advance: position has shape \(2,\); accepted is \(1,\)",
    ),
    "a seed": (
        reseed, [INTEGER, filled(1)], {"to_position": 0, "to_seed": 0}, TypeError,
        "reseed: seed is float32, not int64",
    ),
    "a value of another dtype": (
        assign, [P, WIDE], {}, TypeError,
        "assign: value is float64, the tensors before it float32; target and value share one dtype",
    ),
}  # fmt: skip


@DEVICES
@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_do_not_agree(case: str, device: str) -> None:
    update, makers, attributes, error, message = REFUSED[case]
    arguments = [[f(device) for f in x] if isinstance(x, list) else x(device) for x in makers]
    flat = [x for a in arguments for x in (a if isinstance(a, list) else [a])]
    with pytest.raises(error, match=f"^{message}"):
        update(*arguments, **attributes)
    for x in flat:
        if isinstance(x, mg.Tensor):
            assert x.version == 0
            assert (x.numpy() == 1).all()


def test_a_signature_that_declares_nothing() -> None:
    with pytest.raises(ValueError, match=r"'\(f' in the signature"):
        mg.Update("bad_", lambda x: None, "(f")


# ---------------------------------------------------------------------- arrays that a user assigned
VALUES = np.arange(12.0).reshape(3, 4)


def with_gaps(x: np.ndarray) -> np.ndarray:
    memory = np.zeros([2 * n for n in x.shape])
    memory[::2, ::2] = x
    return memory[::2, ::2]


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x: np.ndarray) -> np.ndarray:
    y = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "with gaps": with_gaps,
    "in Fortran's order": lambda x: np.array(x, order="F"),
    "a transposed view": lambda x: x.T.copy().T,
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
}
NOT_WRITABLE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "read-only": read_only,
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "overlapping": lambda x: np.lib.stride_tricks.as_strided(np.zeros(30), x.shape, (8, 8)),
    "unaligned": unaligned,
    "of bytes": lambda x: np.zeros((3, 64), np.uint8)[:, :32].view(np.float64),
}


def step_in_place(name: str, w: mg.Tensor) -> np.ndarray:
    """Change w in place by two optimizer steps or an assignment, and return its values."""
    if name == "assign":
        assign(w, mg.tensor(VALUES * 2, device=w.device))
    else:
        optimizer = OPTIMIZERS[name]([w])
        for _ in range(2):
            optimizer.step([mg.tensor(np.ones_like(VALUES), device=w.device)])
    return w.numpy()


@pytest.mark.parametrize("name", [*OPTIMIZERS, "assign"])
@pytest.mark.parametrize("device", ["reference", "cpu", "cuda-emulator"])
def test_an_array_of_any_layout_is_changed_and_others_are_refused(device: str, name: str) -> None:
    def make() -> mg.Tensor:
        return mg.tensor(VALUES, device=device, requires_grad=True)

    expected = step_in_place(name, make())
    for layout in LAYOUTS.values():
        w = make()
        w.array = layout(VALUES)
        np.testing.assert_array_equal(step_in_place(name, w), expected)
    for layout_name, layout in NOT_WRITABLE.items():
        if layout_name == "of bytes" and device != "cpu":  # cpu kernels alone need flat memory
            continue
        array = layout(VALUES)
        w, before = make(), array.copy()
        w.array = array
        with pytest.raises(ValueError, match="cannot be changed in place: its array"):
            step_in_place(name, w)
        np.testing.assert_array_equal(array, before)


@DEVICES
def test_a_replaced_state_is_noticed_in_a_captured_step(device: str) -> None:
    with mg.use_device(device):
        w, g = mg.tensor([1.0], requires_grad=True), mg.tensor([1.0])
        optimizer = optim.SGD([w], 0.5)
        step = mg.capture(lambda: optimizer.step([g]))
        step()
        optimizer.state = mg.tensor(np.array([0.25]))
        step()
        assert w.item() == 0.25
        optimizer.state.array = optimizer.state.to(dtype="float32").array
        with pytest.raises(TypeError, match="sgd: state is float32, not float64"):
            step()
