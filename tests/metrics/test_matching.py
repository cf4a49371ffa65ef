"""Agreement of clusters with classes."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigan.metrics import matched_agreement


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 60), st.integers(0, 2**31))
def test_no_permutation_agrees_more(clusters, classes, n, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(clusters, size=n), rng.integers(classes, size=n)
    names = range(max(clusters, classes))
    best = max(np.mean(np.array(p)[a] == b) for p in permutations(names))
    assert matched_agreement(a, b) == pytest.approx(best, abs=1e-12)


def test_it_is_that_of_scipy_for_many_classes():
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is not installed")
    rng = np.random.default_rng(0)
    for _ in range(10):
        a, b = rng.integers(60, size=(2, 500))
        counts = np.zeros((60, 60))
        np.add.at(counts, (a, b), 1)
        rows, columns = optimize.linear_sum_assignment(-counts)
        assert matched_agreement(a, b) == counts[rows, columns].sum() / 500


def test_renamed_classes_agree_and_random_clusters_hardly():
    rng = np.random.default_rng(1)
    y = rng.integers(10, size=2000)
    assert matched_agreement(rng.permutation(10)[y], y) == 1
    assert 0.1 < matched_agreement(rng.integers(10, size=2000), y) < 0.15
    assert matched_agreement([2, 2, 0, 1], [0, 0, 1, 1]) == 0.75


@pytest.mark.parametrize(
    ("clusters", "labels", "error", "message"),
    [
        ([0.0], [0], TypeError, "clusters are float64; integers are needed"),
        ([0], [-1], ValueError, "labels of shape"),
        ([], np.zeros(0, int), TypeError, "clusters are float64"),
        ([0, 1], [0], ValueError, "2 clusters, but 1 labels"),
    ],
)
def test_what_is_refused(clusters, labels, error, message):
    with pytest.raises(error, match=f"matched_agreement: {message}"):
        matched_agreement(clusters, labels)
