"""Steps of images from images: captured, resumed, on all devices; and what is measured of them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import DEVICES

from minigan.data import DataError, Dataset
from minigan.engine.device import use_device
from minigan.training.state import DataChangedError
from minigan.training.trainer import DivergedError
from minigan.translation import measures
from minigan.translation.config import TranslationConfig
from minigan.translation.measures import evaluate_translation, measured_part
from minigan.translation.tasks import TASKS, repeat_pixels, shrink
from minigan.translation.trainer import TranslationTrainer, apply_net

SMALL = {"batch": 4, "steps": 8, "width": 4, "blocks": 1}
TABLE = {
    "inpaint": {"task": "inpaint"},
    "super-resolution": {"task": "super-resolution", "factor": 2, "features": 5.0},
    "denoise": {"task": "denoise", "ema": 0.9, "loss": "relativistic", "features": 1.0},
    "outline": {"task": "outline", "adversarial": 0.0, "norm": "none", "clip_norm": 1.0},
    "pairs": {"task": "pairs", "mirror": True, "loss": "hinge", "optimizer": "rmsprop"},
    "unpaired": {
        "task": "unpaired",
        "target": "inverted",
        "warmup": 3,
        "ema": 0.5,
        "identity": 2.0,
    },
    "unpaired, half": {"task": "unpaired", "target": "slanted", "cycle": 1.0},
}


def data(n=40, channels=1, height=8, width=8, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, channels, height, width)).astype(np.float32)
    return Dataset("noise", x, np.arange(n) % 4, 4)


def make(options, **more):
    config = TranslationConfig(**{**SMALL, **options, **more})
    wide = 16 if config.task == "pairs" else 8
    return TranslationTrainer(config, data(width=wide))


@pytest.mark.parametrize("name", TABLE)
def test_a_captured_step_has_the_bits_of_the_code(name):
    rows = []
    for captured in (True, False):
        trainer = make(TABLE[name])
        trainer.captured = captured
        rows.append([trainer.step(norms=True) for _ in range(4)])
    assert rows[0] == rows[1]
    assert len({row["loss_d"] for row in rows[0]}) == 4


@pytest.mark.parametrize("name", TABLE)
def test_a_resumed_training_has_the_same_bits(name):
    straight, first, second = (make(TABLE[name]) for _ in range(3))
    expected = [straight.step() for _ in range(6)]
    rows = [first.step() for _ in range(3)]
    tensors, info = first.state()
    second.load_state({k: x.copy() for k, x in tensors.items()}, info)
    rows += [second.step() for _ in range(3)]
    assert rows == expected
    for (a, x), (b, y) in zip(straight.state()[0].items(), second.state()[0].items(), strict=True):
        assert (a, x.tobytes()) == (b, y.tobytes())


@DEVICES
@pytest.mark.parametrize("name", ["inpaint", "denoise", "unpaired"])
def test_every_device_agrees_with_the_reference(name, device):
    rows = []
    for each in ("reference", device):
        options = {"optimizer": "sgd", "lr_g": 0.01, "lr_d": 0.01, "warmup": 0}
        trainer = make({**TABLE[name], **options}, device=each)
        rows.append([trainer.step(norms=True) for _ in range(2)])
        assert trainer.translate(trainer.examples(2)[0]).shape == (2, 1, 8, 8)
    for a, b in zip(*rows, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


def test_training_learns_what_it_is_trained_for():
    """Points of light under noise: after a few steps the difference is far below the noise's."""
    rng = np.random.default_rng(0)
    x = np.full((64, 1, 8, 8), -1, np.float32)
    for image in x:
        image[0, rng.integers(8), :] = 1
    config = TranslationConfig(task="denoise", **{**SMALL, "steps": 250, "width": 8})
    trainer = TranslationTrainer(config, Dataset("lines", x))
    inputs, truths, _ = trainer.examples(6)
    before = np.abs(inputs - truths).mean()
    for _ in range(250):
        trainer.step()
    assert np.abs(trainer.translate(inputs) - truths).mean() < 0.4 * before


def test_measuring_and_examples_leave_the_training_as_it_is():
    first, second = make(TABLE["inpaint"]), make(TABLE["inpaint"])
    rows = [first.step() for _ in range(3)]
    other = []
    for _ in range(3):
        other.append(second.step())
        second.quick_measures().measure()
        second.examples(4)
        second.measure()
    assert rows == other


def test_examples_are_held_out_and_always_the_same():
    trainer = make(TABLE["denoise"])
    x, y, labels = trainer.examples(3)
    again, truth, _ = trainer.examples(3)
    assert (x == again).all()
    assert (y == truth).all()
    held = trainer.images.held_out
    for image, label in zip(y, labels, strict=True):
        (row,) = np.flatnonzero((held.values == image).all((1, 2, 3)))
        assert held.labels[row] == label


# --------------------------------------------------------------------------------------- measures
def test_only_the_hole_is_measured():
    trainer = make(TABLE["inpaint"])
    inputs, truths, _ = trainer.examples(4)
    holes = measured_part(truths, inputs, "inpaint")
    assert holes.shape == (4, 1, 4, 4)
    for hole, image, given in zip(holes, truths, inputs, strict=True):
        rows, columns = (np.flatnonzero(given[-1].any(axis)) for axis in (1, 0))
        assert (hole[0] == image[0][np.ix_(rows, columns)]).all()
    assert measured_part(truths, inputs, "denoise") is truths


def test_the_columns_are_what_they_say():
    found = evaluate_translation(make(TABLE["super-resolution"])).values
    assert list(found["psnr"]) == ["output", "bicubic", "input"]
    assert found["sharpness"]["truth"] == 1
    trainer = make(TABLE["super-resolution"])
    inputs, truths, _ = trainer.examples(4)
    assert (inputs == repeat_pixels(shrink(truths, 2), 2)).all()
    assert found["l1"]["input"] == pytest.approx(np.abs(inputs - truths).mean(), rel=1e-6)
    unpaired = evaluate_translation(make(TABLE["unpaired"])).values
    assert list(unpaired["agreement"]) == ["output", "untrained", "input", "truth"]
    assert set(unpaired["cycle"]) == {"output"}
    assert "PSNR, dB" in str(evaluate_translation(make(TABLE["inpaint"])))


def test_without_labels_or_held_out_images_it_says_so():
    plain = Dataset("noise", data().values)
    trainer = TranslationTrainer(TranslationConfig(task="denoise", **SMALL), plain)
    found = evaluate_translation(trainer)
    assert "agreement" not in found.values
    assert any("no labels" in note for note in found.notes)
    config = TranslationConfig(task="denoise", holdout=0.0, **SMALL)
    trainer = TranslationTrainer(config, plain)
    assert trainer.quick_measures().measure() == {}
    with pytest.raises(ValueError, match="held no data out"):
        evaluate_translation(trainer)


def test_other_classes_are_not_compared():
    kinds = [
        Dataset(name, data(seed=i).values, np.arange(40) % 2, 2, class_names=(f"{name}1", "x"))
        for i, name in enumerate("ab")
    ]
    config = TranslationConfig(task="unpaired", target="b", **SMALL)
    found = evaluate_translation(TranslationTrainer(config, *kinds))
    assert "agreement" not in found.values
    assert any("not known whether" in note for note in found.notes)


# ---------------------------------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, {"channels": 5}, "5 to 5 channels; at most 4 are accepted"),
        ({}, {"height": 10}, "8x10 pixels: depth = 2 needs .* multiples of 4; --size 8x8 is near"),
        ({"task": "super-resolution", "factor": 3}, {}, "multiples of 12"),
        ({"depth": 3}, {}, "halves them to 1x1"),
        ({"batch": 64}, {}, "only 36 training images"),
    ],
)
def test_images_that_do_not_fit_are_refused(options, shape, message):
    with pytest.raises(DataError, match=message):
        TranslationTrainer(TranslationConfig(**{**SMALL, **options}), data(**shape))


def test_points_are_refused():
    points = Dataset("points", np.zeros((9, 2)))
    for task in ("denoise", "pairs"):
        with pytest.raises(DataError, match="has points"):
            TranslationTrainer(TranslationConfig(task=task), points)


def test_other_images_are_refused_by_a_state():
    trainer = make(TABLE["denoise"])
    state = trainer.state()
    other = TranslationTrainer(trainer.config.replace(data="x"), data(seed=1))
    with pytest.raises(DataChangedError, match="other images"):
        other.load_state(*state)


def test_a_training_that_diverges_says_so():
    trainer = make({"task": "denoise", "optimizer": "sgd", "lr_d": 1e30})

    def train():
        with np.errstate(all="ignore"):
            for _ in range(8):
                trainer.step()

    with pytest.raises(DivergedError):
        train()


def test_classes_are_compared_where_they_are_the_same(monkeypatch):
    class Net:
        accuracy = 0.75

        def probabilities(self, values):
            return np.eye(4)[np.arange(len(values)) % 4]

    monkeypatch.setattr(measures, "feature_net", lambda *data, progress: Net())
    names = ("a", "b", "c", "d")
    kinds = [
        Dataset(name, data(seed=i).values, np.arange(40) % 4, 4, class_names=names)
        for i, name in enumerate("xy")
    ]
    config = TranslationConfig(task="unpaired", target="y", **SMALL)
    found = evaluate_translation(TranslationTrainer(config, *kinds)).values["agreement"]
    assert found["truth"] == 0.75  # of the classifier, as no image has a truth


def test_unpaired_nets_are_measured_on_their_device_by_their_average():
    trainer = make(TABLE["unpaired"], device="reference")
    for _ in range(3):
        trainer.step()
    found = evaluate_translation(trainer).values
    inputs, _, _ = trainer.examples(2)
    with use_device("reference"):
        made = trainer.translate(inputs)
        back = apply_net(trainer.players.average.module[1], made)
    assert found["cycle"]["output"] == pytest.approx(np.abs(back - inputs).mean(), rel=1e-5)


def test_every_task_is_tested():
    assert {options["task"] for options in TABLE.values()} == set(TASKS)
