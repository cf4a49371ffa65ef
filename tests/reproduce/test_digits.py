"""The experiments on digits: Parzen log-likelihood with its references, and stacked digits."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from minigan.metrics import parzen_log_likelihood
from minigan.reproduce import EXPERIMENTS, parzen, reproduce, stacked
from minigan.reproduce.runner import FIGURE

RNG = np.random.default_rng
# The best of few bandwidths is at the end of their list, which is said.
pytestmark = [
    pytest.mark.filterwarnings("ignore::minigan.utils.notices.Notice"),
    pytest.mark.usefixtures("digits_are_patterns"),
]


def small(name, **changes):
    """The experiment with short trainings."""
    experiment, cases = EXPERIMENTS[name], {}
    for case_name, case in experiment.cases.items():
        config = {**case.config, **{key: x for key, x in changes.items() if key in case.config}}
        if "training" in config:
            config["training"] = {**config["training"], "steps": 2, "batch": 8}
        cases[case_name] = replace(case, config=config)
    return replace(experiment, cases=cases)


# ------------------------------------------------------------------------------------------- parzen
def test_no_image_is_in_two_parts(patterns):
    parts = parzen.split("mnist", "test")
    assert [len(part) for part in parts] == [480, 60, 60]
    assert len({image.tobytes() for part in parts for image in part.values}) == 600


def test_k_means_finds_separate_clusters():
    rng = RNG(0)
    centres = 10.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    points = centres[np.arange(400) % 4] + rng.normal(size=(400, 3))
    means = np.array([points[i::4].mean(axis=0) for i in range(4)])
    found = min((parzen.k_means(points, 4, 10, seed) for seed in range(5)), key=inertia(points))
    order = [((found - mean) ** 2).sum(axis=1).argmin() for mean in means]
    np.testing.assert_allclose(found[order], means, rtol=0, atol=1e-12)


def inertia(points):
    return lambda centres: ((points[:, None] - centres) ** 2).sum(axis=2).min(axis=1).sum()


def test_each_iteration_of_k_means_is_no_worse():
    points = RNG(1).normal(size=(300, 5))
    sums = [inertia(points)(parzen.k_means(points, 20, n, 0)) for n in range(6)]
    assert all(later <= earlier for earlier, later in pairwise(sums))
    assert sums[-1] < 0.9 * sums[0]


def test_the_window_is_that_of_images_in_0_to_1(patterns):
    train, _, test = parzen.split("mnist", "test")
    outcome = parzen.measure_training_images({"data": "", "split": "", "sigmas": [0.2]}, 0)
    expected = parzen_log_likelihood((train.values + 1) / 2, (test.values + 1) / 2, 0.2).mean()
    np.testing.assert_allclose(outcome.values["nats"], expected, rtol=1e-12)
    assert outcome.values["sigma"] == 0.2
    wider = parzen.measure_training_images({"data": "", "split": "", "sigmas": [0.1, 0.7]}, 0)
    assert wider.values["sigma"] == 0.1  # the noise has a standard deviation of 0.05


def test_parzen_runs_and_an_untrained_generator_misses_its_goal(tmp_path):
    experiment = small("parzen", samples=300, centroids=20, iterations=3)
    document = reproduce("parzen", experiment, [0], tmp_path, workers=1)
    gan, centroids, images = document["cases"].values()
    assert gan["mean"]["nats"] < centroids["mean"]["nats"]
    assert (gan["mean"]["centres"], centroids["mean"]["centres"]) == (300, 20)
    assert images["seeds"] == [0]
    assert "MLP GAN, nats" in document["missed_goals"][0]
    assert (tmp_path / FIGURE).stat().st_size > 10_000


# ------------------------------------------------------------------------------------------ stacked
def test_stacked_images_have_the_digits_of_their_label():
    train, held_out = stacked.digits("mnist", "test")
    assert (len(train), len(held_out)) == (480, 120)
    data = stacked.stack(train, 2000, 0)
    assert data.sample_shape == (2, 14, 14)
    counts = np.bincount(data.labels, minlength=100)
    assert counts.min() > 2
    assert counts.max() < 50  # 20 each
    by_image = {image.tobytes(): y for image, y in zip(train.stored, train.labels, strict=True)}
    for image, label in zip(data.stored[:200], data.labels[:200], strict=True):
        assert by_image[image[:1].tobytes()] * 10 + by_image[image[1:].tobytes()] == label


def test_stacked_runs_and_a_collapsed_generator_misses_both_goals(tmp_path, monkeypatch):
    one_image = stacked.digits("mnist", "test")[0].values[:1]

    def one_pair(self, n, seed=0):
        return np.broadcast_to(one_image.repeat(2, axis=1), (n, 2, 14, 14))

    monkeypatch.setattr(stacked.Trainer, "sample", one_pair)
    experiment = small("stacked-100", pairs=500, samples=1000)
    document = reproduce("stacked-100", experiment, [0], tmp_path, workers=1)
    assert document["cases"]["data"]["mean"]["modes"] == 100
    assert document["cases"]["data"]["mean"]["accuracy"] > 0.95
    assert document["cases"]["data"]["mean"]["kl"] < 0.2
    assert document["cases"]["r3gan"]["mean"]["modes"] == 1
    np.testing.assert_allclose(document["cases"]["r3gan"]["mean"]["kl"], np.log(100), rtol=1e-12)
    assert len(document["missed_goals"]) == 2
    assert (tmp_path / FIGURE).stat().st_size > 10_000
