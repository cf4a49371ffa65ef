"""The historical average: the mean of all values so far, and the squared distance to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, FLOATS, assert_close

import minigan as mg
from minigan import nn, ops, optim
from minigan.engine.assign import assign
from minigan.engine.check import check_gradients
from minigan.optim import HistoricalAverage

SHAPES: list[tuple[int, ...]] = [(3, 2), (), (4,)]


def parameters(device: Any = None, dtype: str = "float64", seed: int = 0) -> list[mg.Tensor]:
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape) for shape in SHAPES]
    return [mg.tensor(x, dtype, device, requires_grad=True) for x in arrays]


def moved(ps: list[mg.Tensor], steps: int) -> list[list[np.ndarray]]:
    """What each parameter is set to in each step, far from where it was."""
    rng = np.random.default_rng(9)
    return [[rng.standard_normal(p.shape).astype(p.dtype) + 3 for p in ps] for _ in range(steps)]


@DEVICES
@FLOATS
def test_the_mean_of_all_values(device: str, dtype: str) -> None:
    """The first values are among them, and each counts as much as any other."""
    ps = parameters(device, dtype)
    history = [[p.numpy().astype("f8") for p in ps]]
    average = HistoricalAverage(ps)
    for now in moved(ps, 40):
        for p, x in zip(ps, now, strict=True):
            assign(p, mg.tensor(x, device=device))
        average.update()
        history.append([x.astype("f8") for x in now])
        expected = [np.mean([past[i] for past in history], axis=0) for i in range(len(ps))]
        for mean, x in zip(average.means, expected, strict=True):
            assert mean.dtype == np.dtype(dtype)
            assert_close(mean.numpy(), x, 1e-13 if dtype == "float64" else 2e-6)
        distance = sum(((p.numpy() - x) ** 2).sum() for p, x in zip(ps, expected, strict=True))
        rtol = 1e-12 if dtype == "float64" else 1e-5
        assert average.penalty().item() == pytest.approx(distance, rel=rtol)
    assert average.count.item() == 41


@DEVICES
def test_the_penaltys_gradient(device: str) -> None:
    """2 (p - mean), and the means are constants."""
    ps = parameters(device)
    average = HistoricalAverage(ps)
    for slope in mg.grad(average.penalty(), ps):  # nothing has moved yet
        assert slope is not None
        assert not slope.numpy().any()
    for p, x in zip(ps, moved(ps, 1)[0], strict=True):
        assign(p, mg.tensor(x, device=device))
    average.update()
    slopes = mg.grad(average.penalty(), ps)
    for p, mean, slope in zip(ps, average.means, slopes, strict=True):
        assert slope is not None
        assert_close(slope.numpy(), 2 * (p.numpy() - mean.numpy()), 1e-14)
        assert not mean.requires_grad

    def penalty(*ps: mg.Tensor) -> mg.Tensor:
        average.parameters = list(ps)
        return average.penalty()

    check_gradients(penalty, [p.numpy() for p in ps], device=device)


def test_the_means_are_copies_and_a_stale_penalty_is_refused() -> None:
    ps = parameters()
    average = HistoricalAverage(ps)
    before = [x.numpy() for x in average.means]
    penalty = average.penalty()
    for p in ps:
        assign(p, ops.add(p.detach(), 1.0))
    for mean, x in zip(average.means, before, strict=True):
        assert np.array_equal(mean.numpy(), x)
    with pytest.raises(ValueError, match="was changed in place after it was recorded"):
        mg.grad(penalty, ps)
    average.update()
    for mean, x in zip(average.means, before, strict=True):
        assert np.allclose(mean.numpy(), x + 0.5)
    penalty = average.penalty()
    average.update()
    with pytest.raises(ValueError, match="was changed in place after it was recorded"):
        mg.grad(penalty, ps)


def _train(device: Any, captured: bool, steps: int = 6) -> dict[str, np.ndarray]:
    """Noisy steps with the penalty in the loss; the average's state and the parameters."""
    ps = parameters(device)
    average, optimizer = HistoricalAverage(ps), optim.SGD(ps, lr=0.1)

    def step() -> mg.Tensor:
        loss = average.penalty()
        for p in ps:
            noise = mg.random.normal(p.shape, dtype="float64", device=p.device)
            loss = loss + ops.sum(p * noise)
        optimizer.step(mg.grad(loss, ps))
        average.update()
        return loss

    run = mg.capture(step) if captured else step
    for _ in range(steps):
        run()
    return average.state_dict() | {f"p.{i}": p.numpy() for i, p in enumerate(ps)}


def _bits(state: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: x.tobytes() for name, x in state.items()}


@DEVICES
def test_a_captured_step_is_the_eager_one(device: str) -> None:
    mg.manual_seed(0)
    eager = _train(device, captured=False)
    mg.manual_seed(0)
    assert _bits(_train(device, captured=True)) == _bits(eager)
    assert eager["count"] == 7


@pytest.mark.parametrize("device", ["reference", "cpu"])
@FLOATS
def test_a_state_dict_goes_on(device: str, dtype: str) -> None:
    ps = parameters(device, dtype)
    straight, first = HistoricalAverage(ps), HistoricalAverage(ps)
    values = [[mg.tensor(x, device=device) for x in now] for now in moved(ps, 8)]

    def go(average: HistoricalAverage, now: list[mg.Tensor]) -> None:
        for p, x in zip(ps, now, strict=True):
            assign(p, x)
        average.update()

    for now in values[:5]:
        go(straight, now)
        go(first, now)
    second = HistoricalAverage(parameters(device, dtype, seed=1))
    second.parameters = ps
    second.load_state_dict(first.state_dict())
    assert _bits(second.state_dict()) == _bits(first.state_dict())
    for now in values[5:]:
        go(straight, now)
        go(second, now)
    assert _bits(second.state_dict()) == _bits(straight.state_dict())
    assert list(second.state_dict()) == ["count", "mean.0", "mean.1", "mean.2"]


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    average = HistoricalAverage(parameters())
    state = average.state_dict()
    for change in ({"mean.0": np.ones(3)}, {"mean.3": np.ones(3)}, {"count": np.float32(2)}):
        with pytest.raises(ValueError, match="HistoricalAverage: "):
            average.load_state_dict({name: x + 1 for name, x in state.items()} | change)
    assert _bits(average.state_dict()) == _bits(state)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda w: [], ValueError, "there are no parameters"),
        (lambda w: [w.numpy()], TypeError, "a parameter is ndarray, not a tensor"),
        (lambda w: [w, w.to(dtype="float32")], ValueError, "parameters differ in dtype or device"),
        (lambda w: [w, w.to("reference")], ValueError, "parameters differ in dtype or device"),
    ],
)
def test_what_cannot_be_averaged(make: Callable[[Any], Any], error: Any, says: str) -> None:
    with pytest.raises(error, match=f"^HistoricalAverage: {says}"):
        HistoricalAverage(make(mg.tensor([1.0], "float64", device="cpu")))


def test_it_damps_an_orbit() -> None:
    """min max x y, whose simultaneous steps lead out, comes in with the penalty in both losses."""

    def radius(weight: float) -> float:
        x, y = (mg.tensor(1.0, "float64", requires_grad=True) for _ in range(2))
        players = [(x, 1.0, HistoricalAverage([x])), (y, -1.0, HistoricalAverage([y]))]
        optimizers = [optim.SGD([p], lr=0.05) for p, _, _ in players]

        def step() -> None:
            losses = [x * y * sign + average.penalty() * weight for _, sign, average in players]
            slopes = [mg.grad(z, [p]) for z, (p, _, _) in zip(losses, players, strict=True)]
            for optimizer, slope, (_, _, average) in zip(optimizers, slopes, players, strict=True):
                optimizer.step(slope)
                average.update()

        captured = mg.capture(step)
        for _ in range(400):
            captured()
        return float(np.hypot(x.item(), y.item()))

    assert radius(0.0) == pytest.approx(np.sqrt(2) * (1 + 0.05**2) ** 200, rel=1e-10)
    assert radius(0.1) < 0.05


@DEVICES
def test_the_decay_can_be_set(device):
    with mg.use_device(device):
        net = nn.Dense(1, 1, bias=False)
        net.load_state_dict({"weight": np.zeros((1, 1), np.float32)})
        average = optim.ExponentialMovingAverage(net, 0.5)
        step = mg.capture(average.update)
        net.load_state_dict({"weight": np.ones((1, 1), np.float32)})
        step()
        assert average.module.weight.item() == 0.5
        average.decay = 0.75
        step()
        assert average.module.weight.item() == 0.625
        assert average.decay == 0.75
        with pytest.raises(ValueError, match=r"decay = 1 is not in \[0, 1\)"):
            average.decay = 1
