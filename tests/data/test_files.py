"""A user's own data: folders of images and .npz archives, and how they can be wrong."""

import numpy as np
import pytest
from PIL import Image

from minigan.data import DataError, load


def one_line(error):
    return "\n" not in str(error.value)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(path)


@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_folder_of_grey_images(tmp_path):
    for i, name in enumerate(["b.png", "a.bmp", "sub/deep/c.PNG"]):
        save(tmp_path / name, np.full((3, 5), 51 * i, np.uint8))
    save(tmp_path / ".hidden.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    data = load(tmp_path)
    assert data.values.shape == (3, 1, 3, 5)
    np.testing.assert_allclose(data.values[:, 0, 0, 0], [-0.6, -1, -0.2], atol=1e-6)
    assert data.labels is None


@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_sub_folders_are_classes_and_one_colour_makes_all_colour(tmp_path):
    save(tmp_path / "dog" / "1.png", np.full((2, 2), 255, np.uint8))
    save(tmp_path / "cat" / "2.png", np.array([[[255, 0, 0]] * 2] * 2, np.uint8))
    save(tmp_path / "cat" / "10.png", np.full((2, 2), 0, np.uint8))
    data = load(str(tmp_path))
    assert data.values.shape == (3, 3, 2, 2)
    assert data.labels.tolist() == [0, 0, 1]
    assert (data.classes, data.class_names) == (2, ("cat", "dog"))
    assert data.values[:, :, 0, 0].tolist() == [[-1, -1, -1], [1, -1, -1], [1, 1, 1]]
    assert len(load(tmp_path, samples=2, seed=1)) == 2
    with pytest.raises(ValueError, match="has 3 samples"):
        load(tmp_path, samples=4)


@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_split_folders(tmp_path):
    save(tmp_path / "train" / "a" / "1.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(DataError, match="no split 'test'"):
        load(tmp_path, split="test")
    save(tmp_path / "test" / "a" / "1.png", np.full((2, 2), 255, np.uint8))
    save(tmp_path / "test" / "b" / "1.png", np.full((2, 2), 255, np.uint8))
    assert len(load(tmp_path)) == 1
    assert load(tmp_path, split="test").labels.tolist() == [0, 1]


@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_alpha_palette_and_deep_pixels(tmp_path):
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0]]], np.uint8)
    save(tmp_path / "rgba" / "a.png", rgba)
    assert ((load(tmp_path / "rgba").values[0, :, 0] + 1) * 127.5).round().T.tolist() == [
        [200, 100, 50],
        [0, 0, 0],
    ]
    save(tmp_path / "la" / "a.png", rgba, "LA")
    assert load(tmp_path / "la").values.shape == (1, 1, 1, 2)
    assert load(tmp_path / "la").values[0, 0, 0, 1] == -1
    save(tmp_path / "grey" / "a.png", np.arange(4, dtype=np.uint8).reshape(2, 2), "P")
    assert load(tmp_path / "grey").sample_shape == (1, 2, 2)
    save(tmp_path / "deep" / "a.png", np.array([[0, 32896, 65535]], np.uint16))
    deep = load(tmp_path / "deep").values
    np.testing.assert_allclose(deep[0, 0, 0], [-1, 128 / 127.5 - 1, 1], atol=1e-7)
    for suffix in ("jpg", "jpeg", "webp"):
        save(tmp_path / suffix / f"a.{suffix}", np.full((8, 8, 3), 128, np.uint8))
        assert np.abs(load(tmp_path / suffix).values).max() < 0.03


def test_bad_folders(tmp_path):
    with pytest.raises(DataError, match="no images"):
        load(tmp_path)
    save(tmp_path / "a.png", np.zeros((3, 5), np.uint8))
    save(tmp_path / "b.png", np.zeros((3, 5), np.uint8))
    save(tmp_path / "c.png", np.zeros((5, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png is 5x3, .*c\.png is 3x5") as error:
        load(tmp_path)
    assert one_line(error)
    whole = (tmp_path / "a.png").read_bytes()
    for broken in (b"", b"text", whole[:20], whole[: len(whole) // 2]):
        (tmp_path / "b.png").write_bytes(broken)
        with pytest.raises(DataError, match=r"b\.png: not an image") as error:
            load(tmp_path)
        assert one_line(error)
    (tmp_path / "table.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"table\.csv: neither"):
        load(tmp_path / "table.csv")


IMAGES = (np.arange(2 * 4 * 5) * 6).astype(np.uint8).reshape(2, 4, 5)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (IMAGES, (2, 1, 4, 5)),
        (IMAGES[..., None], (2, 1, 4, 5)),
        (np.stack([IMAGES] * 3, -1), (2, 3, 4, 5)),
        (np.stack([IMAGES] * 2, 1), (2, 2, 4, 5)),
        (np.stack([IMAGES[..., :3]] * 3, 1), (2, 3, 4, 3)),
        (IMAGES[:, None] / 117.0 - 1, (2, 1, 4, 5)),
        (IMAGES.reshape(2, -1).astype(np.float16), (2, 20)),
        (np.array([[1, 70_000]]), (1, 2)),
    ],
)
@pytest.mark.parametrize("key", ["images", "values", "x", "x_train", "whatever"])
@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_npz_shapes(tmp_path, array, shape, key):
    np.savez(tmp_path / "a.npz", **{key: array, "y": np.arange(len(array))})
    data = load(tmp_path / "a.npz")
    assert data.values.shape == shape
    assert data.labels.tolist() == list(range(len(array)))
    if array.dtype == np.uint8:
        np.testing.assert_allclose(
            data.values[:, 0], IMAGES[..., : shape[3]] / 127.5 - 1, atol=1e-7
        )
    else:
        np.testing.assert_array_equal(data.values.ravel(), array.astype(np.float32).ravel())


@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_npz_splits(tmp_path):
    arrays = {
        "x_train": np.zeros((3, 2)),
        "y_train": np.zeros(3, np.uint8),
        "x_test": np.ones((1, 2)),
    }
    np.savez(tmp_path / "a.npz", **arrays, y_test=np.array([4]))
    train, test = (load(tmp_path / "a.npz", split=split) for split in ("train", "test"))
    assert (len(train), train.classes, train.labels.dtype) == (3, 1, np.int64)
    assert (test.values.tolist(), test.labels.tolist()) == ([[1, 1]], [4])
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"'test' among its arrays, x$"):
        load(tmp_path / "b.npz", split="test")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES / 2.0}, r"lie in \[0, 117\]"),
        ({"x": IMAGES.astype(np.int32)}, "int32"),
        ({"x": np.zeros((2, 9, 9, 4))}, "channels"),
        ({"x": np.zeros(3)}, "shape"),
        ({"x": np.zeros((0, 4, 4))}, "empty"),
        ({"x": np.array([[1, "a"]], object)}, "object arrays"),
        ({"x": np.array([["a", "b"]])}, "must be numbers"),
        ({"a": np.zeros((2, 2)), "b": np.zeros((2, 2))}, "arrays, a, b"),
        ({}, "arrays, none"),
        ({"x": np.zeros((2, 2)), "y": np.zeros((2, 10), int)}, "labels"),
        ({"x": np.array([[np.nan, 0]])}, "NaN"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path / "a.npz")
    assert "a.npz" in str(error.value)
    assert one_line(error)


def test_what_only_looks_like_an_npz(tmp_path):
    np.savez(tmp_path / "whole.npz", x=np.zeros((50, 2)))
    whole = (tmp_path / "whole.npz").read_bytes()
    np.save(tmp_path / "one.npy", np.zeros((3, 2)))
    array = (tmp_path / "one.npy").read_bytes()
    for content in (b"", b"text\n", array, whole[:100], whole[:300] + b"\xff" * 9 + whole[309:]):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz: not an .npz") as error:
            load(tmp_path / "a.npz")
        assert one_line(error)
