"""Lesson 18: the answers to its exercises, and what its text says about bars and patches."""

from itertools import product

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan import nn
from minigan.translation.networks import PatchDiscriminator

NAME = "18_images_from_images"
pytestmark = pytest.mark.slow
GREYS = np.linspace(-1, 1, 31)  # -1/3 and 0.2 among them


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when the bars have been translated."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="bars, cycle loss: share of exchanged")


def _best(bars, power):
    """Return the image of GREYS with the least mean of |image - bar|^power, and this mean."""
    images = np.array(list(product(GREYS, repeat=3)))
    loss = (np.abs(images[:, None] - bars) ** power).mean(axis=(1, 2))
    return images[loss.argmin()], loss.min()


def test_of_all_images_the_empty_one_has_the_least_l1_error_and_the_mean_the_least_squared(lesson):
    bars = lesson["BARS"]
    image, _ = _best(bars, 1)
    assert image.tolist() == [-1, -1, -1]
    assert ((bars - image) ** 2).mean() == pytest.approx(4 / 3)
    image, error = _best(bars, 2)
    assert image == pytest.approx([-1 / 3] * 3)
    assert error == pytest.approx(8 / 9)
    assert ((bars[:, None] - bars) ** 2).mean() == pytest.approx(16 / 9)
    assert mg.metrics.psnr(*_pair(bars, 2)) - mg.metrics.psnr(*_pair(bars, 1)) == pytest.approx(
        10 * np.log10(2)
    )


def _pair(bars, parts):
    """Return all pairs of bars; with 2, the mean in the place of the first."""
    first, second = np.broadcast_arrays(bars[:, None], bars)
    first = np.broadcast_to(bars.mean(axis=0), first.shape) if parts == 2 else first
    return tuple(x.reshape(-1, 1, 1, 3) for x in (first, second))


def test_a_bar_is_nearer_to_the_others_inverses_than_to_its_own(lesson):
    bars = lesson["BARS"]
    changed = (bars[:, None] != -bars).sum(axis=2)
    assert changed.tolist() == [[3, 1, 1], [1, 3, 1], [1, 1, 3]]


def test_outcomes_are_told_apart(lesson):
    right = np.array([[0, 2, 2], [2, 0, 2], [2, 2, 0.1]])
    outcome = lesson["outcome"]
    assert outcome(right) == "its own inverse"
    assert outcome(right[[1, 0, 2]]) == outcome(right[[1, 2, 0]]) == "exchanged"
    assert outcome(right[[1, 1, 2]]) == "two become one"
    assert outcome(right + 0.5 * np.eye(3)) == "not a bar"


def test_a_digit_gets_seven_times_seven_logits():
    assert PatchDiscriminator(1)(mg.tensor(np.zeros((2, 1, 28, 28), np.float32))).shape == (
        *(2, 1, 7, 7),
    )


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_one_bar_is_three_times_as_likely(lesson, monkeypatch):
    bars = lesson["BARS"][[0, 0, 0, 1, 2]]
    assert _best(bars, 1)[0].tolist() == [1, -1, -1]
    assert _best(bars, 2)[0] == pytest.approx([0.2, -0.6, -0.6])
    monkeypatch.setitem(lesson, "BARS", bars)
    l1, squared, adversarial = (lesson["paint"](*w, 0) for w in lesson["LOSSES"].values())
    assert l1 == pytest.approx(np.tile(bars[:1], (len(l1), 1)), abs=0.2)
    assert squared.mean(axis=0) == pytest.approx([0.2, -0.6, -0.6], abs=0.1)
    shares = np.bincount(adversarial.argmax(axis=1)) / len(adversarial)
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.1)


@pytest.mark.parametrize(("depth", "side"), [(1, 8), (2, 18), (3, 38)])
def test_exercise_2_the_patch_doubles_with_each_convolution(depth, side):
    image = mg.tensor(np.ones((1, 1, 128, 128), np.float32), requires_grad=True)
    logits = PatchDiscriminator(1, depth=depth)(image)
    middle = logits.shape[2] // 2
    gradient = mg.grad(logits[0, 0, middle, middle], [image])[0].numpy()[0, 0]
    assert [np.count_nonzero(gradient.any(axis=axis)) for axis in (0, 1)] == [side, side]


def test_exercise_3_a_function_of_one_pixel_cannot_exchange_bars(lesson, monkeypatch):
    dense = lesson["net"]

    def by_pixel(inputs, outputs):
        if outputs == 1:
            return dense(inputs, outputs)
        layers = [nn.Conv2d(1, 32, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 1, 1), nn.Tanh()]
        return nn.Sequential(nn.Reshape(1, 1, 3), *layers, nn.Flatten())

    monkeypatch.setitem(lesson, "net", by_pixel)
    weights = lesson["CASES"]["cycle loss"]
    distances = [lesson["translate_bars"](seed, *weights, 600) for seed in range(6)]
    outcomes = [lesson["outcome"](x) for x in distances]
    assert set(outcomes) == {"its own inverse", "not a bar"}
    for outcome, x in zip(outcomes, distances, strict=True):
        stays_white = outcome == "not a bar"
        assert np.diag(x) == pytest.approx([2 * stays_white] * 3, abs=0.3)
