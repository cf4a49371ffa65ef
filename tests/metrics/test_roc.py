"""The area under the ROC curve: known answers, symmetry, errors."""

import numpy as np
import pytest

from minigan.metrics import roc_auc


def test_known_answers():
    assert roc_auc([1, 2, 3], [4, 5]) == 1
    assert roc_auc([4, 5], [1, 2, 3]) == 0
    assert roc_auc([1, 1], [1, 1, 1]) == 0.5
    assert roc_auc([1, 3], [2, 3]) == (1 + 0 + 1 + 0.5) / 4


def test_it_is_the_share_of_pairs_in_order(rng):
    a, b = rng.integers(5, size=40), rng.integers(2, 7, size=30)
    pairs = (b[None] > a[:, None]) + 0.5 * (b[None] == a[:, None])
    assert roc_auc(a, b) == pytest.approx(pairs.mean(), rel=1e-12)
    assert roc_auc(b, a) == pytest.approx(1 - pairs.mean(), rel=1e-12)
    assert roc_auc(np.exp(a), np.exp(b)) == roc_auc(a, b)


def test_of_two_normal_distributions(rng):
    """At a distance of 1 it is Phi(1 / sqrt 2) = 0.7602."""
    auc = roc_auc(rng.normal(size=20_000), rng.normal(1, size=20_000))
    assert auc == pytest.approx(0.7602, abs=0.01)


@pytest.mark.parametrize("bad", [[], [[1.0]], [np.nan, 1.0], 3.0])
def test_scores_are_numbers_in_one_row(bad):
    for pair in ((bad, [1.0]), ([1.0], bad)):
        with pytest.raises(ValueError, match="roc_auc: scores of shape"):
            roc_auc(*pair)
    with pytest.raises(TypeError, match="roc_auc: samples of type"):
        roc_auc(["a"], [1.0])
