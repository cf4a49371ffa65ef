"""MNIST's files are searched for, read, and refused if they are corrupt."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from idx_files import (
    DIGITS,
    IMAGE_FILE,
    IMAGES,
    LABEL_FILE,
    LABELS,
    PACKED,
    PIXELS,
    assert_ours,
    idx,
    put,
)

from minigan.data import DataError, download, load
from minigan.data.download import Source
from minigan.kernels.runtime.files import cache_root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """No test sees the user's cache, and none can reach a mirror on the network."""
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINIGAN_DATA", raising=False)
    for name, source in list(download.SOURCES.items()):
        monkeypatch.setitem(download.SOURCES, name, Source((), source.md5))


# ---------------------------------------------------------------------------------- finding
@pytest.mark.parametrize("below", ["", "mnist"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    "names",
    ["{}-images-idx3-ubyte {}-labels-idx1-ubyte", "{}-images.idx3-ubyte {}-labels.idx1-ubyte"],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_spelling(tmp_path, below, suffix, names, split):
    pack = gzip.compress if suffix else bytes
    stem = {"train": "train", "test": "t10k"}[split]
    files = [file.format(stem) + suffix for file in names.split()]
    put(tmp_path / below, pack(IMAGE_FILE), pack(LABEL_FILE), files)
    assert_ours(load("mnist", split=split, data_dir=tmp_path))


def test_the_order_of_places(tmp_path, monkeypatch):
    argument, variable = tmp_path / "argument", tmp_path / "variable"
    put(cache_root() / "data" / "mnist")
    assert_ours(load("mnist"))
    variable.mkdir()
    monkeypatch.setenv("MINIGAN_DATA", str(variable))
    assert_ours(load("mnist"))  # has neither file: the next place
    put(variable, idx(PIXELS[:5]), idx(DIGITS[:5]))
    assert len(load("mnist")) == 5
    put(variable / "mnist", idx(PIXELS[:4]), idx(DIGITS[:4]))
    assert len(load("mnist")) == 4
    put(argument, idx(PIXELS[:3]), idx(DIGITS[:3]))
    assert len(load("mnist", data_dir=argument)) == 3


def test_a_given_folder_is_the_only_place(tmp_path, monkeypatch):
    put(cache_root() / "data" / "mnist")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=f"{IMAGES}.gz.*train-labels.idx1-ubyte"):
        load("mnist", data_dir=empty)
    with pytest.raises(FileNotFoundError, match="not a folder"):
        load("mnist", data_dir=tmp_path / "nowhere")
    put(empty, labels=None)
    with pytest.raises(FileNotFoundError, match="labels") as error:
        load("mnist", data_dir=empty)
    assert "images" not in str(error.value)
    monkeypatch.setenv("MINIGAN_DATA", str(empty))  # half a set is a mistake, wherever it lies
    with pytest.raises(FileNotFoundError, match="MINIGAN_DATA"):
        load("mnist")


def test_one_set_is_not_taken_for_the_other(tmp_path, monkeypatch):
    put(tmp_path)
    md5 = {IMAGES + ".gz": hashlib.md5(IMAGE_FILE).hexdigest()}
    monkeypatch.setitem(download.SOURCES, "mnist", Source((), md5))
    assert_ours(load("mnist", data_dir=tmp_path))
    with pytest.raises(DataError, match="belongs to mnist, not to fashion-mnist"):
        load("fashion-mnist", data_dir=tmp_path)


def test_size_draws_without_replacement(tmp_path):
    put(tmp_path)
    some = load("mnist", data_dir=tmp_path, samples=5, seed=1)
    more = load("mnist", data_dir=tmp_path, samples=9, seed=1)
    rows = [{image.tobytes() for image in data.values} for data in (some, more)]
    assert (len(rows[0]), len(rows[1])) == (5, 9)
    assert rows[0] < rows[1]
    with pytest.raises(ValueError, match="samples 13: mnist has 12"):
        load("mnist", data_dir=tmp_path, samples=13)


# ----------------------------------------------------------------------------- broken files
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"", LABEL_FILE, "images.*not an IDX file"),
        (b"<html>", LABEL_FILE, "images.*not an IDX file"),
        (b"\0\0\x0d" + IMAGE_FILE[3:], LABEL_FILE, "images.*not an IDX file"),
        (IMAGE_FILE[:9], LABEL_FILE, "images.*truncated in its header"),
        (IMAGE_FILE[:-1], LABEL_FILE, "images.*truncated"),
        (IMAGE_FILE + b"\0", LABEL_FILE, "images.*trailing"),
        (idx(PIXELS[:, :27]), LABEL_FILE, r"images.*\(27, 28\)"),
        (idx(PIXELS[:0]), LABEL_FILE, "images.*empty"),
        (LABEL_FILE, LABEL_FILE, r"images.*should hold images \(idx3\), holds labels"),
        (IMAGE_FILE, IMAGE_FILE, r"labels.*should hold labels \(idx1\), holds images"),
        (IMAGE_FILE, idx(DIGITS[:-1]), "labels.*11 labels for the 12 images"),
        (IMAGE_FILE, idx(np.append(DIGITS, 0)), "labels.*13 labels for the 12 images"),
        (IMAGE_FILE, idx(DIGITS + 1), "labels.*label 10 at 9"),
        (PACKED[:-9], LABEL_FILE, "images.*broken gzip"),
        (PACKED[:50] + b"\xff" * 50 + PACKED[100:], LABEL_FILE, "images.*broken gzip"),
        (PACKED[:10] + b"\xff" + PACKED[11:], LABEL_FILE, "images.*broken gzip"),
        (PACKED[:-8] + b"\0" * 8, LABEL_FILE, "images.*broken gzip"),
    ],
)
@pytest.mark.parametrize("in_cache", [False, True])
def test_broken_files_are_named_and_left_alone(tmp_path, images, labels, message, in_cache):
    folder = cache_root() / "data" / "mnist" if in_cache else tmp_path
    put(folder, images, labels)
    with pytest.raises(DataError, match=message) as error:
        load("mnist", data_dir=None if in_cache else folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert (folder / IMAGES).read_bytes() == images
    assert (folder / LABELS).read_bytes() == labels


# -------------------------------------------------------------------------- the real thing
REAL = os.environ.get("MINIGAN_DATA")


@pytest.mark.skipif(
    not REAL or not (Path(REAL) / "mnist").is_dir(), reason="MINIGAN_DATA has no mnist folder"
)
def test_the_real_test_split(monkeypatch):
    monkeypatch.setenv("MINIGAN_DATA", REAL)
    data = load("mnist", split="test")
    assert data.values.shape == (10_000, 1, 28, 28)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # as published
    assert np.bincount(data.labels).tolist() == counts
    assert data.values.min() == -1
    assert data.values.max() == 1
