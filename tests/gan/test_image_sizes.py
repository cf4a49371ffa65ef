"""The sizes of images that convolutional models take, and what they say of the others."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
from run_helpers import refused

import minigan as mg
from minigan import Config, Trainer, nn
from minigan.data import Dataset
from minigan.gan.convolutional import upsampling_plan
from minigan.gan.models import MODELS

IMAGE_MODELS = ["dcgan", "sngan", "resnet", "narrow"]
NAMED = pytest.mark.parametrize("name", IMAGE_MODELS)


# ------------------------------------------------------------------------------------------- rule
@pytest.mark.parametrize(
    ("size", "plan"),
    [
        # height and width, then those of the smallest map and the number of doublings
        ((8, 8), (4, 4, 1)),
        ((14, 10), (7, 5, 1)),
        ((8, 16), (4, 8, 1)),
        ((28, 28), (7, 7, 2)),
        ((32, 32), (4, 4, 3)),
        ((28, 32), (7, 8, 2)),
        ((48, 64), (6, 8, 3)),
        ((36, 36), (9, 9, 2)),
        ((60, 60), (15, 15, 2)),
        ((64, 64), (4, 4, 4)),
        ((16, 320), (4, 80, 2)),
        ((480, 640), (15, 20, 5)),
        ((128, 96), (8, 6, 4)),
        ((104, 136), (13, 17, 3)),
    ],
)
def test_the_smallest_map(size: tuple[int, int], plan: tuple[int, ...]) -> None:
    assert upsampling_plan((3, *size)) == plan


def test_square_sides_of_4_to_7_times_a_power_of_two_begin_at_4_to_7() -> None:
    """These were the only sizes once: their nets have kept their shapes."""
    for start in (4, 5, 6, 7):
        for doublings in range(1, 9):
            side = start << doublings
            assert upsampling_plan((1, side, side)) == (start, start, doublings)


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        # width x height, as in --size
        ("30x30", "32x32, 28x28"),
        ("7x7", "8x8, 16x16"),
        ("18x18", "20x20, 16x16"),  # 9x9 after one halving
        ("50x50", "52x52, 48x48"),  # 25 is odd
        ("100x100", "104x104, 96x96"),  # 25x25 has more than 320 pixels
        ("100x75", "96x72, 104x80"),
        ("75x100", "72x96, 80x104"),
        ("640x500", "640x512, 640x480"),
        ("400x8", "160x8, 320x16"),  # 200x4 has more than 320 pixels
        ("1x1", "8x8"),
    ],
)
def test_other_sizes_are_refused_with_the_nearest(size: str, nearest: str) -> None:
    width, height = map(int, size.split("x"))
    with pytest.raises(ValueError, match=f"^images of {size} pixels: .* mlp") as caught:
        upsampling_plan((3, height, width))
    message = str(caught.value)
    sizes = nearest.split(", ")
    assert f"nearest sizes that they take: {nearest} (--size {sizes[0]});" in message
    assert "\n" not in message
    for text in sizes:  # the advice can be followed
        w, h = map(int, text.split("x"))
        upsampling_plan((3, h, w))


@NAMED
@pytest.mark.parametrize("shape", [(2,), (1, 12, 12, 12)])
def test_what_is_no_image_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"make images \(C, H, W\); samples of shape .* are not"):
        MODELS[name].build(shape, 10)


# ------------------------------------------------------------------------------------------- nets
@NAMED
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 24, 32), (4, 36, 16), (3, 12, 40)])
def test_nets_fit_their_images(name: str, shape: tuple[int, ...]) -> None:
    generator, discriminator = MODELS[name].build(shape, 10)
    assert nn.shapes(generator, (10,))[-1][1] == (2, *shape)
    assert nn.shapes(discriminator, shape)[-1][1] == (2, 1)


# The SHA-256 of the parameters at seed 0 of nets for (3, 32, 32), of the version that took square
# images only.
BITS = {
    "dcgan": "4bd9849d877e00fa",
    "sngan": "ea8cdca0dd29a653",
    "resnet": "43118609f25804ec",
}


@pytest.mark.parametrize("name", BITS)
def test_the_parameters_are_those_that_they_have_always_been(name: str) -> None:
    digest = hashlib.sha256()
    with mg.random.use_generator(mg.random.Generator(0)):
        for net in MODELS[name].build((3, 32, 32), 10):
            for key, x in net.state_dict().items():
                digest.update(f"{key} {x.shape}".encode() + x.tobytes())
    assert digest.hexdigest()[:16] == BITS[name]


@NAMED
@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_gradients_flow_through_both_nets(name: str, device: str, channels: int) -> None:
    """All pixels and all parameters have a part in the logits of images of 12 x 8 pixels."""
    model: Any = dataclasses.replace(MODELS[name], width=4)  # type: ignore[type-var]
    with mg.use_device(device):
        generator, discriminator = model.build((channels, 12, 8), 5)
        fake = generator(mg.random.normal((2, 5)))
        assert fake.shape == (2, channels, 12, 8)
        logits = discriminator(fake)
        assert logits.shape == (2, 1)
        weights = [*generator.parameters(), *discriminator.parameters(), fake]
        for x, slope in zip(weights, mg.grad((logits * logits).sum(), weights), strict=True):
            assert slope is not None
            assert slope.shape == x.shape
            assert np.isfinite(slope.numpy()).all()
        pixels = np.abs(slope.numpy())
        assert (pixels.max(axis=(0, 1)) > 0).all()


def strips(channels: int, height: int, width: int) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset("strips", np.tanh(rng.standard_normal((24, channels, height, width))))


@NAMED
def test_a_run_of_images_that_are_not_square(name: str) -> None:
    options: dict[str, Any] = {"penalty": "r1"} if name != "dcgan" else {}
    run = Trainer(Config(model=name, batch=4, ema=0.9, **options), data=strips(4, 12, 8))
    assert np.isfinite(list(run.step().values())).all()
    assert run.sample(3).shape == (3, 4, 12, 8)


def test_the_command_names_the_size_that_would_do(tmp_path: Any) -> None:
    data = tmp_path / "strips.npz"
    np.savez(data, images=strips(3, 30, 18).values)
    message = refused("train", "--data", data, "--model", "sngan", "--batch", 4)
    assert "images of 18x30 pixels" in message
    assert "(--size 20x32)" in message
