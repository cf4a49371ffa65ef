"""Bootstrap intervals."""

import warnings

import numpy as np
import pytest

from minigan.metrics import Interval, bootstrap, frechet_distance, kernel_distance_blocks
from minigan.utils.notices import Notice


def coverage(intervals, truth):
    return np.mean([i.low <= truth <= i.high for i in intervals])


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_of_a_mean_hold_the_true_one_as_often_as_they_say(rng, level):
    draws = rng.exponential(1, (200, 200))
    found = coverage([bootstrap(np.mean, x, resamples=100, level=level) for x in draws], 1)
    # 3 standard errors, and the bootstrap's own error with 100 resamples of 200 samples.
    assert found == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 200) + 0.015)


def test_intervals_of_a_share_of_indicators(rng):
    draws = rng.random((150, 100)) < 0.3
    found = [bootstrap(np.mean, x, resamples=100, seed=i) for i, x in enumerate(draws)]
    assert coverage(found, 0.3) > 0.87


def test_intervals_of_a_biased_metric_hold_what_it_is_for_so_many_samples(rng):
    """Of the quantiles themselves 70 % do."""
    n = 150
    pairs = rng.standard_normal((60, 2, n, 3))
    expected = np.mean([frechet_distance(*rng.standard_normal((2, n, 3))) for _ in range(300)])
    found = [bootstrap(frechet_distance, x, y, resamples=50) for x, y in pairs]
    assert coverage(found, expected) > 0.88
    assert all(i.low < i.value < i.high for i in found)


def test_intervals_of_kernel_distances_by_their_blocks(rng):
    pairs = rng.standard_normal((80, 2, 200, 3))
    found = [bootstrap(np.mean, kernel_distance_blocks(x, y), resamples=100) for x, y in pairs]
    assert 0.85 < coverage(found, 0) <= 1


def test_samples_are_resampled_independently_and_repeatably(rng):
    x, y = rng.standard_normal((2, 50))
    assert bootstrap(np.mean, x) == bootstrap(np.mean, x) != bootstrap(np.mean, x, seed=1)

    def difference(a, b):
        return a.mean() - b.mean()

    paired = bootstrap(difference, x, x)
    assert paired.value == 0
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * np.sqrt(2 / 50) * x.std(), rel=0.3)
    wide = bootstrap(difference, x, y, level=0.99)
    narrow = bootstrap(difference, x, y, level=0.5)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_a_constant_has_no_width():
    assert bootstrap(np.mean, np.ones(5)) == Interval(1, 1, 1)


def test_notices_come_once():
    x = np.random.default_rng(0).standard_normal((5, 6))
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        bootstrap(frechet_distance, x, x, resamples=5)
    assert [n.category for n in notices] == [Notice]


def test_arguments():
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match=f"level = {level} is not between 0 and 1"):
            bootstrap(np.mean, np.ones(3), level=level)
    with pytest.raises(ValueError, match="resamples = 1; a number of at least 2"):
        bootstrap(np.mean, np.ones(3), resamples=1)
    with pytest.raises(ValueError, match="samples of shapes none; rows are needed"):
        bootstrap(np.mean)
    with pytest.raises(ValueError, match=r"samples of shapes \(3,\), \(0,\); rows are needed"):
        bootstrap(np.mean, np.ones(3), np.ones(0))
