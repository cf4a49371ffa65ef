"""Augmentation by a GAN and DiffAugment: the parts of the data, and what is measured."""

from dataclasses import replace

import numpy as np
import pytest

from minigan.metrics import frechet_distance
from minigan.reproduce import EXPERIMENTS, augmentation, diffaugment, reproduce
from minigan.reproduce.runner import FIGURE
from minigan.training.trainer import Trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore::minigan.utils.notices.Notice"),
    pytest.mark.usefixtures("digits_are_patterns"),
]
SIZES = {"labelled": 20, "gan_digits": 20, "samples": 200, "steps": 40, "digits": 30, "early": 1}


def small(name, case_names, **changes):
    """The experiment with few cases, digits and samples, and short trainings."""
    experiment, cases = EXPERIMENTS[name], {}
    for case_name in case_names:
        config = dict(experiment.cases[case_name].config)
        config.update({key: x for key, x in (SIZES | changes).items() if key in config})
        if "training" in config:
            config["training"] = {**config["training"], "steps": 2, "batch": 8}
        cases[case_name] = replace(experiment.cases[case_name], config=config)
    return replace(experiment, cases=cases)


def as_bytes(images):
    return {image.tobytes() for image in images}


def test_no_digit_is_in_two_parts():
    parts = augmentation.parts("mnist", "test")
    assert [len(part) for part in parts] == [420, 60, 120]
    assert len(set().union(*(as_bytes(part.values) for part in parts))) == 600


def test_digits_are_balanced_and_the_controls_contain_the_few():
    pool, _, _ = augmentation.parts("mnist", "test")
    few, many, other = (
        augmentation.choose_digits(pool, n, seed) for n, seed in ((20, 3), (200, 3), (20, 4))
    )
    assert np.bincount(pool.labels[few]).tolist() == [2] * 10
    assert set(few) < set(many)
    assert set(few) != set(other)


@pytest.fixture
def seen(monkeypatch):
    """The images that the GAN (first) and the classifiers were trained on, and their options."""
    calls = []
    init, train = Trainer.__init__, augmentation.train_classifier

    def initialize(self, config, data):
        calls.append((data.values, {}))
        init(self, config, data)

    def train_classifier(values, labels, classes, steps, seed, **options):
        calls.append((values, options))
        return train(values, labels, classes, steps, seed, **options)

    monkeypatch.setattr(Trainer, "__init__", initialize)
    monkeypatch.setattr(augmentation, "train_classifier", train_classifier)
    return calls


def outcome(seed=0, **changes):
    name = "plain GAN, n = 50"
    case = small("augmentation", [name], **changes).cases[name]
    return augmentation.measure(case.config, seed)


def test_what_each_training_is_given(seen):
    values = outcome(gan_digits=200, share=0.25, steps=4).values  # short, so accuracies differ
    pool, _, test = augmentation.parts("mnist", "test")
    (known, _), *classifiers = seen
    assert len(known) == 200
    assert as_bytes(known) <= as_bytes(pool.values)
    few = as_bytes(classifiers[0][0])
    assert len(few) == 20
    assert few < as_bytes(known)
    assert not as_bytes(test.values) & as_bytes(known)
    assert all(as_bytes(images) == few for images, _ in classifiers)
    options = [sorted(options) for _, options in classifiers]
    both = ["augment", "more", "share"]
    assert sorted(options) == [[], ["augment"], both, both[1:]]
    assert all(x["share"] == 0.25 for _, x in classifiers if "more" in x)
    assert values["alone"] != values["shifts"]
    assert values["samples - alone"] == values["samples"] - values["alone"]
    assert values["both - shifts"] == values["both"] - values["shifts"]


@pytest.mark.parametrize("wrong", [0, 1])
def test_good_samples_help_and_wrong_labels_hurt(monkeypatch, wrong):
    """A generator that knows all digits, and one that makes the next digit for each label."""
    pool, _, _ = augmentation.parts("mnist", "test")
    of_digit = [pool.values[pool.labels == digit] for digit in range(10)]

    def sample(self, n, seed=0, labels=None):
        return np.array([of_digit[(y + wrong) % 10][i // 10] for i, y in enumerate(labels)])

    monkeypatch.setattr(Trainer, "sample", sample)
    values = outcome(share=0.9).values
    assert values["shifts"] > 0.9
    if wrong:
        assert values["samples"] < 0.2
        assert values["samples - alone"] < -0.5
        assert values["agreement"] < 0.1
    else:
        assert values["samples"] > 0.9
        assert values["agreement"] > 0.9


def test_augmentation_runs(tmp_path):
    experiment = small("augmentation", list(EXPERIMENTS["augmentation"].cases)[::6])
    document = reproduce("augmentation", experiment, [0], tmp_path, workers=1)
    plain, control = document["cases"].values()
    assert plain["mean"]["alone"] == control["mean"]["alone"]
    assert (tmp_path / FIGURE).stat().st_size > 10_000


# -------------------------------------------------------------------------------------- DiffAugment
def test_diffaugment_measures_distances_to_the_test_digits(tmp_path):
    names = ["real digits", "200 digits, none", "200 digits, translation"]
    experiment = small("diffaugment", names, samples=110)
    document = reproduce("diffaugment", experiment, [0], tmp_path, workers=1)
    real, none, augmented = document["cases"].values()
    for key in ("sliced_wasserstein", "frechet"):
        early, late = (f"{key}_{when}" for when in ("early", "late"))
        assert real["mean"][early] == real["mean"][late]
        assert none["mean"][late] > 2 * real["mean"][late]
        assert none["mean"][early] != none["mean"][late] != augmented["mean"][late]
    pool, _, test = augmentation.parts("mnist", "test")
    net = diffaugment.classifier("mnist", "test")
    expected = frechet_distance(
        net.features(pool.sample(110, 0).values), net.features(test.values[:110])
    )
    assert real["mean"]["frechet_late"] == pytest.approx(expected)
    assert (tmp_path / FIGURE).stat().st_size > 3000


def test_the_rows_differ_in_the_policy_alone():
    cases = EXPERIMENTS["diffaugment"].cases
    trainings = [case.config["training"] for case in cases.values() if "training" in case.config]
    different = {key for x in trainings for key in x if x[key] != trainings[0][key]}
    assert different == {"augment"}
