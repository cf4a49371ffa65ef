"""Lesson 20: the answers to its exercises, and what its text says about the library."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

from minigan.gan.augment import diff_augment

NAME = "20_does_augmentation_help"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when its plain GAN has been measured."""
    out = tmp_path_factory.mktemp("lesson")
    until = "50 digits: mean gain by samples of a plain GAN"
    return run_cells(source(NAME), NAME, out, until=until)


def test_digits_are_balanced_nested_and_never_tested_on(lesson):
    few, many = (lesson["choose"](n, 3) for n in (50, 1000))
    assert np.bincount(lesson["digits"].labels[few]).tolist() == [5] * 10
    assert set(few) < set(many)
    assert set(many) < set(lesson["pool"])
    assert not set(many) & set(lesson["test"])
    assert set(few) != set(lesson["choose"](50, 4))


def test_a_shift_moves_one_pixel_at_most_and_keeps_black(lesson):
    image = np.full((200, 1, 14, 14), -1, np.float32)
    image[:, :, 5, 7] = 1
    moved = lesson["one_pixel"](lesson["mg"].tensor(image)).numpy()
    places = {tuple(np.argwhere(one[0] == 1)[0]) for one in moved}
    assert places == {(i, j) for i in (4, 5, 6) for j in (6, 7, 8)}
    assert set(np.unique(moved)) == {-1, 1}


def test_diffaugment_shifts_by_two_of_fourteen_pixels(lesson):
    image = np.full((400, 1, 14, 14), 1, np.float32)
    moved = diff_augment(lesson["mg"].tensor(image), "translation").numpy()
    assert {int(np.count_nonzero((one == 1).any(axis=2))) for one in moved} == {12, 13, 14}


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_samples_of_the_plain_gan_alone_teach_less_than_its_digits(lesson):
    few, samples = lesson["FEW"], lesson["plain"][0][0]
    only = lesson["accuracy"](few, 0, more=(samples, lesson["asked"]), share=1.0)
    assert 0.1 < only < lesson["alone"][few][0] - 0.05


def test_exercise_2_and_3_more_digits_are_worth_more_than_samples(lesson):
    """In fast mode trainings are short, so 100 more digits take the place of ten."""
    few, one_pixel = lesson["FEW"], lesson["one_pixel"]
    samples, _ = lesson["gan"](few, 0, **lesson["SMOOTH"])
    with_samples = lesson["accuracy"](few, 0, augment=one_pixel, more=(samples, lesson["asked"]))
    assert lesson["accuracy"](150, 0, augment=one_pixel) > with_samples + 0.02
    rows = lesson["choose"](few, 0)
    net = lesson["train_classifier"](
        lesson["images"][rows], lesson["digits"].labels[rows], 10, 120, augment=one_pixel
    )
    kept = lesson["classify"](net, samples) == lesson["asked"]
    assert kept.mean() > 0.5
