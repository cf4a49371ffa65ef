"""Pixel norm and the equalized learning rate: values, derivatives, what they are for."""

import copy
import math

import numpy as np
import pytest
from helpers import DEVICES, assert_close

import minigan as mg
from minigan import nn

RNG = np.random.default_rng


# -------------------------------------------------------------------------------------- pixel norm
@DEVICES
@pytest.mark.parametrize("shape", [(3, 4, 2, 5), (5, 3), (2, 1, 3, 1)])
def test_pixel_norm_is_the_formula(device, shape):
    x = RNG(0).standard_normal(shape)
    x[0] *= 1e-4  # where eps matters
    y = nn.PixelNorm(1e-6)(mg.tensor(x, device=device))
    assert_close(y.numpy(), x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-6), 1e-14)


@DEVICES
def test_pixel_norm_has_derivatives_up_to_order_2(device):
    mg.check_gradients(nn.PixelNorm(), [RNG(1).standard_normal((2, 3, 2, 2))], device=device)


def test_pixel_norm_of_zeros_is_zero_with_a_finite_gradient():
    x = mg.tensor(np.zeros((2, 3), np.float32), requires_grad=True)
    assert not nn.PixelNorm()(x).numpy().any()
    (gradient,) = mg.grad(nn.PixelNorm()(x).sum(), [x])
    assert np.isfinite(gradient.numpy()).all()


def test_a_sample_does_not_depend_on_its_batch():
    assert not nn.depends_on_batch(nn.PixelNorm())


# -------------------------------------------------------------------------- equalized learning rate
LAYERS = {
    "dense": (lambda: nn.Dense(6, 4, dtype="float64"), (3, 6), 6),
    "linear": (lambda: nn.Linear(6, 4, dtype="float64"), (3, 6), 6),
    "conv": (lambda: nn.Conv2d(2, 3, 3, 1, 1, dtype="float64"), (2, 2, 4, 4), 18),
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 4, 2, 1, dtype="float64"), (2, 2, 3, 3), 32),
    "upsampled": (lambda: nn.UpsampleConv2d(2, 3, 3, dtype="float64"), (2, 2, 3, 3), 18),
    "no bias": (lambda: nn.Dense(6, 4, bias=False, dtype="float64"), (3, 6), 6),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


@DEVICES
@each_layer
def test_the_layer_has_its_weight_times_he_s_constant(device, name):
    make, shape, fan_in = LAYERS[name]
    layer = nn.equalized_lr(make().to(device), gain=3.0)
    other = copy.deepcopy(layer.module)
    state = other.state_dict()
    state["weight"] = state["weight"] * 3.0 / math.sqrt(fan_in)
    other.load_state_dict(state)
    x = mg.tensor(RNG(0).standard_normal(shape), device=device)
    expected = other(x).numpy()
    assert abs(expected).max() > 0.1
    assert_close(layer(x).numpy(), expected, 1e-13)


@DEVICES
@each_layer
def test_the_layer_has_derivatives_up_to_order_2(device, name):
    make, shape, _ = LAYERS[name]
    layer = nn.equalized_lr(make().to(device))

    def f(x, weight):
        layer.module.weight = weight
        return layer(x).tanh()

    arrays = [RNG(2).standard_normal(shape), layer.module.weight.numpy()]
    mg.check_gradients(f, arrays, device=device)


def test_weights_begin_standard_normal_and_biases_at_0():
    layer = nn.equalized_lr(nn.Conv2d(8, 16, 3))
    weight, bias = (x.numpy() for x in layer.parameters())
    assert abs(weight.mean()) < 0.1
    assert 0.95 < weight.std() < 1.05
    assert not bias.any()
    assert sorted(layer.state_dict()) == ["module.bias", "module.weight"]


def test_activations_keep_their_size_and_adam_changes_layers_by_the_same_share():
    """The reason for the layer: without it, a wide layer changes by a larger share."""
    mg.manual_seed(0)
    shares, sizes = [], []
    for width in (16, 1024):
        layer = nn.equalized_lr(nn.Dense(width, 64))
        x = mg.random.normal((256, width))
        sizes.append(float(np.square(layer(x).numpy()).mean()))
        before = layer.module.weight.numpy() * layer.scale
        optimizer = mg.optim.Adam(layer.parameters(), lr=0.01)
        optimizer.step(mg.grad((layer(x) ** 2).mean(), layer.parameters()))
        after = layer.module.weight.numpy() * layer.scale
        shares.append(np.sqrt(np.square(after - before).mean() / np.square(before).mean()))
    np.testing.assert_allclose(sizes, 2, rtol=0.15)  # gain^2
    np.testing.assert_allclose(shares, 0.01, rtol=0.1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.equalized_lr(nn.ReLU()), TypeError, "ReLU has no weight with a fan-in"),
        (lambda: nn.equalized_lr(nn.Embedding(3, 2)), TypeError, "Embedding has no weight"),
        (lambda: nn.equalized_lr(nn.Dense(2, 2), 0), ValueError, "gain = 0 is not a positive"),
        (lambda: nn.PixelNorm(-1), ValueError, "eps"),
        (lambda: nn.PixelNorm()(mg.tensor([1.0])), ValueError, r"PixelNorm: input \(1,\)"),
    ],
)
def test_what_is_not_accepted(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_parity_with_pytorch():
    """Values and two derivatives of both layers, against their plain formulas in PyTorch."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    from torch_helpers import derivatives, torch_derivatives

    layer = nn.equalized_lr(nn.Conv2d(2, 3, 3, 1, 1, dtype="float64"))
    layer.module.bias = None

    def ours(x, weight):
        layer.module.weight = weight
        return nn.PixelNorm()(layer(x))

    def theirs(x, weight):
        y = torch.nn.functional.conv2d(x, weight * math.sqrt(2 / 18), padding=1)
        return y / torch.sqrt(y.square().mean(1, keepdim=True) + 1e-8)

    arrays = [RNG(3).standard_normal(shape) for shape in ((2, 2, 4, 4), (3, 2, 3, 3))]
    pairs = zip(derivatives(ours, arrays, "cpu"), torch_derivatives(theirs, arrays), strict=True)
    for y, want in pairs:
        assert_close(y, want, 1e-10 * max(1.0, float(np.abs(want).max())))
