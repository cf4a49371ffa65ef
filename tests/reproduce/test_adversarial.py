"""The experiments on adversarial digits, with digits that are patterns and short trainings."""

from dataclasses import replace

import numpy as np
import pytest

import minigan as mg
from minigan.data import Dataset
from minigan.metrics import classify, train_classifier
from minigan.reproduce import EXPERIMENTS, adversarial, adversarial_detectors, reproduce
from minigan.reproduce.adversarial import attack
from minigan.reproduce.adversarial_detectors import OF_ARRAYS, OF_TENSORS
from minigan.reproduce.runner import FIGURE


@pytest.fixture(scope="module")
def parts():
    """Three parts of ten patterns, black and white but for a square of grey, where the class is.

    The squares have little contrast, so that a short attack deceives a classifier.
    """
    rng = np.random.default_rng(0)
    prototypes = np.tile(255 * (np.arange(28) >= 14), (10, 1, 28, 1))
    for i, prototype in enumerate(prototypes):
        top, left = 5 * (i % 5), 10 * (i // 5)
        square = prototype[0, top : top + 5, left : left + 5]
        square[:] = np.where(square > 0, 195, 60)
    sets = []
    for n in (600, 60, 60):
        labels = np.arange(n) % 10
        noise = rng.integers(-8, 9, size=(n, 1, 28, 28))
        images = np.clip(prototypes[labels] + noise, 0, 255).astype(np.uint8)
        sets.append(Dataset("patterns", images, labels, 10))
    return tuple(sets)


@pytest.fixture(autouse=True)
def digits_are_patterns(parts, monkeypatch):
    monkeypatch.setattr(adversarial, "split", lambda name, part: parts)
    adversarial_detectors._attacked.cache_clear()
    yield
    adversarial_detectors._attacked.cache_clear()  # Other tests have other digits.


@pytest.fixture(scope="module")
def net(parts):
    return train_classifier(parts[0].values, parts[0].labels, 10, 60)


def short(config):
    """The configuration with short trainings."""
    config = dict(config)
    for key in config.keys() & {"attacked", "training"}:
        if isinstance(config[key], dict):
            config[key] = short(config[key])
    sizes = {"steps": 60, "attack_steps": 2, "epsilons": [0.1, 0.2]}
    if "model" in config:
        sizes = {"steps": 2, "batch": 8}
    return {**config, **{key: x for key, x in sizes.items() if key in config}}


def small(name, *rows):
    experiment = EXPERIMENTS[name]
    cases = {
        row: replace(case, config=short(case.config)) for row, case in experiment.cases.items()
    }
    return replace(experiment, cases={row: cases[row] for row in rows or cases})


def test_attacks_are_those_of_the_library(parts, net):
    x, y = parts[2].values, parts[2].labels
    tensors = mg.tensor(x), mg.tensor(y)
    fast = mg.adversarial.fgsm(net, *tensors, 0.1).numpy()
    np.testing.assert_array_equal(attack("FGSM", net, x, y, 0.1, 5), fast)
    mg.manual_seed(4)
    slow = mg.adversarial.pgd(net, *tensors, 0.1, steps=5).numpy()
    mg.manual_seed(4)
    np.testing.assert_array_equal(attack("PGD", net, x, y, 0.1, 5), slow)
    noise = attack("noise", net, x, y, 0.1, 5)
    assert 0.19 < abs(noise - x).max() <= 0.2 + 1e-6


def test_all_samples_are_attacked_batch_by_batch(parts, net, monkeypatch):
    x, y = parts[2].values, parts[2].labels
    whole = attack("FGSM", net, x, y, 0.1, 1)
    monkeypatch.setattr(adversarial, "BATCH", 7)
    np.testing.assert_allclose(attack("FGSM", net, x, y, 0.1, 1), whole, rtol=0, atol=1e-6)


def test_accuracy_falls_with_the_strength_of_the_attack(tmp_path):
    document = reproduce("adversarial", small("adversarial", "plain"), [0], tmp_path, workers=1)
    (case,) = document["cases"].values()
    mean = case["mean"]
    assert mean["clean"] > 0.95
    assert mean["noise 0.2"] > 0.95
    assert mean["PGD 0.2"] <= mean["PGD 0.1"] <= mean["clean"]
    assert mean["PGD 0.2"] < 0.7
    assert (tmp_path / FIGURE).stat().st_size > 10_000


def test_training_is_on_what_the_row_says(monkeypatch, parts):
    given = []

    def train(values, labels, classes, steps, seed, perturb):
        given.append(perturb)
        return train_classifier(values, labels, classes, 1, seed)

    monkeypatch.setattr(adversarial, "train_classifier", train)
    for row in small("adversarial").cases.values():
        adversarial.measure_accuracy({**row.config, "epsilons": []}, 0)
    assert given[0] is None
    x, y = mg.tensor(parts[2].values), mg.tensor(parts[2].labels)
    one = train_classifier(parts[0].values, parts[0].labels, 10, 20)
    moved = [perturb(one, x, y) for perturb in given[1:]]
    losses = [mg.adversarial.cross_entropy_per_sample(one(m), y).numpy().mean() for m in moved]
    assert all(0.39 < abs(m.numpy() - x.numpy()).max() <= 0.4 + 1e-6 for m in moved)
    assert losses[0] < losses[1] <= losses[2] * 1.01


# ---------------------------------------------------------------------------------------- detectors
def test_simple_scores(parts):
    train = parts[0]
    x = np.full((2, 1, 28, 28), -1, np.float32)
    x[1, 0, :, ::2] = 0  # columns of grey: every neighbour to the right differs by 1
    x[1, 0, 0, 0] = 1
    grey = OF_ARRAYS["grey"]({}, 0, train, None)(x)
    assert grey.tolist() == [0, (14 * 28 - 1) / 784]
    variation = OF_TENSORS["variation"]({}, 0, train, None)(mg.tensor(x)).numpy()
    np.testing.assert_allclose(variation, [0, 1 + 1 / (28 * 27) + 1 / (27 * 28)], rtol=1e-6)
    nearest = OF_ARRAYS["nearest"]({}, 0, train, None)(train.values[:3] + 0.1)
    np.testing.assert_allclose(nearest, 0.1 * 28, rtol=1e-5)


def test_the_score_of_a_gan_is_minus_the_logit_of_its_discriminator(parts, monkeypatch):
    trained = []

    class Spy(adversarial_detectors.Trainer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            trained.append(self)

    monkeypatch.setattr(adversarial_detectors, "Trainer", Spy)
    config = small("adversarial-detectors").cases["D of an MLP GAN"].config
    x = mg.tensor(parts[2].values[:5])
    score = OF_TENSORS["gan"](config, 3, parts[0], None)(x).numpy()
    (trainer,) = trained
    assert (trainer.step_count, trainer.config.seed) == (2, 3)
    np.testing.assert_array_equal(score, -trainer.discriminator(x).numpy()[:, 0])


def test_detectors_find_attacks_and_grey_pixels_are_evaded(tmp_path):
    """An attack on black and white pixels makes them grey, unless it changes grey ones alone."""
    rows = ("grey pixels", "total variation", "trained on PGD 0.1 and noise")
    experiment = small("adversarial-detectors", *rows)
    document = reproduce("adversarial-detectors", experiment, [0], tmp_path, workers=1)
    means = [case["mean"] for case in document["cases"].values()]
    assert all(mean["PGD 0.2"] > 0.95 for mean in means)
    grey, variation, trained = means
    assert grey["noise 0.2"] > 0.95
    assert grey["evading"] <= 0.5
    assert trained["PGD, noise 0.2"] > max(0.8, variation["PGD, noise 0.2"])
    assert (tmp_path / FIGURE).stat().st_size > 10_000


def test_an_evading_attack_deceives_the_classifier_and_keeps_the_score(parts, net):
    """The score is a mean of pixels; plain PGD raises it by up to 0.008."""
    x, y = parts[2].values, parts[2].labels
    mask = mg.tensor(np.random.default_rng(0).choice([-1.0, 1.0], (28, 28)), "float32")

    def score(x):
        return (x * mask).mean(axis=(1, 2, 3))

    config = {"attacked": {"attack_steps": 10}, "evading": 0.1, "weight": 1000.0}
    clean = score(mg.tensor(x)).numpy()
    images = {
        "evading": adversarial_detectors._evade(config, net, score, x, y),
        "PGD": attack("PGD", net, x, y, 0.1, 20),
    }
    above = {name: (score(mg.tensor(z)).numpy() - clean).max() for name, z in images.items()}
    assert above["evading"] < 0.003
    assert above["PGD"] > 0.006
    assert (classify(net, images["evading"]) == y).mean() < 0.5


def test_what_is_kept_from_one_detector_to_the_next_changes_no_number():
    config = small("adversarial-detectors").cases["total variation"].config
    values = []
    for _ in range(2):
        with mg.random.fork_rng(7):  # as an experiment does
            values.append(adversarial_detectors.measure_detector(config, 0).values)
    assert adversarial_detectors._attacked.cache_info().hits == 1
    assert values[0] == values[1]
