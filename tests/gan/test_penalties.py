"""Penalties on slopes and on weights: their values, gradients, noise, edges and warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, FLOATS, assert_close

import minigan as mg
from minigan import nn, ops
from minigan.engine.check import check_gradients
from minigan.gan.losses import dragan_penalty, gradient_penalty, r1_penalty, r2_penalty
from minigan.gan.penalties import penalty_input, r1_and_r2_penalties

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 5, 3))
A, B = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 1))


def r1_and_r2(critic: Any, x: mg.Tensor, y: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
    """Compute both from one forward pass of all samples."""
    x, y = penalty_input(x), penalty_input(y)
    return r1_and_r2_penalties(critic(ops.concatenate([x, y])), x, y)


PENALTIES: dict[str, Callable[[Any, mg.Tensor, mg.Tensor], mg.Tensor]] = {
    "gradient_penalty": lambda d, x, y: gradient_penalty(d, x, y, target=1.0),
    "gradient_penalty, target 0": lambda d, x, y: gradient_penalty(d, x, y, target=0.0),
    "gradient_penalty, one-sided": lambda d, x, y: gradient_penalty(d, x, y, one_sided=True),
    "dragan_penalty": lambda d, x, y: dragan_penalty(d, x),
    "dragan_penalty, other": lambda d, x, y: dragan_penalty(d, x, 1.5, 0.6, one_sided=True),
    "r1_penalty": lambda d, x, y: r1_penalty(d, x),
    "r2_penalty": lambda d, x, y: r2_penalty(d, y),
}
TOGETHER = {
    "r1_and_r2_penalties, r1": lambda d, x, y: r1_and_r2(d, x, y)[0],
    "r1_and_r2_penalties, r2": lambda d, x, y: r1_and_r2(d, x, y)[1],
}
EACH = pytest.mark.parametrize("name", PENALTIES)
DRAWING = pytest.mark.parametrize("name", ["gradient_penalty", "dragan_penalty"])


def tensors(device: Any, *arrays: np.ndarray, dtype: str = "float64") -> list[mg.Tensor]:
    return [mg.tensor(a, dtype=dtype, device=device) for a in arrays]


# ------------------------------------------------------------------------ values and gradients
@DEVICES
@pytest.mark.parametrize("name", [*PENALTIES, *TOGETHER])
def test_gradients_of_order_1_and_2_by_the_critics_weights(device: str, name: str) -> None:
    """Slopes lie on both sides of every target."""

    def f(a: mg.Tensor, b: mg.Tensor) -> mg.Tensor:
        mg.manual_seed(0)  # the same noise each time
        x, y = tensors(device, X, Y)
        return (PENALTIES | TOGETHER)[name](lambda z: ops.tanh(z @ a) @ b, x, y)

    check_gradients(f, [A, B], device=device, name=name)


@DEVICES
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 16),
        ({"target": 0.0}, 25),
        ({"target": 6.0}, 1),
        ({"target": 6.0, "one_sided": True}, 0),
    ],
)
def test_by_hand(device: str, options: dict[str, Any], expected: float) -> None:
    """D(x) = w x has the slope |w| everywhere."""
    x, y, w = tensors(device, X, Y, np.array([[3.0], [0.0], [4.0]]))

    def critic(z: mg.Tensor) -> mg.Tensor:
        return z @ w

    assert gradient_penalty(critic, x, y, **options).item() == pytest.approx(expected)
    assert dragan_penalty(critic, x, **options).item() == pytest.approx(expected)
    assert r1_penalty(critic, x).item() == r2_penalty(critic, y).item() == pytest.approx(25)


def half_square(z: mg.Tensor) -> mg.Tensor:
    """|z|^2 / 2 has the slope |z|."""
    return ops.sum(z * z, axis=tuple(range(1, z.ndim))) * 0.5


@DEVICES
@pytest.mark.parametrize("shape", [(6, 3), (6, 1, 2, 2), (6,)])
def test_each_sample_has_a_slope_of_its_own(device: str, shape: tuple[int, ...]) -> None:
    """Means over samples, of a norm over all that belongs to one."""
    values = np.random.default_rng(1).standard_normal(shape)
    norms = np.sqrt((values.reshape(6, -1) ** 2).sum(axis=1))
    target = float(np.median(norms))
    (x,) = tensors(device, values)
    both, above = norms - target, np.maximum(norms - target, 0)
    actual = [
        r1_penalty(half_square, x),
        r2_penalty(half_square, x),
        gradient_penalty(half_square, x, x, target),
        gradient_penalty(half_square, x, x, target, one_sided=True),
        dragan_penalty(half_square, x, 0.0, target),
        dragan_penalty(half_square, x, 0.0, target, one_sided=True),
    ]
    expected = [(a**2).mean() for a in (norms, norms, both, above, both, above)]
    assert [y.item() for y in actual] == pytest.approx(expected, rel=1e-13)


@DEVICES
@FLOATS
def test_r1_and_r2_together_have_the_bits_of_each_alone(device: str, dtype: str) -> None:
    x, y, a, b = tensors(device, X, Y, A, B, dtype=dtype)

    def critic(z: mg.Tensor) -> mg.Tensor:
        return ops.tanh(z @ a) @ b

    together = r1_and_r2(critic, x, y)
    alone = r1_penalty(critic, x), r2_penalty(critic, y)
    assert [t.item() for t in together] == [t.item() for t in alone]
    assert together[0].item() != together[1].item()


def test_r1_and_r2_of_a_critic_that_sees_the_whole_batch() -> None:
    """`discriminate` then makes two passes, as each penalty does alone."""
    x, y, a, b = tensors("cpu", X, Y, A, B)

    def critic(z: mg.Tensor) -> mg.Tensor:
        return ops.tanh((z - z.mean(axis=0)) @ a) @ b

    inputs = penalty_input(x), penalty_input(y)
    together = r1_and_r2_penalties(ops.concatenate([critic(z) for z in inputs]), *inputs)
    alone = r1_penalty(critic, x), r2_penalty(critic, y)
    assert [t.item() for t in together] == pytest.approx([t.item() for t in alone], rel=1e-13)


def test_r1_and_r2_need_one_logit_per_sample() -> None:
    x, y, a = tensors("cpu", X, Y, A)
    with pytest.raises(ValueError, match=r"gives \(10, 4\) for 5 \+ 5 samples"):
        r1_and_r2(lambda z: z @ a, x, y)


# ---------------------------------------------------------------------------------- the noise
def _watched(inputs: list[np.ndarray]) -> Callable[[mg.Tensor], mg.Tensor]:
    def critic(z: mg.Tensor) -> mg.Tensor:
        inputs.append(z.numpy())
        return half_square(z)

    return critic


def test_alpha_is_one_uniform_number_for_each_sample() -> None:
    n = 4000
    real, fake = mg.tensor(np.zeros((n, 1, 2))), mg.tensor(np.full((n, 1, 2), 3.0))
    inputs: list[np.ndarray] = []
    value = gradient_penalty(_watched(inputs), real, fake, target=0.0).item()
    alpha = inputs[0][:, 0, 0] / 3
    assert np.array_equal(inputs[0][:, 0, 0], inputs[0][:, 0, 1])
    assert len(set(alpha)) > 0.99 * n
    assert 0 <= alpha.min() < 0.01
    assert 0.99 < alpha.max() < 1
    assert alpha.mean() == pytest.approx(0.5, abs=0.02)
    assert alpha.std() == pytest.approx(np.sqrt(1 / 12), abs=0.02)
    assert value == pytest.approx(float((2 * (3 * alpha) ** 2).mean()))


def test_dragans_noise_is_normal_and_as_large_as_the_data_ask_for() -> None:
    """`scale` times the standard deviation of all numbers; a number for each of them."""
    values = np.random.default_rng(2).uniform(size=(4000, 1, 2)) * [1.0, 3.0] + [0.0, 5.0]
    inputs: list[np.ndarray] = []
    for factor, options in ((1.0, {}), (1.0, {"scale": 2.0}), (10.0, {})):
        mg.manual_seed(5)
        dragan_penalty(_watched(inputs), mg.tensor(values * factor), **options)
    noise = (inputs[0] - values) / (0.5 * values.std())
    assert noise.mean() == pytest.approx(0, abs=0.04)  # 3.6 standard errors
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert (noise**4).mean() == pytest.approx(3, abs=0.4)  # uniform: 1.8
    assert abs(np.corrcoef(noise.reshape(-1, 2).T)[0, 1]) < 0.06
    assert abs(np.corrcoef(noise.ravel(), values.ravel())[0, 1]) < 0.04
    assert np.allclose(inputs[1] - values, 4 * (inputs[0] - values), rtol=1e-9)
    assert np.allclose(inputs[2], 10 * inputs[0], rtol=1e-9)


@EACH
@FLOATS
def test_neither_samples_nor_streams_of_others_are_touched(name: str, dtype: str) -> None:
    x, y, a, b = tensors("cpu", X, Y, A, B, dtype=dtype)
    x.requires_grad = y.requires_grad = a.requires_grad = True
    mg.manual_seed(3)
    before = mg.random.normal((2,)).numpy()
    mg.manual_seed(3)
    penalty = PENALTIES[name](lambda z: ops.tanh(z @ a) @ b, x, y)
    assert np.array_equal(mg.random.normal((2,)).numpy(), before)
    assert mg.grad(penalty, [x, y], allow_unused=True) == (None, None)
    assert (penalty.shape, penalty.dtype) == ((), np.dtype(dtype))
    assert np.array_equal(x.numpy(), X.astype(dtype))


@DRAWING
def test_captured_steps_draw_anew(name: str) -> None:
    a, b, x, y = tensors("cpu", A, B, X, Y)

    def step() -> mg.Tensor:
        return PENALTIES[name](lambda z: ops.tanh(z @ a) @ b, x, y)

    captured = mg.capture(step)
    mg.manual_seed(0)
    eager = [step().item() for _ in range(3)]
    mg.manual_seed(0)
    assert [captured().item() for _ in range(3)] == eager
    assert len(set(eager)) == 3


# -------------------------------------------------------------------------------------- edges
@DEVICES
@FLOATS
@EACH
def test_a_critic_that_is_flat_has_finite_gradients(device: str, dtype: str, name: str) -> None:
    """The norm of a zero gradient has no derivative; 0 is taken, and nothing is NaN after it."""
    x, y, a, b = tensors(device, X, Y, np.zeros((3, 4)), B, dtype=dtype)
    a.requires_grad = True
    penalty = PENALTIES[name](lambda z: ops.tanh(z @ a) @ b, x, y)
    assert penalty.item() == (name in ("gradient_penalty", "dragan_penalty"))
    (first,) = mg.grad(penalty, [a], create_graph=True)
    assert first is not None
    assert not first.numpy().any()
    (second,) = mg.grad(ops.sum(first), [a], allow_unused=True)
    assert second is None or np.isfinite(second.numpy()).all()


@DEVICES
@EACH
def test_a_critic_that_is_flat_for_some(device: str, name: str) -> None:
    """A dead unit's samples change nothing in the gradients of the others."""
    (a,) = tensors(device, A[:, :1])
    dead = (X @ A[:, :1] < 0).ravel()
    assert 0 < dead.sum() < 5

    def f(a: mg.Tensor, b: mg.Tensor) -> mg.Tensor:
        mg.manual_seed(0)
        x, y = tensors(device, X, Y)
        return PENALTIES[name](lambda z: ops.relu(z @ a) @ b, x, y)

    check_gradients(f, [A[:, :1], B[:1]], device=device, name=name)
    slope = float(np.linalg.norm(A[:, :1] * B[:1]))
    value = r1_penalty(lambda z: ops.relu(z @ a) * B[0, 0], *tensors(device, X)).item()
    assert value == pytest.approx(slope**2 * (1 - dead.mean()))


@EACH
def test_batch_norm_in_the_critic_is_warned_of(name: str) -> None:
    x, y = tensors("cpu", X, Y, dtype="float32")
    layers = [nn.Dense(3, 4), nn.BatchNorm1d(4), nn.Dense(4, 1)]
    critic, penalty = nn.Sequential(*layers), PENALTIES[name]
    says = f"^{name.partition(',')[0]}: .* a sample's output depends on the whole batch"
    with pytest.warns(UserWarning, match=says) as caught:
        penalty(critic, x, y)
    (warning,) = caught
    line = penalty.__code__.co_firstlineno  # that of the caller
    assert (warning.filename, warning.lineno) == (__file__, line)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        penalty(critic.eval(), x, y)
        penalty(nn.Sequential(layers[0], nn.LayerNorm(4), layers[2]), x, y)


def test_arguments_that_do_not_fit() -> None:
    x, y = tensors("cpu", X, Y)
    with pytest.raises(ValueError, match=r"real samples \(5, 3\) and fake ones \(4, 3\)"):
        gradient_penalty(lambda z: z, x, y[:4])
    for scale in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"dragan_penalty: scale = {scale} is not a finite"):
            dragan_penalty(lambda z: z, x, scale=scale)


@EACH
def test_the_same_as_pytorchs(name: str) -> None:
    """Value, first and second derivatives to 1e-10, with the same alpha and noise."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from torch_helpers import derivatives, torch_derivatives

    alpha = mg.random.uniform((5, 1), dtype="float64", stream="penalty").numpy()
    mg.manual_seed(0)
    noise = mg.random.normal((5, 3), dtype="float64", stream="penalty").numpy() * X.std()
    relu = torch.nn.functional.relu
    between = X + alpha * (Y - X)
    where, of_norms = {
        "gradient_penalty": (between, lambda n: (n - 1) ** 2),
        "gradient_penalty, target 0": (between, lambda n: n**2),
        "gradient_penalty, one-sided": (between, lambda n: relu(n - 1) ** 2),
        "dragan_penalty": (X + 0.5 * noise, lambda n: (n - 1) ** 2),
        "dragan_penalty, other": (X + 1.5 * noise, lambda n: relu(n - 0.6) ** 2),
        "r1_penalty": (X, lambda n: n**2),
        "r2_penalty": (Y, lambda n: n**2),
    }[name]

    def ours(a: Any, b: Any) -> Any:
        mg.manual_seed(0)
        return PENALTIES[name](lambda z: ops.tanh(z @ a) @ b, *tensors("cpu", X, Y))

    def theirs(a: Any, b: Any) -> Any:
        x = torch.tensor(where, requires_grad=True)
        out = (torch.tanh(x @ a) @ b).sum()
        (gradient,) = torch.autograd.grad(out, [x], create_graph=True)
        return of_norms(gradient.norm(dim=1)).mean()

    pairs = zip(derivatives(ours, [A, B], "cpu"), torch_derivatives(theirs, [A, B]), strict=True)
    for y, want in pairs:
        assert_close(y, want, 1e-10)


def test_a_discriminator_gives_one_number_per_sample():
    """The mean of a batch would make every slope 1 / n of its value."""
    x = mg.tensor(np.ones((5, 2)))
    critic = nn.Dense(2, 3, dtype="float64")
    for d in (critic, lambda x: critic(x).mean()):
        for penalty in (r1_penalty, r2_penalty, dragan_penalty):
            message = f"{penalty.__name__}: the discriminator gives .* for 5 samples"
            with pytest.raises(ValueError, match=message):
                penalty(d, x)
        with pytest.raises(ValueError, match="one number per sample is needed"):
            gradient_penalty(d, x, x)
