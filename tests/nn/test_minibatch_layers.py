"""The layers that let a discriminator see the batch; all layers in a captured step."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close

import minigan as mg
from minigan import nn, ops
from minigan.engine.check import check_gradients

SEEDS = (5, 0, 2**64 - 1)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def with_weight(layer: Any, weight: mg.Tensor, *inputs: mg.Tensor) -> mg.Tensor:
    """What the layer does with another weight."""
    layer.weight = weight
    return layer(*inputs)


# --------------------------------------------------------------------- minibatch discrimination
def closeness(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The paper's formula, sample by sample."""
    n, out = len(x), weight.shape[1]
    o = np.zeros((n, out))
    for i in range(n):
        for j in range(n):
            for b in range(out):
                if i != j:
                    apart = (x[i] - x[j]) @ weight[:, b]
                    o[i, b] += np.exp(-np.abs(apart).sum())
    return np.concatenate([x, o], axis=1)


@DEVICES
@pytest.mark.parametrize("n", [1, 2, 5])
def test_discrimination_is_the_papers_sum(device: str, n: int) -> None:
    layer = nn.MinibatchDiscrimination(4, 3, 2, dtype="float64", device=device)
    x = numbers(n, 4)
    y = layer(mg.tensor(x, device=device)).numpy()
    assert_close(y, closeness(x, layer.weight.numpy()), 1e-13)
    check_gradients(
        lambda x, w: with_weight(layer, w, x), [x, numbers(4, 3, 2, seed=1)], device=device
    )


def test_equal_samples_are_as_close_as_can_be() -> None:
    layer = nn.MinibatchDiscrimination(4, 3, 2)
    x = mg.tensor(np.tile(numbers(4), (6, 1)).astype("f"), requires_grad=True)
    y = layer(x)
    assert (y.numpy()[:, 4:] == 5).all()
    (g,) = mg.grad(y.sum(), x, create_graph=True)
    (second,) = mg.grad((g * g).sum(), x, allow_unused=True)
    assert np.isfinite(g.numpy()).all()
    assert second is None or np.isfinite(second.numpy()).all()


def test_a_far_sample_is_not_lost_in_ones_own() -> None:
    """In float32 1 + 1e-9 - 1 would be 0."""
    layer = nn.MinibatchDiscrimination(1, 1, 1)
    nn.MinibatchDiscrimination.load_state_dict(layer, {"weight": np.ones((1, 1, 1), "f")})
    o = layer(mg.tensor([[0.0], [20.0]])).numpy()[:, 1]
    assert o == pytest.approx(np.exp(-20.0), rel=1e-5)


def test_discrimination_starts_alive() -> None:
    layer = nn.MinibatchDiscrimination(128, 16, 8)
    mg.manual_seed(0)
    bound = 1 / np.sqrt(128)
    start = mg.random.uniform((128, 16, 8), -bound, bound, stream="init")
    assert np.array_equal(layer.weight.numpy(), start.numpy())
    o = layer(mg.random.normal((64, 128))).numpy()[:, 128:]
    assert 0.1 < o.mean() < 10


@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 1), (4,)])
def test_discrimination_takes_vectors_of_its_size(shape: tuple[int, ...]) -> None:
    layer = nn.MinibatchDiscrimination(4, 3, 2)
    assert repr(layer) == "MinibatchDiscrimination(4, 3, 2)"
    with pytest.raises(ValueError, match=re.escape(f"input {shape}; (n, 4) is needed")):
        layer(mg.tensor(np.zeros(shape)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.MinibatchDiscrimination(4, 0, 2), "MinibatchDiscrimination: out_features = 0"),
        (
            lambda: nn.MinibatchDiscrimination(4, 1, 1.5),
            "MinibatchDiscrimination: kernel_dims = 1.5",
        ),
        (lambda: nn.MinibatchStdDev(0), "MinibatchStdDev: group_size = 0"),
    ],
)
def test_bad_sizes(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message + " is not a positive integer"):
        make()


# ----------------------------------------------------------------- minibatch standard deviation
def deviation(x: np.ndarray, group_size: int) -> np.ndarray:
    """Group by group: sample i is in group i mod (n / group_size)."""
    n = len(x)
    group = min(group_size, n)
    channel = np.zeros((n, 1, *x.shape[2:]))
    for k in range(n // group):
        members = slice(k, None, n // group)
        channel[members] = np.sqrt(x[members].var(axis=0) + 1e-8).mean()
    return np.concatenate([x, channel], axis=1)


@DEVICES
@pytest.mark.parametrize(
    ("shape", "group"),
    [((6, 3, 2, 5), 3), ((3, 2, 2, 2), 4), ((8, 5), 4), ((2, 3), 1), ((1, 3), 4)],
)
def test_deviation_of_each_group(device: str, shape: tuple[int, ...], group: int) -> None:
    layer, x = nn.MinibatchStdDev(group), numbers(*shape)
    y = layer(mg.tensor(x, device=device)).numpy()
    assert y.shape == (shape[0], shape[1] + 1, *shape[2:])
    assert_close(y, deviation(x, group), 1e-13)
    if min(group, shape[0]) > 1:  # of one sample the root is at its sharp end
        check_gradients(layer, [x], device=device)


@DEVICES
def test_derivatives_are_finite_where_a_group_is_equal(device: str) -> None:
    x = mg.tensor(np.ones((4, 2, 3, 3), np.float32), device=device, requires_grad=True)
    y = nn.MinibatchStdDev()(x)
    assert y.numpy()[:, 2] == pytest.approx(1e-4)
    (g,) = mg.grad((y * y).sum(), x, create_graph=True)
    (second,) = mg.grad((g * g).sum(), x)
    assert np.isfinite(g.numpy()).all()
    assert np.isfinite(second.numpy()).all()


def test_a_batch_that_does_not_divide() -> None:
    layer = nn.MinibatchStdDev(4)
    assert repr(layer) == "MinibatchStdDev(4)"
    with pytest.raises(ValueError, match="a batch of 6 does not divide into groups of 4"):
        layer(mg.tensor(numbers(6, 2)))
    for shape in ((0, 3), (4, 3, 2), (4,)):
        with pytest.raises(ValueError, match=re.escape(f"MinibatchStdDev: input {shape}; (n, fea")):
            layer(mg.tensor(np.zeros(shape)))


# ------------------------------------------------------------------------------- who is mixed
def test_what_depends_on_the_batch() -> None:
    def both(layer: Any) -> tuple[bool, bool]:
        net = nn.Sequential(nn.Sequential(layer))
        actual = nn.depends_on_batch(net), nn.has_batch_norm(net)
        net.eval()
        return (*actual, nn.depends_on_batch(net), nn.has_batch_norm(net))

    assert both(nn.BatchNorm1d(3)) == (True, True, False, False)
    assert both(nn.BatchNorm2d(3)) == (True, True, False, False)
    assert both(nn.MinibatchDiscrimination(3, 2, 2)) == (True, False, True, False)
    assert both(nn.MinibatchStdDev()) == (True, False, True, False)
    for layer in (nn.LayerNorm(3), nn.InstanceNorm2d(3), nn.GaussianNoise(0.1), nn.Dense(2, 3)):
        assert both(layer) == (False, False, False, False)
    assert not nn.depends_on_batch(len)
    assert not nn.has_batch_norm(len)


@pytest.mark.parametrize(
    "layer", [nn.MinibatchDiscrimination(3, 2, 2), nn.MinibatchStdDev()], ids=lambda x: repr(x)[:13]
)
def test_the_minibatch_layers_mix_in_either_mode(layer: nn.Module) -> None:
    x = numbers(4, 3).astype("f")
    other = np.concatenate([x[:1], numbers(3, 3, seed=1).astype("f")])
    for mode in (True, False):
        layer.train(mode)
        a, b = (layer(mg.tensor(v)).numpy()[0] for v in (x, other))
        assert np.array_equal(a[:3], b[:3])
        assert not np.array_equal(a[3:], b[3:])


# ------------------------------------------------------------------- captured steps, all layers
class Critic(nn.Module):
    """All four layers."""

    def __init__(self) -> None:
        self.noise = nn.GaussianNoise(0.5)
        self.classes = nn.Embedding(4, 3)
        self.close = nn.MinibatchDiscrimination(6, 3, 2)
        self.spread = nn.MinibatchStdDev(4)
        self.out = nn.Dense(10, 1)

    def forward(self, inputs: tuple[mg.Tensor, mg.Tensor]) -> mg.Tensor:
        x, labels = inputs
        h = ops.concatenate([self.noise(x), self.classes(labels)], axis=1)
        return self.out(self.spread(self.close(h)))


def _train(captured: bool) -> dict[str, np.ndarray]:
    """A few steps, with a penalty on the input's gradient; all that came of them."""
    net = Critic()
    optimizer = mg.optim.Adam(net.parameters(), lr=0.01)

    def turn(x: mg.Tensor, labels: mg.Tensor) -> mg.Tensor:
        x = ops.multiply(x, 1.0)
        x.requires_grad = True
        y = net((x, labels))
        (slope,) = mg.grad(y.sum(), x, create_graph=True)
        loss = ops.mean(ops.softplus(y)) + ops.mean(slope * slope)
        optimizer.step(mg.grad(loss, net.parameters()))
        return loss

    step = mg.capture(turn) if captured else turn
    actual = {}
    for k in range(3):
        net.noise.sigma = 0.5 / (k + 1)
        rng = np.random.default_rng(k)
        x = mg.tensor(rng.standard_normal((8, 3)).astype("f"))
        actual[f"loss {k}"] = step(x, mg.tensor(rng.integers(0, 4, 8))).numpy()
    return actual | net.state_dict()


@DEVICES
def test_a_captured_step_has_the_eager_bits(device: str) -> None:
    results = []
    for captured in (False, True):
        mg.manual_seed(3)
        with mg.use_device(device):
            results.append(_train(captured))
    eager, replayed = results
    assert eager.keys() == replayed.keys()
    for key, x in eager.items():
        assert x.tobytes() == replayed[key].tobytes(), key
