"""Memorization, and the birthday test of diversity."""

import itertools
import math

import numpy as np
import pytest

from minigan.metrics import birthday, memorization


# ----------------------------------------------------------------------------------- memorization
def test_by_hand():
    """Nearest of 0.1: 0 (train); of 2.9: 3 (held out); of 10.0: 10, in both."""
    found = memorization([[0.1], [2.9], [10.0]], [[0.0], [10.0], [20.0]], [[3.0], [10.0]])
    assert (found.share, found.expected_share) == (pytest.approx(1.5 / 3), 3 / 5)
    assert found.excess == pytest.approx((0.5 - 0.6) / 0.4)
    np.testing.assert_allclose(found.to_train, [0.1, 2.9, 0], rtol=1e-12)
    np.testing.assert_allclose(found.to_held_out, [2.9, 0.1, 0], rtol=1e-12)
    assert found.floor.tolist() == [3, 0]
    # Of 6 pairs of (0.1, 2.9, 0) and (3, 0), 3 are below, 1 is equal.
    assert found.nearer == pytest.approx(3.5 / 6)


def test_z_is_standardized_over_all_divisions_of_the_real_data(rng):
    """Whatever the samples are: of the distribution, collapsed, copies, or repeated."""
    normal, fake = rng.standard_normal((7, 2)), rng.standard_normal((25, 2))
    ties, grid = normal[[0, 0, 0, 1, 1, 2, 3]], rng.integers(3, size=(7, 2))
    cases = [(normal, x) for x in (fake, 0.1 * fake, normal[:5], np.repeat(fake[:2], 9, axis=0))]
    cases += [(ties, fake), (ties, ties[[0, 2, 4, 5]]), (grid, rng.integers(3, size=(25, 2)))]
    for real, samples in cases:
        found = []
        for chosen in itertools.combinations(range(7), 4):
            rest = [i for i in range(7) if i not in chosen]
            found.append(memorization(samples, real[list(chosen)], real[rest]))
        assert np.mean([f.share for f in found]) == pytest.approx(4 / 7)
        assert np.mean([f.excess for f in found]) == pytest.approx(0, abs=1e-12)
        for z in np.array([(f.z, f.closest_z) for f in found]).T:
            assert z.mean() == pytest.approx(0, abs=1e-12)
            assert (z * z).mean() == pytest.approx(1)


def test_copies_of_training_samples_are_found_and_copies_of_held_out_ones_are_not(rng):
    train, held_out = rng.standard_normal((900, 5)), rng.standard_normal((100, 5))
    noise = 0.01 * rng.standard_normal((300, 5))
    copies = memorization(train[:300] + noise, train, held_out)
    assert (copies.share, copies.excess, copies.expected_share) == (1, 1, 0.9)
    assert copies.z > 4
    assert copies.nearer == 1
    assert copies.c_t < -10
    fresh = memorization(rng.standard_normal((300, 5)), train, held_out)
    assert abs(fresh.z) < 4
    assert abs(fresh.c_t) < 4
    assert abs(memorization(held_out + noise[:100], train, held_out).c_t) < 4


def test_a_tenth_of_copies_is_found(rng):
    train, held_out = rng.standard_normal((2, 500, 5))
    fake = np.concatenate([rng.standard_normal((450, 5)), train[:50]])
    found = memorization(fake, train, held_out)
    assert found.closest_share == 1
    assert found.closest_z > 5
    assert found.excess == pytest.approx(0.1, abs=4 / 500**0.5)
    assert abs(memorization(fake[:450], train, held_out).closest_z) < 3


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_copies_are_found_where_much_of_the_data_is_one_value(rng, share):
    """A copy of a repeated sample shows nothing, and takes nothing from the others."""
    real = rng.standard_normal((1000, 8))
    real[rng.random(1000) < share] = 0
    train, held_out = real[:900], real[900:]
    copies = train[rng.integers(900, size=400)]
    assert memorization(copies, train, held_out).z > 4
    held = memorization(held_out[rng.integers(100, size=400)], train, held_out)
    assert held.z < -4


def test_honest_draws_of_few_values_are_standardized(rng):
    values = rng.standard_normal((8, 4))
    found = []
    for _ in range(300):
        x = values[rng.integers(8, size=700)]
        m = memorization(x[:200], x[200:600], x[600:])
        found.append((m.z, m.closest_z))
    error = 4 / 300**0.5
    np.testing.assert_allclose(np.mean(found, axis=0), 0, atol=error)
    np.testing.assert_allclose(np.std(found, axis=0), 1, atol=error)


def test_a_collapsed_generator_is_nearer_but_no_copy(rng):
    """The rank test takes the middle of the data for a copy; the share does not."""
    train, held_out = rng.standard_normal((2, 500, 5))
    found = memorization(0.2 * rng.standard_normal((400, 5)), train, held_out)
    assert found.c_t < -5
    assert abs(found.z) < 4


def test_the_rank_statistic_is_scipys(rng):
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    train = rng.standard_normal((50, 1))
    fake, held_out = (np.rint(4 * rng.standard_normal((n, 1))) / 4 for n in (40, 30))  # with ties
    found = memorization(fake, train, held_out)
    test = stats.mannwhitneyu(found.to_train, found.floor, use_continuity=False)
    assert 1 - found.nearer == pytest.approx(test.statistic / 1200, rel=1e-12)
    assert 2 * stats.norm.sf(abs(found.c_t)) == pytest.approx(test.pvalue, rel=1e-9)


def test_equal_samples_everywhere():
    ones = np.ones((4, 2))
    found = memorization(ones, ones, ones[:3])
    assert (found.share, found.z) == (pytest.approx(4 / 7), 0)
    assert (found.nearer, found.c_t) == (0.5, 0)
    each = memorization(np.eye(5), np.eye(5)[:3], np.eye(5)[3:])  # the same for any division
    assert (each.share, each.z) == (pytest.approx(3 / 5), 0)


# --------------------------------------------------------------------------------------- birthday
def test_pairs_by_hand():
    real = np.array([[0.0], [1.0], [3.0], [6.0]])  # nearest neighbours at 1, 1, 2, 3
    found = birthday(np.array([[0.0], [0.5], [1.5], [9.0]]), real, 0.25)
    assert (found.samples, found.threshold) == (4, 1)
    assert (found.pairs, found.real_pairs) == (2, 1)
    assert (found.support, found.real_support) == (3, 6)
    assert found.batch == pytest.approx(math.sqrt(2 * math.log(2) * 3))


@pytest.mark.parametrize("support", [20, 200])
def test_the_support_of_equally_frequent_samples(rng, support):
    """The pairs are Poisson distributed, but for the support drawn."""
    atoms, real = rng.standard_normal((support, 20)), rng.standard_normal((1000, 20))
    found = birthday(atoms[rng.integers(support, size=1000)], real)
    assert found.support == pytest.approx(support, rel=0.2)
    assert found.real_support > 10_000


def test_unequal_frequencies_count_as_fewer(rng):
    atoms, p = rng.standard_normal((100, 20)), np.r_[np.full(2, 0.25), np.full(98, 0.5 / 98)]
    found = birthday(atoms[rng.choice(100, 2000, p=p)], rng.standard_normal((2000, 20)))
    assert found.support == pytest.approx(1 / (p**2).sum(), rel=0.2)


def test_half_of_batches_of_that_size_hold_a_duplicate(rng):
    atoms, real = rng.standard_normal((365, 20)), rng.standard_normal((3000, 20))
    found = birthday(atoms[rng.integers(365, size=3000)], real)
    assert found.batch == pytest.approx(22.5, abs=1)  # of birthdays: 23 people
    size = round(found.batch)
    hits = [len(set(rng.integers(365, size=size).tolist())) < size for _ in range(2000)]
    assert np.mean(hits) == pytest.approx(0.5, abs=0.06)


def test_the_data_themselves_and_no_duplicates_at_all(rng):
    real = rng.standard_normal((1000, 10))
    same = birthday(rng.standard_normal((1000, 10)), real)
    assert 0.5 < same.support / same.real_support < 2
    none = birthday(1000 * rng.standard_normal((1000, 10)), real)
    assert (none.pairs, none.support, none.batch) == (0, math.inf, math.inf)


def test_real_data_with_duplicates(rng):
    real = np.repeat(rng.standard_normal((50, 4)), 2, axis=0)
    found = birthday(real, real)
    different = birthday(real[::2], real[::2])
    assert found.threshold == different.threshold > 0
    # Each sample is twice there: 4 pairs for each of different samples, and 50 of equal ones.
    assert found.pairs == found.real_pairs == 4 * different.real_pairs + 50
    signed = np.where(np.arange(100)[:, None] % 2, -0.0, 0.0) * real
    assert birthday(real, signed).threshold == 0  # -0 is 0: there is one sample
    for quantile in (0, 1, -0.5):
        with pytest.raises(ValueError, match=r"quantile = .* is not between 0 and 1"):
            birthday(real, real, quantile)


@pytest.mark.parametrize("repeated", [0, 30, 300])
def test_a_collapse_is_found_whatever_share_of_the_real_data_is_repeated(rng, repeated):
    real = rng.standard_normal((1000, 8))
    real[:repeated] = real[0]
    found = birthday(real[0] + 1e-3 * rng.standard_normal((1000, 8)), real)
    assert found.support == 1
    pairs = repeated * (repeated - 1) // 2
    assert pairs < found.real_pairs < pairs + 100
