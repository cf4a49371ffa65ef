"""Lesson 15: the answers to its exercises, and what its text says."""

import numpy as np
import pytest
from lesson_helpers import run_cells, source

import minigan as mg
from minigan.engine import random
from minigan.training.directions import truncate
from minigan.training.walk import lerp, slerp

NAME = "15_conditional_and_controllable"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """What the lesson has defined when the conditional GANs have been trained."""
    out = tmp_path_factory.mktemp("lesson")
    return run_cells(source(NAME), NAME, out, until="recall, acgan / projection")


def test_the_middle_of_a_line_has_a_norm_of_seven(rng):
    ends = rng.normal(size=(2, 2000, 100))
    norms = [np.linalg.norm(path(*ends, np.array([0.5]))[:, 0], axis=1) for path in (lerp, slerp)]
    assert norms[0].mean() == pytest.approx(7.07, abs=0.05)
    assert norms[1].mean() == pytest.approx(np.linalg.norm(ends[0], axis=1).mean(), abs=0.05)


def test_truncated_latents_of_a_hundred_numbers_have_a_norm_of_five(rng):
    with random.use_generator(random.Generator(0)):
        z = truncate(rng.normal(size=(2000, 100)), 1.0)
    assert np.linalg.norm(z, axis=1).mean() == pytest.approx(5.4, abs=0.05)


def test_the_shuffled_labels_are_those_of_the_data_in_another_order(lesson):
    data, shuffled = lesson["data"], lesson["shuffled"]
    assert np.array_equal(np.bincount(data.labels), np.bincount(shuffled.labels))
    assert 0.05 < (data.labels == shuffled.labels).mean() < 0.15
    assert np.array_equal(data.values, shuffled.values)


# ---------------------------------------------------------------------------------- exercises
def test_exercise_1_the_means_of_classes_obey_without_variety(lesson):
    train, asked = lesson["train_part"], lesson["asked"]
    means = [train.values[train.labels == y].mean(0) for y in range(lesson["CLASSES"])]
    x = np.stack(means)[asked]
    assert (lesson["class_of"](x) == asked).mean() >= max(lesson["agreement"].values())
    assert lesson["overlap"](x).precision > 0.9
    assert lesson["overlap"](x).recall < 0.05


@pytest.mark.parametrize("d", [3, 100])
def test_exercise_2_the_middle_of_a_line_has_half_the_square(d, rng):
    a, b = rng.normal(size=(2, 200_000, d))
    assert (((a + b) / 2) ** 2).sum(axis=1).mean() == pytest.approx(d / 2, rel=0.01)


def test_exercise_3_in_the_plane_lines_are_no_worse(lesson):
    run = lesson["train"]("none", 0, latent_size=2, steps=2000)
    ends = np.random.default_rng(0).normal(size=(2, 1000, 2)).astype("f4")
    real, far = lesson["real"], []
    for path in (lerp, slerp):
        middles = mg.tensor(path(*ends, np.array([0.5]))[:, 0], dtype="float32")
        fakes = run.generate(middles)[: len(real)]
        far.append(mg.metrics.sliced_wasserstein(fakes, real[: len(fakes)]))
    assert far[0] < far[1]
