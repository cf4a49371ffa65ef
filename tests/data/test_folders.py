"""Folders of images: classes, splits, links, and notes on every file that is not used."""

import os
import stat

import numpy as np
import pytest
from data_helpers import draw, loaded
from PIL import Image, features
from run_helpers import cli, refused

from minigan.data import DataError, load
from minigan.data.scan import RUN_FILES
from minigan.training import run_folder

FORMATS = {
    "PNG": "a.png a.apng a a.dat",
    "JPEG": "b.jpg b.jpeg b.JPE b.jfif",
    "BMP": "c.bmp",
    "GIF": "d.gif",
    "TIFF": "e.tif e.TIFF",
    "PPM": "f.ppm f.pgm f.pnm",
} | ({"WEBP": "g.webp"} if features.check("webp") else {})


def make_run(folder):
    for name in RUN_FILES[:3]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    draw(folder / "samples" / "step_000000.png", size=(40, 40))
    draw(folder / "losses.png", size=(90, 80))


# ---------------------------------------------------------------------------------- what is used
def test_an_image_is_known_by_its_content(tmp_path):
    names = [(kind, name) for kind, text in FORMATS.items() for name in text.split()]
    for kind, name in names:
        draw(tmp_path / name, kind=kind)
    data, notes = loaded(tmp_path)
    assert data.values.shape[0] == len(names)
    assert len(notes) == 1
    assert notes[0].startswith(": images stored as grey and used as RGB, as others have colours:")


def test_conversions_are_noted(tmp_path):
    grey = np.full((4, 4), 200, np.uint8)
    Image.fromarray(np.dstack([grey, grey, grey, grey])).save(tmp_path / "alpha.png")
    Image.fromarray(np.dstack([grey, grey, grey, grey | 255])).save(tmp_path / "opaque.png")
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 4), 9000, np.uint16)).save(tmp_path / "sixteen.png")
    exif = Image.Exif()
    for orientation, name in ((1, "upright.jpg"), (6, "rotated.jpg")):
        exif[0x0112] = orientation
        Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / name, exif=exif)
    _, notes = loaded(tmp_path)
    assert notes == [
        ": images stored as grey and used as RGB, as others have colours: 2"
        " (grey.png, sixteen.png)",
        ": images rotated or mirrored as their EXIF data say: 1 (rotated.jpg)",
        ": images reduced from 16 bits to 8: 1 (sixteen.png)",
        ": images transparent, and blended with the background (--background sets its colour): 1"
        " (alpha.png)",
    ]


def test_every_suffix_makes_a_class(tmp_path):
    draw(tmp_path / "cat" / "a.png")
    draw(tmp_path / "dog" / "a.tif", kind="TIFF")
    data, notes = loaded(tmp_path)
    assert (data.class_names, data.labels.tolist(), notes) == (("cat", "dog"), [0, 1], [])


def test_files_that_are_not_used_are_counted_and_named(tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / ".b.png")
    draw(tmp_path / ".git" / "c.png")
    for name in ("1.txt", "2.svg", "3.heic", "sub/4.csv", "5\x1b[31m\n"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("P5 is not an image")
    (tmp_path / "e.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "f.png")
    (tmp_path / "g.png").symlink_to("/dev/zero")
    data, notes = loaded(tmp_path)
    assert len(data) == 1
    assert notes == [
        ": images used: 1, not used: 2 hidden (.b.png, .git);"
        " 2 neither file nor folder (f.png, g.png); 1 linked to nothing (e.png);"
        " 5 not of PNG, JPEG, WEBP, TIFF or another format of Pillow (1.txt, 2.svg, 3.heic and"
        " 2 more)"
    ]


def test_only_the_first_image_of_a_file_is_used(tmp_path):
    frames = [Image.new("L", (6, 5), value) for value in (0, 90, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data, notes = loaded(tmp_path)
    assert len(data) == 1
    assert "only the first image is used of each file with several: 1 (a.gif)" in notes[0]


# -------------------------------------------------------------------------------- classes, splits
@pytest.mark.parametrize("held_out", ["test", "val", "valid", "validation", "Val"])
def test_splits_are_no_classes(tmp_path, held_out):
    for name in ("train", held_out):
        draw(tmp_path / name / "cat" / "a.png", 0 if name == "train" else 255)
        draw(tmp_path / name / "dog" / "a.png", 0 if name == "train" else 255)
    (tmp_path / "README.txt").write_text("text")
    for split, value in (("train", -1), ("test", 1)):
        data, notes = loaded(tmp_path, split=split)
        assert (data.class_names, data.labels.tolist()) == (("cat", "dog"), [0, 1])
        assert (data.values == value).all()
        assert notes[-1] == ": not used beside the splits: README.txt"
        if held_out != "test":
            assert f"{held_out}/ is the split 'test'" in notes[0]


def test_classes_have_the_numbers_of_train_in_all_splits(tmp_path):
    for path in ("train/cat/0.png", "train/dog/0.png", "val/dog/0.png"):
        draw(tmp_path / path)
    data, _ = loaded(tmp_path, split="test")
    assert data.labels.tolist() == [1]
    assert data.class_names == ("cat", "dog")
    draw(tmp_path / "val" / "eel" / "0.png")
    draw(tmp_path / "val" / "ant" / "0.png")
    data, notes = loaded(tmp_path, split="test")
    assert data.labels.tolist() == [2, 1, 3]
    assert data.class_names == ("cat", "dog", "ant", "eel")
    assert notes[-1] == f"/val: 2 classes that {tmp_path / 'train'} does not have: ant, eel"


def test_train_alone_is_a_split_but_beside_others_a_class(tmp_path):
    draw(tmp_path / "train" / "cat" / "a.png")
    data, notes = loaded(tmp_path)
    assert (data.class_names, notes) == (("cat",), [": train/ is the split 'train'"])
    with pytest.raises(DataError, match="has no split 'test', only train/"):
        load(tmp_path, split="test")
    draw(tmp_path / "car" / "a.png")
    assert loaded(tmp_path)[0].class_names == ("car", "train")


def test_one_stray_image_does_not_take_the_labels_silently(tmp_path):
    for name in ("cat/a.png", "dog/b.png", "stray.png"):
        draw(tmp_path / name)
    data, notes = loaded(tmp_path)
    assert data.labels is None
    assert "no labels, because 1 of 3 images are in no subfolder (stray.png)" in notes[0]
    result = cli("train", "--data", tmp_path, "--condition", "concat", "--holdout", 0, "--batch", 1)
    assert f"minigan train: note: {tmp_path}: no labels, because 1 of 3" in result.errors[0]
    assert "all 3 samples are equal" in result.errors[1]
    assert "needs labels" in result.errors[2]


def test_deeper_images_belong_to_the_first_folder(tmp_path):
    draw(tmp_path / "cat" / "a.png")
    draw(tmp_path / "dog" / "young" / "b.png")
    data, notes = loaded(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert "deeper than a class folder: 1 (dog/young/b.png)" in notes[0]


@pytest.mark.parametrize("content", [None, "bird.svg"])
def test_a_class_without_an_image_is_refused(tmp_path, content):
    draw(tmp_path / "cat" / "a.png")
    (tmp_path / "bird").mkdir()
    if content:
        (tmp_path / "bird" / content).write_text("<svg/>")
    with pytest.raises(DataError, match="no image that can be used in bird/; every subfolder"):
        load(tmp_path)


# ------------------------------------------------------------------------------------------ links
def test_links_are_followed_once(tmp_path):
    draw(tmp_path / "far" / "b.png", 0)
    draw(tmp_path / "data" / "cat" / "a.png")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "far")
    (tmp_path / "data" / "cat" / "up").symlink_to("..")
    (tmp_path / "data" / "cat" / "b.png").symlink_to("a.png")
    data, notes = loaded(tmp_path / "data")
    assert (data.class_names, data.labels.tolist()) == (("cat", "dog"), [0, 0, 1])
    assert notes == [
        ": images used: 3, not used: 1 linked to a folder that is already read (cat/up)"
    ]
    (tmp_path / "data" / "ape").symlink_to("cat")
    with pytest.raises(DataError, match=r"in ape/; .*linked to a folder that is already read"):
        load(tmp_path / "data")


# ------------------------------------------------------------------------------------------- runs
def test_run_files_are_those_of_a_real_run():
    assert RUN_FILES[:3] == (run_folder.CONFIG, run_folder.METRICS, run_folder.CHECKPOINT)
    assert RUN_FILES[3].startswith(f"{run_folder.SAMPLES}/")


def test_runs_are_never_data(tmp_path, monkeypatch):
    for name in ("cat/a.png", "dog/b.png"):
        draw(tmp_path / name)
    make_run(tmp_path / "runs" / "001-x")
    monkeypatch.chdir(tmp_path)
    data, notes = loaded(".")
    assert (data.class_names, len(data)) == (("cat", "dog"), 2)
    assert notes == [": images used: 2, not used: 1 of runs of minigan (runs/001-x)"]
    for folder in ("runs/001-x", "runs/001-x/samples"):
        assert f"{folder}: belongs to a run" in refused("train", "--data", folder, "--steps", 1)
    monkeypatch.chdir(tmp_path / "runs" / "001-x" / "samples")
    with pytest.raises(DataError, match="belongs to a run of minigan"):
        load(".")


def test_train_beside_runs_is_a_split(tmp_path):
    draw(tmp_path / "train" / "cat" / "a.png")
    make_run(tmp_path / "runs" / "001-x")
    data, notes = loaded(tmp_path)
    assert data.class_names == ("cat",)
    assert notes[-1] == ": not used beside the splits: runs"


def test_a_folder_with_the_name_of_a_built_in_set(tmp_path, monkeypatch):
    draw(tmp_path / "ring" / "a.png")
    monkeypatch.chdir(tmp_path)
    data, notes = loaded("ring", samples=50)
    assert not data.is_image
    assert notes == [" is the built-in data set; ./ring loads the folder of that name"]
    for path in ("./ring", "ring/"):
        assert loaded(path)[0].is_image


# ------------------------------------------------------------------------------------------ pixels
@pytest.mark.parametrize(("largest", "is_plausible"), [(1, False), (255, False), (65535, True)])
@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_16_bits_of_which_8_are_used(tmp_path, largest, is_plausible):
    Image.fromarray(np.array([[0, largest]], np.uint16)).save(tmp_path / "a.png")
    if is_plausible:
        assert load(tmp_path).values.ravel().tolist() == [-1, 1]
        return
    draw(tmp_path / "b.png", size=(2, 1))
    with pytest.raises(DataError, match=f"16-bit pixels from 0 to {largest}, of 65535"):
        load(tmp_path)


def test_floats_have_no_known_range(tmp_path):
    Image.fromarray(np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: .*floats, which have no known range"):
        load(tmp_path)


def test_masks_of_zeros_and_ones(tmp_path):
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="all bytes are 0 or 1: --value-range 0,1"):
        load(tmp_path)
    assert load(tmp_path, value_range="0,1").values.ravel().tolist() == [-1, 1]
    dark = load(tmp_path, value_range=(0, 255)).values.ravel()
    np.testing.assert_allclose(dark, [-1, 1 / 127.5 - 1], atol=1e-7)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_a_rotation_makes_sizes_equal(tmp_path, suffix):
    image = Image.new("L", (6, 5))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    Image.new("L", (5, 6)).save(tmp_path / f"b.{suffix}")
    assert load(tmp_path).sample_shape == (1, 6, 5)
    Image.new("L", (6, 5)).save(tmp_path / f"c.{suffix}")
    with pytest.raises(DataError, match=rf"a\.{suffix} is 5x6, .*c\.{suffix} is 6x5"):
        load(tmp_path)


# ------------------------------------------------------------------------------------- permission
def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    draw(tmp_path / "cat" / "a.png")
    draw(tmp_path / "dog" / "a.png")
    listdir = os.listdir

    def refuse(folder):
        if str(folder).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DataError, match=r"dog: cannot be read \(Permission denied\)"):
        load(tmp_path)


def test_postscript_never_reaches_ghostscript(tmp_path, monkeypatch):
    """Pillow runs the program `gs` for PostScript, whatever the file's name is."""
    script = tmp_path / "bin" / "gs"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    page = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "data").mkdir()
    draw(tmp_path / "data" / "a.png")
    for name in ("b.png", "b.eps"):
        path = tmp_path / "data" / name
        path.write_text(page)
        if name == "b.png":
            with pytest.raises(DataError, match=r"b\.png: .*not of PNG, JPEG"):
                load(tmp_path / "data")
            path.unlink()
    assert "1 not of PNG" in loaded(tmp_path / "data")[1][0]
    assert not (tmp_path / "was-run").exists()
