"""Convolutions fused with upsampling and pooling: as the two layers, with fewer multiply-adds."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

import minigan as mg
from minigan import nn, ops
from minigan.bench.lower_bound import CountingDevice
from minigan.engine.check import check_gradients
from minigan.gan.models import MODELS

odd = st.sampled_from([1, 3, 5])


def normal(*shape: int, seed: int = 0, **options: Any) -> mg.Tensor:
    x = np.random.default_rng(seed).standard_normal(shape)
    return mg.tensor(x, **{"dtype": "float64", **options})


def padding(w: mg.Tensor) -> tuple[int, int]:
    return w.shape[2] // 2, w.shape[3] // 2


def upsample_then_convolve(x: mg.Tensor, w: mg.Tensor, b: mg.Tensor | None = None) -> mg.Tensor:
    return ops.conv2d(ops.upsample_nearest(x, 2), w, b, 1, padding(w))


def convolve_then_pool(x: mg.Tensor, w: mg.Tensor, b: mg.Tensor | None = None) -> mg.Tensor:
    return ops.avg_pool2d(ops.conv2d(x, w, b, 1, padding(w)), 2)


PAIRS = [(ops.upsample_conv2d, upsample_then_convolve), (ops.conv2d_avg_pool, convolve_then_pool)]


@DEVICES
@pytest.mark.parametrize(("fused", "apart"), PAIRS)
@given(
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    kernel=st.tuples(odd, odd),
    has_bias=st.booleans(),
)
@settings(max_examples=25)
def test_fused_is_both(
    device: str, fused: Any, apart: Any, channels: Any, size: Any, kernel: Any, has_bias: bool
) -> None:
    inputs, outputs = channels
    x = normal(2, inputs, *size, device=device)
    w = normal(outputs, inputs, *kernel, seed=1, device=device)
    b = normal(outputs, seed=2, device=device) if has_bias else None
    assert_close(fused(x, w, b).numpy(), apart(x, w, b).numpy(), 1e-12)


@pytest.mark.parametrize(("fused", "apart"), PAIRS)
def test_no_image(fused: Any, apart: Any) -> None:
    for kernel in (1, 3):
        x, w = normal(0, 2, 2, 2), normal(3, 2, kernel, kernel)
        assert fused(x, w).shape == apart(x, w).shape


@pytest.mark.parametrize(("fused", "apart"), PAIRS)
def test_gradients_of_both_orders(fused: Any, apart: Any) -> None:
    arrays = [normal(*shape).numpy() for shape in ((2, 2, 3, 4), (3, 2, 3, 1), (3,))]
    check_gradients(fused, arrays)
    x, w, b = (mg.tensor(a, requires_grad=True) for a in arrays)
    cotangent = normal(*fused(x, w, b).shape, seed=3)
    own, other = (mg.grad((f(x, w, b) * cotangent).sum(), [x, w, b]) for f in (fused, apart))
    for g, want in zip(own, other, strict=True):
        assert_close(g.numpy(), want.numpy(), 1e-12)


@pytest.mark.parametrize(("fused", "apart"), PAIRS)
def test_a_kernel_of_3_by_3_takes_16_of_36_multiply_adds(fused: Any, apart: Any) -> None:
    counts = []
    for f in (fused, apart):
        device = CountingDevice()
        with mg.use_device(device):
            f(normal(1, 2, 6, 8), normal(3, 2, 3, 3))
        counts.append(device.multiply_adds)
    assert 36 * counts[0] == 16 * counts[1] > 0


@DEVICES
def test_layers(device: str) -> None:
    x = normal(2, 3, 4, 6, device=device, dtype="float32")
    up, down = nn.UpsampleConv2d(3, 5, 3, device=device), nn.ConvAvgPool2d(3, 5, (1, 3))
    down.to(device)
    for layer, apart in ((up, upsample_then_convolve), (down, convolve_then_pool)):
        want = apart(x, layer.weight, layer.bias).numpy()
        assert_close(layer(x).numpy(), want.astype("float64"), 1e-5)
    # Spectral norm divides by the singular value of the weight before its shifts are added.
    normed = nn.spectral_norm(down)
    weight = normed.eval().normalized_weight()
    assert np.linalg.norm(weight.numpy().reshape(5, -1), 2) == pytest.approx(1, abs=1e-3)
    want = convolve_then_pool(x, weight, down.bias).numpy()
    assert_close(normed(x).numpy(), want.astype("float64"), 1e-5)


def test_parameters_begin_as_those_of_conv2d() -> None:
    for kind in (nn.UpsampleConv2d, nn.ConvAvgPool2d):
        mg.manual_seed(3)
        plain = nn.Conv2d(2, 4, 3, 1, 1).state_dict()
        mg.manual_seed(3)
        fused = kind(2, 4, 3).state_dict()
        assert plain.keys() == fused.keys()
        assert all(np.array_equal(plain[k], fused[k]) for k in plain)
        assert list(kind(2, 4, 3, bias=False).state_dict()) == ["weight"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.UpsampleConv2d(1, 1, 4), "UpsampleConv2d: kernel_size = 4 is not odd"),
        (lambda: nn.ConvAvgPool2d(1, 1, (3, 2)), "kernel_size = (3, 2) is not odd"),
        (lambda: nn.UpsampleConv2d(1, 1, 0), "UpsampleConv2d: kernel_size = 0"),
        (
            lambda: ops.upsample_conv2d(normal(1, 1, 3, 3), normal(1, 1, 2, 3)),
            "upsample_conv2d: a kernel of 2 x 3; both sides must be odd",
        ),
        (
            lambda: ops.conv2d_avg_pool(normal(1, 1, 1, 3), normal(1, 1, 3, 3)),
            "conv2d_avg_pool: an image of 1 x 3 pixels; at least 2 x 2 are needed",
        ),
        (
            lambda: ops.upsample_conv2d(normal(1, 2, 3, 3), normal(1, 1, 3, 3)),
            "upsample_conv2d: ",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_residual_nets_keep_the_names_of_their_weights() -> None:
    generator, discriminator = MODELS["resnet"].build((1, 16, 16), 8)
    names = [name for name in generator.state_dict() if name.startswith("2.main")]
    assert "2.main.3.weight" in names
    assert "2.main.6.weight" in names
    assert "0.main.2.module.weight" in discriminator.state_dict()
    assert "1.main.3.module.weight" in discriminator.state_dict()
