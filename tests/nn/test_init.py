"""Initializers: their statistics, PyTorch's scales, the layout of a Dense, and what they refuse."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, threads

import minigan as mg
from minigan import nn
from minigan.nn import init

UNIFORM, NORMAL = 1 / math.sqrt(3), 1.0  # the standard deviation of numbers in +-1, and of normal
SHAPE = (300, 40, 3, 2)  # fan_in 240, fan_out 1800
# initializer, mean, standard deviation, largest magnitude (0: none)
CASES: list[tuple[Callable[[Any], Any], float, float, float]] = [
    (init.normal_, 0, 1, 0),
    (lambda x: init.normal_(x, 3, 0.02), 3, 0.02, 0),
    (init.uniform_, 0.5, UNIFORM / 2, 1),
    (lambda x: init.uniform_(x, -2, 4), 1, 3 * UNIFORM, 4),
    (init.xavier_normal_, 0, math.sqrt(2 / 2040), 0),
    (lambda x: init.xavier_uniform_(x, gain=2), 0, 2 * math.sqrt(2 / 2040), math.sqrt(24 / 2040)),
    (init.kaiming_normal_, 0, math.sqrt(2 / 240), 0),
    (lambda x: init.kaiming_normal_(x, mode="fan_out"), 0, math.sqrt(2 / 1800), 0),
    (lambda x: init.kaiming_normal_(x, nonlinearity="tanh"), 0, 5 / 3 / math.sqrt(240), 0),
    (lambda x: init.kaiming_uniform_(x, a=2.0), 0, math.sqrt(2 / 5 / 240), math.sqrt(6 / 5 / 240)),
    (lambda x: init.kaiming_uniform_(x, nonlinearity="linear"), 0, 240**-0.5, (3 / 240) ** 0.5),
]


@DEVICES
@pytest.mark.parametrize("case", range(len(CASES)))
def test_means_and_standard_deviations(device: str, case: int) -> None:
    """Within five standard errors: std / sqrt(n), and of the std at most std / sqrt(2 n)."""
    initialize, mean, std, largest = CASES[case]
    mg.manual_seed(case)
    x = mg.tensor(np.zeros(SHAPE, "f"), device=device, requires_grad=True)
    assert initialize(x) is x
    assert x.version == 1
    a = x.numpy().astype(np.float64)
    assert abs(a.mean() - mean) < 5 * std / math.sqrt(a.size)
    assert abs(a.std() / std - 1) < 5 / math.sqrt(2 * a.size)
    if largest:
        assert 0.99 * largest < np.abs(a).max() <= largest * (1 + 1e-6)


@DEVICES
def test_constants(device: str) -> None:
    x = mg.tensor([[1.0, 2.0]], dtype="float64", device=device, requires_grad=True)
    assert init.constant_(x, 0.1).numpy().tolist() == [[0.1, 0.1]]
    assert init.zeros_(x).numpy().tolist() == [[0, 0]]
    assert init.ones_(x).numpy().tolist() == [[1, 1]]
    assert x.requires_grad
    assert x.op is None


def test_the_fans_of_a_dense_are_those_of_the_same_linear() -> None:
    """A Dense's weight is (in, out), a Linear's (out, in): both have fan_in = 1000."""
    for layer in (nn.Dense(1000, 60), nn.Linear(1000, 60), copy.deepcopy(nn.Dense(1000, 60))):
        for mode, fan in (("fan_in", 1000), ("fan_out", 60)):
            init.kaiming_normal_(layer.weight, mode=mode)
            std = layer.weight.numpy().std()
            assert abs(std / math.sqrt(2 / fan) - 1) < 5 / math.sqrt(2 * 60000), (layer, mode)
    layer = nn.Dense(1000, 60).to("float64")
    layer.load_state_dict(layer.state_dict())
    init.kaiming_normal_(layer.weight)
    assert layer.weight.numpy().std() == pytest.approx(math.sqrt(2 / 1000), rel=0.02)


@DEVICES
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (8, 3, 5, 5), (200, 200), (1, 6)])
def test_an_orthogonal_matrix(device: str, shape: tuple[int, ...]) -> None:
    x = mg.tensor(np.zeros(shape), device=device)
    a = init.orthogonal_(x, gain=2.0).numpy().reshape(shape[0], -1)
    product = a @ a.T if a.shape[0] <= a.shape[1] else a.T @ a
    assert np.allclose(product, 4 * np.eye(len(product)), rtol=0, atol=2e-14)


def test_orthogonal_matrices_are_uniform() -> None:
    """Haar measure: each element has mean 0 and variance 1/n; det is +1 and -1 equally often."""
    mg.manual_seed(0)
    drawn = np.array([init.orthogonal_(mg.tensor(np.zeros((3, 3)))).numpy() for _ in range(400)])
    assert np.abs(drawn.mean(0)).max() < 5 / math.sqrt(3 * 400)
    # The fourth moment of an element is 3 / (n (n + 2)) = 1/5, so its square varies by 4/45.
    assert np.abs((drawn**2).mean(0) - 1 / 3).max() < 5 * math.sqrt(4 / 45 / 400)
    assert abs(np.sign(np.linalg.det(drawn)).mean()) < 5 / math.sqrt(400)


def test_numbers_are_those_of_the_stream_init() -> None:
    """The same seed gives the same bits on each device and for any number of threads."""
    bits = []
    for device in ("reference", "cpu", "cpu"):
        with threads(1):
            mg.manual_seed(5)
            mg.random.normal((3,))  # another stream
            x = mg.tensor(np.zeros((70, 90), "f"), device=device)
            bits.append(init.kaiming_uniform_(x).numpy().tobytes())
            init.orthogonal_(x)
    assert bits[0] == bits[1] == bits[2]
    mg.manual_seed(5)
    expected = mg.random.uniform((70, 90), -1.0, 1.0, stream="init").numpy() * math.sqrt(6 / 90)
    assert np.allclose(np.frombuffer(bits[0], "f").reshape(70, 90), expected, rtol=1e-5, atol=1e-7)


def test_a_graph_from_before_is_stale() -> None:
    layer = nn.Dense(2, 2)
    loss = (layer(mg.tensor([[1.0, 2.0]])) ** 2).sum()
    init.orthogonal_(layer.weight)
    with pytest.raises(ValueError, match="version 0"):
        mg.grad(loss, layer.parameters())


def test_an_initializer_within_a_captured_step() -> None:
    x = mg.tensor(np.zeros(4, "f"))
    step = mg.capture(lambda: init.normal_(x))
    values = []
    for _ in range(3):
        step()
        values.append(x.numpy().tolist())
    assert len({tuple(v) for v in values}) == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: init.kaiming_normal_(x[0]), ValueError, r"shape \(3,\) has no fans; a weight"),
        (lambda x: init.xavier_uniform_(x[:0]), ValueError, r"xavier_uniform_: .* has no fans"),
        (lambda x: init.orthogonal_(x[0]), ValueError, "orthogonal_: .* two axes or more"),
        (lambda x: init.normal_(x, std=-1), ValueError, "normal_: std = -1 is negative"),
        (lambda x: init.uniform_(x, 2, 1), ValueError, "uniform_: a = 2 is above b = 1"),
        (lambda x: init.constant_(x, "1"), ValueError, "constant_: value = '1' is not a finite"),
        (lambda x: init.xavier_normal_(x, math.nan), ValueError, "gain = nan is not a finite"),
        (lambda x: init.kaiming_normal_(x, mode="fan"), ValueError, "unknown mode 'fan'; did you"),
        (
            lambda x: init.kaiming_normal_(x, nonlinearity="rely"),
            ValueError,
            "unknown nonlinearity 'rely'; did you mean 'relu'",
        ),
        (lambda x: init.zeros_(x.to("int64")), TypeError, "constant_: argument 0 is int64"),
        (lambda x: init.normal_(x.numpy()), TypeError, "normal_: argument 0 is ndarray"),
    ],
)
def test_what_is_refused(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call(mg.tensor(np.zeros((2, 3))))


def test_gains_are_pytorchs() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    for name in init._GAINS:
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.2) == torch.nn.init.calculate_gain("leaky_relu", 0.2)
    for shape in ((200, 20), (200, 4, 3, 3)):
        for mode in ("fan_in", "fan_out"):
            theirs = torch.nn.init.kaiming_uniform_(torch.zeros(shape), mode=mode).abs().max()
            x = init.kaiming_uniform_(mg.tensor(np.zeros(shape, "f")), mode=mode)
            assert np.abs(x.numpy()).max() == pytest.approx(theirs.item(), rel=0.01)
