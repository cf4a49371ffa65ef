"""Metrics against closed forms: the sliced Wasserstein distance, and the quality of mixtures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan.data import load
from minigan.engine.random import Generator
from minigan.metrics import mixture_quality, neighbours, sliced_wasserstein, wasserstein1


# ------------------------------------------------------------------------------ sliced Wasserstein
def test_equal_samples_are_at_distance_zero_in_any_order(rng):
    x = rng.standard_normal((50, 1, 4, 4))
    assert sliced_wasserstein(x, x) == 0
    assert sliced_wasserstein(x, x[rng.permutation(50)]) == 0


def test_symmetric_and_repeatable(rng):
    x, y = rng.standard_normal((2, 40, 5))
    assert sliced_wasserstein(x, y) == sliced_wasserstein(y, x) == sliced_wasserstein(x, y)
    assert sliced_wasserstein(x, y, seed=1) != sliced_wasserstein(x, y)


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_one_dimension_is_the_mean_difference_of_sorted_values(n, seed):
    x, y = np.random.default_rng(seed).standard_normal((2, n, 1))
    exact = np.abs(np.sort(x, axis=0) - np.sort(y, axis=0)).mean()
    assert sliced_wasserstein(x, y, projections=3) == pytest.approx(exact, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("dimension", [2, 3, 10])
def test_a_shift_by_d_comes_to_its_length_times_mean_cosine(rng, dimension):
    projections = 20_000
    x = rng.standard_normal((8, dimension))
    shift = rng.standard_normal(dimension)
    # E|cos| of the angle to a uniform direction: Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)).
    cosine = math.gamma(dimension / 2) / math.sqrt(math.pi) / math.gamma((dimension + 1) / 2)
    length = float(np.linalg.norm(shift))
    deviation = math.sqrt(1 / dimension - cosine**2) * length / math.sqrt(projections)
    distance = sliced_wasserstein(x, x + shift, projections)
    assert abs(distance - length * cosine) < 4 * deviation


def test_scales_with_the_samples_and_obeys_the_triangle_inequality(rng):
    x, y, z = rng.standard_normal((3, 30, 4)) * [[[1]], [[2]], [[3]]]
    assert sliced_wasserstein(3 * x, 3 * y) == pytest.approx(3 * sliced_wasserstein(x, y), rel=1e-5)
    through_y = sliced_wasserstein(x, y) + sliced_wasserstein(y, z)
    assert sliced_wasserstein(x, z) <= through_y * (1 + 1e-6)


def test_distance_of_gaussians_shrinks_as_one_over_the_root_of_n(rng):
    def mean(n):
        return np.mean([sliced_wasserstein(*rng.standard_normal((2, n, 3))) for _ in range(20)])

    assert 3 < mean(100) / mean(1600) < 5.3  # 4 in the limit


def test_nan_is_never_a_small_distance(rng):
    x = rng.standard_normal((4, 3))
    y = x.copy()
    y[1, 2] = np.nan
    assert math.isnan(sliced_wasserstein(x, y))
    y[1, 2] = np.inf
    assert math.isnan(sliced_wasserstein(x, y))


def by_sorting(x, y, projections):
    directions = Generator(0).normal((x.shape[1], projections), stream="directions").numpy()
    directions = directions.astype(np.float64)
    directions /= np.linalg.norm(directions, axis=0)
    return np.abs(np.sort(x @ directions, axis=0) - np.sort(y @ directions, axis=0)).mean()


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e39, 1e150])
def test_projections_are_of_float64(rng, scale):
    x, y = rng.standard_normal((2, 40, 7))
    expected = scale * by_sorting(x, y + 1, 50)
    assert sliced_wasserstein(scale * x, scale * (y + 1), 50) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("offset", [1e6, 1.7e9, -1e12])
def test_a_common_offset_changes_only_rounding(rng, offset):
    x, y = rng.standard_normal((2, 300, 2))
    found = sliced_wasserstein(offset + x, offset + y + 5, 64)
    assert found == pytest.approx(sliced_wasserstein(x, y + 5, 64), rel=1e-15 * abs(offset) + 1e-12)


def test_directions_in_blocks_are_the_same(rng, monkeypatch):
    x, y = rng.standard_normal((2, 30, 5))
    whole = sliced_wasserstein(x, y, 50)
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", 7 * 30)
    assert sliced_wasserstein(x, y, 50) == whole


@pytest.mark.parametrize("shapes", [((3, 2), (4, 2)), ((3, 2), (3, 4)), ((0, 2), (0, 2))])
def test_shapes_must_agree_and_hold_something(shapes):
    with pytest.raises(ValueError, match="equal shapes"):
        sliced_wasserstein(*map(np.zeros, shapes))


@pytest.mark.parametrize("projections", [0, -1])
def test_there_must_be_a_direction(projections):
    with pytest.raises(ValueError, match="projections"):
        sliced_wasserstein(np.zeros((3, 2)), np.zeros((3, 2)), projections)


# --------------------------------------------------------------------------------------- mixtures
MODES = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def test_all_modes_in_equal_shares():
    quality = mixture_quality(np.repeat(MODES, 5, axis=0), MODES, 0.1)
    assert (quality.modes, quality.high_quality, quality.reverse_kl) == (4, 1.0, 0.0)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float16", 100), ("float32", 1e25), ("float64", 1e-200), ("float64", 1e199)],
)
def test_squares_neither_overflow_nor_underflow(rng, dtype, scale):
    centres = 10 * np.arange(8.0)[:, None] * [1, -1]
    samples = (centres[rng.integers(8, size=3000)] + rng.standard_normal((3000, 2))) * scale
    quality = mixture_quality(samples.astype(dtype), (centres * scale).astype(dtype), scale)
    assert quality.modes == 8
    assert quality.high_quality == pytest.approx(0.9889, abs=0.008)


def test_one_mode():
    quality = mixture_quality(np.repeat(MODES[2:3], 7, axis=0), MODES, 0.1)
    assert (quality.modes, quality.high_quality) == (1, 1.0)
    assert quality.reverse_kl == pytest.approx(math.log(4))


def test_no_mode():
    quality = mixture_quality(np.full((9, 2), 0.5), MODES, 0.1)
    assert (quality.modes, quality.high_quality, quality.reverse_kl) == (0, 0.0, math.inf)
    assert mixture_quality(np.full((9, 2), np.nan), MODES, 0.1) == quality


def test_the_border_is_at_three_sigma_in_any_direction():
    for angle in np.linspace(0, 6, 13):
        way = 0.1 * np.array([[np.cos(angle), np.sin(angle)]])
        assert mixture_quality(MODES[:1] + 2.99 * way, MODES[:1], 0.1).high_quality == 1
        assert mixture_quality(MODES[:1] + 3.01 * way, MODES[:1], 0.1).high_quality == 0


def test_reverse_kl_by_hand_counts_only_good_samples():
    samples = MODES[[0, 0, 0, 1]].tolist() + [[0.5, 0.5]] * 4
    quality = mixture_quality(np.array(samples), MODES, 0.1)
    assert (quality.modes, quality.high_quality) == (2, 0.5)
    exact = 0.75 * math.log(0.75 / 0.25) + 0.25 * math.log(0.25 / 0.25)
    assert quality.reverse_kl == pytest.approx(exact)


@pytest.mark.parametrize(("name", "count"), [("ring", 8), ("grid", 25)])
def test_a_real_draw_is_989_in_a_thousand(name, count):
    data = load(name, samples=50_000, seed=3)
    quality = mixture_quality(data.values, data.modes, data.sigma)
    assert quality.modes == count
    exact = 1 - math.exp(-4.5)  # a chi-squared of two degrees of freedom, at 9
    assert abs(quality.high_quality - exact) < 4 * math.sqrt(exact * (1 - exact) / 50_000)
    assert quality.reverse_kl < count / 50_000  # E = (modes - 1) / (2 n)


@pytest.mark.parametrize("shape", [(0, 2), (3, 3), (3,)])
def test_samples_must_fit_the_modes(shape):
    with pytest.raises(ValueError, match="mixture_quality"):
        mixture_quality(np.zeros(shape), MODES, 0.1)


def test_samples_of_other_types():
    far, mode = np.array([[16, 0]], np.int8), np.array([[0, 0]], np.int8)
    assert mixture_quality(far, mode, 1.0).high_quality == 0  # 16^2 is 0 in int8
    assert mixture_quality([[0.0, 0.0]], [[0.0, 0.0]], 0.1).modes == 1
    assert sliced_wasserstein([[1.0]], [[3.0]]) == 2
    for measure in (wasserstein1, sliced_wasserstein):
        with pytest.raises(TypeError, match="samples of type complex128; real numbers are needed"):
            measure(np.array([[1j]]), np.array([[0j]]))
        with pytest.raises(ValueError, match="elements are masked"):
            measure(np.ma.array([[1.0]], mask=[[True]]), np.array([[1.0]]))


def test_a_mixture_has_modes_and_a_width():
    modes = np.zeros((1, 2))
    for sigma in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"sigma = .* is not a positive, finite number"):
            mixture_quality(modes, modes, sigma)
    with pytest.raises(ValueError, match="mixture_quality: samples of shape"):
        mixture_quality(modes, np.zeros((0, 2)), 0.1)
