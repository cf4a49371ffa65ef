"""Ten patterns in the place of digits, for the experiments on them."""

from functools import partial

import numpy as np
import pytest

from minigan.data import Dataset
from minigan.metrics import feature_net, features
from minigan.reproduce import parzen, stacked


@pytest.fixture(scope="session")
def patterns():
    """600 images of ten patterns with noise, which a classifier learns in a few steps."""
    rng = np.random.default_rng(0)
    prototypes = np.repeat(np.repeat(rng.integers(2, size=(10, 1, 7, 7)), 4, 2), 4, 3)
    labels = np.arange(600) % 10
    noise = rng.integers(40, size=(600, 1, 28, 28))
    return Dataset("patterns", (prototypes[labels] * 200 + noise).astype(np.uint8), labels, 10)


@pytest.fixture
def digits_are_patterns(patterns, monkeypatch, tmp_path_factory):
    monkeypatch.setattr(parzen, "load", lambda name, split: patterns)
    monkeypatch.setattr(features, "cache_root", tmp_path_factory.getbasetemp)
    monkeypatch.setattr(stacked, "feature_net", partial(feature_net, steps=60))
    stacked.digits.cache_clear()
    stacked.classifier.cache_clear()
    yield
    stacked.digits.cache_clear()  # Other tests have other digits.
    stacked.classifier.cache_clear()
