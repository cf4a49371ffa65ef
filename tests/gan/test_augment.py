"""Differentiable augmentation: what each transform does, its draws, and where it runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES, assert_close

import minigan as mg
from minigan.engine.check import check_gradients
from minigan.gan import augment
from minigan.gan.augment import POLICIES, diff_augment

SEEDS = (5, 0, 2**64 - 1)
ALL = "color,translation,cutout"


def images(*shape: int, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def same_draws(transform: Callable[[mg.Tensor], mg.Tensor]) -> Callable[[mg.Tensor], mg.Tensor]:
    """The transform, with the same random numbers each time."""

    def again(x: mg.Tensor) -> mg.Tensor:
        mg.manual_seed(7)
        return transform(x)

    return again


# ------------------------------------------------------------------------------------ gradients
@DEVICES
@pytest.mark.parametrize("policy", [*POLICIES, ALL])
def test_gradients(device: str, policy: str) -> None:
    f = same_draws(lambda x: mg.ops.tanh(diff_augment(x, policy)))
    check_gradients(f, [images(3, 2, 9, 5)], device=device)


# ---------------------------------------------------------------------------- what they draw
MANY = 4000


def spread_out(draws: np.ndarray, low: float, high: float) -> None:
    """Uniform in [low, high): within it, near its ends, and with its mean and deviation."""
    width = high - low
    assert low <= draws.min() < low + 0.01 * width
    assert high - 0.01 * width < draws.max() < high
    assert draws.mean() == pytest.approx((low + high) / 2, abs=0.02 * width)
    assert draws.std() == pytest.approx(width / np.sqrt(12), abs=0.01 * width)


def test_brightness_adds_a_number_to_each_image() -> None:
    x = images(MANY, 2, 2, 2)
    added = augment.brightness(mg.tensor(x)).numpy() - x
    spread_out(added[:, 0, 0, 0], -0.5, 0.5)
    assert_close(added, np.broadcast_to(added[:, :1, :1, :1], x.shape), 1e-14)


def test_saturation_scales_the_channels_about_their_mean() -> None:
    x = images(MANY, 3, 2, 2)
    y = augment.saturation(mg.tensor(x)).numpy()
    assert_close(y.mean(1), x.mean(1), 1e-14)
    scale = (y - y.mean(1, keepdims=True)) / (x - x.mean(1, keepdims=True))
    spread_out(scale[:, 0, 0, 0], 0, 2)
    assert_close(scale, np.broadcast_to(scale[:, :1, :1, :1], x.shape), 1e-8)
    grey = x[:, :1]
    assert_close(augment.saturation(mg.tensor(grey)).numpy(), grey, 1e-15)


def test_contrast_scales_an_image_about_its_mean() -> None:
    x = images(MANY, 3, 2, 2)
    y = augment.contrast(mg.tensor(x)).numpy()
    assert_close(y.mean((1, 2, 3)), x.mean((1, 2, 3)), 1e-14)
    scale = y.std((1, 2, 3)) / x.std((1, 2, 3))
    spread_out(scale, 0.5, 1.5)


@DEVICES
def test_translation_moves_whole_pixels_and_leaves_zeros(device: str) -> None:
    """An image of distinct numbers above 0 says how far it was moved."""
    h, w = 16, 8
    image = np.arange(1.0, h * w + 1).reshape(h, w)
    x = np.broadcast_to(image, (400, 2, h, w))
    y = augment.translation(mg.tensor(x, device=device)).numpy()
    moves = set()
    padded = np.pad(image, 2)
    for one in y:
        number = int(one[0, h // 2, w // 2]) - 1  # which pixel came to the middle
        down, right = number // w - h // 2, number % w - w // 2
        moves.add((down, right))
        expected = padded[2 + down :, 2 + right :][:h, :w]
        assert np.array_equal(one, np.stack([expected, expected]))
    assert moves == {(i, j) for i in range(-2, 3) for j in range(-1, 2)}


@DEVICES
def test_shift_moves_up_to_its_limits_and_fills(device: str) -> None:
    image = np.arange(1.0, 43).reshape(6, 7)
    x = mg.tensor(np.broadcast_to(image, (300, 2, 6, 7)), device=device)
    for pixels, (down, right) in {(2, 1): (2, 1), 1: (1, 1), (0, 2): (0, 2)}.items():
        padded = np.pad(image, 2, constant_values=-1.0)
        every = {
            padded[2 + i :, 2 + j :][:6, :7].tobytes(): (i, j)
            for i in range(-down, down + 1)
            for j in range(-right, right + 1)
        }
        y = augment.shift(x, pixels, fill=-1.0).numpy()
        assert np.array_equal(y[:, 0], y[:, 1])
        assert {every[one[0].tobytes()] for one in y} == set(every.values())


@pytest.mark.parametrize(
    ("x", "pixels", "error", "message"),
    [
        (images(2, 1, 4, 4), -1, ValueError, "shift: pixels = -1; a number of pixels >= 0"),
        (images(2, 1, 4, 4), (1, 2, 3), ValueError, "shift: pixels = (1, 2, 3); a number"),
        (images(2, 1, 4, 4), 0.5, TypeError, "shift: pixels (0.5, 0.5); integers are needed"),
        (images(64, 2), 1, ValueError, "shift: input (64, 2); images (n, channels, height, width)"),
    ],
)
def test_bad_shifts(x: Any, pixels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        augment.shift(mg.tensor(x), pixels)


@DEVICES
@pytest.mark.parametrize(("h", "w"), [(8, 6), (7, 5), (2, 1)])
def test_cutout_zeros_a_rectangle_of_half_the_sides(device: str, h: int, w: int) -> None:
    y = augment.cutout(mg.tensor(np.ones((600, 2, h, w)), device=device)).numpy()
    assert np.array_equal(y[:, 0], y[:, 1])
    assert set(np.unique(y)) == {0, 1}
    part = [int(k / 2 + 0.5) for k in (h, w)]
    corners, areas = set(), []
    for one in y[:, 0]:
        rows, columns = (np.flatnonzero((one == 0).any(axis)) for axis in (1, 0))
        assert (one[np.ix_(rows, columns)] == 0).all()
        assert (np.diff(rows) == 1).all()
        assert (np.diff(columns) == 1).all()
        corners.add((rows[0], rows[-1], columns[0], columns[-1]))
        areas.append(rows.size * columns.size)
    # Every centre occurs: between pixels, ends included, for even parts, on pixels for odd ones.
    centres = [k + 1 - p % 2 for k, p in zip((h, w), part, strict=True)]
    assert len(corners) == centres[0] * centres[1]
    assert max(areas) == part[0] * part[1]


def test_all_whole_numbers_are_as_likely() -> None:
    x = mg.tensor(np.zeros((6000, 1, 1, 1), np.float32))
    drawn, counts = np.unique(augment._integer_per_image(x, -2, 2).numpy(), return_counts=True)
    assert drawn.tolist() == [-2, -1, 0, 1, 2]
    assert counts == pytest.approx(1200, abs=120)  # four standard deviations


@pytest.mark.parametrize("policy", POLICIES)
def test_each_image_is_changed_in_its_own_way(policy: str) -> None:
    x = np.broadcast_to(images(3, 16, 16), (4, 3, 16, 16))
    first, second = (diff_augment(mg.tensor(x), policy).numpy() for _ in range(2))
    assert len({one.tobytes() for one in (*first, *second)}) >= 7  # two may be moved alike


def test_only_the_stream_of_augmentation_moves() -> None:
    diff_augment(mg.tensor(images(2, 3, 4, 4)))
    assert list(mg.random.default_generator().state()["streams"]) == ["augment"]


# -------------------------------------------------------------------------------------- policies
def test_policies_are_done_in_order() -> None:
    x = mg.tensor(images(3, 2, 8, 8))
    mg.manual_seed(0)
    expected = augment.contrast(augment.saturation(augment.brightness(augment.cutout(x))))
    mg.manual_seed(0)
    assert np.array_equal(diff_augment(x, "cutout, color").numpy(), expected.numpy())
    assert diff_augment(x, "") is x


@pytest.mark.parametrize(
    ("x", "policy", "error", "message"),
    [
        (images(64, 2), "color", ValueError, "input (64, 2); images (n, channels, height, width)"),
        (images(3, 8, 8), "color", ValueError, "input (3, 8, 8); images"),
        (np.ones((1, 1, 2, 2), int), "color", TypeError, "images are int64, not float32 or"),
        (images(1, 1, 2, 2), "colour", ValueError, "augmentation 'colour'; did you mean 'color'?"),
        (images(1, 1, 2, 2), "color,", ValueError, "unknown augmentation ''"),
        (images(1, 1, 2, 2), None, TypeError, "policy is NoneType, not a string"),
    ],
)
def test_bad_arguments(x: Any, policy: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        diff_augment(mg.tensor(x), policy)


def test_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="diff_augment: argument 0 is ndarray, not a tensor"):
        diff_augment(images(1, 1, 2, 2))  # type: ignore[arg-type]


# ----------------------------------------------------------------------------- captured steps
def _turns(captured: bool, dtype: str) -> list[np.ndarray]:
    """Values and gradients of three batches."""

    def turn(x: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        x = mg.ops.multiply(x, 1.0)
        x.requires_grad = True
        y = diff_augment(x)
        return y, mg.grad(mg.ops.power(y, 2).sum(), x)[0]

    step = mg.capture(turn) if captured else turn
    x = mg.tensor(images(5, 3, 9, 7, dtype=dtype))
    return [y.numpy() for _ in range(3) for y in step(x)]


@DEVICES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_captured_step_draws_anew_and_has_the_eager_bits(device: str, dtype: str) -> None:
    results = []
    for captured in (False, True):
        mg.manual_seed(3)
        with mg.use_device(device):
            results.append([x.tobytes() for x in _turns(captured, dtype)])
    assert results[0] == results[1]
    assert len(set(results[1])) == 6


@DEVICES
def test_moves_and_cuts_have_the_same_bits_everywhere(device: str) -> None:
    x, actual = images(20, 2, 16, 8, dtype="float32"), []
    for name in ("reference", device):
        mg.manual_seed(2)
        with mg.use_device(name):
            actual.append(diff_augment(mg.tensor(x), "translation,cutout").numpy())
    assert np.array_equal(*actual)
