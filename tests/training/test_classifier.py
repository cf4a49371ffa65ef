"""The classifier that says which label a sample shows."""

import numpy as np
import pytest
from player_helpers import cloud, tiles

import minigan as mg
from minigan import Config, Trainer, nn
from minigan.data import Dataset, load
from minigan.engine import random
from minigan.evaluation.evaluate import evaluate
from minigan.metrics import classify, train_classifier


@pytest.fixture(scope="module")
def glyphs():
    return load("glyphs", samples=3000).holdout(0.2, 0)


@pytest.fixture(scope="module")
def trained(glyphs):
    train, _ = glyphs
    return train_classifier(train.values, train.labels, 10, steps=120)


def test_it_names_held_out_digits(glyphs, trained):
    """Measured 0.98, seeds 0 to 2; permuted labels are predicted by chance, 0.10."""
    _, held_out = glyphs
    named = classify(trained, held_out.values)
    assert named.dtype == np.int64
    assert (named == held_out.labels).mean() >= 0.95
    permuted = np.random.default_rng(0).permutation(held_out.labels)
    assert (named == permuted).mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 600))
    assert not any(x.training for x in trained.modules())


def states(net):
    return [x.tobytes() for x in net.state_dict().values()]


def test_the_same_seed_is_the_same_net_and_no_other_stream_is_touched():
    mg.manual_seed(9)
    random.normal((3,))
    before = random.default_generator().state()
    data = cloud(60)
    nets = [train_classifier(data.values, data.labels, 3, steps=5, seed=s) for s in (1, 1, 2)]
    assert states(nets[0]) == states(nets[1]) != states(nets[2])
    assert random.default_generator().state() == before
    with pytest.raises(ValueError, match="label 2 is not one of"):
        train_classifier(data.values, data.labels, 2)
    assert random.default_generator().state() == before


def test_training_goes_on_as_if_no_classifier_were_trained():
    config = Config(batch=8, condition="acgan")
    rows = []
    for disturbed in (False, True):
        trainer = Trainer(config, cloud())
        rows.append([])
        for _ in range(3):
            rows[-1].append(trainer.step())
            if disturbed:
                train_classifier(cloud().values, cloud().labels, 3, steps=2)
    assert rows[0] == rows[1]


def test_points_and_small_images_and_any_number_of_samples():
    data = cloud(200)
    net = train_classifier(data.values.astype(np.float64), data.labels.astype(np.int32), 3, 60)
    assert (classify(net, data.values) == data.labels).mean() == 1
    assert classify(net, np.zeros((0, 2))).shape == (0,)
    assert classify(net, np.repeat(data.values, 6, axis=0)).shape == (1200,)
    odd = tiles(20, 3, 5)
    net = train_classifier(odd.values, odd.labels, 4, 100)
    assert (classify(net, odd.values) == odd.labels).all()


def test_classify_takes_the_largest_logit():
    net = nn.Sequential(nn.Dense(2, 3))
    net.load_state_dict(
        {"0.weight": np.float32([[1, 0, -1], [0, 1, -1]]), "0.bias": np.float32([0, 0, 0.5])}
    )
    assert classify(net, np.array([[2, 1], [1, 2], [-1, -1], [0, 0]])).tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("samples", "labels", "classes", "message"),
    [
        (3, [0, 1], 2, "3 samples, 2 labels, 2 classes"),
        (0, [], 2, "0 samples, 0 labels"),
        (2, [0, 0], 1, "1 classes; as many labels as samples, and two classes or more"),
        (2, [0, 2], 2, "label 2 is not one of 0 .. 1"),
        (2, [-1, 0], 2, "label -1 is not"),
    ],
)
def test_what_it_cannot_learn_from(samples, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        train_classifier(np.zeros((samples, 2), np.float32), np.array(labels, int), classes)


# --------------------------------------------------------------------------------- in `evaluate`
AGREEMENT = ["label_agreement", "label_agreement_permuted"]
ASKED = ["quick", *AGREEMENT]


def test_label_agreement_of_the_data_themselves_and_of_a_generator_that_mixes_labels(monkeypatch):
    data = cloud(900)
    trainer = Trainer(Config(batch=8, condition="concat", holdout=0.3), data)
    label_arguments = []

    def obedient(n, seed, labels=None, averaged=True):
        label_arguments.append(labels)
        shown = np.arange(n) % 3 if labels is None else labels
        return (np.random.default_rng(seed).normal(0, 0.1, (n, 2)) + shown[:, None]).astype("f4")

    monkeypatch.setattr(trainer.sampler, "sample", obedient)
    evaluation = evaluate(trainer, 8, only=AGREEMENT)
    held_out = trainer.held_out.labels
    assert all(sorted(x) == sorted(held_out) for x in label_arguments)
    assert evaluation["label_agreement"].value == 1
    assert evaluation["label_agreement"].floor == evaluation.feature_net["accuracy"] == 1
    permuted = evaluation["label_agreement_permuted"]
    chance = (np.bincount(held_out) ** 2).sum() / 270**2
    assert permuted.floor == pytest.approx(chance)
    assert permuted.value == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 270))

    def mixed(n, seed, labels=None, averaged=True):
        return obedient(n, seed)

    monkeypatch.setattr(trainer.sampler, "sample", mixed)
    agreement = evaluate(trainer, 8, only=["label_agreement"])["label_agreement"].value
    assert agreement == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / 270))


def test_one_class_has_no_agreement():
    one = Dataset("one", cloud(60).values, np.zeros(60, int))
    evaluation = evaluate(Trainer(Config(batch=8, condition="projection"), one), 8, only=ASKED)
    assert [x.name for x in evaluation.measures] == ["sliced_wasserstein_n6"]
    untold = evaluate(Trainer(Config(batch=8), cloud(60)), 8, only=ASKED)
    assert [x.name for x in untold.measures] == ["sliced_wasserstein_n6"]
    assert [name for name, _ in untold.left_out] == AGREEMENT


def test_labels_are_integers():
    values = np.zeros((4, 2), np.float32)
    for labels in (np.full(4, 0.5), np.zeros((4, 1), int), np.eye(2, dtype=int)[[0, 1, 0, 1]]):
        with pytest.raises(ValueError, match=r"train_classifier: labels are .* integers"):
            train_classifier(values, labels, 2, steps=1)
    assert isinstance(train_classifier(values, [0, 1, 0, 1], 2, steps=1), nn.Module)


# ------------------------------------------------------------------- augmentation, more samples
def test_a_batch_is_augmented_anew_in_each_step_and_by_the_seed():
    """With the side of a point taken away at random, only the other coordinate can be learned."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.1, (200, 2)) + rng.choice([-1, 1], (200, 2))
    labels = (values[:, 0] > 0) * 2 + (values[:, 1] > 0)

    def mirrored(x):
        signs = 2 * random.bernoulli((x.shape[0], 1), 0.5, stream="augment") - 1
        return mg.ops.concatenate([x[:, :1] * signs, x[:, 1:]], axis=1)

    random.manual_seed(4)
    before = random.default_generator().state()
    nets = [train_classifier(values, labels, 4, 60, s, augment=mirrored) for s in (0, 0, 1)]
    assert states(nets[0]) == states(nets[1]) != states(nets[2])
    assert random.default_generator().state() == before
    named = classify(nets[0], values)
    assert (named % 2 == labels % 2).all()
    assert 0.3 < (named == labels).mean() < 0.7
    assert (classify(train_classifier(values, labels, 4, 60), values) == labels).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_batch_has_its_share_of_the_other_samples(share):
    """Real samples are at -1, others at 1: what passes through `augment` counts them."""
    real, other, seen = np.full((3, 2), -1.0), np.full((5, 2), 1.0), []

    def count(x):
        seen.append(x)
        return x

    labels = np.zeros(3, int), np.ones(5, int)
    net = train_classifier(
        real, labels[0], 2, 1, augment=count, more=(other, labels[1]), share=share
    )
    assert [int((x.numpy()[:, 0] == 1).sum()) for x in seen] == [round(128 * share)]
    assert not net.training


def test_labels_of_the_other_samples_are_theirs():
    """Each part has two of the four classes, so all are learned only with both."""
    data = tiles(80, 3, 5)
    first = data.labels < 2
    parts = [(data.values[rows], data.labels[rows]) for rows in (first, ~first)]
    net = train_classifier(*parts[0], 4, 100, more=parts[1], share=0.5)
    assert (classify(net, data.values) == data.labels).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5}, r"share = 1.5 is not in \[0, 1\]"),
        ({"more": (np.zeros((2, 3)), [0, 1])}, r"more samples of shape \(3,\); .* \(2,\)"),
        ({"more": (np.zeros((2, 2)), [0])}, "2 samples, 1 labels"),
        ({"more": (np.zeros((2, 2)), [0, 2])}, "label 2 is not one of 0 .. 1"),
        ({"more": (np.zeros((0, 2)), np.zeros(0, int))}, "0 samples, 0 labels"),
    ],
)
def test_other_samples_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        train_classifier(np.zeros((2, 2)), [0, 1], 2, 1, **options)
