"""The nets of images from images: shapes, what they leave alone, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest

import minigan as mg
from minigan.translation.networks import (
    NORMS,
    InpaintingNet,
    PatchDiscriminator,
    UNet,
    pair_features,
)


def wide_weights(net):
    """Return the net in float64 with weights that keep the size of activations."""
    net.to(dtype="float64")
    rng = np.random.default_rng(0)
    state = net.state_dict()
    trained = [name for name, _ in net.named_parameters()]
    for name in trained:
        x = state[name]
        fan_in = max(1, x[0].size) if x.ndim > 1 else 4
        state[name] = x * 0 + rng.normal(0, 1 / np.sqrt(fan_in), x.shape)
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_the_unet_takes_all_sizes_that_it_says(depth, norm):
    net = UNet(2, 3, 4, depth, 1, norm)
    side = 2**depth
    for height, width in ((side, 3 * side), (2 * side, 2 * side)):
        assert net(mg.random.normal((2, 2, height, width))).shape == (2, 3, height, width)
    with pytest.raises(ValueError, match=f"multiples of {side}"):
        net(mg.random.normal((1, 2, side + 1, side)))


def test_known_pixels_never_change():
    net = InpaintingNet(wide_weights(UNet(2, 1, 4, 1, 1)))
    x = np.random.default_rng(0).normal(size=(3, 2, 6, 6))
    mask = np.zeros((3, 1, 6, 6))
    mask[:, :, 1:4, 2:5] = 1
    made = net(mg.tensor(np.concatenate([x[:, :1], mask], 1))).numpy()
    assert (made[mask == 0] == x[:, :1][mask == 0]).all()
    assert (made[mask == 1] != x[:, :1][mask == 1]).all()


def test_a_large_image_is_treated_like_its_parts():
    """With batch norm in eval mode a pixel depends on its surroundings alone."""
    net = wide_weights(UNet(1, 1, 4, 2, 1)).eval()
    x = mg.tensor(np.random.default_rng(0).normal(size=(1, 1, 64, 64)))
    whole, part = net(x).numpy(), net(x[:, :, :48, :48]).numpy()
    np.testing.assert_allclose(whole[..., :24, :24], part[..., :24, :24], atol=1e-12)
    assert np.abs(whole[..., 44:48, 44:48] - part[..., 44:, 44:]).max() > 1e-6


def test_a_patch_has_eighteen_pixels():
    net = wide_weights(PatchDiscriminator(1, 4, 2))
    x = mg.tensor(np.random.default_rng(0).normal(size=(1, 1, 32, 32)), requires_grad=True)
    logits = net(x)
    assert logits.shape == (1, 1, 8, 8)
    (g,) = mg.grad(logits[0, 0, 4, 4], [x])
    rows = np.flatnonzero(np.abs(g.numpy()[0, 0]).sum(1))
    assert np.ptp(rows) + 1 == 18


def _agree(f, values, rel=2e-6):
    """Compare the derivative of f, a scalar, along a random direction with finite differences."""
    direction, h = np.random.default_rng(1).normal(size=values.shape), 1e-6
    x = mg.tensor(values, requires_grad=True)
    (g,) = mg.grad(f(x), [x])
    above, below = (f(mg.tensor(values + sign * h * direction)).item() for sign in (1, -1))
    assert float((g.numpy() * direction).sum()) == pytest.approx((above - below) / (2 * h), rel=rel)


def _project(y, seed=2):
    return (y * mg.tensor(np.random.default_rng(seed).normal(size=y.shape))).sum()


def _squared_slope(f, x):
    """Return |df/dx|^2, of which a derivative is one of second order."""
    x = x if x.requires_grad else mg.tensor(x.numpy(), requires_grad=True)
    (g,) = mg.grad(f(x), [x], create_graph=True)
    return (g * g).sum()


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_gradients_of_the_generator_are_finite_differences(norm):
    net = wide_weights(UNet(1, 1, 3, 1, 1, norm))
    x = np.random.default_rng(0).normal(size=(2, 1, 6, 6))
    _agree(lambda z: _project(net(z)), x)
    _agree(lambda z: _squared_slope(lambda y: _project(net(y)), z), x)


def test_gradients_of_the_discriminator_are_finite_differences():
    net = wide_weights(PatchDiscriminator(1, 3, 2)).eval()  # in train mode u and v move
    x = np.random.default_rng(0).normal(size=(2, 1, 8, 8))
    _agree(lambda z: _project(net(z)), x)
    # Between the corners of LeakyReLU the logits are linear in x: the second derivative is mixed.
    layer = net.last.module
    weight = layer.weight.numpy().copy()

    def penalty(w):
        layer.weight = w if w.requires_grad else mg.tensor(w.numpy(), requires_grad=True)
        return _squared_slope(lambda y: _project(net(y)), mg.tensor(x))

    _agree(penalty, weight)


def test_gradients_of_the_feature_loss_are_finite_differences():
    net = wide_weights(PatchDiscriminator(1, 3, 2)).eval()
    rng = np.random.default_rng(0)
    real = net.features(mg.tensor(rng.normal(size=(2, 1, 8, 8))))
    _agree(lambda z: pair_features(real, net.features(z)), rng.normal(size=(2, 1, 8, 8)))


def test_the_feature_loss_is_zero_for_equal_images_and_leaves_the_truth_alone():
    net = wide_weights(PatchDiscriminator(1, 3, 2)).eval()
    x = mg.tensor(np.random.default_rng(0).normal(size=(2, 1, 8, 8)), requires_grad=True)
    maps = net.features(x)
    assert pair_features(maps, maps).item() == 0
    (g,) = mg.grad(pair_features(maps, net.features(x.detach() * 0.5)), [x], allow_unused=True)
    assert g is None
