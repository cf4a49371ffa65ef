"""The warm-up of the exponential moving average: right values, resuming, capturing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, FLOATS, assert_close

import minigan as mg
from minigan import Config, Trainer, nn
from minigan.data import Dataset
from minigan.engine.assign import assign
from minigan.optim import ExponentialMovingAverage


def one_weight(value: float = 0.0, dtype: Any = "float64", device: Any = None) -> nn.Dense:
    net = nn.Dense(1, 1, bias=False, dtype=dtype, device=device)
    set_weight(net, value)
    return net


def set_weight(net: nn.Dense, value: float) -> None:
    weight = net.weight
    assign(weight, mg.tensor(np.full((1, 1), value), dtype=weight.dtype, device=weight.device))


@DEVICES
@FLOATS
def test_the_first_values(device: str, dtype: str) -> None:
    """Decays 1/10, 2/11, 3/12 towards a weight that is 1, 2, 3, and then 0.25."""
    net = one_weight(0.0, dtype, device)
    average = ExponentialMovingAverage(net, 0.25, warmup=True)
    expected = [0.9, 0.9 * 2 / 11 + 2 * 9 / 11]
    expected.append(expected[-1] * 0.25 + 3 * 0.75)
    expected.append(expected[-1] * 0.25 + 4 * 0.75)  # (1 + 3) / (10 + 3) is above the limit
    for i, want in enumerate(expected):
        set_weight(net, i + 1)
        average.update()
        rtol = 1e-14 if dtype == "float64" else 1e-6
        assert average.module.weight.item() == pytest.approx(want, rel=rtol), i
    assert average.n_averaged == 4


def test_it_is_tensorflows_schedule() -> None:
    """min(decay, (1 + t) / (10 + t)), over the steps on which 0.99 is reached (t = 890)."""
    net = one_weight(1.0)
    average = ExponentialMovingAverage(net, 0.99, warmup=True)
    remaining = 1.0
    set_weight(net, 0.0)  # the average is the product of all decays
    for t in range(1000):
        average.update()
        remaining *= min(0.99, (1 + t) / (10 + t))
        if t in (0, 100, 889, 890, 891, 999):
            assert average.module.weight.item() == pytest.approx(remaining, rel=1e-11), t
    plain = ExponentialMovingAverage(net, 0.99)
    set_weight(plain.module, 1.0)
    for _ in range(400):
        plain.update()
    assert plain.module.weight.item() == pytest.approx(0.99**400, rel=1e-12)
    assert plain.n_averaged is None


@DEVICES
def test_a_captured_update_counts(device: str) -> None:
    """The bits of eager updates, with one recording: the decay changes on the device."""

    def values(captured: bool) -> list[bytes]:
        net = one_weight(0.0, "float32", device)
        average = ExponentialMovingAverage(net, 0.999, warmup=True)
        update = mg.capture(average.update) if captured else average.update
        result = []
        for i in range(8):
            set_weight(net, i + 0.1)
            update()
            result.append(average.module.weight.numpy().tobytes())
        assert average.n_averaged == 8
        return result

    assert values(True) == values(False)
    assert len(set(values(True))) == 8


def test_a_state_goes_on_with_its_count() -> None:
    net = one_weight(0.0)
    straight = ExponentialMovingAverage(net, 0.999, warmup=True)
    first = ExponentialMovingAverage(net, 0.999, warmup=True)
    for i in range(6):
        if i == 3:
            second = ExponentialMovingAverage(net, 0.999, warmup=True)
            second.load_state_dict(first.state_dict())
        set_weight(net, i)
        straight.update()
        (first if i < 3 else second).update()
    state = straight.state_dict()
    assert state.keys() == {"weight", "n_averaged"}
    assert state["n_averaged"] == 6
    for name, x in second.state_dict().items():
        assert x.tobytes() == state[name].tobytes()


def test_a_state_without_a_count_is_past_the_warmup() -> None:
    """An average without warm-up, saved, goes on with the same bits where there is one now."""
    net = one_weight(1.0)
    plain = ExponentialMovingAverage(net, 0.9)
    warm = ExponentialMovingAverage(net, 0.9, warmup=True)
    state = plain.state_dict()
    assert state.keys() == {"weight"}
    warm.load_state_dict(state)
    for i in range(3):
        set_weight(net, i + 2.5)
        plain.update()
        warm.update()
        assert warm.module.weight.numpy().tobytes() == plain.module.weight.numpy().tobytes()
    again = ExponentialMovingAverage(net, 0.9, warmup=True)
    again.load_state_dict(warm.state_dict())
    plain.update()
    again.update()
    assert again.module.weight.numpy().tobytes() == plain.module.weight.numpy().tobytes()
    with pytest.raises(ValueError, match=r"unknown \['n_averaged'\]"):
        plain.load_state_dict(warm.state_dict())


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    average = ExponentialMovingAverage(one_weight(1.0), 0.9, warmup=True)
    average.update()
    state = {**average.state_dict(), "weight": np.zeros((2, 1))}
    with pytest.raises(ValueError, match="ExponentialMovingAverage: weight is float64"):
        average.load_state_dict({**state, "n_averaged": np.array([7.0])})
    assert average.n_averaged == 1
    assert average.module.weight.item() == 1


def test_the_name_of_the_count_is_taken() -> None:
    net = one_weight()
    net.n_averaged = mg.tensor(0.0)  # type: ignore[assignment]
    ExponentialMovingAverage(net, 0.9)
    with pytest.raises(ValueError, match="the net has a tensor 'n_averaged'"):
        ExponentialMovingAverage(net, 0.9, warmup=True)


def test_its_count_moves_with_the_net() -> None:
    net = one_weight(0.0, device="reference")
    average = ExponentialMovingAverage(net, 0.9, warmup=True)
    average.update()
    for x in (net, average.module):
        x.to(device="cpu")
    set_weight(net, 1.0)
    average.update()
    assert average.module.weight.item() == pytest.approx(9 / 11)
    assert average.n_averaged == 2


# --------------------------------------------------------------------------------------- training
def trainer(**options: Any) -> Trainer:
    rng = np.random.default_rng(0)
    data = Dataset("points", rng.standard_normal((60, 2)).astype("f4"))
    return Trainer(Config(**{"batch": 8, "steps": 9, "latent_size": 2, **options}), data=data)


def test_a_run_with_ema_warms_up() -> None:
    run = trainer(ema=0.999)
    weights = [run.generator.state_dict()["0.weight"].astype("f8")]
    for _ in range(3):
        run.step()
        weights.append(run.generator.state_dict()["0.weight"].astype("f8"))
    want = weights[0]
    for t, weight in enumerate(weights[1:]):
        decay = (1 + t) / (10 + t)
        want = decay * want + (1 - decay) * weight
    assert run.average is not None
    assert_close(run.average.module.state_dict()["0.weight"], want, 1e-6)


@pytest.mark.parametrize("captured", [True, False])
def test_a_run_resumes_to_the_bit(captured: bool) -> None:
    straight = trainer(ema=0.999)
    straight.captured = captured
    for _ in range(3):
        straight.step()
    tensors, info = straight.state()
    assert tensors["average.n_averaged"] == 3
    resumed = trainer(ema=0.999)
    resumed.load_state(tensors, info)
    for _ in range(4):
        straight.step()
        resumed.step()
    after = resumed.state()[0]
    for name, x in straight.state()[0].items():
        assert x.tobytes() == after[name].tobytes(), name


def test_a_checkpoint_from_before_the_warmup_goes_on_without_it() -> None:
    run = trainer(ema=0.9)
    run.step()
    tensors, info = run.state()
    del tensors["average.n_averaged"]
    run.load_state(tensors, info)
    before = run.average.module.state_dict() if run.average else {}
    run.step()
    now = run.generator.state_dict()
    assert run.average is not None
    for name, x in run.average.module.state_dict().items():
        want = 0.9 * before[name].astype("f8") + 0.1 * now[name]
        assert_close(x, want, 1e-5, name)
