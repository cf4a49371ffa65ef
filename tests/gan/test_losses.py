"""Losses on probabilities, classes and features: closed forms, gradients, PyTorch, extremes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, FLOATS, assert_close

import minigan as mg
from minigan.engine.check import check_gradients
from minigan.gan import losses
from minigan.gan.losses import cross_entropy, feature_matching

bce, bce_logits = losses.binary_cross_entropy, losses.binary_cross_entropy_with_logits


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


# ------------------------------------------------------------------------ binary cross-entropy
@DEVICES
@pytest.mark.parametrize("target", [0.0, 0.9, 1.0, None])
def test_values_and_gradients(device: str, target: float | None, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 3))
    p = 1 / (1 + np.exp(-x))
    t: Any = rng.uniform(0, 1, (4, 3)) if target is None else target
    ours = mg.tensor(t, device=device) if target is None else target
    expected = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    assert np.isclose(bce(mg.tensor(p, device=device), ours).item(), expected, rtol=1e-13)
    assert np.isclose(bce_logits(mg.tensor(x, device=device), ours).item(), expected, rtol=1e-13)
    if target is None:
        check_gradients(bce, [p, t], device=device)
        check_gradients(bce_logits, [x, t], device=device)
    else:
        check_gradients(lambda p: bce(p, target), [p], device=device)
        check_gradients(lambda x: bce_logits(x, target), [x], device=device)


@DEVICES
@FLOATS
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_probabilities_of_0_and_1_are_safe(device: str, dtype: str, target: float) -> None:
    p = mg.tensor([0.0, 1.0, 1e-30, 1 - 1e-7], dtype=dtype, device=device, requires_grad=True)
    loss = bce(p, target)
    (gp,) = mg.grad(loss, [p], create_graph=True)
    (ggp,) = mg.grad((gp * gp).sum(), [p])
    for x in (loss, gp, ggp):
        assert np.isfinite(x.numpy()).all()
    each = mg.ops.binary_cross_entropy(p, target).numpy()
    assert np.allclose(each[:2], [100 * target, 100 * (1 - target)])


@DEVICES
@FLOATS
@pytest.mark.parametrize("target", [0.0, 0.9, 1.0])
def test_logits_of_any_size_are_exact(device: str, dtype: str, target: float) -> None:
    values = np.array([-1e4, 1e4, -50.0, 50.0, 0.0])
    x = mg.tensor(values, dtype=dtype, device=device, requires_grad=True)
    loss = bce_logits(x, target)
    tolerance = 4 * float(np.finfo(dtype).eps)
    assert np.isclose(loss.item(), (softplus(values) - target * values).mean(), rtol=tolerance)
    (gx,) = mg.grad(loss, [x])
    sigmoid = np.array([0, 1, math.exp(-50), 1, 0.5])
    assert np.allclose(gx.numpy(), (sigmoid - target) / 5, atol=tolerance)


@pytest.mark.parametrize("f", [bce, bce_logits])
def test_a_target_of_another_shape(f: Any) -> None:
    """(n, 1) and (n,) would broadcast to (n, n), a mistake that trains badly and says nothing."""
    with pytest.raises(ValueError, match=r"target has shape \(4,\), the input \(4, 1\)"):
        f(mg.tensor(np.full((4, 1), 0.5)), mg.tensor(np.ones(4)))


# ------------------------------------------------------------------------- beside the logits
@DEVICES
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 2)])
def test_feature_matching(device: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Of batches of different sizes; to the real features no gradient flows."""
    x, y = rng.standard_normal((5, *shape)), rng.standard_normal((4, *shape))
    real = mg.tensor(x, device=device, requires_grad=True)
    fake = mg.tensor(y, device=device)
    expected = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    assert feature_matching(real, fake).item() == pytest.approx(expected, rel=1e-13)
    check_gradients(lambda fake: feature_matching(real.detach(), fake), [y], device=device)
    fake.requires_grad = True
    assert mg.grad(feature_matching(real, fake), [real], allow_unused=True) == (None,)
    assert feature_matching(real, real).item() == 0


@DEVICES
def test_cross_entropy(device: str, rng: np.random.Generator) -> None:
    x, labels = rng.standard_normal((5, 4)), np.array([0, 3, 1, 1, 2])
    expected = -(x - np.log(np.exp(x).sum(axis=1, keepdims=True)))[np.arange(5), labels].mean()
    i = mg.tensor(labels, device=device)
    assert cross_entropy(mg.tensor(x, device=device), i).item() == pytest.approx(
        expected, rel=1e-13
    )
    check_gradients(lambda x: cross_entropy(x, i), [x], device=device)


@FLOATS
def test_cross_entropy_at_extremes(dtype: str) -> None:
    x = mg.tensor([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    loss = cross_entropy(x, mg.tensor([0, 0]))
    assert loss.item() == 1e4  # sure and right, 0; sure and wrong, 2e4
    (slope,) = mg.grad(loss, [x])
    assert np.array_equal(slope.numpy(), [[0, 0, 0], [-0.5, 0.5, 0]])


def test_two_classes_are_the_binary_case(rng: np.random.Generator) -> None:
    x, labels = rng.standard_normal((6, 1)), np.array([0, 1, 1, 0, 1, 0])
    both = mg.tensor(np.concatenate([np.zeros_like(x), x], axis=1))
    expected = bce_logits(mg.tensor(x[:, 0]), mg.tensor(labels.astype("f8"))).item()
    assert cross_entropy(both, mg.tensor(labels)).item() == pytest.approx(expected, rel=1e-13)


def test_features_and_classes_the_same_as_pytorchs(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from torch_helpers import derivatives, torch_derivatives

    x, y, labels = rng.standard_normal((5, 4)), rng.standard_normal((6, 4)), [0, 3, 1, 1, 2]
    i, features = mg.tensor(labels), mg.tensor(x)
    pairs: list[tuple[Callable[..., Any], Callable[..., Any], np.ndarray]] = [
        (
            lambda y: feature_matching(features, y),
            lambda y: (torch.tensor(x).mean(dim=0) - y.mean(dim=0)).square().sum(),
            y,
        ),
        (
            lambda x: cross_entropy(x, i),
            lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(labels)),
            x,
        ),
    ]
    for ours, theirs, array in pairs:
        actual, expected = derivatives(ours, [array], "cpu"), torch_derivatives(theirs, [array])
        for value, want in zip(actual, expected, strict=True):
            assert_close(value, want, 1e-10)


def test_features_and_labels_that_do_not_fit() -> None:
    x = mg.tensor(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"features of shapes \(4, 3\) and \(4, 2\); all but"):
        feature_matching(x, x[:, :2])
    with pytest.raises(ValueError, match=r"features of shapes \(4, 1\) and \(4,\); all but"):
        feature_matching(x[:, :1], x[:, 0])
    for shape, labels in [((4, 3), [0, 1, 2]), ((4, 3), [[0], [1], [2], [0]]), ((4,), [0] * 4)]:
        with pytest.raises(ValueError, match=r"cross_entropy: logits .* \(n, classes\) and \(n,\)"):
            cross_entropy(mg.tensor(np.ones(shape)), mg.tensor(labels))
    for label in (3, -1):
        with pytest.raises(IndexError, match=f"index {label} is outside an axis of size 3"):
            cross_entropy(x, mg.tensor([0, 1, 2, label]))
    with pytest.raises(TypeError, match="not an integer tensor"):
        cross_entropy(x, mg.tensor([0.0, 1.0, 2.0, 0.0]))
