"""The arithmetic of the gauges, against loops over samples and known answers."""

import math

import numpy as np
import pytest

from minigan.training import gauge_functions as functions
from minigan.training.trail import MAX_NUMBERS, Trail


def test_equal_samples_have_no_deviation(rng):
    assert functions.deviation(np.full((9, 4), 0.3)) == 0
    x = rng.standard_normal((9, 4)) * 3
    assert functions.deviation(x) == pytest.approx(math.sqrt(np.trace(np.cov(x.T)) / 4))
    squares = [((a - b) ** 2).sum() for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    assert functions.deviation(x) == pytest.approx(math.sqrt(np.mean(squares) / 8))


def test_the_deviation_within_classes_leaves_out_that_of_their_means(rng):
    labels = np.array([4, 0, 4, 0, 4, 2])
    x = rng.standard_normal((6, 3))
    sums = [((x[labels == y] - x[labels == y].mean(0)) ** 2).sum() for y in (0, 2, 4)]
    expected = math.sqrt(sum(sums) / 3 / 3)
    assert functions.deviation_within_classes(x, labels) == pytest.approx(expected)
    moved = x + 100 * labels[:, None]
    assert functions.deviation_within_classes(moved, labels) == pytest.approx(expected)
    assert functions.deviation_within_classes(x[:3], np.arange(3)) == 0


def test_distances_and_nearest_neighbours_are_those_of_a_loop(rng):
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    d = np.array([[np.linalg.norm(a - b) for b in y] for a in x])
    assert np.allclose(functions.distances(x, y), d)
    assert np.allclose(functions.distances(x + 1e9, y + 1e9), d, rtol=1e-4)  # far from 0
    expected = d.min(axis=1).mean() / d.min(axis=0).mean()
    assert functions.nearest_ratio(x, y) == pytest.approx(expected)
    assert functions.nearest_ratio(x, np.concatenate([y, x])) == pytest.approx(expected)


def test_fakes_at_one_of_two_modes_are_far_from_the_other(rng):
    modes = np.array([[-1.0, 0], [1, 0]])
    real = np.repeat(modes, 50, axis=0) + 0.01 * rng.standard_normal((100, 2))
    fake = np.repeat(modes, 50, axis=0) + 0.01 * rng.standard_normal((100, 2))
    assert functions.nearest_ratio(real, fake) == pytest.approx(1, abs=0.3)
    fake[:50, 0] += 2
    assert functions.nearest_ratio(real, fake) > 100
    assert functions.nearest_ratio(real, real) is None


def test_the_share_of_pairs_counts_equal_numbers_half():
    x, y = np.array([1.0, 2, 2]), np.array([2.0, 0])
    assert functions.share_above(x, y) == pytest.approx((0 + 1 + 0.5 + 1 + 0.5 + 1) / 6)
    assert functions.share_above(x, x) == 0.5
    assert functions.share_above(x + 9, y) == 1


def test_samples_agree_with_the_nearest_known_mean():
    means = functions.class_means(np.array([[0.0], [2], [9]]), np.array([0, 0, 2]), 3)
    assert np.array_equal(means, [[1], [np.nan], [9]], equal_nan=True)
    samples = np.array([[0.0], [8], [8], [2]])
    assert functions.class_agreement(samples, np.array([0, 2, 0, 1]), means) == 0.5
    # The nearest are 0, 2, 2, 0, and two labels are 0, one is 2.
    assert functions.chance_agreement(samples, np.array([0, 2, 0, 1]), means) == (4 + 2) / 16


def test_a_relu_that_is_always_0_is_dead(rng):
    x = np.maximum(rng.standard_normal((20, 4)), 0)
    x[:, 2] = 0
    images = rng.standard_normal((3, 5, 2, 2))
    images[:, :2] = 0.7
    ranges = [functions.unit_range(x), functions.unit_range(images)]
    assert functions.dead_share(ranges[:1]) == 0.25
    assert functions.dead_share(ranges) == 0.4
    assert functions.dead_share([]) is None


def test_cosines():
    assert functions.cosine(np.array([1.0, 0]), np.array([1.0, 1])) == pytest.approx(0.5**0.5)
    assert functions.cosine(np.array([1.0, 2]), np.array([-2.0, -4])) == pytest.approx(-1)
    assert functions.cosine(np.zeros(2), np.ones(2)) is None


# -------------------------------------------------------------------------------------- trails
def test_a_trail_follows_the_vector_that_its_parts_make(rng):
    parts = [rng.standard_normal(s).astype("f") for s in ((40, 60), (1,), (50, 50))]
    trail = Trail(4901)
    vector = np.concatenate([x.reshape(-1) for x in parts])
    assert np.array_equal(trail.select(parts), vector[trail.chosen])
    assert len(trail.chosen) == len(set(trail.chosen)) == MAX_NUMBERS


def test_a_trail_has_the_cosine_of_its_last_two_steps():
    trail = Trail(2)
    path = [[0, 0], [1, 0], [1, 1], [1, -1]]
    steps = [trail.push(np.array(x, np.float32)) for x in path]
    assert (steps[0].vector, steps[0].cosine) == (None, None)
    assert [step.cosine for step in steps[1:]] == [None, pytest.approx(0), pytest.approx(-1)]
    assert np.array_equal(steps[3].vector, [0, -2])


def test_a_trail_goes_on_from_its_state():
    trail, other = Trail(2), Trail(2)
    for x in ([0, 0], [1, 0], [3, 0]):
        trail.push(np.array(x, np.float32))
    other.load_state(trail.state())
    assert trail.state().shape == (2, 2)
    position = np.array([3, 5], np.float32)
    assert other.push(position).cosine == trail.push(position).cosine == 0
    with pytest.raises(ValueError, match="positions are float64 of shape"):
        other.load_state(np.zeros((2, 2)))


def test_the_standard_error_of_a_share_of_pairs_is_that_of_equal_distributions():
    x = np.random.default_rng(0).normal(size=(4000, 30))
    shares = [functions.share_above(row[:20], row[20:]) for row in x]
    assert np.std(shares) == pytest.approx(functions.rank_error(20, 10), rel=0.04)
