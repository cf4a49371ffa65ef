"""The penalty that keeps filters apart: values by hand, gradients, PyTorch, and no rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, FLOATS, assert_close

import minigan as mg
from minigan import nn, ops
from minigan.engine.assign import assign
from minigan.engine.check import check_gradients
from minigan.gan.losses import orthogonal_penalty

RNG = np.random.default_rng(0)


def by_hand(*matrices: np.ndarray) -> float:
    """Over pairs of different rows, each pair twice."""
    total = 0.0
    for m in matrices:
        total += sum(float(a @ b) ** 2 for i, a in enumerate(m) for j, b in enumerate(m) if i != j)
    return total


def with_weight(layer: Any, weight: mg.Tensor) -> Any:
    layer.weight = None  # Only a parameter can take the place of a parameter.
    layer.weight = weight
    return layer


# A layer, its weight's shape, and that weight as a matrix (outputs, rest).
LAYERS: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "Dense": (nn.Dense(3, 4), (3, 4), lambda w: w.T),
    "Conv2d": (nn.Conv2d(3, 4, 2), (4, 3, 2, 2), lambda w: w.reshape(4, 12)),
    "ConvTranspose2d": (
        nn.ConvTranspose2d(3, 4, 2),
        (3, 4, 2, 2),
        lambda w: w.swapaxes(0, 1).reshape(4, 12),
    ),
}
EACH = pytest.mark.parametrize(("layer", "shape", "matrix"), LAYERS.values(), ids=LAYERS)


@EACH
@DEVICES
def test_one_layer(device: str, layer: Any, shape: tuple[int, ...], matrix: Any) -> None:
    w = RNG.standard_normal(shape)

    def penalty(w: mg.Tensor) -> mg.Tensor:
        return orthogonal_penalty(with_weight(layer, w))

    actual = penalty(mg.tensor(w, device=device))
    assert actual.item() == pytest.approx(by_hand(matrix(w)), rel=1e-13)
    check_gradients(penalty, [w], device=device)


def test_a_net_is_the_sum_of_its_layers() -> None:
    """Of the raw weight where it is normalised spectrally; nothing else counts."""
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, dtype="float64"),
        nn.Flatten(),
        nn.LayerNorm(12, dtype="float64"),
        nn.ReLU(),
        nn.Sequential(nn.spectral_norm(nn.Dense(12, 5, dtype="float64"))),
    )
    conv, dense = net[0].weight.numpy(), net[4][0].module.weight.numpy()
    expected = by_hand(conv.reshape(3, 18), dense.T)
    penalty = orthogonal_penalty(net)
    assert penalty.item() == pytest.approx(expected, rel=1e-13)
    slopes = mg.grad(penalty, net.parameters(), allow_unused=True)
    names = [name for name, _ in net.named_parameters()]
    moved = [name for name, x in zip(names, slopes, strict=True) if x is not None]
    assert moved == ["0.weight", "4.0.module.weight"]


@DEVICES
@FLOATS
def test_lengths_are_free(device: str, dtype: str) -> None:
    """Exactly 0 for perpendicular filters of any length, and for one filter or none but zeros."""
    for weight in (np.diag([1.0, 1e3, 1e-3]), np.array([[3.0], [4.0]]), np.zeros((3, 2))):
        w = mg.tensor(weight, dtype=dtype, device=device, requires_grad=True)
        penalty = orthogonal_penalty(with_weight(nn.Dense(1, 1), w))
        assert penalty.item() == 0
        (first,) = mg.grad(penalty, [w], create_graph=True)
        assert first is not None
        assert not first.numpy().any()
        (second,) = mg.grad(ops.sum(first), [w])
        assert second is not None
        assert np.isfinite(second.numpy()).all()


def test_rounding_does_not_make_it_negative() -> None:
    """In float32, filters that are perpendicular but for rounding."""
    q = np.linalg.qr(RNG.standard_normal((784, 64)))[0].astype("float32")
    layer = nn.Dense(784, 64)
    assign(layer.weight, mg.tensor(q))
    assert 0 <= orthogonal_penalty(layer).item() < 1e-10


def test_in_a_captured_step() -> None:
    layer = nn.Dense(3, 4)
    optimizer = mg.optim.SGD([layer.weight], lr=0.1)
    start = layer.state_dict()

    def step() -> mg.Tensor:
        penalty = orthogonal_penalty(layer)
        optimizer.step(mg.grad(penalty, [layer.weight]))
        return penalty

    eager = [step().item() for _ in range(4)]
    layer.load_state_dict(start)
    captured = mg.capture(step)
    assert [captured().item() for _ in range(4)] == eager
    assert eager[3] < eager[0]


def test_a_net_without_filters() -> None:
    with pytest.raises(ValueError, match=r"^orthogonal_penalty: the net has no dense layer and no"):
        orthogonal_penalty(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)))


@EACH
def test_the_same_as_pytorchs(layer: Any, shape: tuple[int, ...], matrix: Any) -> None:
    """Value, first and second derivatives to 1e-10."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from torch_helpers import derivatives, torch_derivatives

    def theirs(w: Any) -> Any:
        m = matrix(w)
        return (m @ m.T * (1 - torch.eye(4))).square().sum()

    w = RNG.standard_normal(shape)
    actual = derivatives(lambda w: orthogonal_penalty(with_weight(layer, w)), [w], "cpu")
    for value, want in zip(actual, torch_derivatives(theirs, [w]), strict=True):
        assert_close(value, want, 1e-10)
