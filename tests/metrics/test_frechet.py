"""The Frechet distance of Gaussians: closed forms, a matrix square root, singular covariances."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan.metrics import frechet_distance
from minigan.utils.notices import Notice


def sample(mean, covariance, n=40, seed=0):
    """n samples whose mean and covariance (divided by n - 1) are the given ones, to rounding."""
    mean = np.asarray(mean, float)
    z = np.random.default_rng(seed).standard_normal((n, len(mean)))
    z -= z.mean(axis=0)
    white = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / (n - 1))).T
    values, vectors = np.linalg.eigh(np.asarray(covariance, float))
    return white @ (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T + mean


def wishart(d, seed):
    a = np.random.default_rng(seed).standard_normal((d, d + 1))
    return a @ a.T


@given(st.floats(-5, 5), st.floats(0.01, 9), st.floats(-5, 5), st.floats(0.01, 9))
def test_one_dimension_is_the_squares_of_both_differences(m1, s1, m2, s2):
    x, y = sample([m1], [[s1**2]]), sample([m2], [[s2**2]], seed=1)
    exact = (m1 - m2) ** 2 + (s1 - s2) ** 2
    assert frechet_distance(x, y) == pytest.approx(exact, rel=1e-10, abs=1e-11)


def test_commuting_covariances_add_up_axis_by_axis():
    x, y = sample([1, 2, 3], np.diag([4, 9, 16])), sample([0, 2, 5], np.diag([1, 4, 25]), seed=1)
    assert frechet_distance(x, y) == pytest.approx(1 + 0 + 4 + 1 + 1 + 1, rel=1e-12)


@given(st.integers(0, 2**31))
def test_two_dimensions_by_the_roots_of_a_quadratic_equation(seed):
    """tr M^(1/2) = sqrt(tr M + 2 sqrt(det M)) for a 2 x 2 matrix, M = C1 C2, which is no symmetric
    one."""
    c1, c2 = wishart(2, seed), wishart(2, seed + 1)
    product = c1 @ c2
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    exact = 25 + np.trace(c1) + np.trace(c2) - 2 * root
    distance = frechet_distance(sample([3, 0], c1), sample([0, 4], c2, seed=1))
    assert distance == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("d", [2, 5, 30])
def test_the_square_root_of_scipy(d):
    linalg = pytest.importorskip("scipy.linalg", reason="SciPy is not installed")
    c1, c2 = wishart(d, 0), wishart(d, 1)
    exact = np.trace(c1) + np.trace(c2) - 2 * np.trace(linalg.sqrtm(c1 @ c2)).real
    x, y = sample(np.zeros(d), c1, 200), sample(np.zeros(d), c2, 200, seed=1)
    assert frechet_distance(x, y) == pytest.approx(exact, rel=1e-9)


def test_singular_covariances():
    """A root of eigenvalues of C1 C2 itself would have errors of 1e-8 here, and SciPy's is NaN."""
    line, other = np.diag([4, 0, 0]), np.diag([9, 0, 1])
    x, y = sample([0, 0, 0], line), sample([0, 0, 2], other, seed=1)
    assert frechet_distance(x, y) == pytest.approx(1 + 1 + 4, rel=1e-12)
    assert frechet_distance(x, x) < 1e-12
    wide = np.random.default_rng(0).standard_normal((100, 5)) @ np.ones((5, 90))
    assert frechet_distance(wide, wide) < 1e-12 * (wide**2).sum(axis=1).mean()


def test_a_line_in_a_cloud(rng):
    """Rounding gives a line a width of 1e-8 times its length, which must not count."""
    u = rng.standard_normal(10)
    u /= np.linalg.norm(u)
    line = 3 * sample([0], [[1]], 60) * u
    cloud = sample(np.zeros(10), 4 * np.eye(10), 60, seed=1)
    assert frechet_distance(line, cloud) == pytest.approx(9 + 40 - 2 * 3 * 2, rel=1e-12)


def test_rank_zero():
    ones = np.ones((9, 3))
    assert frechet_distance(ones, ones) == 0
    assert frechet_distance(ones, 3 * ones) == 12
    x = sample([1, 1, 1], np.diag([4, 9, 16]))
    assert frechet_distance(ones, x) == pytest.approx(29, rel=1e-12)


def test_symmetric_and_unchanged_by_a_rotation(rng):
    x, y = rng.standard_normal((2, 50, 4)) * [[[1]], [[2]]]
    q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    distance = frechet_distance(x, y)
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(x @ q, y @ q) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(3 * x, 3 * y) == pytest.approx(9 * distance, rel=1e-12)


def test_a_large_mean_costs_no_digits(rng):
    x, y = rng.standard_normal((2, 50, 4))
    distance = frechet_distance(x, y)
    assert frechet_distance(x + 2.0**20, y + 2.0**20) == pytest.approx(distance, rel=1e-7)


def test_the_bias_shrinks_as_one_over_n(rng):
    def mean(n):
        return np.mean([frechet_distance(*rng.standard_normal((2, n, 3))) for _ in range(40)])

    assert 3 < mean(100) / mean(400) < 5.3  # 4 in the limit


def test_too_few_samples_are_a_notice_and_one_is_an_error(rng):
    x = rng.standard_normal((10, 10))
    with pytest.warns(Notice, match="10 samples of 10 coordinates are too few"):
        frechet_distance(x, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(x[:, :9], x[:, :9])
    with pytest.raises(ValueError, match=r"frechet_distance: samples of shape \(1, 10\); .* 2 is"):
        frechet_distance(x[:1], x)
