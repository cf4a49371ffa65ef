"""Embedding, and noise whose size can be set."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan import nn, ops
from minigan.engine.check import check_gradients

LABELS = np.array([2, 0, 2, 2, 3])


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


# ----------------------------------------------------------------------------------- embedding
@DEVICES
def test_labels_take_rows(device: str) -> None:
    layer = nn.Embedding(4, 3, dtype="float64", device=device)
    y = layer(mg.tensor(LABELS, device=device))
    assert np.array_equal(y.numpy(), layer.weight.numpy()[LABELS])
    assert list(layer.state_dict()) == ["weight"]
    assert layer(mg.tensor(LABELS[:0], device=device)).shape == (0, 3)
    (g,) = mg.grad(y.sum(), layer.parameters())
    assert g.numpy()[:, 0].tolist() == [1, 0, 3, 1]  # as often as each label occurs

    def embed(weight: mg.Tensor, labels: mg.Tensor) -> mg.Tensor:
        layer.weight = weight
        return ops.exp(layer(labels))

    check_gradients(embed, [_numbers(4, 3), LABELS], device=device)


def test_an_embedding_starts_standard_normal() -> None:
    weight = nn.Embedding(200, 300).weight
    mg.manual_seed(0)
    assert np.array_equal(weight.numpy(), mg.random.normal((200, 300), stream="init").numpy())
    assert weight.requires_grad
    assert repr(nn.Embedding(10, 3)) == "Embedding(10, 3)"


@DEVICES
def test_a_captured_step_takes_other_labels(device: str) -> None:
    layer = nn.Embedding(4, 3, device=device)
    step = mg.capture(layer)
    for seed in range(3):
        labels = np.random.default_rng(seed).integers(0, 4, 5)
        y = step(mg.tensor(labels, device=device))
        assert np.array_equal(y.numpy(), layer.weight.numpy()[labels])


@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_a_captured_step_refuses_a_label_that_is_out_of_range(device: str) -> None:
    step = mg.capture(nn.Embedding(4, 3, device=device))
    step(mg.tensor([0, 3], device=device))
    with pytest.raises(IndexError, match=r"gather.*is outside (the|an) axis"):
        step(mg.tensor([0, 4], device=device))


@DEVICES
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0, 4], ValueError, "index 4 is outside an axis of size 4"),
        ([-1, 0], ValueError, "index -1 is outside"),
        ([0.0], TypeError, "labels are float32, not int64"),
        ([True], TypeError, "labels are bool, not int64"),
        ([[0], [1]], ValueError, r"labels of shape (2, 1); (n,) is needed"),
        (3, ValueError, r"labels of shape (); (n,) is needed"),
    ],
)
def test_bad_labels(device: str, labels: Any, error: type[Exception], message: str) -> None:
    layer = nn.Embedding(4, 3, device=device)
    with pytest.raises(error, match="Embedding: .*" + re.escape(message)):
        layer(mg.tensor(labels, device=device))


# --------------------------------------------------------------------------------------- noise
@DEVICES
def test_noise_is_of_its_stream_and_of_this_size(device: str) -> None:
    layer, x = (
        nn.GaussianNoise(0.25, device=device),
        mg.tensor(np.zeros((300, 5), "f"), None, device),
    )
    first, second = layer(x).numpy(), layer(x).numpy()
    mg.manual_seed(0)
    for y in (first, second):
        expected = mg.random.normal((300, 5), device=device, stream="noise").numpy() * np.float32(
            0.25
        )
        assert np.array_equal(y, expected)
    assert abs(first.std() - 0.25) < 0.02
    assert not np.array_equal(first, second)
    moved = layer(x + 3.0).numpy()
    assert abs(moved.mean() - 3) < 0.03
    check_gradients(lambda x: ops.exp(_same_noise(x)), [_numbers(4, 3)], device=device)


def _same_noise(x: mg.Tensor) -> mg.Tensor:
    mg.manual_seed(0)
    return nn.GaussianNoise(0.5, dtype="float64", device=x.device)(x)


def test_in_eval_mode_there_is_no_noise() -> None:
    layer, x = nn.GaussianNoise(0.5).eval(), mg.tensor(_numbers(3, 2))
    before = mg.random.default_generator().state()
    assert layer(x) is x
    assert mg.random.default_generator().state() == before


@DEVICES
def test_sigma_can_be_set_between_replays(device: str) -> None:
    layer = nn.GaussianNoise(1.0, device=device)
    x = mg.tensor(np.zeros(6, np.float32), device=device)
    step = mg.capture(layer)
    actual = []
    for sigma in (1.0, 0.5, 0.0, 2.0):
        layer.sigma = sigma
        assert layer.sigma == sigma
        actual.append(step(x).numpy())
    mg.manual_seed(0)
    for sigma, y in zip((1.0, 0.5, 0.0, 2.0), actual, strict=True):
        noise = mg.random.normal(6, device=device, stream="noise").numpy()
        assert np.array_equal(y, noise * np.float32(sigma))
    assert len(step.captures) == 1
    assert len(next(iter(step.captures.values()))) == 1


def test_sigma_may_change_between_a_pass_and_its_gradient() -> None:
    layer = nn.GaussianNoise(0.5)
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = layer(x)
    layer.sigma = 0.25
    assert mg.grad(y.sum(), x)[0].numpy().tolist() == [1, 1]


def test_sigma_is_saved_and_moved() -> None:
    layer = nn.GaussianNoise(0.75)
    assert {key: float(x) for key, x in layer.state_dict().items()} == {"scale": 0.75}
    assert layer.parameters() == []
    other = nn.GaussianNoise(0.0)
    other.load_state_dict(layer.state_dict())
    assert other.sigma == 0.75
    other.to("reference", "float64")
    y = other(mg.tensor(_numbers(3), device="reference"))
    assert y.dtype == np.float64
    assert repr(nn.GaussianNoise(0.05)) == "GaussianNoise(0.05)"


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf"), "1", None])
def test_a_bad_sigma(sigma: Any) -> None:
    with pytest.raises(ValueError, match=f"GaussianNoise: sigma = {sigma!r} is not a finite"):
        nn.GaussianNoise(sigma)
    layer = nn.GaussianNoise(0.5)
    with pytest.raises(ValueError, match=f"GaussianNoise: sigma = {sigma!r} is not a finite"):
        layer.sigma = sigma
    assert layer.sigma == 0.5


@pytest.mark.parametrize(
    ("sizes", "message"), [((-1, 2), "num_embeddings = -1"), ((2, 1.5), "embedding_dim = 1.5")]
)
def test_bad_sizes(sizes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"Embedding: {message} is not a positive integer"):
        nn.Embedding(*sizes)
