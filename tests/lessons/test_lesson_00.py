"""Lesson 00: the answers to its exercises, and what its prose says about the twenty lines."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

from minigan.utils.lesson_bugs import cells

NAME = "00_gan_in_numpy"


def gan(*changes):
    """Return what the twenty lines define; each of `changes` replaces a part of them."""
    (code,) = (body for _, body in cells(source(NAME)) if "def train(" in body)
    for old, new in changes:
        assert code.count(old) == 1
        code = code.replace(old, new)
    names = {"np": np}
    exec(code, names)
    return names


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    return run_cells(source(NAME), NAME, tmp_path_factory.mktemp("lesson"))


def test_the_gan_has_twenty_lines_and_needs_only_numpy():
    (code,) = (body for _, body in cells(source(NAME)) if "def train(" in body)
    assert len([line for line in code.splitlines() if line.strip()]) == 20
    assert gan()["train"](0, steps=2).shape == (3, 5)


def test_the_logits_that_the_text_gives():
    D = gan()["D"]
    answers = [D(0.0, [logit, 0, 0]) for logit in (0, 5, -5)]
    assert answers == pytest.approx([0.5, 0.993, 0.007], abs=5e-4)


def test_a_rate_of_0_2_for_d_is_too_large_and_smaller_ones_only_take_longer():
    train = gan()["train"]
    assert abs(train(0, rate_d=0.2)[-1, 0]) < 0.05
    a, b = train(0, steps=3000, rate_d=0.05, rate_g=0.05)[-1, :2]
    assert (a, b) == (pytest.approx(0.7, abs=0.03), pytest.approx(2, abs=0.03))


def test_any_start_will_do():
    path = gan(("1.0, 0.0, np.zeros", "-1.0, -3.0, np.zeros"))["train"](0)
    assert abs(path[-1, 0]) == pytest.approx(0.7, abs=0.05)
    assert path[-1, 1] == pytest.approx(2, abs=0.05)


def test_at_step_150_the_fakes_are_too_close_together_and_still_pushed_inwards(lesson):
    a, b, *w = lesson["paths"][0, 150]
    assert 0.4 < a < 0.6
    fake = b + np.array([-1.6, 1.6]) * a
    left, right = (1 - lesson["D"](fake, w)) * (w[1] + 2 * w[2] * fake)
    assert left > 0 > right
    a, b, *w = lesson["paths"][0, 350]
    fake = b + np.array([-1.6, 1.6]) * a
    left, right = (1 - lesson["D"](fake, w)) * (w[1] + 2 * w[2] * fake)
    assert left < 0 < right  # "then the arrows turn"


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_a_fixed_d_sends_the_fakes_past_the_data(lesson):
    a, b, *w = lesson["paths"][0, 40]
    random, means = np.random.default_rng(1), []
    for _ in range(1000):
        a, b = (a, b) - 0.1 * lesson["gradient_g"](a, b, random.normal(size=1000), w)
        means.append(b)
    assert (means[99], means[-1]) == (pytest.approx(3.1, abs=0.1), pytest.approx(6.6, abs=0.1))


def test_exercise_2_without_the_extra_term_the_sd_swings():
    sd = abs(gan((" + 0.1 * w", ""))["train"](0, steps=5000)[:, 0])
    assert sd[:250].max() == pytest.approx(1.2, abs=0.05)
    assert sd[:500].min() == pytest.approx(0.05, abs=0.01)
    assert (sd.argmax(), sd.max()) == (pytest.approx(730, abs=10), pytest.approx(1.25, abs=0.01))
    assert abs(sd[3400:4000] - 0.7).max() > 0.02
    assert abs(sd[4000:] - 0.7).max() < 0.02


def test_exercise_3_g_learns_mean_and_sd_of_two_peaks_with_one():
    peaks = "random.choice([1.0, 3.0], n) + random.normal(0.0, 0.2, n)"
    train = gan(("random.normal(2.0, 0.7, n)", peaks))["train"]
    a, b = train(0, steps=2000, rate_d=0.05)[-1, :2]
    assert (a, b) == (pytest.approx(1.02, abs=0.03), pytest.approx(2.0, abs=0.03))
