"""What every metric of samples does with few, equal, broken and unusual samples."""

import tracemalloc
import warnings

import numpy as np
import pytest

from minigan import metrics
from minigan.metrics import neighbours
from minigan.utils.notices import Notice

# Each takes two samples.
PAIRS = {
    "frechet_distance": metrics.frechet_distance,
    "kernel_distance": metrics.kernel_distance,
    "precision_recall": metrics.precision_recall,
    "density_coverage": lambda x, y: metrics.density_coverage(x, y, 2),
    "jensen_shannon": lambda x, y: metrics.jensen_shannon(x, y, 3),
    "parzen_log_likelihood": lambda x, y: metrics.parzen_log_likelihood(x, y, 0.5),
    "parzen_bandwidth": metrics.parzen_bandwidth,
    "memorization": lambda x, y: metrics.memorization(x, y, y),
    "birthday": metrics.birthday,
    "nearest_distances": metrics.nearest_distances,
}
EACH = pytest.mark.parametrize("name", PAIRS)


def flat(result):
    """All numbers of a result."""
    if hasattr(result, "__dataclass_fields__"):
        result = list(vars(result).values())
    parts = result if isinstance(result, (tuple, list)) else [result]
    return np.concatenate([np.ravel(np.asarray(p, float)) for p in parts])


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        yield


@EACH
def test_types_and_layouts_do_not_matter(rng, name):
    x, y = rng.integers(-40, 40, (2, 12, 2, 3))
    exact = flat(PAIRS[name](x.astype(np.float64), y.astype(np.float64)))
    others = [
        (x.astype(np.int8), y.astype(np.int8)),  # differences wrap in int8
        (x.astype(np.float16), y.astype(np.float16)),
        (x.astype(np.float32), y),
        (x.tolist(), y.tolist()),
        (np.repeat(x, 2, axis=0)[::2], np.asfortranarray(y)),
        (x.reshape(12, 6), y.reshape(12, 6)),
    ]
    for pair in others:
        assert np.array_equal(flat(PAIRS[name](*pair)), exact, equal_nan=True)


@EACH
def test_the_samples_are_not_changed(rng, name):
    x, y = rng.standard_normal((2, 12, 3))
    before = x.copy(), y.copy()
    PAIRS[name](x, y)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


@EACH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e60])
def test_what_is_no_number_is_an_error(rng, name, value):
    for which in (0, 1):
        pair = rng.standard_normal((2, 12, 3))
        pair[which, 5, 1] = value
        with pytest.raises(ValueError, match=f"{name}: 1 of 12 samples hold NaN, infinity or num"):
            PAIRS[name](*pair)


@EACH
def test_samples_that_do_not_fit(rng, name):
    x = rng.standard_normal((12, 3))
    with pytest.raises(ValueError, match=rf"{name}: samples of shapes \(12, 3\) and \(12, 2\)"):
        PAIRS[name](x, x[:, :2])
    for broken in (x[:0], x[:, :0], np.float64(3)):
        with pytest.raises(ValueError, match=rf"{name}: samples of shape \(.*\) .*needed"):
            PAIRS[name](x, broken)
    with pytest.raises(TypeError, match=f"{name}: samples of type complex128; real numbers"):
        PAIRS[name](x, x + 1j)
    with pytest.raises(ValueError, match=f"{name}: .*masked"):
        PAIRS[name](x, np.ma.array(x, mask=x > 1))


@EACH
def test_one_sample_is_enough_or_an_error(rng, name):
    x = rng.standard_normal((1, 3))
    if name in ("jensen_shannon", "parzen_log_likelihood", "parzen_bandwidth", "memorization"):
        assert np.isfinite(flat(PAIRS[name](x, x + 1))).all()
    elif name == "nearest_distances":
        assert PAIRS[name](x, x)[0].tolist() == [[0]]
    else:
        with pytest.raises(ValueError, match=f"{name}: .*needed"):
            PAIRS[name](x, x)


@EACH
def test_equal_samples_are_fine(name):
    ones = np.full((12, 3), 0.1)
    assert not np.isnan(flat(PAIRS[name](ones, ones))).any()
    assert not np.isnan(flat(PAIRS[name](ones, 7 * ones))).any()


def test_memory_does_not_grow_with_the_number_of_pairs(rng, monkeypatch):
    """A matrix of 8 MB is never there, but a few blocks of 256 KiB and their masks."""
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", 1 << 15)
    x, y = rng.standard_normal((2, 1000, 2))
    for metric in PAIRS.values():
        metric(x[:9], y[:9])
        tracemalloc.start()
        metric(x, y)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2e6
