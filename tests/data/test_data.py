"""Datasets: their checks and splits, the sets that are made, and a user's own files."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigan.data import NAMES, DataError, Dataset, load
from minigan.data.glyphs import SIDE, digit_fonts, draw_glyphs
from minigan.kernels.runtime.files import atomic_write, cache_root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINIGAN_DATA", raising=False)


def points(n, labels=False):
    values = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    return Dataset("points", values, np.arange(n) % 3 if labels else None, 3 if labels else None)


def one_line(error):
    return "\n" not in str(error.value)


# ------------------------------------------------------------------------------- Dataset
@settings(deadline=None, max_examples=60)
@given(st.integers(2, 200), st.floats(0, 0.99), st.integers(0, 2**40))
def test_holdout_is_disjoint_complete_and_seeded(n, fraction, seed):
    count = round(fraction * n)
    whole = points(n, labels=True)
    if fraction > 0 and not 0 < count < n:
        with pytest.raises(ValueError, match="both parts need at least one"):
            whole.holdout(fraction, seed)
        return
    train, held = whole.holdout(fraction, seed)
    assert (len(train), len(held)) == (n - count, count)
    rows = np.concatenate([train.values[:, 0], held.values[:, 0]])
    assert sorted(rows) == list(whole.values[:, 0])
    for part in (train, held):
        np.testing.assert_array_equal(part.labels, part.values[:, 0] / 2 % 3)
        assert (np.diff(part.values[:, 0]) > 0).all()
        assert part.classes == 3
    again, _ = whole.holdout(fraction, seed)
    np.testing.assert_array_equal(again.values, train.values)


def test_holdout_moves_with_the_seed_and_may_be_empty():
    whole = points(100)
    assert not np.array_equal(whole.holdout(0.5, 1)[1].values, whole.holdout(0.5, 2)[1].values)
    train, held = whole.holdout(0, 0)
    assert (len(train), len(held), held.sample_shape) == (100, 0, (2,))


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_holdout_outside_its_range(fraction):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        points(10).holdout(fraction)


@pytest.mark.parametrize("bad", [[10], [-1], [0.5], [[1]], np.ones(10, bool)])
def test_subset_refuses(bad):
    with pytest.raises(ValueError, match="subset"):
        points(10).subset(bad)


def test_subset_keeps_order_and_copies():
    whole = points(10, labels=True)
    part = whole.subset([5, 1])
    assert part.values[:, 0].tolist() == [10, 2]
    assert part.labels.tolist() == [2, 1]
    part.values[:] = 0
    assert whole.values[5, 0] == 10


def test_what_is_not_finite_is_counted_and_located():
    values = np.zeros((4, 1, 3, 3))
    values[2, 0, 1, 1], values[3, 0, 0, 0] = np.nan, 1e300  # the second is infinite in float32
    with pytest.raises(DataError, match=r"2 of 36 values.*first at \(2, 0, 1, 1\)"):
        Dataset("x", values)


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (np.zeros((3, 2, 2)), None, "shape"),
        (np.zeros((3, 0)), None, "shape"),
        (np.full((1, 1, 2, 2), 1.01), None, r"must lie in \[-1, 1\].*1.01"),
        (np.zeros((3, 2)), np.zeros(2, int), r"shape \(2,\)"),
        (np.zeros((3, 2)), np.zeros(3), "float64"),
        (np.zeros((3, 2)), np.array([0, -1, 0]), "label -1 at 1"),
        (np.zeros((3, 2)), np.array([0, 5, 0]), "label 5 is not below classes = 5"),
    ],
)
def test_dataset_refuses(values, labels, message):
    with pytest.raises(DataError, match=message):
        Dataset("x", values, labels, 5)


def test_digest_names_what_differs():
    values = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    data = Dataset("x", values, np.array([0, 1, 1]), class_names=("cat", "dog"))
    assert data.digest() == {
        "samples": 3,
        "shape": [2],
        "values": hashlib.sha256(values.astype("<f4").tobytes()).hexdigest(),
        "labels": hashlib.sha256(np.array([0, 1, 1], "<i8").tobytes()).hexdigest(),
        "class_names": ["cat", "dog"],
    }
    assert json.loads(json.dumps(data.digest())) == data.digest()
    assert data.subset([0, 1, 2]).digest() == data.digest()
    assert data.subset([0, 2, 1]).digest()["values"] != data.digest()["values"]
    assert data.sample(2, 0).class_names == data.holdout(0.4)[1].class_names == ("cat", "dog")
    unlabelled = Dataset("x", values.astype(">f4").copy(order="F")).digest()
    assert unlabelled == data.digest() | {"labels": None, "class_names": None}
    assert Dataset("x", np.zeros((0, 2))).digest()["samples"] == 0
    with pytest.raises(DataError, match="2 class names for 3 classes"):
        Dataset("x", values, np.array([0, 1, 2]), class_names=("cat", "dog"))
    for classes in (2.5, "3", True):
        with pytest.raises(ValueError, match=r"classes .*: must be a whole number"):
            Dataset("x", values, np.array([0, 1, 2]), classes)


# ---------------------------------------------------------------------------- the made sets
def test_ring():
    ring = load("ring", samples=20_000, seed=3)
    assert ring.modes.shape == (8, 2)
    assert (ring.sigma, ring.classes) == (0.01, 8)
    assert (ring.values.dtype, ring.labels.dtype) == (np.float32, np.int64)
    distances = np.linalg.norm(ring.modes[:, None] - ring.modes[None], axis=-1)
    assert distances[~np.eye(8, dtype=bool)].min() == pytest.approx(2 * np.sin(np.pi / 8))
    np.testing.assert_allclose(np.linalg.norm(ring.modes, axis=1), 1)
    assert_mixture(ring)


def test_grid():
    grid = load("grid", samples=50_000, seed=3)
    assert (grid.sigma, grid.classes, grid.is_image) == (0.05, 25, False)
    assert {tuple(m) for m in grid.modes} == {
        (x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)
    }
    assert_mixture(grid)


def assert_mixture(dataset):
    n, modes = len(dataset), len(dataset.modes)
    offset = dataset.values - dataset.modes[dataset.labels]
    np.testing.assert_allclose(offset.std(0), dataset.sigma, rtol=5 / np.sqrt(2 * n))
    np.testing.assert_allclose(offset.mean(0), 0, atol=5 * dataset.sigma / np.sqrt(n))
    # of a plane normal, exp(-9 / 2) lies beyond three sigma
    beyond = (np.linalg.norm(offset, axis=1) > 3 * dataset.sigma).mean()
    assert beyond == pytest.approx(np.exp(-4.5), abs=5 * np.sqrt(0.011 / n))
    counts = np.bincount(dataset.labels, minlength=modes)
    np.testing.assert_allclose(counts, n / modes, atol=5 * np.sqrt(n / modes))


def test_swiss_roll():
    roll = load("swiss-roll", samples=20_000)
    x, y = 7.5 * roll.values.T
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    off = radius - (angle + 2 * np.pi * np.rint((radius - angle) / (2 * np.pi)))
    assert off.std() == pytest.approx(0.25, rel=0.05)
    # E t^2 for t uniform in [1.5 pi, 4.5 pi), plus the noise of two coordinates
    assert (radius**2).mean() == pytest.approx(9.75 * np.pi**2 + 2 * 0.25**2, rel=0.02)
    assert roll.labels is None
    assert roll.sample_shape == (2,)


@pytest.mark.parametrize("name", ["ring", "grid", "swiss-roll", "glyphs"])
def test_made_sets_depend_on_seed_and_split_only(name):
    first = load(name, samples=50, seed=1)
    np.testing.assert_array_equal(first.values, load(name, samples=50, seed=1).values)
    for other in (load(name, samples=50, seed=2), load(name, samples=50, seed=1, split="test")):
        assert not np.array_equal(first.values, other.values)
    np.testing.assert_array_equal(first.values, load(name, samples=80, seed=1).values[:50])


def test_usual_sizes():
    assert len(load("ring")) == len(load("grid")) == 100_000


# ----------------------------------------------------------------------------------- glyphs
@pytest.fixture(scope="module")
def drawn():
    return draw_glyphs(1500, 0)


def test_glyphs_are_centred_and_whole(drawn):
    images, labels = drawn
    assert set(labels) == set(range(10))
    border = np.ones((SIDE, SIDE), bool)
    border[1:-1, 1:-1] = False
    assert images[:, border].max() == 0
    ink = images > 64
    height = ink.any(2).sum(1)
    assert height.min() >= 14
    assert height.max() <= 26
    assert (images.reshape(len(images), -1).max(1) > 180).all()


def test_glyphs_of_a_class_are_alike(drawn):
    """Labels fit images: blurred nearest class means read unseen digits far above chance."""
    images, labels = drawn
    means = np.stack([images[labels == c].mean(0) for c in range(10)])
    assert means[:, 13:15, 13:15].mean((1, 2)).argmin() == 0  # a zero is hollow
    assert (means.max(1) > 60).sum(1).argmin() == 1  # a one is narrow
    x = images.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(len(images), -1)
    means = np.stack([x[:1000][labels[:1000] == c].mean(0) for c in range(10)])
    guess = ((x[1000:, None] - means) ** 2).sum(-1).argmin(1)
    assert (guess == labels[1000:]).mean() > 0.7


def test_fonts_without_digits_are_left_out():
    names = {font.replace("\\", "/").rsplit("/", 1)[-1] for font in digit_fonts()}
    assert {"DejaVuSans.ttf", "cmr10.ttf", "STIXGeneral.ttf"} <= names
    # brackets, symbols, old-style figures, a box for all, nothing, a dotted zero
    odd = "cmex10 cmsy10 cmmi10 LastResortHE-Regular DejaVuSansDisplay STIXSizOneSymReg"
    assert not names & {f"{name}.ttf" for name in [*odd.split(), "DejaVuSansMono"]}


def test_glyphs_are_kept_and_a_broken_file_is_made_again(monkeypatch):
    fresh = load("glyphs", samples=40, seed=5)
    (kept,) = (cache_root() / "data").iterdir()
    whole = kept.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("minigan.data.glyphs.draw_glyphs", None)  # it must not be called
        again = load("glyphs", samples=40, seed=5)
    np.testing.assert_array_equal(fresh.values, again.values)
    np.testing.assert_array_equal(fresh.labels, again.labels)
    for broken in (b"", whole[:-30], whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]):
        kept.write_bytes(broken)
        np.testing.assert_array_equal(load("glyphs", samples=40, seed=5).values, fresh.values)
        with np.load(kept) as arrays:
            assert arrays["images"].shape == (40, SIDE, SIDE)


def test_glyphs_without_a_place_to_keep_them(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "file"))
    assert len(load("glyphs", samples=5)) == 5


# ------------------------------------------------------------------------------------- load
@pytest.mark.parametrize("name", ["mnst", "Glyphs", "", "rign"])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="unknown data") as error:
        load(name)
    assert all(name in str(error.value) for name in NAMES)
    assert repr(name) in str(error.value)
    assert one_line(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples 0"),
        ({"samples": -3}, "samples -3"),
        ({"samples": 2.5}, "samples 2.5"),
        ({"samples": True}, "samples True"),
        ({"seed": -1}, "seed -1"),
        ({"split": "validation"}, "unknown split 'validation'.*accepted: train, test"),
        ({"data_dir": "."}, "data_dir is for mnist and fashion-mnist only"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        load("ring", **options)


@pytest.mark.parametrize("path", ["nowhere/at/all", "nowhere.npz"])
def test_missing_paths(path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(path)


def test_import_is_light():
    code = (
        "import sys, minigan.data, minigan.kernels.runtime.files;"
        "print({'matplotlib', 'PIL', 'tqdm', 'numba'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


# ------------------------------------------------------------------------------------ paths
def test_atomic_write_leaves_the_new_or_the_old(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, lambda file: file.write(b"old"))

    def half(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, half)
    assert path.read_bytes() == b"old"
    atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_cache_root(tmp_path, monkeypatch):
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("MINIGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "minigan"


def test_known_bits():
    """A seed means the same samples in every version of this package."""
    ring = load("ring", samples=1000, seed=0)
    assert (
        hashlib.sha256(ring.labels.astype("<i8").tobytes()).hexdigest()[:16] == "28599c961618103c"
    )
