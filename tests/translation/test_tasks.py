"""Inputs made of images, images loaded for each task, and what is refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import minigan as mg
from minigan.data import DataError, Dataset
from minigan.data.glyphs import draw_glyphs
from minigan.metrics import psnr, sharpness
from minigan.metrics.restoration import has_fine_detail
from minigan.translation.config import TranslationConfig
from minigan.translation.images import load_images
from minigan.translation.restore import BASELINES, bicubic, blur, fill_smoothly, fill_with_mean
from minigan.translation.tasks import (
    TASKS,
    add_noise,
    cut_holes,
    hole_side,
    outline,
    repeat_pixels,
    shrink,
    slant,
)
from minigan.translation.trainer import TranslationTrainer


def images(n=6, channels=1, height=8, width=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (n, channels, height, width)).astype(np.float32)


# ------------------------------------------------------------------------------ inputs from images
@given(
    st.integers(1, 9), st.integers(1, 9), st.floats(0.01, 1), st.integers(0, 99), st.integers(1, 3)
)
def test_a_hole_is_a_square_inside_the_image(height, width, hole, seed, channels):
    x = images(3, channels, height, width, seed)
    config = TranslationConfig(hole=hole)
    with mg.random.use_generator(mg.random.Generator(seed)):
        made = cut_holes(x, config)
    side = hole_side(height, width, hole)
    assert made.shape == (3, channels + 1, height, width)
    assert made.dtype == np.float32
    masks = made[:, -1]
    assert set(np.unique(masks)) <= {0, 1}
    for mask, cut, whole in zip(masks, made[:, :-1], x, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == side**2
        assert np.ptp(rows) == np.ptp(columns) == side - 1
        assert (cut[:, mask == 1] == 0).all()
        assert (cut[:, mask == 0] == whole[:, mask == 0]).all()


def test_holes_are_everywhere_and_drawn_anew():
    config = TranslationConfig(hole=0.25)
    with mg.random.use_generator(mg.random.Generator(0)):
        first, second = (cut_holes(images(400), config)[:, -1] for _ in range(2))
    assert (first.mean(0) > 0).all()
    assert (first != second).any()


def test_shrinking_takes_means_and_repeating_keeps_them():
    x = images(2, 3, 8, 12)
    small = shrink(x, 4)
    assert small.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(small[1, 2, 1, 2], x[1, 2, 4:8, 8:12].mean(), rtol=1e-6)
    np.testing.assert_allclose(shrink(repeat_pixels(small, 4), 4), small, rtol=1e-6)


def test_noise_has_its_deviation_and_is_cut():
    config = TranslationConfig(task="denoise", noise=0.1)
    with mg.random.use_generator(mg.random.Generator(0)):
        grey = add_noise(np.zeros((1, 1, 200, 200), np.float32), config)
        white = add_noise(np.ones((1, 1, 200, 200), np.float32), config)
    assert grey.std() == pytest.approx(0.1, rel=0.02)
    assert white.max() == 1
    assert white.min() < 0.9


def test_an_outline_is_where_the_grey_level_steps():
    x = np.full((1, 3, 5, 6), -1, np.float32)
    x[:, :, 1:4, 2:5] = 1
    expected = np.full((5, 6), -1)
    expected[1:4, [1, 4]] = expected[[0, 3], 2:5] = 1
    assert outline(x)[0].tolist() == [expected.tolist()]
    assert (outline(x * 0.2) == -1).all()  # steps of 0.4 are none


def test_slanting_moves_rows_and_keeps_what_stays_inside():
    x = np.full((1, 1, 5, 9), -1, np.float32)
    x[..., 4] = 1
    made = slant(x, 1.0)
    assert [int(row.argmax()) for row in made[0, 0]] == [6, 5, 4, 3, 2]
    assert ((made + 1).sum((2, 3)) == (x + 1).sum((2, 3))).all()
    half = slant(x, 0.5)[0, 0, 1]
    assert half.tolist() == [-1, -1, -1, -1, 0, 0, -1, -1, -1]


@pytest.mark.parametrize("task", TASKS)
def test_each_task_says_how_many_channels_its_inputs_have(task):
    make, x = TASKS[task].make, images(2, 3, 8, 8)
    if make is not None:
        config = TranslationConfig(task=task)
        with mg.random.use_generator(mg.random.Generator(0)):
            assert make(x, config).shape == (2, TASKS[task].input_channels(3), 8, 8)


# -------------------------------------------------------------------------------------- baselines
def test_baselines_repair_what_they_can():
    flat = np.full((2, 1, 8, 8), 0.25, np.float32)
    np.testing.assert_allclose(bicubic(flat, 4), 0.25, rtol=1e-6)
    assert bicubic(flat, 4).shape == (2, 1, 32, 32)
    np.testing.assert_allclose(blur(flat, 1.3), 0.25, rtol=1e-6)
    point = np.zeros((1, 1, 9, 9), np.float32)
    point[..., 4, 4] = 1
    made = blur(point, 1.0)[0, 0]
    assert made.sum() == pytest.approx(1, rel=1e-5)
    assert made[4, 4] / made[4, 5] == pytest.approx(np.exp(0.5), rel=1e-5)
    mask = np.zeros((1, 1, 9, 9))
    mask[..., 4, 4] = 1
    assert fill_with_mean(point, mask, np.full((1, 9, 9), 0.5))[0, 0, 4, 4] == 0.5


def test_a_smooth_fill_goes_on_with_a_ramp():
    x, y = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 10))
    image = (0.3 * x + 0.5 * y)[None, None]
    mask = np.zeros((1, 1, 10, 12))
    mask[:, :, 3:7, 4:9] = 1
    np.testing.assert_allclose(fill_smoothly(image * (1 - mask), mask), image, atol=1e-6)


def test_the_blur_of_the_baseline_is_followed_by_a_curve():
    """Noise that is cut at black makes black brighter, which no blur undoes."""
    x = np.full((60, 1, 8, 8), -1, np.float32)
    for i, image in enumerate(x):
        image[0, i % 4 : i % 4 + 4, i % 5 : i % 5 + 4] = 1
    trainer = TranslationTrainer(
        TranslationConfig(task="denoise", noise=0.8, batch=4, width=4), Dataset("squares", x)
    )
    inputs, truths, _ = trainer.examples(6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # polyfit warns where it drops terms of the curve
        made = BASELINES["denoise"]["blur and curve"](trainer, inputs)
    plain = max(psnr(blur(inputs, sigma), truths) for sigma in (0.3, 0.5, 0.7, 1.0))
    assert psnr(made, truths) > plain + 1


def test_styles_are_distorted_by_streams_of_their_own():
    """Image i of one style is no copy of image i of the other."""
    sans, serif = (draw_glyphs(30, 0, style=style) for style in ("sans", "serif"))
    assert (sans[1] == serif[1]).mean() < 0.4
    plain = draw_glyphs(30, 0)
    assert (plain[0] != sans[0]).any()


def test_psnr_and_sharpness_have_their_values():
    x = images(4)
    assert psnr(x + 0.02, x) == pytest.approx(40, rel=1e-4)  # 20 log10(2 / 0.02)
    assert psnr(x, x) == np.inf
    mask = np.zeros((4, 1, 8, 12))
    mask[:, :, :2] = 1
    wrong = x.copy()
    wrong[:, :, 2:] = 0
    assert psnr(wrong, x, mask) == np.inf
    with pytest.raises(ValueError, match="leaves no pixel"):
        psnr(x, x, mask * 0)
    with pytest.raises(ValueError, match="equal ones are needed"):
        psnr(x[:2], x)
    assert sharpness(x, x) == 1
    assert sharpness(0.5 * x, x) == pytest.approx(0.25, rel=1e-6)
    assert sharpness(blur(x, 1.0), x) < 0.05
    with pytest.raises(ValueError, match="no fine detail"):
        sharpness(x, x * 0)
    ramp = np.broadcast_to(np.linspace(-1, 1, 16), (1, 1, 16, 16))
    checks = np.indices((16, 16)).sum(0)[None, None] % 2 * 2.0 - 1
    assert sharpness(ramp, checks) < 1e-3  # the step from its end to its begin is no detail


@pytest.mark.parametrize(
    ("period", "is_fine"), [(56, False), (4.5, False), (3.6, True), (2.1, True)]
)
def test_fine_detail_has_a_period_below_four_pixels(period, is_fine):
    """The waves are those of an image that is mirrored at its edges: cos(pi k (x + 1/2) / 28)."""
    k = round(56 / period)
    wave = np.cos(np.pi * k * (np.arange(28) + 0.5) / 28)
    image = np.broadcast_to(wave, (1, 1, 28, 28))
    assert has_fine_detail(image) == is_fine
    assert has_fine_detail(image.transpose(0, 1, 3, 2)) == is_fine


# ----------------------------------------------------------------------------- images of each task
def folder(path, names, size=(8, 8), colours=None):
    path.mkdir(exist_ok=True)
    rng = np.random.default_rng(len(names))
    for name in names:
        shape = size[::-1] if colours is None else (*size[::-1], colours)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(path / name)
    return str(path)


def load(**options):
    return load_images(TranslationConfig(holdout=0.0, **options))


def test_pairs_are_found_by_their_names(tmp_path):
    a = folder(tmp_path / "a", ["x.png", "y.bmp", "z.png"])
    b = folder(tmp_path / "b", ["z.bmp", "x.png", "y.png"], colours=3)
    found = load(task="pairs", data=a, target=b)
    assert found.data.sample_shape == (4, 8, 8)
    assert (found.given_channels, found.channels) == (1, 3)
    inputs, truths = found.split(found.data.values)
    first = np.asarray(Image.open(tmp_path / "a" / "y.bmp"))
    second = np.asarray(Image.open(tmp_path / "b" / "y.png"))
    np.testing.assert_allclose(inputs[1, 0], first / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(truths[1], second.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    swapped = load(task="pairs", data=a, target=b, swap=True)
    assert (swapped.given_channels, swapped.channels) == (3, 1)


def test_pairs_may_lie_side_by_side(tmp_path):
    both = folder(tmp_path / "both", ["x.png", "y.png"], size=(16, 8))
    found = load(task="pairs", data=both)
    inputs, truths = found.split(found.data.values)
    pixels = np.asarray(Image.open(tmp_path / "both" / "x.png")) / 127.5 - 1
    np.testing.assert_allclose(inputs[0, 0], pixels[:, :8], atol=1e-6)
    np.testing.assert_allclose(truths[0, 0], pixels[:, 8:], atol=1e-6)


def test_a_size_is_that_of_each_half(tmp_path):
    """A crop of the whole file would show the middle of the file in both halves."""
    pixels = np.repeat(np.array([[0, 50, 100, 150]], np.uint8), 16, 1).repeat(32, 0)
    (tmp_path / "both").mkdir()
    for name in "xy":
        Image.fromarray(pixels).save(tmp_path / "both" / f"{name}.png")
    found = load(task="pairs", data=str(tmp_path / "both"), size="16")
    assert found.size == (16, 16)
    inputs, truths = found.split(found.data.stored)
    assert {*np.unique(inputs)} >= {0, 50}
    assert {*np.unique(truths)} >= {100, 150}
    assert inputs.max() < truths.min()


def test_folders_of_the_home_pair_by_name_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder(tmp_path / "a", ["1.png", "2.png"])
    folder(tmp_path / "b", ["2.png", "3.png"])
    with pytest.raises(DataError, match="have no partner"):
        load(task="pairs", data="~/a", target="~/b")


def test_data_with_a_name_are_no_pairs():
    with pytest.raises(DataError, match="glyphs-sans has no pairs"):
        load(task="pairs", data="glyphs-sans", target="glyphs-serif")


def test_what_does_not_pair_is_named(tmp_path):
    a = folder(tmp_path / "a", ["w.png", "x.png", "y.png"])
    b = folder(tmp_path / "b", ["x.png", "y.png"])
    with pytest.raises(DataError, match=r"1 of 3 images of .*a have no partner .* \(w\)"):
        load(task="pairs", data=a, target=b)
    with pytest.raises(DataError, match=r"1 of 3 images of .*a have no partner"):
        load(task="pairs", data=b, target=a)
    (tmp_path / "b" / "w.png").write_bytes((tmp_path / "b" / "x.png").read_bytes())
    folder(tmp_path / "b", ["w.bmp"])
    with pytest.raises(DataError, match="two images of one name"):
        load(task="pairs", data=a, target=b)
    other = folder(tmp_path / "c", ["w.png", "x.png", "y.png"], size=(8, 6))
    with pytest.raises(DataError, match=r"8x8 pixels, those of .* 8x6; --size makes them equal"):
        load(task="pairs", data=a, target=other)
    odd = folder(tmp_path / "odd", ["x.png", "y.png"], size=(9, 8))
    with pytest.raises(DataError, match="9 pixels wide"):
        load(task="pairs", data=odd)


def test_arrays_pair_by_their_order():
    a, b = (Dataset(name, images(n, seed=n)) for name, n in (("a", 5), ("b", 6)))
    config = TranslationConfig(task="pairs", holdout=0.0)
    with pytest.raises(DataError, match="5 images of a, 6 of b"):
        load_images(config, a, b)
    found = load_images(config, a, b.subset(range(5)))
    assert (found.split(found.data.values)[1] == b.values[:5]).all()


def test_halves_of_the_data_share_no_image():
    labels = np.arange(40)
    data = Dataset("mine", images(40, 1, 8, 8), labels, 40)
    config = TranslationConfig(task="unpaired", target="inverted", holdout=0.1)
    found = load_images(config, data)
    other, other_held_out = found.other, found.other_held_out
    assert other is not None
    assert other_held_out is not None
    assert len(found.data) == len(other) == 18
    assert not {*found.data.labels} & {*other.labels}
    np.testing.assert_array_equal(other.values, -data.values[other.labels])
    assert found.truth is not None
    np.testing.assert_array_equal(other_held_out.values, -data.values[other_held_out.labels])
    np.testing.assert_array_equal(found.truth(found.held_out.values), -found.held_out.values)
    parts = (found.data, other, found.held_out, other_held_out)
    assert sorted(x for part in parts for x in part.labels) == list(range(40))  # each once
    swapped = load_images(config.replace(swap=True), data)
    np.testing.assert_array_equal(swapped.data.values, -data.values[swapped.data.labels])
    assert load_images(config.replace(target="slanted", swap=True), data).truth is None


def test_two_kinds_have_the_same_channels_and_size():
    config = TranslationConfig(task="unpaired", target="x", holdout=0.0)
    grey, colour = (Dataset(str(n), images(4, n, 8, 8)) for n in (1, 3))
    with pytest.raises(DataError, match="1 channels, those of 3 3; --grey makes both grey"):
        load_images(config, grey, colour)
    with pytest.raises(DataError, match="8x8 pixels, those of large 12x8"):
        load_images(config, grey, Dataset("large", images()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "denoise", "hole": 0.3}, "hole = 0.3 is for task = 'inpaint', not for 'denoise'"),
        ({"target": "photos"}, "target = 'photos' is for task = 'pairs' or 'unpaired'"),
        ({"task": "unpaired"}, "needs target"),
        ({"task": "unpaired", "target": "slanted", "l1": 5.0}, "l1 = 5.0 needs the truth"),
        ({"adversarial": 0.0, "l1": 0.0, "features": 0.0}, "all weights of G's losses are 0"),
        ({"task": "inpainting"}, "inpaint"),
        ({"hole": 1.5}, r"hole = 1.5 is not in \(0, 1\]"),
        ({"warmup": 2000}, "leaves nothing"),
        ({"schedule": "constant", "schedule_steps": 3}, "without a schedule"),
        ({"width": 0}, "width = 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TranslationConfig(**options)


def test_weights_are_filled_by_the_task():
    paired = TranslationConfig().filled()
    assert (paired.l1, paired.features, paired.cycle, paired.norm) == (10, 0, None, "batch")
    unpaired = TranslationConfig(task="unpaired", target="slanted").filled()
    assert (unpaired.cycle, unpaired.identity, unpaired.l1, unpaired.norm) == (
        *(10, 0, None),
        "instance",
    )
    assert TranslationConfig(l1=3.0).filled().l1 == 3


def test_samples_of_pairs_are_drawn_after_they_were_compared():
    a, b = (Dataset(name, images(n, seed=n)) for name, n in (("a", 5), ("b", 6)))
    config = TranslationConfig(task="pairs", holdout=0.0, samples=3)
    with pytest.raises(DataError, match="5 images of a, 6 of b"):
        load_images(config, a, b)
    found = load_images(config, a, a)
    inputs, truths = found.split(found.data.values)
    assert len(inputs) == 3
    assert (inputs == truths).all()
