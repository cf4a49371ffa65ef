"""The kernel distance: by hand, without bias, block by block."""

import numpy as np
import pytest

from minigan.metrics import kernel_distance, kernel_distance_blocks, neighbours


def brute_force(x, y, degree):
    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** degree

    n, m = len(x), len(y)
    own = [
        sum(k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j)
        / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    return own[0] + own[1] - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_by_hand():
    """k(1, 2) = 27, k(0, 3) = 1; k(1, 0) = 1, k(1, 3) = 64, k(2, 0) = 1, k(2, 3) = 343."""
    assert kernel_distance([[1.0], [2.0]], [[0.0], [3.0]]) == 27 + 1 - 2 * (1 + 64 + 1 + 343) / 4


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_the_sums_written_out(rng, degree):
    x, y = rng.standard_normal((7, 3)), rng.standard_normal((5, 3)) + 1
    exact = brute_force(x, y, degree)
    assert kernel_distance(x, y, degree) == pytest.approx(exact, rel=1e-12)


def test_the_expectation_is_zero_for_one_distribution(rng):
    draws = np.array([kernel_distance(*rng.standard_normal((2, 20, 4))) for _ in range(400)])
    assert abs(draws.mean()) < 4 * draws.std() / 20
    assert 0.3 < (draws < 0).mean() < 0.8
    shifted = [
        kernel_distance(x, y + 1) for x, y in (rng.standard_normal((2, 20, 4)) for _ in range(50))
    ]
    # Of degree 1 it would be |shift|^2 / d = 1; degree 3 adds to it.
    assert np.mean(shifted) > 3


def test_degree_one_is_the_squared_difference_of_means_without_its_bias(rng):
    x, y = rng.standard_normal((30, 5)), rng.standard_normal((40, 5)) + 0.3
    bias = sum(z.var(axis=0, ddof=1).sum() / len(z) for z in (x, y))
    exact = (((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() - bias) / 5
    assert kernel_distance(x, y, 1) == pytest.approx(exact, rel=1e-11)


def test_any_number_of_rows_at_a_time(rng, monkeypatch):
    x, y = rng.standard_normal((2, 23, 3))
    whole = kernel_distance(x, y)
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", 7 * 23)
    assert kernel_distance(x, y) == whole


def test_blocks_are_disjoint_parts(rng):
    x, y = rng.standard_normal((23, 3)), rng.standard_normal((31, 3))
    blocks = kernel_distance_blocks(x, y, 3)
    parts = [kernel_distance(x[7 * i : 7 * i + 7], y[10 * i : 10 * i + 10]) for i in range(3)]
    assert blocks.tolist() == parts
    with pytest.raises(ValueError, match="blocks = 12; a number from 1 to 11 is accepted"):
        kernel_distance_blocks(x, y, 12)


def test_the_degree_is_a_positive_integer():
    with pytest.raises(ValueError, match="degree = 0; a number of at least 1"):
        kernel_distance(np.eye(3), np.eye(3), 0)
    with pytest.raises(TypeError, match=r"degree = 2\.5 is not an integer"):
        kernel_distance(np.eye(3), np.eye(3), 2.5)
