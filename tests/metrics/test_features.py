"""The classifier whose features are compared: its cache, its features, data without labels."""

import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from player_helpers import cloud, tiles

import minigan as mg
from minigan.data import Dataset
from minigan.engine import random
from minigan.metrics import (
    bootstrap,
    feature_net,
    features,
    frechet_distance,
    inception_score,
    train_classifier,
)
from minigan.utils.locks import LockedError
from minigan.utils.notices import Notice


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of this test for classifiers; kernels keep theirs."""
    monkeypatch.setattr(features, "cache_root", lambda: tmp_path / "new" / "cache")
    return tmp_path / "new" / "cache" / "metrics"


@pytest.fixture
def trainings(monkeypatch):
    """Steps of each training."""
    calls = []

    def count(values, labels, classes, steps, **options):
        calls.append(steps)
        return train_classifier(values, labels, classes, steps, **options)

    monkeypatch.setattr(features, "train_classifier", count)
    return calls


DATA = cloud(120)


def bits(net):
    return [x.tobytes() for x in net.net.state_dict().values()]


def test_it_is_trained_once(cache, trainings):
    first = feature_net(DATA, steps=60)
    second = feature_net(DATA, steps=60)
    assert trainings == [60]
    assert bits(first) == bits(second)
    assert (first.accuracy, first.scale, first.key) == (second.accuracy, second.scale, second.key)
    assert first.shape == second.shape == (2,)
    assert first.accuracy == 1
    assert [x.suffix for x in sorted(cache.iterdir())] == [".lock", ".safetensors"]
    x = DATA.values[:7]
    assert first.features(x).tobytes() == second.features(x).tobytes()


def test_other_data_labels_held_out_samples_or_steps_are_another_net(trainings):
    train, held_out = DATA.holdout(0.2, 1)
    moved = Dataset("moved", DATA.values + 1, DATA.labels)
    swapped = Dataset("swapped", DATA.values, DATA.labels[::-1])
    nets = [
        *(feature_net(d, steps=3) for d in (DATA, moved, swapped, train)),
        *(feature_net(train, part, 3) for part in (held_out, held_out.subset([0, 1]))),
        feature_net(DATA, steps=4),
    ]
    assert len({net.key for net in nets}) == len(trainings) == 7


def test_another_way_of_training_is_another_net(tmp_path, monkeypatch, trainings):
    key = feature_net(DATA, steps=3).key
    other = tmp_path / "classifier.py"
    other.write_bytes(Path(features.classifier.__file__).read_bytes() + b"# changed\n")
    monkeypatch.setattr(features.classifier, "__file__", str(other))
    assert feature_net(DATA, steps=3).key != key


@pytest.mark.parametrize("damage", ["half", "bytes", "other"])
def test_a_damaged_file_is_made_again_and_said(cache, trainings, damage):
    net = feature_net(DATA, steps=3)
    (path,) = cache.glob("*.safetensors")
    content = path.read_bytes()
    if damage == "other":  # a file of minigan that is no such classifier
        mg.save(path, {"weight": np.zeros(3)})
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "half" else b"\0" * 99)
    with pytest.warns(Notice, match="feature_net: the classifier is trained again: ") as notices:
        again = feature_net(DATA, steps=3)
    assert len(notices) == 1
    assert bits(again) == bits(net)
    assert path.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_said(tmp_path, trainings):
    (tmp_path / "new").write_bytes(b"a file where the folder should be")
    with pytest.warns(Notice, match="feature_net: the classifier is not kept"):
        net = feature_net(DATA, steps=3)
    assert trainings == [3]
    assert net.features(DATA.values).shape == (120, 128)


def test_one_process_trains_and_one_that_waited_takes_its_file(cache, trainings, monkeypatch):
    original = features.file_lock

    @contextmanager
    def late(path, wait):
        """The lock, after another process has had it and written its file."""
        assert wait
        monkeypatch.setattr(features, "file_lock", original)
        feature_net(DATA, steps=3)
        with original(path, wait):
            yield

    monkeypatch.setattr(features, "file_lock", late)
    feature_net(DATA, steps=3)
    assert trainings == [3]

    def locked(values, labels, *arguments, **options):
        (lock,) = {*cache.glob("*.lock")} - before
        with pytest.raises(LockedError), original(lock):
            pass
        return train_classifier(values, labels, *arguments, **options)

    before = {*cache.glob("*.lock")}
    monkeypatch.setattr(features, "train_classifier", locked)
    feature_net(DATA, steps=4)


def test_features_are_the_input_of_the_last_layer():
    net = feature_net(DATA, steps=30)
    values = net.features(DATA)
    assert (values.shape, values.dtype) == ((120, 128), np.float64)
    assert values.min() == 0  # after a ReLU
    assert 0.9 < (values**2).mean() < 1.1  # A tenth of the data is held out.
    weight, bias = list(net.net.state_dict().values())[-2:]
    logits = net.scale * values @ weight + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(net.probabilities(DATA), p / p.sum(1, keepdims=True), atol=1e-5)
    assert net.features(DATA.values.astype(np.float64)).tobytes() == values.tobytes()
    assert net.features(np.zeros((0, 2))).shape == (0, 128)
    many = np.tile(DATA.values, (9, 1))  # more than a batch
    assert net.features(many).tobytes() == np.tile(values, (9, 1)).tobytes()


def test_measures_of_images_by_their_features():
    data = tiles(60, 4, 4)
    net = feature_net(data, data, steps=100)
    assert net.accuracy > 0.9
    assert inception_score(net.probabilities(data)) > 2
    same, other = data.values[:30], data.values[30:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        near = frechet_distance(net.features(same), net.features(other))
        noise = np.random.default_rng(0).uniform(-1, 1, same.shape)
        far = bootstrap(frechet_distance, net.features(noise), net.features(other), resamples=9)
    assert near < far.low


def test_images_of_another_range():
    data = tiles(30, 4, 4)
    net = feature_net(data, data, steps=1)
    for dtype in (np.uint8, np.int64, bool):
        for method in (net.features, net.probabilities):
            with pytest.raises(TypeError, match=rf"images of type {np.dtype(dtype)}; floats in \["):
                method(np.ones(data.values.shape, dtype))
    with pytest.warns(
        Notice, match=r"images in \[0, 255\]; the classifier knows images in \[-1, 1"
    ):
        net.features((data.values > 0) * 255.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.features(1.5 * data.values)  # as of a generator whose last layer is linear
        net.features(Dataset("bytes", np.full(data.values.shape, 255, np.uint8)))
        feature_net(DATA, steps=1).features(np.full((3, 2), 255))  # points have no range


@pytest.mark.parametrize("shape", [(), (3,), (5, 3), (5, 2, 1)])
def test_samples_of_another_shape(shape):
    net = feature_net(DATA, steps=1)
    with pytest.raises(ValueError, match=r"samples of shape .*; \(n, 2\) is needed"):
        net.features(np.zeros(shape))


def test_data_without_classes():
    for labels, have in ((None, "no labels"), (np.zeros(120, int), "labels of one class")):
        with pytest.raises(ValueError, match=f"feature_net: points has {have}; the classifier"):
            feature_net(Dataset("points", DATA.values, labels))


def test_the_training_of_a_gan_is_not_disturbed():
    mg.manual_seed(9)
    before = random.default_generator().state()
    feature_net(DATA, steps=2)
    assert random.default_generator().state() == before
