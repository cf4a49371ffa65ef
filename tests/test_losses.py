"""Losses: values against closed forms, their gradients, and their behaviour at extremes."""

import math
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, FLOATS

import minigan as mg
from minigan import losses
from minigan.check import check_gradients
from minigan.losses import GANLoss, LeastSquares, Minimax, NonSaturating

bce, bce_logits = losses.binary_cross_entropy, losses.binary_cross_entropy_with_logits
ALL = pytest.mark.parametrize("loss", list(losses.LOSSES.values()))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


# ------------------------------------------------------------------------ binary cross-entropy
@DEVICES
@pytest.mark.parametrize("target", [0.0, 0.9, 1.0, None])
def test_values_and_gradients(device: str, target: float | None, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 3))
    p = 1 / (1 + np.exp(-x))
    t: Any = rng.uniform(0, 1, (4, 3)) if target is None else target
    given = mg.tensor(t, device=device) if target is None else target
    wanted = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    assert np.isclose(bce(mg.tensor(p, device=device), given).item(), wanted, rtol=1e-13)
    assert np.isclose(bce_logits(mg.tensor(x, device=device), given).item(), wanted, rtol=1e-13)
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
    each = mg.ops.cross_entropy(p, target).numpy()
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


# --------------------------------------------------------------------------------- GAN losses
R, F = np.array([[1.5], [-0.3], [0.2]]), np.array([[-1.0], [0.4], [2.5], [0.1]])


def _closed_form(loss: GANLoss) -> tuple[float, float]:
    t = loss.smooth
    if isinstance(loss, LeastSquares):
        return (((R - t) ** 2).mean() + (F**2).mean()) / 2, ((F - 1) ** 2).mean() / 2
    real = t * softplus(-R) + (1 - t) * softplus(R)
    d = real.mean() + softplus(F).mean()
    return d, -softplus(F).mean() if type(loss) is Minimax else softplus(-F).mean()


@ALL
@DEVICES
@pytest.mark.parametrize("smooth", [1.0, 0.9])
def test_gan_losses(loss: type[GANLoss], device: str, smooth: float) -> None:
    gan = loss(smooth=smooth)
    r, f = mg.tensor(R, device=device), mg.tensor(F, device=device)
    given = gan.discriminator(r, f).item(), gan.generator(f).item()
    assert np.allclose(given, _closed_form(gan), rtol=1e-14)
    check_gradients(gan.discriminator, [R, F], device=device)
    check_gradients(gan.generator, [F], device=device)


@ALL
@pytest.mark.parametrize("smooth", [1.0, 0.9])
def test_levels_are_the_losses_at_equilibrium(loss: type[GANLoss], smooth: float) -> None:
    """Real and fake alike, and one logit for all: the best one, where D's loss has slope 0."""
    gan = loss(smooth=smooth)
    best = smooth / 2 if loss is LeastSquares else math.log(smooth / 2 / (1 - smooth / 2))
    x = mg.tensor([[best]], dtype="float64", requires_grad=True)
    loss_d = gan.discriminator(x, x)
    assert np.allclose((loss_d.item(), gan.generator(x).item()), gan.levels, rtol=1e-14)
    (slope,) = mg.grad(loss_d, [x])
    assert abs(slope.item()) < 1e-15
    if smooth == 1 and loss is NonSaturating:
        assert np.allclose(gan.levels, (math.log(4), math.log(2)))


@ALL
def test_smoothing_is_one_sided(loss: type[GANLoss]) -> None:
    """Nothing changes for fakes, in the discriminator's loss or in the generator's."""
    hard, soft = loss(), loss(smooth=0.9)
    r, f = (mg.tensor(x, requires_grad=True) for x in (R, F))
    gradients = [mg.grad(gan.discriminator(r, f), [r, f]) for gan in (hard, soft)]
    assert np.array_equal(gradients[0][1].numpy(), gradients[1][1].numpy())
    assert not np.array_equal(gradients[0][0].numpy(), gradients[1][0].numpy())
    assert hard.generator(f).item() == soft.generator(f).item()


@ALL
@FLOATS
def test_logits_of_any_size_give_finite_losses(loss: type[GANLoss], dtype: str) -> None:
    for smooth in (1.0, 0.9):
        gan = loss(smooth=smooth)
        r, f = (mg.tensor([[-1e4], [1e4]], dtype=dtype, requires_grad=True) for _ in range(2))
        loss_d, loss_g = gan.discriminator(r, f), gan.generator(f)
        for x in (loss_d, loss_g, *mg.grad(loss_d, [r, f]), *mg.grad(loss_g, [f])):
            assert np.isfinite(x.numpy()).all()


@ALL
@pytest.mark.parametrize("smooth", [0.5, 0.0, 1.1, math.nan])
def test_a_target_that_is_no_smoothing(loss: type[GANLoss], smooth: float) -> None:
    with pytest.raises(ValueError, match=rf"{loss.__name__}: smooth = .* is not in \(0.5, 1\]"):
        loss(smooth=smooth)


def test_the_base_class_is_no_loss() -> None:
    x = mg.tensor([1.0])
    for call in (lambda g: g.levels, lambda g: g.generator(x), lambda g: g.discriminator(x, x)):
        with pytest.raises(NotImplementedError):
            call(GANLoss())
