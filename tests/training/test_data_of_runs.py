"""The data of a run may move; changed data are refused, and the message says what changed."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from run_helpers import assert_same_run, cli, files, refused, train

import minigan as mg
from minigan import Config, Trainer
from minigan.training import checkpoint
from minigan.training.load_sampler import load_sampler
from minigan.training.resume import load_trainer, resume
from minigan.training.run_folder import RunError
from minigan.training.state import DataChangedError, describe_changes
from minigan.utils.notices import Notice

WORDS = ["--batch", 4, "--log-every", 2, "--device", "reference", "--holdout", 0.25]


def _save_image(path, shade):
    pixels = np.full((4, 4), shade, np.uint8)
    pixels[0, 0] = 255 - shade
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the images of two classes, and a run of 4 steps on them."""
    root = tmp_path_factory.mktemp("trained")
    for k, name in enumerate(("cat", "dog")):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(6):
            _save_image(root / "photos" / name / f"{i}.png", 100 * k + i)
    train(root / "run", "--data", root / "photos", *WORDS, "--condition", "concat", "--steps", 4)
    return root


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of both, with the path of the copied images in its config."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"data": str(tmp_path / "photos")}))
    return tmp_path


def _grow(photos):
    _save_image(photos / "cat" / "9.png", 77)


def _shrink(photos):
    (photos / "dog" / "0.png").unlink()


def _replace(photos):
    _save_image(photos / "dog" / "0.png", 33)


def _rename(photos):
    (photos / "cat").rename(photos / "wolf")  # Now it sorts after "dog": the labels are swapped.


def _resize(photos):
    for path in photos.rglob("*.png"):
        Image.open(path).resize((5, 5)).save(path)


def _move_an_image(photos):
    (photos / "cat" / "5.png").rename(photos / "dog" / "!.png")  # Same order, another label.


CHANGES = [
    (_grow, "13 samples (before: 12)"),
    (_shrink, "11 samples (before: 12)"),
    (_replace, ": other values"),
    (_rename, "classes dog, wolf (before: cat, dog)"),
    (_resize, "samples of shape [1, 5, 5] (before: [1, 4, 4])"),
    (_move_an_image, ": other labels"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_data_that_changed_are_refused_with_what_changed(copy, change, message):
    change(copy / "photos")
    before = files(copy)
    for words in (["train", "--resume", copy / "run", "--steps", 6], ["evaluate", copy / "run"]):
        complaint = refused(*words)
        assert message in complaint
        assert str(copy / "photos") in complaint
        assert str(copy / "run") in complaint
        assert "--data names the path of the same data" in complaint
    assert cli("sample", copy / "run").status == 0
    (copy / "run" / "sample_step_000004_seed_0_n_64.png").unlink()
    assert files(copy) == before
    with pytest.raises(RunError):
        load_trainer(copy / "run")


def test_a_run_whose_data_moved_continues_with_the_same_bits(copy, trained, monkeypatch):
    (copy / "photos").rename(copy / "elsewhere")
    run, straight = copy / "run", copy / "straight"
    assert f"no folder of images and no .npz at {copy / 'photos'}" in refused("evaluate", run)
    monkeypatch.chdir(copy)
    assert cli("evaluate", run, "--data", "elsewhere", "--only", "quick").status == 0
    assert cli("train", "--resume", run, "--steps", 8, "--data", "elsewhere").status == 0
    config = json.loads((run / "config.json").read_text())
    assert config["data"] == str(copy / "elsewhere")
    assert cli("train", "--resume", run).status == 0  # The new path was stored.
    options = [*WORDS, "--condition", "concat", "--steps", 8]
    train(straight, "--data", copy / "elsewhere", *options)
    assert_same_run(run, straight)


def test_other_data_at_the_new_path_are_refused(copy):
    shutil.copytree(copy / "photos", copy / "other")
    _grow(copy / "other")
    for words in (["train", "--resume", copy / "run"], ["evaluate", copy / "run"]):
        assert "13 samples (before: 12)" in refused(*words, "--data", copy / "other")
        for name in ("ring", "glyphs"):
            assert name in refused(*words, "--data", name)


def test_a_built_in_data_set_has_no_path(tmp_path):
    train(tmp_path / "run", "--data", "ring", "--samples", 100, *WORDS, "--steps", 1)
    np.savez(tmp_path / "ring.npz", x=mg.data.load("ring", samples=100).values)
    for words in (["train", "--resume", tmp_path / "run"], ["evaluate", tmp_path / "run"]):
        assert "'ring'" in refused(*words, "--data", tmp_path / "ring.npz").replace(
            "own data, ring", "'ring'"
        )


def test_the_path_is_stored_absolute_and_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("points.npz", x=np.random.default_rng(0).standard_normal((40, 2)))
    result = train("run", "--data", "points.npz", *WORDS, "--steps", 2)
    assert f"data:     {tmp_path / 'points.npz'}, 40 samples of shape (2,)\n" in result.out
    assert json.loads((tmp_path / "run/config.json").read_text())["data"] == str(
        tmp_path / "points.npz"
    )
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir("sub")
    assert cli("train", "--resume", "../run", "--steps", 3).status == 0
    result = cli("info", "../run")
    assert (result.status, result.errors) == (0, [])
    assert f"data           {tmp_path / 'points.npz'}, 40 samples of shape (2,)\n" in result.out
    assert "trained        3 of 3 steps" in result.out


def test_info_names_the_classes(trained):
    assert "12 samples of shape (1, 4, 4), 2 classes (cat, dog)" in cli("info", trained / "run").out


# ------------------------------------------------------------------------ samples without data
def test_sampling_needs_no_data(copy):
    run = copy / "run"
    expected = load_trainer(run).sample(6, seed=3)
    shutil.rmtree(copy / "photos")
    assert cli("sample", run, "--n", 6, "--seed", 3, "--out", copy / "s.npz").status == 0
    arrays = np.load(copy / "s.npz")
    assert np.array_equal(arrays["samples"], expected)
    assert arrays["labels"].tolist() == [0, 1] * 3
    assert cli("sample", run, "--label", "1").status == 0
    assert "cat, dog, or its number, 0 to 1" in refused("sample", run, "--label", "2")
    sampler = load_sampler(run)
    assert (sampler.classes, sampler.class_names) == (2, ("cat", "dog"))


@pytest.mark.parametrize("options", [["--standardize"], ["--ema", 0.9], ["--latent", "uniform"]])
def test_a_sampler_of_points_agrees_with_the_trainer(tmp_path, options):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((1500, 3)) * 5)
    run = tmp_path / "run"
    train(run, "--data", tmp_path / "x.npz", *WORDS, "--steps", 2, *options)
    trainer = load_trainer(run)
    sampler = load_sampler(run)
    assert np.array_equal(sampler.points, trainer.sampler.points)
    assert {x.tobytes() for x in sampler.points} < {x.tobytes() for x in trainer.data.values}
    assert sampler.points.shape == (1024, 3)
    assert np.array_equal(sampler.sample(5), trainer.sample(5))
    before = mg.random.default_generator().state()
    load_sampler(run)
    assert mg.random.default_generator().state() == before
    (tmp_path / "x.npz").unlink()
    assert cli("sample", run).status == 0


# --------------------------------------------------------------------------------- older versions
@pytest.fixture
def old_run(tmp_path, monkeypatch):
    """A run of an older version: no digest of the data, a relative path, `samples` called size."""
    monkeypatch.chdir(tmp_path)
    np.savez("points.npz", x=np.random.default_rng(0).standard_normal((40, 2)))
    train("run", "--data", "points.npz", *WORDS, "--steps", 2)
    tensors, info = mg.load("run/checkpoint.safetensors")
    del info["data"], tensors["points"]
    info["config"]["data"] = "points.npz"
    info["config"]["size"] = info["config"].pop("samples")
    checkpoint.save("run/checkpoint.safetensors", tensors, info)
    (tmp_path / "run/config.json").write_text(json.dumps(info["config"]))
    return tmp_path / "run"


def test_a_checkpoint_of_an_older_version_is_accepted_with_a_notice(old_run):
    with pytest.warns(Notice, match="holds no digest of its data"):
        load_trainer(old_run)
    for words in (["evaluate", old_run, "--only", "quick"], ["sample", old_run]):
        result = cli(*words)
        assert result.status == 0
        (line,) = result.errors
        assert f"minigan {words[0]}: note: " in line
        assert "holds no digest of its data" in line
    config = json.loads((old_run / "config.json").read_text())
    (old_run / "config.json").write_text(json.dumps(config | {"data": "ring"}))
    assert "written with data = 'points.npz', not 'ring'" in refused("evaluate", old_run)


def test_a_resumed_run_of_an_older_version_gets_a_digest(old_run):
    with pytest.warns(Notice, match="holds no digest"):
        resume(old_run)  # and is then killed
    assert mg.load(old_run / "checkpoint.safetensors")[1]["data"]["samples"] == 40
    os.chdir("/")
    result = cli("evaluate", old_run, "--only", "quick", "--data", old_run.parent / "points.npz")
    assert (result.status, result.errors) == (0, [])


# -------------------------------------------------------------------------------------- in Python
def test_a_trainer_refuses_a_state_of_other_data():
    config = Config(data="ring", samples=100, batch=8, device="reference")
    state = Trainer(config).state()
    with pytest.raises(DataChangedError, match=r"90 samples \(before: 100\)"):
        Trainer(config.replace(samples=90)).load_state(*state)
    with pytest.raises(DataChangedError, match="other values, other labels"):
        Trainer(config.replace(seed=1)).load_state(*state)


def test_changes_of_data_are_described():
    digest = {"samples": 3, "shape": [2], "values": "a", "labels": None, "class_names": None}
    assert describe_changes(digest, dict(digest)) == ""
    many = digest | {"samples": 1200, "class_names": list("abcdefg")}
    assert describe_changes(digest, many) == (
        "1,200 samples (before: 3), classes a, b, c, d, e and 2 more (before: none)"
    )
