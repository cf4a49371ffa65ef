"""Penalties on the slope of a discriminator: their values, gradients, edges and warnings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close

import minigan as mg
from minigan import nn, ops
from minigan.check import check_gradients
from minigan.losses import gradient_penalty, r1_penalty, r2_penalty

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 5, 3))
A, B = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 1))
PENALTIES: dict[str, Any] = {
    "gradient_penalty": gradient_penalty,
    "gradient_penalty, target 0": lambda d, x, y: gradient_penalty(d, x, y, target=0.0),
    "r1_penalty": lambda d, x, y: r1_penalty(d, x),
    "r2_penalty": lambda d, x, y: r2_penalty(d, y),
}


def tensors(device: str, *arrays: np.ndarray) -> list[mg.Tensor]:
    return [mg.tensor(a, device=device) for a in arrays]


@DEVICES
@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_of_order_1_and_2_by_the_critics_weights(device: str, name: str) -> None:
    def f(a: mg.Tensor, b: mg.Tensor) -> mg.Tensor:
        mg.manual_seed(0)  # the same alpha each time
        x, y = tensors(device, X, Y)
        return PENALTIES[name](lambda z: ops.tanh(z @ a) @ b, x, y)

    check_gradients(f, [A, B], device=device, name=name)


@DEVICES
def test_by_hand(device: str) -> None:
    """D(x) = w x has the slope |w| everywhere."""
    x, y, w = tensors(device, X, Y, np.array([[3.0], [0.0], [4.0]]))
    found = [PENALTIES[name](lambda z: z @ w, x, y).item() for name in PENALTIES]
    assert found == pytest.approx([16, 25, 25, 25])


def test_alpha_is_one_uniform_number_for_each_sample() -> None:
    """D(x) = |x|^2 / 2 has the slope |x|: the norms tell where on the way each x was."""
    n = 4000
    real, fake = mg.tensor(np.zeros((n, 1, 2))), mg.tensor(np.full((n, 1, 2), 3.0))
    seen: list[np.ndarray] = []

    def critic(x: mg.Tensor) -> mg.Tensor:
        seen.append(x.numpy())
        return ops.sum(x * x, axis=(1, 2)) * 0.5

    value = gradient_penalty(critic, real, fake, target=0.0).item()
    alpha = seen[0][:, 0, 0] / 3
    assert np.array_equal(seen[0][:, 0, 0], seen[0][:, 0, 1])
    assert 0 <= alpha.min() < 0.01
    assert 0.99 < alpha.max() < 1
    assert alpha.mean() == pytest.approx(0.5, abs=0.02)
    assert alpha.std() == pytest.approx(np.sqrt(1 / 12), abs=0.02)
    assert value == pytest.approx(float((2 * (3 * alpha) ** 2).mean()))


@DEVICES
def test_a_critic_that_is_flat_has_a_penalty_and_finite_gradients(device: str) -> None:
    x, y, b = tensors(device, X, Y, B)
    a = mg.tensor(np.zeros((3, 4)), device=device, requires_grad=True)
    penalty = gradient_penalty(lambda z: ops.tanh(z @ a) @ b, x, y)
    assert penalty.item() == 1
    (first,) = mg.grad(penalty, [a], create_graph=True)
    assert np.isfinite(first.numpy()).all()
    (second,) = mg.grad(ops.sum(first), [a], allow_unused=True)
    assert second is None or np.isfinite(second.numpy()).all()


def test_neither_samples_nor_streams_of_others_are_touched() -> None:
    x, y = mg.tensor(X, requires_grad=True), mg.tensor(Y)
    mg.manual_seed(3)
    before = mg.random.normal((2,)).numpy()
    mg.manual_seed(3)
    b = mg.tensor(B, requires_grad=True)
    a = mg.tensor(A)
    penalty = gradient_penalty(lambda z: ops.tanh(z @ a) @ b, x, y)
    assert np.array_equal(mg.random.normal((2,)).numpy(), before)
    assert mg.grad(penalty, [x], allow_unused=True) == (None,)
    with pytest.raises(ValueError, match=r"real samples \(5, 3\) and fake ones \(4, 3\)"):
        gradient_penalty(lambda z: z, x, y[:4])


def test_captured_steps_draw_anew() -> None:
    a, b, x, y = tensors("cpu", A, B, X, Y)
    step = mg.capture(lambda: gradient_penalty(lambda z: ops.tanh(z @ a) @ b, x, y))
    mg.manual_seed(0)
    eager = [gradient_penalty(lambda z: ops.tanh(z @ a) @ b, x, y).item() for _ in range(3)]
    mg.manual_seed(0)
    assert [step().item() for _ in range(3)] == eager
    assert len(set(eager)) == 3


@pytest.mark.parametrize("name", PENALTIES)
def test_batch_norm_in_the_critic_is_warned_of(name: str) -> None:
    x, y = mg.tensor(X, dtype="float32"), mg.tensor(Y, dtype="float32")
    layers = [nn.Dense(3, 4), nn.BatchNorm1d(4), nn.Dense(4, 1)]
    critic = nn.Sequential(*layers)
    with pytest.warns(UserWarning, match="a sample's output depends on the whole batch") as told:
        PENALTIES[name](critic, x, y)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PENALTIES[name](critic.eval(), x, y)
        PENALTIES[name](nn.Sequential(layers[0], nn.LayerNorm(4), layers[2]), x, y)


def test_the_same_as_pytorchs() -> None:
    """Value, first and second derivatives to 1e-10, with the same alpha."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from torch_helpers import derivatives, torch_derivatives

    mg.manual_seed(0)
    alpha = torch.tensor(mg.random.uniform((5, 1), dtype="float64", stream="penalty").numpy())

    def ours(a: Any, b: Any) -> Any:
        mg.manual_seed(0)
        return gradient_penalty(lambda z: ops.tanh(z @ a) @ b, *tensors("cpu", X, Y))

    def theirs(a: Any, b: Any) -> Any:
        x, y = torch.tensor(X), torch.tensor(Y)
        between = (x + alpha * (y - x)).requires_grad_()
        out = (torch.tanh(between @ a) @ b).sum()
        (gradient,) = torch.autograd.grad(out, [between], create_graph=True)
        return ((gradient.norm(dim=1) - 1) ** 2).mean()

    pairs = zip(derivatives(ours, [A, B], "cpu"), torch_derivatives(theirs, [A, B]), strict=True)
    for y, want in pairs:
        assert_close(y, want, 1e-10)
