"""Ambiguous arrays are refused or noted, with the option that settles them."""

import warnings

import numpy as np
import pytest
from run_helpers import RING, cli, metrics, refused, train

from minigan.data import DataError, Dataset, DataWarning, load
from minigan.training.config import Config
from minigan.training.trainer import Trainer

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 8, 9), np.uint8)
BYTES[0, 0, :2] = 0, 255
UNIT = BYTES / 255.0
POINTS = RNG.standard_normal((20, 2))
COUNTING = np.arange(20)


@pytest.fixture
def loaded(tmp_path):
    """Load arrays from an .npz; return the data and their notes."""

    def load_arrays(arrays, **options):
        np.savez(tmp_path / "a.npz", **arrays)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = load(tmp_path / "a.npz", **options)
        assert [str(x.message) for x in caught] == list(data.notes)
        assert {x.category for x in caught} <= {DataWarning}
        return data, " ".join(data.notes)

    return load_arrays


# ----------------------------------------------------------------------------------------- values
@pytest.mark.parametrize(
    ("images", "value_range", "low", "message"),
    [
        (UNIT, "0,1", -1, r"all values lie in \[0, 1\]: --value-range 0,1 .*--value-range=-1,1"),
        (UNIT, (-1, 1), 0, ""),
        (UNIT * 255, "0,255", -1, r"these lie in \[0, 255\]; .* such as 0,255"),
        ((UNIT - 0.5) * 4, (-2, 2), -1, r"these lie in \[-2, 2\]; .* such as -2,2"),
        (BYTES // 255, "0,1", -1, "all bytes are 0 or 1: --value-range 0,1"),
        (BYTES.astype(np.int64), "0,255", -1, "is int64, .*--value-range LOW,HIGH"),
        (BYTES.astype(np.uint16) * 257, "0,65535", -1, "is uint16, .*--value-range LOW,HIGH"),
    ],
)
def test_the_range_of_values_is_not_guessed(loaded, images, value_range, low, message):
    if message:
        with pytest.raises(DataError, match=f"a.npz: x.*{message}"):
            loaded({"x": images})
    data, notes = loaded({"x": images}, value_range=value_range)
    assert (data.values.min(), data.values.max(), notes) == (low, 1, "")
    with pytest.raises(DataError, match=r"outside value_range 0,0\.5"):
        loaded({"x": images}, value_range=(0, 0.5))


@pytest.mark.parametrize("images", [BYTES, UNIT.astype(np.float32) * 2 - 1, BYTES > 127])
def test_plain_values_need_no_option(loaded, images):
    data, notes = loaded({"x": images})
    assert (data.values.min(), data.values.max(), notes) == (-1, 1, "")


def test_images_made_by_hand_that_lie_in_0_1():
    config = Config(batch=4, device="reference")
    with pytest.warns(DataWarning, match=r"mine: all values lie in \[0, 1\].*2 \* x - 1 makes it"):
        Trainer(config, Dataset("mine", np.maximum(UNIT[:, None], 0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "mine: all 20 samples are equal")
        for values in (UNIT[:, None] * 2 - 1, np.full((20, 1, 8, 9), 0.5), np.zeros((20, 1, 8, 9))):
            Trainer(config, Dataset("mine", values))


def test_values_that_float32_rounds_into_the_range(loaded):
    assert loaded({"x": np.nextafter(UNIT * 2 - 1, 2)})[0].values.max() == 1
    assert loaded({"x": np.nextafter(UNIT, 2)}, value_range="0,1")[0].values.max() == 1
    with pytest.raises(DataError, match="1 of 1440 values are NaN or infinite"):
        loaded({"x": np.where(np.arange(1440).reshape(20, 8, 9) == 7, np.nan, UNIT)})


def test_the_range_of_bytes_by_option_has_the_same_bits(loaded):
    plain, option = loaded({"x": BYTES})[0], loaded({"x": BYTES}, value_range="0,255")[0]
    np.testing.assert_array_equal(plain.values, option.values)


def test_dark_bytes_are_noted(loaded):
    data, notes = loaded({"x": BYTES // 16})
    assert data.values.max() < -0.8
    assert "bytes of 0 to 15 are interpreted as dark, out of 255 (--value-range 0,15" in notes


# ----------------------------------------------------------------------------------------- shapes
@pytest.mark.parametrize(
    ("shape", "dtype", "sample_shape", "expected", "message"),
    [
        ((20, 784), "u1", "1,28,28", (20, 1, 28, 28), "sample-shape 784 takes.* as 1,28,28"),
        ((20, 784), "u1", "784", (20, 784), ""),
        ((20, 784), "f4", (1, 28, 28), (20, 1, 28, 28), ""),
        ((20, 3072), "u1", "3,32,32", (20, 3, 32, 32), "bytes, which may be .*such as 3,32,32"),
        ((28, 28, 3), "u1", "3,28,28", (1, 3, 28, 28), "--sample-shape 1,28,3 as 28 grey"),
        ((28, 28, 3), "u1", "1,28,3", (28, 1, 28, 3), "may be one image or 28: "),
        ((3, 28, 30), "u1", "3,28,30", (1, 3, 28, 30), ""),
        ((28, 30), "u1", "1,28,30", (1, 1, 28, 30), "such as 1,28,30"),
        ((9, 28, 30, 4), "u1", "4,28,30", (9, 4, 28, 30), "--sample-shape C,H,W settles"),
        ((9, 3, 28, 3), "u1", "3,3,28", (9, 3, 3, 28), ""),
        ((9, 3, 28, 30), "u1", "3,28,30", (9, 3, 28, 30), ""),
    ],
)
def test_the_shape_of_samples_is_not_guessed(loaded, shape, dtype, sample_shape, expected, message):
    x = (np.arange(np.prod(shape)) % 256).reshape(shape).astype(dtype)
    options = {"value_range": "0,255"} if dtype == "f4" else {}
    if message:
        with pytest.raises(DataError, match=message):
            loaded({"x": x})
    data, notes = loaded({"x": x}, sample_shape=sample_shape, **options)
    assert (data.values.shape, notes) == (expected, "")
    channels_last = len(expected) == 4 and x.shape[-1] == expected[1] and x.shape[-1] > 1
    pixels = np.moveaxis(x, -1, -3) if channels_last else x
    values = pixels / 127.5 - 1 if len(expected) == 4 else x
    np.testing.assert_allclose(data.values, values.reshape(expected), atol=1e-6)
    with pytest.raises(DataError, match="holds no samples of sample_shape 5,5,5"):
        loaded({"x": x}, sample_shape="5,5,5")


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ((20, 784), "20 points, not images (--sample-shape 1,28,28 makes"),
        ((20, 3072), "20 points, not images (--sample-shape 3,32,32 makes"),
        ((30, 30), "30 points, not one image (--sample-shape 1,30,30"),
        ((3, 28, 30), "3 grey images (--sample-shape 3,28,30 makes it one)"),
        ((9, 28, 30, 3), "28x30 images, channels last"),
        ((9, 3, 28, 3), "28x3 images, channels first (--sample-shape 3,3,28: channels last)"),
        ((20, 10), ""),
        ((20, 8, 9), ""),
        ((20, 3, 8, 9), ""),
    ],
)
def test_interpretations_are_noted(loaded, shape, note):
    notes = loaded({"x": np.linspace(-1, 1, np.prod(shape)).reshape(shape)})[1]
    assert note in notes
    assert bool(note) == bool(notes)


@pytest.mark.parametrize("value", ["28x28", "1,28", "0,28,28", "1,2.5,3", "", "nan", 3])
def test_invalid_sample_shapes(value):
    with pytest.raises(ValueError, match="is neither C,H,W, such as 1,28,28, nor a number"):
        load("ring", sample_shape=value)


@pytest.mark.parametrize("value", ["1,0", "0", "0,inf", "low,high", "-1e308,1e308", (0, 1, 2), 3])
def test_invalid_value_ranges(value):
    with pytest.raises(ValueError, match="is not two numbers low,high"):
        load("ring", value_range=value)


@pytest.mark.parametrize(
    "option",
    [{"sample_shape": 2}, {"value_range": "0,1"}, {"classes": 8}, {"remap_labels": True}],
    ids=str,
)
def test_options_of_files_are_not_for_built_in_sets(option, tmp_path):
    option = {k: "1,28,28" if k == "sample_shape" else x for k, x in option.items()}
    with pytest.raises(ValueError, match=r"are for a folder of images or an \.npz file"):
        load("glyphs", samples=5, **option)
    if "value_range" not in option:
        with pytest.raises(DataError, match=r"for an \.npz"):
            load(tmp_path, **option)


def test_integers_that_float32_rounds(loaded):
    assert "above 2^24 are rounded" in loaded({"x": np.array([[2**24 + 1, 0]] * 3)})[1]
    with pytest.raises(DataError, match="value_range is for images"):
        loaded({"x": POINTS}, value_range="0,1")


# ----------------------------------------------------------------------------------------- labels
@pytest.mark.parametrize(
    ("scale", "offset", "is_noted"),
    [(1, 0, False), (1, 1e8, True), (1e-46, 0, True), (1e-30, 0, False), (0, 0.1, False)],
)
def test_points_that_float32_rounds(loaded, scale, offset, is_noted):
    points = np.random.default_rng(0).standard_normal((50, 2))
    points[:, 1] = points[:, 1] * scale + offset
    _, notes = loaded({"x": points})
    assert ("float32 rounds column 1 by up to" in notes) == is_noted
    assert is_noted or not notes


def test_equal_samples_are_noted():
    config = Config(batch=2, device="reference")
    with pytest.warns(DataWarning, match="^mine: all 20 samples are equal$"):
        Trainer(config, Dataset("mine", np.ones((20, 2))))


def test_samples_are_real_numbers():
    for values in (np.ones((2, 2)) * 1j, np.array([["a"]])):
        with pytest.raises(DataError, match=r"^mine: the samples are .*, must be numbers$"):
            Dataset("mine", values)


def test_a_value_just_outside_the_range_is_written_out(loaded):
    with pytest.raises(DataError, match=r"these lie in \[-1, 1\.00000024\]"):
        loaded({"x": np.array([[[-1.0, 1.0 + 2.4e-7]]])})


def test_labels_with_gaps(loaded):
    labels = np.array([0, 1, 255] * 6 + [0, 1])
    arrays = {"x": POINTS, "y": labels}
    with pytest.raises(DataError, match=r"labels up to 255, but only 3 .*--remap-labels .*256"):
        loaded(arrays)
    data, notes = loaded(arrays, remap_labels=True)
    assert data.labels.tolist() == [0, 1, 2] * 6 + [0, 1]
    assert (data.classes, data.class_names) == (3, ("0", "1", "255"))
    assert "y: labels 0, 1, 255 became 0 to 2" in notes
    data, notes = loaded(arrays, classes=256)
    assert (data.labels.tolist(), data.classes, notes) == (labels.tolist(), 256, "")
    with pytest.raises(DataError, match="3 different labels, but classes = 5"):
        loaded(arrays, remap_labels=True, classes=5)


def test_labels_from_one_are_noted(loaded):
    data, notes = loaded({"x": POINTS, "y": COUNTING % 10 + 1})
    assert data.classes == 11
    assert "1 of 11 classes have no sample (label 0)" in notes
    assert loaded({"x": POINTS, "y": COUNTING % 10 + 1}, remap_labels=True)[0].classes == 10


@pytest.mark.parametrize("label", [10**9, 2**62])
def test_a_large_label_takes_no_memory(loaded, label):
    labels = np.where(COUNTING == 3, label, COUNTING)
    for make in (lambda: loaded({"x": POINTS, "y": labels}), lambda: Dataset("x", POINTS, labels)):
        with pytest.raises(DataError, match=f"labels up to {label}, but only 20 different"):
            make()
    with pytest.raises(DataError, match=f"label {2**63}, more than int64 holds"):
        Dataset("x", POINTS, np.where(COUNTING == 3, 2**63, COUNTING).astype(np.uint64))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (COUNTING % 2 * 2 - 1, ("-1", "1")),
        (COUNTING % 2 * 0.5, ("0.0", "0.5")),
        (COUNTING % 2 == 1, ("False", "True")),
    ],
)
def test_labels_that_are_numbered(loaded, labels, names):
    with pytest.raises(DataError, match="--remap-labels"):
        loaded({"x": POINTS, "y": labels})
    data, _ = loaded({"x": POINTS, "y": labels}, remap_labels=True)
    assert data.labels.tolist() == (COUNTING % 2).tolist()
    assert data.class_names == names
    with pytest.raises(DataError, match="NaN or infinite"):
        loaded({"x": POINTS, "y": np.full(20, np.nan)}, remap_labels=True)
    with pytest.raises(DataError, match="has no labels"):
        loaded({"x": POINTS}, remap_labels=True)


def test_both_splits_number_labels_alike(loaded):
    arrays = {"x_train": POINTS, "y_train": COUNTING % 2 * 9, "x_test": POINTS[:1]}
    arrays["y_test"] = np.array([5])
    train, test = (loaded(arrays, split=x, remap_labels=True)[0] for x in ("train", "test"))
    assert train.class_names == test.class_names == ("0", "5", "9")
    assert (train.labels.tolist()[:2], test.labels.tolist()) == ([0, 2], [1])


def test_both_splits_number_labels_of_two_kinds_alike(loaded):
    arrays = {"x_train": np.zeros((4, 2)), "y_train": np.array([0, 5, 0, 5])}
    arrays |= {"x_test": np.zeros((2, 2)), "y_test": np.array([5.0, 5.0])}
    for split, labels in (("train", [0, 1, 0, 1]), ("test", [1, 1])):
        data, _ = loaded(arrays, split=split, remap_labels=True)
        assert data.labels.tolist() == labels
        assert data.class_names == ("0", "5")


def test_a_column_of_labels(loaded):
    """Keras has labels (N, 1)."""
    data, notes = loaded({"x": POINTS, "y": COUNTING[:, None] % 10})
    assert (data.labels.tolist(), notes) == ((COUNTING % 10).tolist(), "")


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_is_positive(limit):
    with pytest.raises(ValueError, match=r"max_gb .*: must be a positive number"):
        load("ring", samples=5, max_gb=limit)


def test_arrays_that_are_not_used_are_named(loaded):
    assert loaded({"x": POINTS, "\x1b[31m\n": POINTS})[0].notes[0].isprintable()
    notes = loaded({"x": POINTS, "targets": COUNTING, "x_test": POINTS, "y_test": COUNTING})[1]
    assert "arrays not used: targets; no labels (labels, y, labels_train, y_train) in it" in notes
    notes = loaded({"x": POINTS, "y": COUNTING, "images": BYTES})[1]
    assert notes.endswith("a.npz: arrays not used: x")


# -------------------------------------------------------------------------------------- the command
def test_the_options_are_those_of_a_run(tmp_path):
    np.savez(tmp_path / "a.npz", x=UNIT.reshape(20, 72), y=COUNTING % 2 + 1)
    words = ["--data", tmp_path / "a.npz", "--batch", 4, "--steps", 1, "--device", "reference"]
    options = ["--sample-shape", "1,8,9", "--remap-labels", "--condition", "concat"]
    assert "--value-range 0,1" in refused("train", *words, *options)
    assert "value_range = '1,0' is not two numbers" in refused("train", "--value-range", "1,0")
    result = cli("train", *words, *options, "--value-range", "0,1", "--out", tmp_path / "run")
    assert result.status == 0
    (note,) = result.errors
    assert note == f"minigan train: note: {tmp_path}/a.npz: y: labels 1, 2 became 0 to 1"
    assert len(metrics(tmp_path / "run")) == 1
    result = cli("train", "--resume", tmp_path / "run", "--steps", 2)
    assert (result.status, result.errors) == (0, [note])


def test_a_built_in_set_has_no_notes(tmp_path):
    train(tmp_path / "run", *RING, "--steps", 1, "--device", "reference")
