"""Options of images in a run: mirrored batches, the order of classes, configs of older versions."""

import numpy as np
import pytest
from data_helpers import loaded
from PIL import Image
from run_helpers import refused

from minigan import Config, Trainer
from minigan.data import Dataset, load
from minigan.engine import random
from minigan.training.batches import Batches
from minigan.training.trainer import DataChangedError

CONFIG = Config(data="glyphs", samples=90, batch=20, mirror=True, n_critic=2, seed=4)


def weights(trainer):
    return {name: x.tobytes() for name, x in trainer.state()[0].items()}


@pytest.fixture
def numbered(tmp_path):
    """A folder with the classes 1, 2 and 10."""
    for i, name in enumerate(("1", "2", "10")):
        for k in range(8):
            path = tmp_path / "photos" / name / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 100 * i + 4 * k + 20).save(path)
    return tmp_path / "photos"


# ----------------------------------------------------------------------------------------- mirror
def test_half_of_the_images_are_mirrored_by_a_stream_of_their_own():
    pixels = np.arange(10 * 3 * 2 * 3, dtype=np.uint8).reshape(10, 3, 2, 3)
    data = Dataset("images", pixels, np.arange(10))
    drawn = {}
    for mirror in (False, True):
        with random.use_generator(random.Generator(7)) as generator:
            batches = Batches(data, 8, has_labels=True, mirror=mirror)
            drawn[mirror] = [[x.numpy() for x in batches.next()] for _ in range(50)]
            assert ("mirror" in generator.state()["streams"]) is mirror
    with random.use_generator(random.Generator(7)):
        bits = [random.bernoulli(8, 0.5, stream="mirror").numpy() for _ in range(50)]
    values = pixels / np.float32(127.5) - np.float32(1)
    for (plain, labels), (mirrored, same), flips in zip(*drawn.values(), bits, strict=True):
        assert np.array_equal(labels, same)
        for image, other, label, flip in zip(plain, mirrored, labels, flips, strict=True):
            expected = values[label][:, :, ::-1] if flip else values[label]
            assert np.array_equal(image.reshape(3, 2, 3), values[label])
            assert np.array_equal(other.reshape(3, 2, 3), expected)
    assert abs(np.mean(bits) - 0.5) < 5 * 0.5 / 400**0.5  # five standard deviations
    assert np.array_equal(data.values, values)  # The data stay as they are.


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_mirrored_training_has_the_same_bits_captured_resumed_or_not(device):
    config = CONFIG.replace(device=device)
    straight = Trainer(config)
    rows = [straight.step() for _ in range(5)]
    eager = Trainer(config)
    eager.captured = False
    assert [eager.step() for _ in range(2)] == rows[:2]
    resumed = Trainer(config)
    resumed.load_state(*eager.state())
    assert [resumed.step() for _ in range(3)] == rows[2:]
    assert weights(straight) == weights(resumed)
    assert Trainer(config.replace(mirror=False)).step() != rows[0]


def test_points_are_not_mirrored():
    error = refused("train", "--data", "ring", "--mirror")
    assert "mirror is for images; ring has points: --no-mirror" in error


# -------------------------------------------------------------------------------- order of classes
def test_classes_are_in_natural_order(numbered):
    data = load(numbered)
    assert data.class_names == ("1", "2", "10")
    assert data.labels.tolist() == [0] * 8 + [2] * 8 + [1] * 8  # The files are in order of path.
    for name in ("b2", "b10", "a", "B3", "10 b", "010", "x\u0661"):
        path = numbered / name / "0.png"
        path.parent.mkdir()
        path.write_bytes((numbered / "1" / "0.png").read_bytes())
    names = ("1", "2", "010", "10", "10 b", "B3", "a", "b2", "b10", "x\u0661")
    assert load(numbered).class_names == names


def test_the_test_split_has_the_order_of_train(numbered):
    numbered.rename(numbered.parent / "train")
    for name in ("10", "2", "11", "3"):
        path = numbered.parent / "test" / name / "0.png"
        path.parent.mkdir(parents=True)
        path.write_bytes((numbered.parent / "train" / "1" / "0.png").read_bytes())
    data, notes = loaded(numbered.parent, split="test")
    assert any("2 classes that" in note for note in notes)
    assert data.class_names == ("1", "2", "10", "3", "11")
    assert data.labels.tolist() == [2, 4, 1, 3]  # 10, 11, 2, 3


def test_a_run_with_another_order_of_classes_is_refused(numbered):
    trainer = Trainer(Config(data=str(numbered), batch=4, condition="concat"))
    tensors, info = trainer.state()
    info["data"] |= {"class_names": ["1", "10", "2"], "labels": "0" * 64}
    with pytest.raises(
        DataChangedError,
        match=r"classes 1, 2, 10 \(before: 1, 10, 2\), older versions sorted classes as text",
    ):
        trainer.load_state(tensors, info)


# --------------------------------------------------------------------------------------- configs
def test_the_size_of_an_older_config_is_the_number_of_samples():
    values = CONFIG.as_dict()
    assert Config.from_dict(values) == CONFIG
    new = ("samples", "fit", "mirror", "grey", "background", "skip_broken")
    for count in (500, None):
        older = {k: x for k, x in values.items() if k not in new} | {"size": count}
        config = Config.from_dict(older)
        assert (config.samples, config.size, config.fit, config.mirror) == (
            *(count, None),
            *("crop", False),
        )
    assert Config.from_dict({"size": "96x64"}).size == "96x64"


def test_options_of_images_reach_the_trainer(numbered):
    options = {"size": "4x6", "fit": "pad", "background": "white", "grey": True}
    trainer = Trainer(Config(data=str(numbered), batch=4, **options))
    assert trainer.data.sample_shape == (1, 6, 4)
    assert (trainer.data.values[:, :, 0] == 1).all()
    assert np.isfinite(list(trainer.step().values())).all()
    (numbered / "2" / "9.png").write_text("broken")
    with pytest.warns(match="1 that cannot be read"):
        Trainer(Config(data=str(numbered), batch=4, skip_broken=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "big"}, "size = 'big' is neither"),
        ({"fit": "pad"}, "fit = 'pad' without a size"),
        ({"background": "no colour"}, "is not an opaque colour"),
        ({"mirror": 1}, "mirror = 1 is neither True nor False"),
    ],
)
def test_options_are_checked_before_data_are_read(options, message):
    with pytest.raises(ValueError, match=message):
        Config(data="nowhere/", **options)
