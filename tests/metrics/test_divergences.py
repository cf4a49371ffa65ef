"""Inception score, Jensen-Shannon divergence, Parzen log-likelihood, share out of range."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan.metrics import (
    inception_score,
    jensen_shannon,
    neighbours,
    out_of_range,
    parzen_bandwidth,
    parzen_log_likelihood,
)
from minigan.utils.notices import Notice


# --------------------------------------------------------------------------------- inception score
@pytest.mark.parametrize("classes", [1, 2, 10])
def test_the_bounds_of_the_score_are_reached(classes):
    one_hot = np.repeat(np.eye(classes), 3, axis=0)
    assert inception_score(one_hot) == pytest.approx(classes, rel=1e-14)
    assert inception_score(np.full((7, classes), 1 / classes)) == pytest.approx(1, rel=1e-14)
    assert inception_score(one_hot[:3]) == pytest.approx(1, rel=1e-14)  # all of one class


def test_a_score_by_hand():
    p = np.array([[0.5, 0.5], [1.0, 0.0]])
    kl = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25) + math.log(1 / 0.75)) / 2
    assert inception_score(p) == pytest.approx(math.exp(kl), rel=1e-14)


@given(st.integers(1, 20), st.integers(1, 6), st.floats(0, 30), st.integers(0, 2**31))
def test_the_score_is_between_one_and_the_number_of_classes(n, classes, scale, seed):
    logits = scale * np.random.default_rng(seed).standard_normal((n, classes))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    score = inception_score((p / p.sum(axis=1, keepdims=True)).astype(np.float32))
    assert 1 - 1e-12 <= score <= classes * (1 + 1e-12)


def test_logits_are_no_probabilities():
    with pytest.raises(ValueError, match="smallest number is -1 and row 0 sums to 1; prob"):
        inception_score([[2.0, -1.0]])
    with pytest.raises(ValueError, match="smallest number is 0 and row 1 sums to 3; prob"):
        inception_score([[1.0, 0.0], [0.0, 3.0]])
    with pytest.raises(ValueError, match=r"probabilities of shape \(2,\); \(n, classes\)"):
        inception_score([1.0, 1.0])


# ---------------------------------------------------------------------------------- Jensen-Shannon
def test_the_bounds_of_the_divergence_are_reached(rng):
    x = rng.standard_normal((500, 2))
    assert jensen_shannon(x, x, 8) == 0
    assert jensen_shannon(x, x[rng.permutation(500)], 8) == 0
    for shift in (1e-9 + np.ptp(x), 50, -50, 1e20):
        assert jensen_shannon(x + shift, x, 4) == pytest.approx(math.log(2), rel=1e-14)


def test_a_divergence_by_hand():
    """Shares (1/4, 3/4) and (1/2, 1/2) of two intervals."""
    y, x = np.array([0.0, 0.4, 0.6, 1.0]), np.array([0.1, 0.7, 0.8, 0.9])
    terms = [p * math.log(p / (p + q) * 2) for p, q in ((1, 2), (3, 2), (2, 1), (2, 3))]
    assert jensen_shannon(x, y, 2) == pytest.approx(sum(terms) / 4 / 2, rel=1e-14)


def test_edges_of_intervals_belong_to_the_upper_and_the_last_to_the_lower():
    y = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    assert jensen_shannon(np.array([0.5, 1.5, 2.5, 3.5, 3.9]), y, 4) == 0


def test_an_outlier_of_generated_points_does_not_stretch_the_grid(rng):
    x, y = rng.standard_normal((2, 1000, 2)) * [[[1]], [[0.1]]]
    outlier = np.concatenate([x, [[1e6, 1e6]]])
    assert jensen_shannon(outlier, y, 8) == pytest.approx(jensen_shannon(x, y, 8), abs=2e-3)


def test_the_divergence_of_two_gaussians_by_integration(rng):
    x, y = rng.standard_normal((200_000, 1)) + 1, rng.standard_normal((200_000, 1))
    t, step = np.linspace(-9, 10, 20_001, retstep=True)
    p, q = (np.exp(-0.5 * (t - m) ** 2) / math.sqrt(2 * math.pi) for m in (1, 0))
    exact = sum((s * np.log(s / (p + q) * 2)).sum() * step for s in (p, q)) / 2
    assert jensen_shannon(x, y, 64) == pytest.approx(exact, rel=0.03)


def test_the_divergence_of_one_distribution_is_that_of_the_counts(rng):
    draws = [jensen_shannon(*rng.random((2, 2000, 1)), 10) for _ in range(50)]
    # Ten cells, and one on each side.
    assert np.mean(draws) == pytest.approx(11 * (1 / 2000 + 1 / 2000) / 8, rel=0.25)


def test_too_few_points_for_the_cells_are_a_notice(rng):
    x = rng.random((50, 5))
    with pytest.warns(Notice, match="100 samples lie in .* cells, too few .* fewer bins than 32"):
        jensen_shannon(x, rng.random((50, 5)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jensen_shannon(np.ones((9, 5)), np.ones((9, 5))) == 0  # no width along any axis


# ------------------------------------------------------------------------------------------ Parzen
def log_normal(x, centre, sigma):
    return -0.5 * ((x - centre) ** 2).sum() / sigma**2 - len(x) * math.log(
        sigma * math.sqrt(2 * math.pi)
    )


def test_one_sample_is_a_normal_density(rng):
    centre, points = rng.standard_normal((1, 3)), rng.standard_normal((5, 3))
    exact = [log_normal(x, centre[0], 0.3) for x in points]
    np.testing.assert_allclose(parzen_log_likelihood(centre, points, 0.3), exact, rtol=1e-13)


@given(st.integers(1, 20), st.integers(1, 4), st.floats(0.05, 10), st.integers(0, 2**31))
def test_a_mean_of_densities(n, d, sigma, seed):
    rng = np.random.default_rng(seed)
    samples, points = rng.standard_normal((n, d)), rng.standard_normal((3, d))
    terms = np.array([[log_normal(x, c, sigma) for c in samples] for x in points])
    exact = np.logaddexp.reduce(terms, axis=1) - math.log(n)
    found = parzen_log_likelihood(samples, points, sigma)
    np.testing.assert_allclose(found, exact, rtol=1e-11, atol=1e-11)


def test_points_far_away_do_not_underflow():
    found = parzen_log_likelihood(np.zeros((3, 784)), np.full((1, 784), 1e3), 0.1)
    assert found[0] == pytest.approx(log_normal(np.full(784, 1e3), 0, 0.1), rel=1e-14)


def test_any_number_of_points_at_a_time(rng, monkeypatch):
    samples, points = rng.standard_normal((2, 40, 3))
    whole = parzen_log_likelihood(samples, points, 0.5)
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", 7 * 40)
    assert parzen_log_likelihood(samples, points, 0.5).tobytes() == whole.tobytes()


def test_the_bandwidth_is_the_best_of_the_candidates(rng):
    samples, points = rng.standard_normal((2, 200, 2))
    candidates = [0.01, 0.1, 0.3, 1.0, 10.0]
    means = [parzen_log_likelihood(samples, points, s).mean() for s in candidates]
    best = parzen_bandwidth(samples, points, candidates)
    assert best == candidates[int(np.argmax(means))] == 0.3
    # One sample: the best sigma is the root of the mean square per coordinate.
    wide = np.linspace(0.5, 2, 301)
    exact = math.sqrt((points**2).mean())
    assert parzen_bandwidth(np.zeros((1, 2)), points, wide) == pytest.approx(exact, abs=0.005)
    with pytest.warns(Notice, match=r"the best sigma, 1, is at the end of the candidates"):
        parzen_bandwidth(np.zeros((1, 2)), 5 * points)


def test_a_bandwidth_is_positive():
    for sigma in (0.0, -1.0, math.nan, math.inf, 1e-200):
        with pytest.raises(ValueError, match=r"sigma = .* is not a positive, finite number"):
            parzen_log_likelihood(np.eye(2), np.eye(2), sigma)
    with pytest.raises(ValueError, match="parzen_bandwidth: there are no candidates"):
        parzen_bandwidth(np.eye(2), np.eye(2), [])


# ------------------------------------------------------------------------------------ out of range
def test_the_share_out_of_range():
    assert out_of_range([[-1.0, 1.0], [0.0, 0.5]]) == 0
    assert out_of_range([-1.5, 0, 1.0000001, math.nan, math.inf]) == 4 / 5
    assert out_of_range(np.array([0, 255, 256], np.int16), 0, 255) == 1 / 3
    with pytest.raises(ValueError, match="hold no numbers"):
        out_of_range(np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"low = 1\.0 is not below high = 1\.0"):
        out_of_range([1.0], 1.0, 1.0)
