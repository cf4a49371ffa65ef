"""Grids with class names, training images in the same layout, and what the PNGs say of a run."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from run_helpers import cli, train

from minigan.data import Dataset
from minigan.training.pictures import real_images
from minigan.utils import grids
from minigan.utils.figures import loss_curves
from minigan.utils.grids import font_for, grid_columns, image_grid, is_periodic
from minigan.utils.notices import Notice

NAMES = ("a long name of faces", "stars", "stripes")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Images of three classes, whose grey says which, and a run on them with and one without."""
    root = tmp_path_factory.mktemp("pictures")
    for k, name in enumerate(NAMES):
        (root / "data" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.full((8, 16), 80 * k + i, np.uint8)
            Image.fromarray(pixels).save(root / "data" / name / f"{i}.png")
    words = ["--data", root / "data", "--batch", 4, "--device", "reference", "--seed", 5]
    words += ["--steps", 4, "--sample-every", 2, "--log-every", 2]
    train(root / "named", *words, "--condition", "concat")
    train(root / "plain", *words, "--penalty", "r1")
    return root


# ---------------------------------------------------------------------------------------- layouts
@pytest.mark.parametrize(
    ("n", "height", "width", "cycle", "columns"),
    [
        *((64, 28, 28, 1, 8), (100, 28, 28, 1, 10), (10, 28, 28, 1, 4), (1, 28, 28, 1, 1)),
        *((64, 32, 64, 1, 6), (64, 64, 16, 1, 16), (70, 28, 28, 10, 10), (66, 9, 9, 3, 9)),
        *((1000, 28, 28, 10, 30), (3, 28, 28, 10, 3), (64, 28, 28, 40, 8), (12, 9, 9, 2, 4)),
    ],
)
def test_a_grid_is_nearly_square_and_gives_each_label_its_columns(n, height, width, cycle, columns):
    assert grid_columns(n, height, width, cycle) == columns


def test_a_name_that_all_images_of_a_column_share_stands_above_it():
    assert is_periodic(["a", "b", "a", "b", "a"], 2)
    assert not is_periodic(["a", "b", "a"], 3 - 1 + 1) or is_periodic(["a", "b", "a"], 3)
    assert not is_periodic(["a", "b", "c", "a"], 2)


def test_captions_take_one_strip_above_columns_and_one_a_row_above_images(tmp_path):
    images = np.ones((6, 1, 28, 28), np.float32)
    height = 2 * 29  # of a row; the last line adds 2 pixels
    for name, captions, strips in (
        ("none", None, 0),
        ("columns", ["a", "b", "c"] * 2, 1),
        ("images", list("abcdef"), 2),
    ):
        image_grid(images, tmp_path / f"{name}.png", 3, captions)
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png"))
        extra = 2 * (strips - 1) if strips > 1 else 0  # each row of its own has both lines
        assert pixels.shape == (2 * height + 2 + 19 * strips + extra, 3 * height + 2)
        rows = np.flatnonzero((pixels[:, 2:58] == 255).all(axis=1))  # of the first column's images
        assert len(rows) == 2 * 56
        assert rows[0] == 2 + 19 * bool(strips)
        if strips:  # there is ink above the first image, and none above the line between cells
            assert pixels[:19, 2:58].max() > 200
            assert pixels[:19, 58:60].max() == 48


def test_a_long_name_is_turned_above_a_column_and_cut_above_an_image(tmp_path):
    images = np.ones((4, 3, 28, 28), np.float32)
    for captions, strip in (
        (["short", "much longer than that"] * 2, None),
        ([*"abc", "x" * 99], 19),
    ):
        image_grid(images, tmp_path / "a.png", 2, captions)
        pixels = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
        white = np.flatnonzero((pixels[:, 2:58] == 255).all(axis=1))
        assert (white[0] - 2 == 19) if strip else (100 < white[0] - 2 <= 136)


def test_names_in_a_script_that_no_font_has_are_numbers_with_a_note(tmp_path, monkeypatch):
    assert font_for(["Straße", "имя", "αβγ"]).endswith("DejaVuSans.ttf")
    with pytest.warns(Notice, match="no font of this machine has all characters"):
        assert font_for(["\U0010ff00"]) is None
    assert "LastResort" not in str(font_for(["a"]))


# ------------------------------------------------------------------------------------ real images
def test_real_images_have_the_labels_of_the_samples():
    values = np.arange(12, dtype=np.float32).reshape(12, 1, 1, 1) / 12
    data = Dataset("d", values, np.array([0] * 8 + [2] * 4), classes=4)
    turns = np.arange(20) % 4
    images = real_images(data, 20, turns, seed=1)[:, 0, 0, 0] * 12
    assert set(np.rint(images[turns == 0])) <= set(range(8))
    assert len(set(np.rint(images[turns == 0]))) == 5  # all different
    assert sorted(set(np.rint(images[turns == 2]))) == [8, 9, 10, 11]  # four, and one of them again
    assert (images[turns == 1] == -12).all()  # no image: black
    assert np.array_equal(images / 12, real_images(data, 20, turns, seed=1)[:, 0, 0, 0])
    plain = real_images(data, 9, None, seed=1)[:, 0, 0, 0] * 12
    assert len(set(np.rint(plain))) == 9
    assert len(real_images(data, 64, None, seed=1)) == 12


def test_a_run_shows_training_images_in_the_layout_of_its_samples(runs):
    for name in ("named", "plain"):
        reals = Image.open(runs / name / "reals.png")
        samples = Image.open(runs / name / "samples" / "step_000004.png")
        if name == "named":
            assert reals.size == samples.size
            pixels = np.asarray(reals)
            top = pixels.shape[0] - 11 * 63 - 7  # below the names
            for k in range(3):  # rows of cells: a class's images are 80 k to 80 k + 9
                cell = pixels[top + 10 : top + 60, 7 + k * 119 : 7 + k * 119 + 100]
                assert 80 * k <= cell.min() <= cell.max() <= 80 * k + 10
        else:
            assert len(np.unique(np.asarray(reals))) > 20  # of all classes, each image once


# --------------------------------------------------------------------------------------- metadata
def test_every_picture_says_of_which_run_step_and_seed_it_is(runs, tmp_path):
    for path, step in (
        (runs / "named/samples/step_000002.png", "2"),
        (runs / "named/losses.png", "4"),
        (runs / "named/reals.png", None),
    ):
        text = Image.open(path).text
        assert text == {"Software": "minigan", "run": "named", "seed": "5"} | (
            {} if step is None else {"step": step}
        )
    assert cli("sample", runs / "named", "--seed", 7, "--out", tmp_path / "s.png").status == 0
    assert Image.open(tmp_path / "s.png").text["seed"] == "7"
    assert Image.open(tmp_path / "s.png").text["step"] == "4"


# ----------------------------------------------------------------------------------------- curves
def test_the_losses_have_a_panel_for_what_is_added_and_one_for_the_distance(runs, tmp_path):
    heights = [Image.open(runs / name / "losses.png").height for name in ("named", "plain")]
    assert heights == [780, 1080]
    rows = [{"step": i, "loss_d": 1.0, "loss_g": 1.0} for i in (1, 5)]
    loss_curves(rows, {}, "nats", tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").height == 480


def test_the_losses_are_drawn_before_the_end(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "minigan.utils.figures.loss_curves",
        lambda rows, *others: drawn.append([x["step"] for x in rows if others[3] in x]),
    )
    words = ["--data", "ring", "--samples", 300, "--batch", 8, "--device", "reference"]
    train(tmp_path / "run", *words, "--steps", 6, "--sample-every", 3, "--log-every", 1)
    assert drawn[0] == [3]
    assert drawn[-1] == [3, 6]


def test_a_class_name_cannot_lead_out_of_a_folder():
    from minigan.cli.sample import file_name

    assert file_name("../../etc/passwd") == "_etc_passwd"
    assert file_name("a b.c") == "a_b_c"
    assert len(file_name("数" * 500)) == 40
    assert grids.MAX_CYCLE == 16


def test_labels_that_look_the_same_as_file_names_have_other_ones():
    from minigan.cli.sample import _default_name

    options = SimpleNamespace(walk=False, traverse=False, truncation=None, seed=1, n=4, label="x")
    classes = {0: "C++", 1: "C#", 2: "plain", 3: "n" * 50, 4: "n" * 51}
    sampler = SimpleNamespace(step=7, captions=lambda cycle: [classes[k] for k in cycle])
    names = [_default_name(options, sampler, [k]) for k in classes]
    assert names[2] == "sample_step_000007_seed_1_n_4_label_plain.png"
    assert len(set(names)) == 5
    assert all(re.fullmatch(r"[\w-]+\.png", name) for name in names)
