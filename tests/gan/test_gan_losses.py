"""GAN losses: closed forms, gradients, PyTorch, their levels at equilibrium, and extremes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, FLOATS, assert_close

import minigan as mg
from minigan.engine.check import check_gradients
from minigan.gan.losses import (
    LOSSES,
    GANLoss,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    RelativisticAverage,
    Wasserstein,
)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


R, F = np.array([[1.5], [-0.3], [0.2]]), np.array([[-1.2], [0.4], [2.5], [0.1]])
CASES = [(loss, 1.0) for loss in LOSSES.values()]
CASES += [(loss, 0.9) for loss in LOSSES.values() if loss.has_targets]
EACH = pytest.mark.parametrize(("loss", "smooth"), CASES)
ALL = pytest.mark.parametrize("loss", LOSSES.values())

CLOSED: dict[type[GANLoss], Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    Minimax: lambda r, f, t: (_logistic(r, f, t), -softplus(f).mean()),
    NonSaturating: lambda r, f, t: (_logistic(r, f, t), softplus(-f).mean()),
    LeastSquares: lambda r, f, t: (
        (((r - t) ** 2).mean() + (f**2).mean()) / 2,
        ((f - 1) ** 2).mean() / 2,
    ),
    Hinge: lambda r, f, t: (
        np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(),
        -f.mean(),
    ),
    Wasserstein: lambda r, f, t: (f.mean() - r.mean(), -f.mean()),
    Relativistic: lambda r, f, t: (softplus(f - r).mean(), softplus(r - f).mean()),
    RelativisticAverage: lambda r, f, t: (
        softplus(f.mean() - r).mean() + softplus(f - r.mean()).mean(),
        softplus(r.mean() - f).mean() + softplus(r - f.mean()).mean(),
    ),
}


def _logistic(r: np.ndarray, f: np.ndarray, t: float) -> np.ndarray:
    return (t * softplus(-r) + (1 - t) * softplus(r)).mean() + softplus(f).mean()


def _logits(loss: type[GANLoss]) -> tuple[np.ndarray, np.ndarray]:
    """As many reals as fakes only where they are compared in pairs."""
    return (R, F[: len(R)]) if loss is Relativistic else (R, F)


@EACH
@DEVICES
def test_gan_losses(loss: type[GANLoss], device: str, smooth: float) -> None:
    gan, logits = loss(smooth=smooth), _logits(loss)
    r, f = (mg.tensor(x, device=device) for x in logits)
    actual = gan.discriminator(r, f).item(), gan.generator(f, r).item()
    assert np.allclose(actual, CLOSED[loss](*logits, smooth), rtol=1e-14, atol=0)
    check_gradients(gan.discriminator, [*logits], device=device)
    check_gradients(gan.generator, [*logits[::-1]], device=device)


@EACH
def test_the_same_as_pytorchs(loss: type[GANLoss], smooth: float) -> None:
    """Value, first and second derivatives to 1e-10."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from torch_helpers import derivatives, torch_derivatives

    def logistic(x: Any, target: float) -> Any:
        targets = torch.full_like(x, target)
        return torch.nn.functional.binary_cross_entropy_with_logits(x, targets)

    def squares(x: Any, target: float) -> Any:
        return torch.nn.functional.mse_loss(x, torch.full_like(x, target)) / 2

    theirs: dict[type[GANLoss], tuple[Callable[..., Any], Callable[..., Any]]] = {
        Minimax: (
            lambda r, f: logistic(r, smooth) + logistic(f, 0),
            lambda f, r: -logistic(f, 0),
        ),
        NonSaturating: (
            lambda r, f: logistic(r, smooth) + logistic(f, 0),
            lambda f, r: logistic(f, 1),
        ),
        LeastSquares: (
            lambda r, f: squares(r, smooth) + squares(f, 0),
            lambda f, r: squares(f, 1),
        ),
        Hinge: (
            lambda r, f: torch.relu(1 - r).mean() + torch.relu(1 + f).mean(),
            lambda f, r: -f.mean(),
        ),
        Wasserstein: (lambda r, f: f.mean() - r.mean(), lambda f, r: -f.mean()),
        Relativistic: (lambda r, f: logistic(r - f, 1), lambda f, r: logistic(f - r, 1)),
        RelativisticAverage: (
            lambda r, f: logistic(r - f.mean(), 1) + logistic(f - r.mean(), 0),
            lambda f, r: logistic(f - r.mean(), 1) + logistic(r - f.mean(), 0),
        ),
    }
    gan, (r, f) = loss(smooth=smooth), _logits(loss)
    needed = [f, r] if loss.is_relativistic else [f]
    for ours, other, arrays in [
        (gan.discriminator, theirs[loss][0], [r, f]),
        (gan.generator, lambda f, r=None: theirs[loss][1](f, r), needed),
    ]:
        actual, expected = derivatives(ours, arrays, "cpu"), torch_derivatives(other, arrays)
        for x, want in zip(actual, expected, strict=True):
            assert_close(x, want, 1e-10)


def _best(loss: type[GANLoss], smooth: float) -> list[float]:
    """Logits that the best discriminator may give to all samples, where fakes are like real ones.

    It estimates smooth / 2. The hinge loss bears every number from -1 to 1 (ends last: there it
    has a kink), a loss of differences every number.
    """
    if loss.threshold is None:
        return [-3.0, 0.0, 2.5]
    if loss is Hinge:
        return [0.5, 0.0, -0.9, -1.0, 1.0]
    return [smooth / 2] if loss is LeastSquares else [math.log(smooth / (2 - smooth))]


@EACH
def test_levels_are_the_losses_at_equilibrium(loss: type[GANLoss], smooth: float) -> None:
    """Two points, each as likely real as fake: every pair of them, and D a number for each."""
    gan, (level_d, level_g) = loss(smooth=smooth), loss(smooth=smooth).levels
    which = [mg.tensor(np.array(i)[:, None]) for i in ([0, 0, 1, 1], [0, 1, 0, 1])]
    inputs = []
    for best in _best(loss, smooth):
        x = mg.tensor([[best], [best]], dtype="float64", requires_grad=True)
        r, f = (mg.ops.gather(x, i) for i in which)
        loss_d = gan.discriminator(r, f)
        inputs.append(gan.generator(f, r).item())
        assert loss_d.item() == pytest.approx(level_d, rel=1e-14, abs=1e-15)
        if abs(best) != 1:
            (slope,) = mg.grad(loss_d, [x])
            assert abs(slope.numpy()).max() < 1e-15
        for step in (-0.3, 0.3):  # no discriminator does better
            other = mg.tensor([[best], [best + step]], dtype="float64")
            worse = gan.discriminator(*(mg.ops.gather(other, i) for i in which))
            assert worse.item() > level_d - 1e-15
    if level_g is None:  # it is a matter of the constant
        assert len(set(inputs)) == len(inputs)
    else:
        assert inputs == pytest.approx([level_g] * len(inputs), rel=1e-14)
    if smooth == 1 and loss is NonSaturating:
        assert np.allclose(gan.levels, (math.log(4), math.log(2)))


@pytest.mark.parametrize("loss", [x for x in LOSSES.values() if x.has_targets])
def test_smoothing_is_one_sided(loss: type[GANLoss]) -> None:
    """Nothing changes for fakes, in the discriminator's loss or in the generator's."""
    hard, soft = loss(), loss(smooth=0.9)
    r, f = (mg.tensor(x, requires_grad=True) for x in (R, F))
    gradients = [mg.grad(gan.discriminator(r, f), [r, f]) for gan in (hard, soft)]
    assert np.array_equal(gradients[0][1].numpy(), gradients[1][1].numpy())
    assert not np.array_equal(gradients[0][0].numpy(), gradients[1][0].numpy())
    assert hard.generator(f).item() == soft.generator(f).item()


@EACH
@FLOATS
@DEVICES
def test_logits_of_any_size(loss: type[GANLoss], smooth: float, device: str, dtype: str) -> None:
    gan = loss(smooth=smooth)
    arrays = np.array([[-1e4], [1e4], [2e4], [3.0]]), np.array([[2e4], [-1e4], [1e4], [3.0]])
    r, f = (mg.tensor(x, dtype=dtype, device=device, requires_grad=True) for x in arrays)
    loss_d, loss_g = gan.discriminator(r, f), gan.generator(f, r)
    actual = loss_d.item(), loss_g.item()
    tolerance = 8 * float(np.finfo(dtype).eps)
    assert np.allclose(actual, CLOSED[loss](*arrays, smooth), rtol=tolerance, atol=0)
    for x in (*mg.grad(loss_d, [r, f]), *mg.grad(loss_g, [f])):
        assert np.isfinite(x.numpy()).all()


@ALL
def test_only_relativistic_generators_look_at_real_samples(loss: type[GANLoss]) -> None:
    r, f = (mg.tensor(x, requires_grad=True) for x in (R, F[:3]))
    gan = loss()
    if not loss.is_relativistic:
        assert gan.generator(f, r).item() == gan.generator(f).item()
        assert mg.grad(gan.generator(f, r), [r], allow_unused=True) == (None,)
        return
    (slope,) = mg.grad(gan.generator(f, r), [r])
    assert (slope.numpy() > 0).all()  # real samples are to look less real
    with pytest.raises(ValueError, match=f"^{loss.__name__}: the generator's loss needs the logit"):
        gan.generator(f)


@ALL
def test_a_loss_of_differences_has_no_threshold(loss: type[GANLoss]) -> None:
    """What D adds to all logits changes its loss, or there is no logit that means "real"."""
    r, f = R, F[:3]
    moved = [loss().discriminator(mg.tensor(r + c), mg.tensor(f + c)).item() for c in (0.0, 0.5)]
    assert (loss.threshold is None) == (moved[0] == pytest.approx(moved[1], rel=1e-12))


def test_pairs_are_of_one_shape() -> None:
    """(n, 1) and (n,) would broadcast to (n, n)."""
    column, row = mg.tensor(np.ones((3, 1))), mg.tensor(np.ones(3))
    for call in (Relativistic().discriminator, Relativistic().generator):
        for pair in ((column, row), (row, column), (column, mg.tensor(F))):
            with pytest.raises(ValueError, match=r"^Relativistic: logits of shapes \(.*in pairs"):
                call(*pair)


@pytest.mark.parametrize("loss", [x for x in LOSSES.values() if x is not Relativistic])
def test_others_take_any_two_batches(loss: type[GANLoss]) -> None:
    """(n, 1) and (m,): means over reals and means over fakes, and nothing broadcasts."""
    r, f, flat = mg.tensor(R), mg.tensor(F), mg.tensor(F[:, 0])
    assert loss().discriminator(r, flat).item() == loss().discriminator(r, f).item()
    assert loss().generator(flat, r).item() == loss().generator(f, r).item()


@pytest.mark.parametrize("loss", [x for x in LOSSES.values() if x.has_targets])
@pytest.mark.parametrize("smooth", [0.5, 0.0, 1.1, math.nan])
def test_a_target_that_is_no_smoothing(loss: type[GANLoss], smooth: float) -> None:
    with pytest.raises(ValueError, match=rf"{loss.__name__}: smooth = .* is not in \(0.5, 1\]"):
        loss(smooth=smooth)


@pytest.mark.parametrize("loss", [Hinge, Wasserstein, Relativistic, RelativisticAverage])
@pytest.mark.parametrize("smooth", [0.9, 0.0, math.nan])
def test_losses_without_targets_have_none_to_smooth(loss: type[GANLoss], smooth: float) -> None:
    assert loss(smooth=1).smooth == 1
    with pytest.raises(ValueError, match=f"{loss.__name__}: smooth = .*has no targets to smooth"):
        loss(smooth=smooth)


def test_the_base_class_is_no_loss() -> None:
    x = mg.tensor([1.0])
    for call in (lambda g: g.generator(x), lambda g: g.discriminator(x, x)):
        with pytest.raises(NotImplementedError):
            call(GANLoss())
    assert GANLoss().levels == (None, None)
