"""The exact Wasserstein distance: closed forms, other solvers, edges, and its certificate."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan.data import load
from minigan.kernels.assignment import cpu
from minigan.metrics import sliced_wasserstein, wasserstein1


def points(n, d, seed, kind):
    """Two samples (n, d) that are easy to get wrong in one way or another."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, n, d))
    made = {
        "normal": (x, y),
        "integers": (np.rint(2 * x), np.rint(2 * y)),  # many ties
        "duplicates": (x[rng.integers(max(1, n // 5), size=n)], y[rng.integers(n, size=n)]),
        "common": (x, np.concatenate([x[: n // 2], y[n // 2 :]])),
        "all equal": (np.ones((n, d)), np.ones((n, d))),
        "a heap and a cloud": (np.zeros((n, d)), y),
        "far apart": (x, y + 1e6),
        "far away": (x + 1e8, y + 1e8),
        "sorted": (np.sort(x, axis=0), np.sort(y, axis=0)),
    }
    return made[kind]


KINDS = (
    "normal",
    "integers",
    "duplicates",
    "common",
    "all equal",
    "a heap and a cloud",
    "far apart",
    "far away",
    "sorted",
)


def unit(x, y):
    """The size of coordinates: what rounding is relative to."""
    return max(abs(x).max(), abs(y).max())


# ------------------------------------------------------------------------------- known answers
@given(st.integers(1, 150), st.integers(0, 2**31), st.sampled_from(KINDS))
def test_one_dimension_is_the_mean_difference_of_sorted_values(n, seed, kind):
    x, y = points(n, 1, seed, kind)
    exact = np.abs(np.sort(x, axis=0) - np.sort(y, axis=0)).mean()
    near = pytest.approx(exact, rel=1e-12, abs=1e-13 * unit(x, y))
    assert wasserstein1(x, y) == near  # sorts
    assert wasserstein1(*(np.pad(a, ((0, 0), (1, 0))) for a in (x, y))) == near  # assigns


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**31), st.sampled_from(KINDS))
def test_the_best_of_all_permutations(n, d, seed, kind):
    x, y = points(n, d, seed, kind)
    every = itertools.permutations(range(n))
    best = min(np.linalg.norm(x - y[list(p)], axis=1).mean() for p in every)
    assert wasserstein1(x, y) == pytest.approx(best, rel=1e-12, abs=1e-13 * unit(x, y))


@given(st.integers(1, 200), st.integers(1, 4), st.integers(0, 2**31), st.sampled_from(KINDS))
def test_the_same_as_scipys(n, d, seed, kind):
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    x, y = points(n, d, seed, kind)
    cost = np.linalg.norm(x[:, None] - y[None], axis=2)
    best = cost[optimize.linear_sum_assignment(cost)].mean()
    assert wasserstein1(x, y) == pytest.approx(best, rel=1e-12, abs=1e-13 * unit(x, y))


def test_a_shift_costs_its_length(rng):
    x = rng.standard_normal((700, 3))
    shift = np.array([3.0, 0.0, 4.0])
    assert wasserstein1(x, x[rng.permutation(700)] + shift) == pytest.approx(5, rel=1e-12)


def test_a_heap_is_at_the_mean_radius(rng):
    x = rng.standard_normal((600, 2))
    exact = np.linalg.norm(x, axis=1).mean()
    assert wasserstein1(np.zeros((600, 2)), x) == pytest.approx(exact, rel=1e-12)


# ---------------------------------------------------------------------------------- a metric
@pytest.mark.parametrize(
    "n", [1, cpu.MIN_COARSE_POINTS, cpu.MIN_COARSE_POINTS + 1, cpu.CHUNK_COLUMNS + 1, 1500]
)
def test_the_prices_certify_every_answer(n, rng):
    """Feasible prices whose sum is the cost: nothing can be cheaper (Kantorovich)."""
    x, y = rng.standard_normal((2, 2, n))
    column, u, v = cpu.assign(x, y)
    assert sorted(column) == list(range(n))
    distances = np.sqrt(((x[:, :, None] - y[:, None]) ** 2).sum(axis=0))
    assert (u[:, None] + v[None] - distances).max() < 1e-13
    assert distances[np.arange(n), column].sum() == pytest.approx(u.sum() + v.sum(), rel=1e-12)


def test_symmetric_zero_for_equal_samples_and_obeys_the_triangle_inequality(rng):
    x, y, z = rng.standard_normal((3, 300, 2)) * [[[1]], [[2]], [[3]]]
    assert wasserstein1(x, x[rng.permutation(300)]) == 0
    assert wasserstein1(x, y) == pytest.approx(wasserstein1(y, x), rel=1e-12)
    assert wasserstein1(x, z) <= wasserstein1(x, y) + wasserstein1(y, z)
    assert sliced_wasserstein(x, y) <= wasserstein1(x, y)


def test_real_points_against_noisy_ones():
    """The kind of question that it is for: eight heaps against a cloud."""
    real = load("ring", samples=2000).values
    noise = np.random.default_rng(0).standard_normal((1000, 2))
    found = wasserstein1(real[:1000], real[1000:] + 0.4 * noise)
    assert 0.3 < found < 0.5
    assert wasserstein1(real[:1000], real[1000:]) < found / 3


# ------------------------------------------------------------------------------------- edges
@pytest.mark.parametrize("power", [-300, -30, 0, 30, 300])
def test_any_unit_will_do(power, rng):
    """Squares would be 0, or infinite."""
    x, y = rng.standard_normal((2, 100, 2))
    found = wasserstein1(x * 10.0**power, y * 10.0**power)
    assert found == pytest.approx(wasserstein1(x, y) * 10.0**power, rel=1e-12)


def test_images_and_integers_are_flattened_and_inputs_left_alone(rng):
    x, y = rng.integers(0, 255, (2, 50, 1, 4, 4)).astype(np.uint8)
    before = x.copy(), y.copy()
    x.flags.writeable = False
    flat = [a.reshape(50, 16).astype(float) for a in (x, y)]
    assert wasserstein1(x, y) == wasserstein1(*flat)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


def test_float32_and_strides_lose_nothing(rng):
    x, y = rng.standard_normal((2, 2, 80)).astype(np.float32)
    assert wasserstein1(x.T, y.T) == wasserstein1(*(a.T.astype(np.float64).copy() for a in (x, y)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_a_small_distance(value, rng):
    x = rng.standard_normal((4, 3))
    y = x.copy()
    y[1, 2] = value
    assert math.isnan(wasserstein1(x, y))
    assert math.isnan(wasserstein1(y, x))


@pytest.mark.parametrize(
    "shapes", [((3, 2), (4, 2)), ((3, 2), (3, 4)), ((0, 2), (0, 2)), ((), ()), ((3, 0), (3, 0))]
)
def test_shapes_must_agree_and_hold_something(shapes):
    with pytest.raises(ValueError, match="wasserstein1: samples of shapes"):
        wasserstein1(*map(np.zeros, shapes))


def test_a_wrong_assignment_is_never_given_out(rng, monkeypatch):
    x, y = rng.standard_normal((2, 200, 2))
    assign = cpu.assign

    def swapped(*arguments, **named):
        column, u, v = assign(*arguments, **named)
        column[[0, 1]] = column[[1, 0]]
        return column, u, v

    monkeypatch.setattr(cpu, "assign", swapped)
    with pytest.raises(ArithmeticError, match="differs from its lower bound"):
        wasserstein1(x, y)


def test_progress_is_told_when_asked_for_and_after_two_seconds(rng, capsys, monkeypatch):
    from minigan.utils import progress

    asked, bar = [], progress.progress_bar

    def recorded_bar(batches, delay, **options):
        asked.append((delay, options["show"]))
        return bar(batches, **options)

    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "progress_bar", recorded_bar)
    x, y = rng.standard_normal((2, 300, 2))
    quiet = wasserstein1(x, y)
    assert capsys.readouterr().err == ""
    assert wasserstein1(x, y, progress=True) == quiet
    assert "W1" in capsys.readouterr().err
    assert asked == [(2, False), (2, True)]
