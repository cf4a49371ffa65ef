"""Nearest neighbours, precision and recall, density and coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan.metrics import (
    density_coverage,
    expected_coverage,
    nearest_distances,
    neighbours,
    precision_recall,
)


def all_distances(x, y):
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(axis=2))


# ------------------------------------------------------------------------------ nearest neighbours
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**31))
def test_the_nearest_are_those_of_a_full_sort(n, m, d, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    k = int(rng.integers(1, m + 1))
    distances, indices = nearest_distances(x, y, k)
    exact = all_distances(x, y)
    assert indices.dtype == np.int64
    assert indices.tolist() == np.argsort(exact, axis=1)[:, :k].tolist()
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :k], rtol=1e-14)


def test_a_sample_is_not_a_neighbour_of_itself_but_a_copy_is():
    x = np.array([[0.0], [5.0], [5.0], [6.5]])
    distances, indices = nearest_distances(x, x, 2, exclude_self=True)
    assert distances.tolist() == [[5, 5], [0, 1.5], [0, 1.5], [1.5, 1.5]]
    assert indices.tolist() == [[1, 2], [2, 3], [1, 3], [1, 2]]
    assert nearest_distances(x, x)[0].tolist() == [[0]] * 4
    with pytest.raises(ValueError, match="x is y, but they have 4 and 3 samples"):
        nearest_distances(x, x[:3], exclude_self=True)
    with pytest.raises(ValueError, match="k = 4; a number from 1 to 3 is accepted"):
        nearest_distances(x, x, 4, exclude_self=True)


def test_distances_of_near_duplicates_are_exact(rng):
    y = rng.standard_normal((50, 40)) + 1000
    x = y + 1e-9
    step = np.sqrt(((x - y) ** 2).sum(axis=1))
    distances, indices = nearest_distances(x, y)
    assert indices[:, 0].tolist() == list(range(50))
    np.testing.assert_allclose(distances[:, 0], step, rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_any_number_of_rows_at_a_time(rng, monkeypatch, rows):
    x, y = rng.standard_normal((2, 50, 3))
    whole = nearest_distances(x, y, 3), nearest_distances(x, x, 3, exclude_self=True)
    overlap = precision_recall(x, y), density_coverage(x, y)
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", rows * 50)
    parts = nearest_distances(x, y, 3), nearest_distances(x, x, 3, exclude_self=True)
    for a, b in zip(sum(whole, ()), sum(parts, ()), strict=True):
        assert a.tobytes() == b.tobytes()
    assert (precision_recall(x, y), density_coverage(x, y)) == overlap


# ------------------------------------------------------------------------------------- the overlap
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_the_definitions_written_out(seed, k):
    rng = np.random.default_rng(seed)
    real, fake = rng.standard_normal((20, 2)), rng.standard_normal((15, 2)) + 0.5
    real_radius, fake_radius = (np.sort(all_distances(z, z), axis=1)[:, k] for z in (real, fake))
    between = all_distances(fake, real)
    found = precision_recall(real, fake, k)
    assert found.precision == np.mean([(row <= real_radius).any() for row in between])
    assert found.recall == np.mean([(row <= fake_radius).any() for row in between.T])
    found = density_coverage(real, fake, k)
    assert found.density == pytest.approx((between <= real_radius).sum() / (k * 15), rel=1e-12)
    assert found.coverage == np.mean(
        [(row <= r).any() for row, r in zip(between.T, real_radius, strict=True)]
    )


def test_equal_and_disjoint_sets(rng):
    x = rng.standard_normal((30, 3))
    assert (precision_recall(x, x).precision, precision_recall(x, x).recall) == (1, 1)
    same = density_coverage(x, x)
    # Each ball holds k neighbours (k-th at its border) and its centre.
    assert (same.density, same.coverage) == (pytest.approx(6 / 5), 1)
    far = x + 1000
    assert (precision_recall(x, far).precision, precision_recall(x, far).recall) == (0, 0)
    assert (density_coverage(x, far).density, density_coverage(x, far).coverage) == (0, 0)


def test_one_mode_of_two_is_precise_but_covers_half(rng):
    real = rng.standard_normal((200, 2)) + np.repeat([[0, 0], [100, 0]], 100, axis=0)
    fake = rng.standard_normal((200, 2))
    found = precision_recall(real, fake)
    assert found.precision > 0.9
    assert 0.4 < found.recall <= 0.5
    assert 0.4 < density_coverage(real, fake).coverage <= 0.5


def test_an_outlier_raises_the_precision_and_not_the_density(rng):
    """The reason for which Naeem et al. count balls."""
    real, fake = rng.standard_normal((200, 2)), rng.standard_normal((200, 2)) + np.array([8, 0])
    with_outlier = np.concatenate([real, [[20, 0]]])
    assert precision_recall(real, fake).precision < 0.05
    assert precision_recall(with_outlier, fake).precision > 0.9
    assert density_coverage(with_outlier, fake).density < 0.3


def test_duplicates_lie_in_balls_of_radius_zero():
    real = np.repeat([[0.1, 0.7]], 9, axis=0)
    assert precision_recall(real, real[:5]).precision == 1
    assert density_coverage(real, real + 1e-12).coverage == 0


def test_expected_density_and_coverage_of_one_distribution(rng):
    """Naeem et al.: 0.96891 at 1,500 samples of both, for any distribution."""
    assert expected_coverage(1500, 1500) == pytest.approx(0.96891, abs=5e-6)
    draws = [density_coverage(*rng.standard_normal((2, 60, 3))) for _ in range(60)]
    coverage, density = ([getattr(d, name) for d in draws] for name in ("coverage", "density"))
    assert abs(np.mean(coverage) - expected_coverage(60, 60)) < 4 * np.std(coverage) / 60**0.5
    assert abs(np.mean(density) - 1) < 4 * np.std(density) / 60**0.5
    draws = [density_coverage(rng.random((40, 1)), rng.random((10, 1)), 2) for _ in range(200)]
    coverage = [d.coverage for d in draws]
    assert abs(np.mean(coverage) - expected_coverage(40, 10, 2)) < 4 * np.std(coverage) / 200**0.5


def test_the_means_are_of_the_terms(rng):
    real, fake = rng.standard_normal((30, 2)), rng.standard_normal((20, 2))
    a, b = precision_recall(real, fake), density_coverage(real, fake)
    assert (a.realistic.shape, a.covered.shape) == (b.densities.shape, b.covered.shape)
    assert (a.realistic.mean(), a.covered.mean()) == (a.precision, a.recall)
    assert (b.densities.mean(), b.covered.mean()) == (b.density, b.coverage)


def test_there_must_be_a_k_th_neighbour(rng):
    x = rng.standard_normal((3, 2))
    with pytest.raises(ValueError, match=r"precision_recall: samples of shape \(3, 2\)"):
        precision_recall(x, x, 3)
    with pytest.raises(ValueError, match="3 real samples; more than k = 5 are needed"):
        density_coverage(x, x)
    assert density_coverage(np.eye(6), np.eye(6)[:1]).density > 0  # One generated one is enough.
    with pytest.raises(ValueError, match="real = 5; more than k = 5"):
        expected_coverage(5, 9)
