"""A folder of more than max_gb is read through a file in the cache; bytes are never all floats."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from data_helpers import loaded, peak_below
from PIL import Image

from minigan.data import DataError, Dataset, images, load, pixel_cache
from minigan.training.batches import Batches

SMALL = 1e-9  # a limit that every folder exceeds


@pytest.fixture
def photos(tmp_path, monkeypatch, rng):
    """A folder of 6 images (3, 5, 4) in two classes, a broken one, and another file."""
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "cache"))
    for i in range(6):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8)).save(path, compress_level=0)
    content = (tmp_path / "photos" / "a" / "0.png").read_bytes()
    (tmp_path / "photos" / "a" / "7.png").write_bytes(content[:-30])  # Its header is right.
    (tmp_path / "photos" / "a" / "8.txt").write_text("no image")
    return tmp_path / "photos"


def cached(tmp_path, suffix):
    return sorted((tmp_path / "cache" / "data" / "folders").glob(f"*{suffix}"))


def load_small(photos, **options):
    return loaded(photos, skip_broken=True, max_gb=SMALL, **options)


def is_mapped(data):
    base = data.stored
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    return base is not None


# -------------------------------------------------------------------------------------- the cache
def test_a_mapped_folder_has_the_same_data_and_notes(photos, tmp_path, monkeypatch):
    usual, notes = loaded(photos, skip_broken=True)
    assert not cached(tmp_path, "")
    mapped, more = load_small(photos)
    assert is_mapped(mapped)
    assert not is_mapped(usual)
    assert mapped.digest() == usual.digest()
    (path,) = cached(tmp_path, ".npy")
    assert more == [
        f": the pixels take 3.6e-07 GB, more than max_gb = 1e-09, and are read from {path}, which"
        " you can delete",
        *notes,
    ]
    assert np.array_equal(np.load(path), usual.stored)
    monkeypatch.setattr(images, "ImageFile", None)  # No image is opened again.
    again, same = load_small(photos)
    assert (again.digest(), same) == (usual.digest(), more)


def test_parts_of_a_mapped_folder_are_mapped(photos):
    data, _ = load_small(photos)
    for part in (*data.holdout(0.5), data.sample(3, 0), data.subset([5, 0])):
        assert np.shares_memory(part.stored, data.stored)
    assert np.array_equal(data.subset([5, 0]).values, data.values[[5, 0]])


def test_what_determines_the_pixels_has_a_file_of_its_own(photos, tmp_path):
    load_small(photos)
    load_small(photos, value_range=(0, 255))
    assert len(cached(tmp_path, ".npy")) == 1
    small, _ = load_small(photos, size=2)
    assert small.sample_shape == (3, 2, 2)
    load_small(photos, size=2, grey=True)
    load_small(photos, size=2, fit="stretch")
    load_small(photos, background="white")
    assert len(cached(tmp_path, ".npy")) == 5


@pytest.mark.parametrize("change", ["content", "time", "name", "new", "removed"])
def test_a_changed_folder_is_read_again(photos, change):
    first, _ = load_small(photos)
    path = photos / "a" / "0.png"
    status = path.stat()
    if change in ("content", "time"):
        level = 9 if change == "content" else 0  # 0 makes a file of the same length.
        Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(path, compress_level=level)
        assert (path.stat().st_size == status.st_size) == (change == "time")
        moment = status.st_mtime_ns + (change == "time")
        os.utime(path, ns=(moment, moment))
    elif change == "name":
        path.rename(photos / "b" / "0.png")
    elif change == "new":
        (photos / "b" / "9.png").write_bytes(path.read_bytes())
    else:
        path.unlink()
    second, _ = load_small(photos)
    assert second.digest() != first.digest()
    assert second.digest() == loaded(photos, skip_broken=True)[0].digest()


def test_a_process_that_is_killed_leaves_no_wrong_file(photos, tmp_path):
    script = (
        "import os, signal, sys\n"
        "from minigan.data import images, load\n"
        "read = images.ImageFile.read\n"
        "def killed(self):\n"
        "    if self.path.name == '3.png':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return read(self)\n"
        "images.ImageFile.read = killed\n"
        "load(sys.argv[1], skip_broken=True, max_gb=1e-9)\n"
    )
    process = subprocess.run([sys.executable, "-c", script, photos], check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(cached(tmp_path, ".tmp")) == 1
    assert not cached(tmp_path, ".npy")
    data, _ = load_small(photos)
    assert data.digest() == loaded(photos, skip_broken=True)[0].digest()
    assert not cached(tmp_path, ".tmp")


@pytest.mark.parametrize("damage", ["shorter", "other", "no json", "half json", "text"])
def test_a_damaged_file_is_made_again(photos, tmp_path, damage):
    expected, _ = load_small(photos)
    digest = expected.digest()
    (path,) = cached(tmp_path, ".npy")
    about = path.with_suffix(".json")
    if damage == "shorter":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "other":
        np.save(path, np.zeros((2, 2)))
    elif damage == "no json":
        about.unlink()
    elif damage == "half json":
        about.write_text(about.read_text()[:-5])
    else:
        path.write_text("x")
    assert load_small(photos)[0].digest() == digest
    assert json.loads(about.read_text())["folder"] == str(photos)


def test_a_cache_that_cannot_be_written_names_the_ways_out(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        DataError,
        match=r"more than max_gb = 1e-09, and cannot be kept in the cache \S+folders \(Not a dir"
        r"\w+\): --size makes images smaller, --max-gb 1 keeps .* MINIGAN_CACHE names another",
    ):
        load(photos, skip_broken=True, max_gb=SMALL)
    data, _ = loaded(photos, skip_broken=True)
    assert len(data) == 6  # Without the cache it fits into memory.
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda _: type("", (), {"free": 100}))
    with pytest.raises(DataError, match=r"take 4\.2e-07 GB, .* \(1e-07 GB are free\)"):
        load(photos, skip_broken=True, max_gb=SMALL)
    monkeypatch.delenv("MINIGAN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pixel_cache, "cache_path", lambda *_: None)
    with pytest.raises(DataError, match=r"kept in the cache \(the user has no home\)"):
        load(photos, skip_broken=True, max_gb=SMALL)


def test_an_error_of_an_image_leaves_no_file(photos, tmp_path):
    with pytest.raises(DataError, match=r"7\.png: .*--skip-broken"):
        load(photos, max_gb=SMALL)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(photos / "b" / "9.png")
    with pytest.raises(DataError, match="must be of one size"):
        load(photos, max_gb=SMALL, skip_broken=True)
    assert not cached(tmp_path, ".npy")
    assert not cached(tmp_path, ".tmp")


def test_values_that_are_not_bytes_must_fit_into_memory(photos):
    with pytest.raises(DataError, match=r"take 1\.44e-06 GB as float32, the limit is max_gb"):
        load_small(photos, value_range=(0, 254.5 + 0.5 + 1))


# ----------------------------------------------------------------------------------------- memory
def test_a_folder_takes_its_bytes_and_one_image_more(tmp_path, rng):
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (300, 300, 3), np.uint8)).save(tmp_path / f"{i}.bmp")
    pixels = 30 * 300 * 300 * 3 / 1e6  # 8.1 MB; as float32 they would take 32.4
    with peak_below(pixels + 2):
        assert load(tmp_path).stored.nbytes == pixels * 1e6


def test_training_converts_a_batch_at_a_time():
    """As float32 the 20 MB would take 80; two blocks of the digest take 8, a batch 2."""
    Batches(Dataset("small", np.zeros((9, 1, 64, 64), np.uint8)), 2)  # loads a kernel
    data = Dataset("large", np.zeros((5000, 1, 64, 64), np.uint8))
    data.stored[-1] = 9  # All others are equal, so the check reads all.
    with peak_below(12):
        data.warn_of_equal_samples()
        data.warn_of_range()
        data.digest()
        train, _ = data.holdout(0.1)
        assert Batches(train, 64).next()[0].shape == (64, 4096)


def test_pixels_that_change_without_a_later_time_are_read_again(photos):
    """As after `tar x` or `cp -p`; and what fits into memory is never read from the cache."""
    load_small(photos)
    path = photos / "a" / "0.png"
    before = path.stat()
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path, compress_level=0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    fresh = loaded(photos, skip_broken=True)[0]
    assert not is_mapped(fresh)
    np.testing.assert_array_equal(load_small(photos)[0].values, fresh.values)
