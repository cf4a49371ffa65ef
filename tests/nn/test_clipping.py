"""Limits on gradients and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close

import minigan as mg
from minigan.optim import clip_grad_norm, clip_grad_value, clip_weights


def norm(arrays: list[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(a).sum() for a in arrays)))


def tensors(device: Any, *values: Any) -> list[mg.Tensor]:
    return [mg.tensor(np.array(x, np.float64), device=device) for x in values]


@DEVICES
def test_all_gradients_are_one_vector(device: str) -> None:
    gradients = tensors(device, [[3.0, 0.0]], [4.0], -12.0)  # of norm 13
    actual = clip_grad_norm(gradients, 6.5)
    assert_close(norm([x.numpy() for x in actual]), 6.5, 1e-6)
    for x, g in zip(actual, gradients, strict=True):
        assert_close(x.numpy(), g.numpy() * (6.5 / (13 + 1e-6)), 1e-15)
    assert [g.numpy().tolist() for g in gradients] == [[[3, 0]], [4], -12]
    within = clip_grad_norm(gradients, 13.1)
    assert [x.numpy().tolist() for x in within] == [[[3, 0]], [4], -12]
    zero = clip_grad_norm(tensors(device, [0.0, 0.0]), 1.0)
    assert zero[0].numpy().tolist() == [0, 0]


@DEVICES
def test_nan_is_not_hidden(device: str) -> None:
    actual = clip_grad_norm(tensors(device, [1.0, np.nan], [2.0]), 1.0)
    assert all(np.isnan(x.numpy()).all() for x in actual)
    (values,) = clip_grad_value(tensors(device, [np.nan, np.inf]), 1.0)
    assert np.array_equal(values.numpy(), [np.nan, 1], equal_nan=True)


@DEVICES
def test_each_element_is_limited(device: str) -> None:
    actual = clip_grad_value(tensors(device, [[-3.0, 0.25]], 2.0), 0.5)
    assert [x.numpy().tolist() for x in actual] == [[[-0.5, 0.25]], 0.5]


def test_results_have_no_graph() -> None:
    x = mg.tensor([2.0, 3.0], requires_grad=True)
    (g,) = mg.grad((x * x).sum(), x, create_graph=True)
    assert g.requires_grad
    for (y,) in (clip_grad_norm([g], 1.0), clip_grad_value([g], 1.0)):
        assert not y.requires_grad


@DEVICES
def test_weights_are_limited_in_place(device: str) -> None:
    w, b = (x for x in tensors(device, [[-3.0, 0.005]], [0.02]))
    w.requires_grad = b.requires_grad = True
    y = w.sum() * b.sum()
    clip_weights(iter([w, b]), 0.01)
    assert w.numpy().tolist() == [[-0.01, 0.005]]
    assert b.numpy().tolist() == [0.01]
    assert w.requires_grad
    with pytest.raises(ValueError, match="changed in place"):
        mg.grad(y, [w])


# ----------------------------------------------------------------------------- captured steps
def _train(captured: bool) -> list[np.ndarray]:
    w = mg.random.normal((4, 3), stream="init")
    b = mg.random.normal(3, stream="init")
    w.requires_grad = b.requires_grad = True
    optimizer = mg.optim.SGD([w, b], 0.5)

    def turn(x: mg.Tensor) -> tuple[mg.Tensor, ...]:
        gradients = mg.grad(mg.ops.power(mg.ops.dense(x, w, b), 2).sum(), [w, b])
        clipped = clip_grad_norm(gradients, 1.0)
        optimizer.step(clip_grad_value(clipped, 0.3))
        clip_weights([w, b], 0.25)
        return tuple(clipped)

    step = mg.capture(turn) if captured else turn
    actual = []
    for k in range(3):
        x = mg.tensor(
            np.random.default_rng(k).standard_normal((5, 4)).astype("f") * 10.0 ** (k - 2)
        )
        actual += [y.numpy() for y in (*step(x), w, b)]
    return actual


@DEVICES
def test_a_captured_step_has_the_eager_bits(device: str) -> None:
    results = []
    for captured in (False, True):
        mg.manual_seed(3)
        with mg.use_device(device):
            results.append(_train(captured))
    assert [x.tobytes() for x in results[0]] == [x.tobytes() for x in results[1]]
    assert norm(results[1][-4:-2]) == pytest.approx(1, abs=1e-4)
    assert max(np.abs(x).max() for x in results[1][-2:]) == 0.25


# --------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), float("inf"), "1"])
@pytest.mark.parametrize(
    ("clip", "key"),
    [(clip_grad_norm, "max_norm"), (clip_grad_value, "value"), (clip_weights, "limit")],
)
def test_bad_limits(clip: Callable[..., Any], key: str, limit: Any) -> None:
    with pytest.raises(ValueError, match=f"{clip.__name__}: {key} = {limit!r} is not a positive"):
        clip(tensors("cpu", [1.0]), limit)


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value, clip_weights])
def test_bad_tensors(clip: Callable[..., Any]) -> None:
    one = tensors("cpu", [1.0])
    with pytest.raises(ValueError, match=f"{clip.__name__}: there are no "):
        clip([], 1.0)
    with pytest.raises(ValueError, match=f"{clip.__name__}: .* 1 is None"):
        clip([*one, None], 1.0)
    with pytest.raises(TypeError, match=f"{clip.__name__}: .* 1 is ndarray, not a tensor"):
        clip([*one, np.ones(1)], 1.0)
    assert one[0].numpy().tolist() == [1]


def test_only_leaves_are_clipped() -> None:
    x = mg.tensor([2.0], requires_grad=True)
    with pytest.raises(ValueError, match=r"shape \(1,\) was computed by an op"):
        clip_weights([x, x * x], 1.0)
    assert x.numpy().tolist() == [2]


def test_parameters_are_no_gradients():
    """PyTorch's function takes parameters; a result that nobody takes would limit nothing."""
    p = mg.tensor([1.0, 2.0], requires_grad=True)
    for clip in (clip_grad_norm, clip_grad_value):
        with pytest.raises(TypeError, match="gradient 0 is a parameter; gradients are accepted"):
            clip([p], 1.0)
    (g,) = mg.grad((p * p).sum(), [p], create_graph=True)  # has a graph, and is none
    assert clip_grad_norm([g], 1.0)[0].shape == (2,)
