"""`minigan sample`: sheets, arrays, single pictures, classes by name, and where it may write."""

import numpy as np
import pytest
from PIL import Image
from run_helpers import cli, files, refused, train

from minigan.training.resume import load_trainer

NAMES = ("faces", "stars", "stripes")


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A conditional run on colour images of three classes."""
    root = tmp_path_factory.mktemp("sample")
    rng = np.random.default_rng(0)
    for name in NAMES:
        (root / "data" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "data" / name / f"{i}.png")
    words = ["--batch", 4, "--steps", 2, "--device", "reference", "--condition", "concat"]
    train(root / "run", "--data", root / "data", *words)
    return root / "run"


def labels_of(run, path, *words):
    result = cli("sample", run, "--out", path, *words)
    assert (result.status, result.errors) == (0, []), result
    return np.load(path)["labels"].tolist()


# ---------------------------------------------------------------------------------------- classes
@pytest.mark.parametrize(
    ("text", "labels"), [("stars", [1]), ("stripes, 0", [2, 0]), ("2,faces,1", [2, 0, 1])]
)
def test_classes_by_name_or_number(named, tmp_path, text, labels):
    expected = np.resize(labels, 5).tolist()
    assert labels_of(named, tmp_path / "s.npz", "--n", 5, "--label", text) == expected


def test_a_misspelt_class_gets_the_nearest_name(named):
    line = refused("sample", named, "--label", "faces,strs")
    assert "unknown class 'strs'; did you mean 'stars'? (accepted: faces, stars, stripes," in line
    assert "or its number, 0 to 2)" in line
    for text in ("3", "-1", "", "1,,2"):
        assert "unknown class" in refused("sample", named, "--label", text)


def test_names_win_over_numbers_and_may_hold_commas(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("1", "2", "a,b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (4, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    words = ["--batch", 2, "--steps", 1, "--device", "reference", "--condition", "concat"]
    train(tmp_path / "run", "--data", tmp_path / "data", *words)
    for text, labels in (("1", [0]), ("2", [1]), ("a,b", [2])):
        assert (
            labels_of(tmp_path / "run", tmp_path / f"{text}.npz", "--label", text, "--n", 1)
            == labels
        )
    line = refused("sample", tmp_path / "run", "--label", "0")
    assert "unknown class '0'" in line
    assert "number" not in line


# ------------------------------------------------------------------------------------- the sheet
def test_the_default_name_says_what_the_picture_depends_on(named):
    before = files(named)
    names = []
    for words in ([], ["--n", 5], ["--seed", 1], ["--label", "stars"], ["--label", "stars,faces"]):
        names.append(cli("sample", named, *words).out.strip())
    assert [name.split("/")[-1] for name in names] == [
        "sample_step_000002_seed_0_n_64.png",
        "sample_step_000002_seed_0_n_5.png",
        "sample_step_000002_seed_1_n_64.png",
        "sample_step_000002_seed_0_n_64_label_stars.png",
        "sample_step_000002_seed_0_n_64_label_stars_faces.png",
    ]
    assert before.items() <= files(named).items()
    first = files(named)
    assert cli("sample", named, "--n", 5).status == 0  # the same picture under the same name
    assert files(named) == first


def test_a_file_that_exists_is_not_replaced(named, tmp_path):
    for name in ("a.png", "a.npz"):
        (tmp_path / name).write_text("mine")
        line = refused("sample", named, "--out", tmp_path / name)
        assert f"--out {tmp_path / name}: exists already; another name is needed" in line
        assert (tmp_path / name).read_text() == "mine"


def test_a_sheet_has_a_limit_that_names_the_other_ways(named, tmp_path):
    # A cell is (6 + 1) * 10 = 70 pixels wide and high: 2^23 pixels hold 1,711 of them.
    line = refused("sample", named, "--n", 1712, "--out", tmp_path / "a.png")
    assert "--n 1712: a sheet holds at most 1,711 images of this run; --out DIR/ writes" in line
    assert "--out FILE.npz an array of all" in line
    assert labels_of(named, tmp_path / "a.npz", "--n", 1712)[-1] == 1711 % 3


# -------------------------------------------------------------------------------- single pictures
def test_a_folder_gets_a_picture_of_each_seed_that_can_be_made_alone(named, tmp_path):
    folder = tmp_path / "new"
    result = cli("sample", named, "--n", 4, "--seed", 6, "--out", f"{folder}/")
    assert (result.status, result.errors, result.out) == (0, [], f"{folder}\n")
    assert sorted(files(folder)) == [
        "seed_000006_faces.png",
        "seed_000007_stars.png",
        "seed_000008_stripes.png",
        "seed_000009_faces.png",
    ]
    trainer = load_trainer(named)
    for seed, label in ((6, 0), (7, 1), (9, 0)):
        expected = trainer.sample(1, seed, np.array([label]))[0].transpose(1, 2, 0)
        picture = Image.open(folder / f"seed_{seed:06d}_{NAMES[label]}.png")
        assert picture.size == (6, 6)
        assert np.array_equal(np.asarray(picture), np.rint((expected + 1) * 127.5).astype(np.uint8))
        assert picture.text["label"] == NAMES[label]
        assert (picture.text["seed"], picture.text["step"]) == (str(seed), "2")
    one = ["--n", 1, "--seed", 7, "--label", "stars", "--out", f"{tmp_path / 'one'}/"]
    assert cli("sample", named, *one).status == 0
    name = "seed_000007_stars.png"
    assert (tmp_path / "one" / name).read_bytes() == (folder / name).read_bytes()


def test_pictures_that_exist_are_not_replaced(named, tmp_path):
    (tmp_path / "seed_000002_stripes.png").write_text("mine")
    line = refused("sample", named, "--n", 3, "--out", tmp_path)
    assert "seed_000002_stripes.png exists already; another folder or --seed is needed" in line
    assert list(files(tmp_path)) == ["seed_000002_stripes.png"]
    assert cli("sample", named, "--n", 3, "--seed", 3, "--out", tmp_path).status == 0
    assert len(files(tmp_path)) == 4


def test_places_for_no_single_pictures(named, tmp_path):
    (tmp_path / "file.png").touch()
    for out, message in (
        (f"{named}/samples/", "is a file of a training"),
        (f"{named}/snapshots", "a folder" if not (named / "snapshots").exists() else "training"),
        (f"{named.parent}/data/stars/", "is in the data of this run"),
        (f"{tmp_path}/file.png/", "is a file, not a folder"),
        (f"{tmp_path}/none/none/", "there is no folder"),
        (f"{tmp_path}/name", f"ends in .png or .npz is needed, or a folder, {tmp_path}/name/"),
    ):
        before = files(tmp_path)
        assert message in refused("sample", named, "--n", 1, "--out", out)
        assert files(tmp_path) == before


def test_points_have_no_single_pictures(tmp_path):
    words = ["--data", "ring", "--samples", 100, "--batch", 8, "--device", "reference"]
    train(tmp_path / "run", *words, "--steps", 1)
    line = refused("sample", tmp_path / "run", "--out", f"{tmp_path}/a/")
    assert "points have no single pictures; --out FILE.npz" in line
    assert not (tmp_path / "a").exists()
