"""`minigan train --task`, `translate` and `evaluate` as a user runs them, and from Python."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from PIL import Image
from run_helpers import assert_same_run, cli, finish, lines_of, refused, start, train, wait_for

import minigan as mg
from minigan.training.run_folder import RunError
from minigan.translation.saved import check_masks

SMALL = ["--data", "glyphs", "--samples", 80, "--batch", 4, "--width", 4, "--log-every", 2]
SMALL += ["--steps", 6, "--sample-every", 3, "--checkpoint-every", 2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "inpaint"
    result = train(folder, "--task", "inpaint", *SMALL)
    assert "minigan translate" in result.out
    return folder


def test_a_run_leaves_what_it_says(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "metrics.jsonl", "losses.png", "checkpoint.safetensors"} <= names
    assert sorted(x.name for x in (run / "samples").iterdir()) == [
        f"step_{step:06d}.png" for step in (0, 3, 6)
    ]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 3, 5, 6]
    assert {"l1", "loss_d", "grad_norm_g", "d_real"} <= rows[0].keys()
    assert "psnr_n8" in rows[-1]
    picture = Image.open(run / "samples" / "step_000006.png")
    assert picture.info["step"] == "6"


def test_a_folder_is_named_after_data_and_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = cli("train", "--task", "denoise", *SMALL)
    assert result.status == 0, result
    assert [x.name for x in (tmp_path / "runs").iterdir()] == ["001-glyphs-denoise"]


@pytest.mark.parametrize("task", [["denoise", "--ema", 0.5], ["unpaired", "--target", "inverted"]])
def test_a_run_in_two_parts_has_the_bits_of_one(tmp_path, task):
    options = ["--task", *task, *SMALL]
    train(tmp_path / "whole", *options, "--steps", 8, "--schedule", "constant")
    train(tmp_path / "parts", *options, "--steps", 4, "--schedule", "constant")
    result = cli("train", "--resume", tmp_path / "parts", "--steps", 8)
    assert result.status == 0, result
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    options = ["--task", "super-resolution", *SMALL, "--steps", 40]
    train(tmp_path / "whole", *options)
    process = start("train", *map(str, options), "--out", tmp_path / "killed")
    wait_for(lambda: lines_of(tmp_path / "killed") >= 6, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.communicate()
    result = cli("train", "--resume", tmp_path / "killed")
    assert result.status == 0, result
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_an_interrupted_run_is_saved(tmp_path):
    options = ["--task", "outline", *SMALL, "--steps", 100_000]
    process = start("train", *map(str, options), "--out", tmp_path / "a")
    wait_for(lambda: lines_of(tmp_path / "a") >= 3, process)
    process.send_signal(signal.SIGINT)
    result = finish(process)
    assert result.status == 130
    assert "minigan train --resume" in result.out


def test_evaluate_prints_a_table_or_json(run):
    result = cli("evaluate", run)
    assert result.status == 0, result
    assert "mean fill" in result.out
    assert "class kept" in result.out
    found = json.loads(cli("evaluate", run, "--json").out)[str(run)]
    assert found["step"] == 6
    assert set(found["values"]["psnr"]) == {"output", "mean fill", "smooth fill", "input"}
    for step in (3, "best"):
        assert cli("evaluate", run, "--step", step, "--json").status == 0
    other = json.loads(cli("evaluate", run, "--step", 3, "--json").out)[str(run)]
    assert other["step"] == 3
    assert other["values"]["psnr"]["output"] != found["values"]["psnr"]["output"]


# --------------------------------------------------------------------------------- own pictures
def picture(path, size, mode="L", seed=0):
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_picture_of_any_size_is_repaired(run, tmp_path):
    pixels = picture(tmp_path / "large.png", (61, 43))
    mask = np.zeros((43, 61), np.uint8)
    mask[10:20, 30:45] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out = tmp_path / "out"
    words = ["translate", run, tmp_path / "large.png", "--mask", tmp_path / "mask.png"]
    result = cli(*words, "--out", out)
    assert (result.status, result.errors) == (0, []), result
    made = np.asarray(Image.open(out / "large.png"))
    assert made.shape == (43, 61)
    assert (made[mask == 0] == pixels[mask == 0]).all()
    assert (made[mask == 255] != pixels[mask == 255]).mean() > 0.9
    assert Image.open(out / "large.png").info["run"] == run.name
    strip = cli(*words, "--out", tmp_path / "strips", "--strip")
    assert strip.status == 0
    assert Image.open(tmp_path / "strips" / "large.png").size == (2 * 61 + 3, 43 + 2)
    assert "exists" in refused(*words, "--out", out)


def test_a_large_picture_is_made_like_its_parts(run):
    """Far from its edge, a part of a picture is made as in the whole one."""
    net = mg.load_translation(run)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 1, 96, 96)).astype(np.float32)
    mask = np.zeros_like(x)
    mask[..., 8:20, 8:20] = 1
    whole = net.translate(x, mask)
    part = net.translate(x[..., :64, :64], mask[..., :64, :64])
    np.testing.assert_allclose(whole[..., 8:20, 8:20], part[..., 8:20, 8:20], atol=1e-5)


def test_a_folder_of_pictures_is_enlarged(tmp_path):
    folder = tmp_path / "run"
    train(folder, "--task", "super-resolution", "--factor", 2, *SMALL)
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / "a.png", (9, 7))
    picture(tmp_path / "in" / "b.png", (10, 6), "RGB")
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    result = cli("translate", folder, tmp_path / "in", "--out", tmp_path / "out")
    assert result.status == 0, result
    assert Image.open(tmp_path / "out" / "a.png").size == (18, 14)
    assert Image.open(tmp_path / "out" / "b.png").size == (20, 12)
    assert len(result.errors) == 1
    assert "b.png: taken as grey, as the net was trained on grey images" in result.errors[0]


def masked(run, tmp_path, pixels, size=(12, 12)):
    picture(tmp_path / "p.png", size)
    Image.fromarray(pixels).save(tmp_path / "m.png")
    return refused(
        *("translate", run, tmp_path / "p.png", "--mask", tmp_path / "m.png"),
        *("--out", tmp_path / "out"),
    )


def test_what_is_no_mask_is_refused(run, tmp_path):
    grey = np.full((12, 12), 0, np.uint8)
    grey[2:5, 2:5] = 128
    assert "other colours than black and white, such as grey 128" in masked(run, tmp_path, grey)
    assert "12x12 pixels, where the picture has 16x12" in masked(
        run, tmp_path, grey // 128 * 255, (16, 12)
    )
    assert "is black" in masked(run, tmp_path, grey * 0)
    colours = np.zeros((12, 12, 3), np.uint8)
    colours[..., 0] = 255
    assert "such as pure red or blue" in masked(run, tmp_path, colours)
    clear = np.full((12, 12, 4), 255, np.uint8)
    clear[2:5, 2:5, 3] = 0
    assert "is transparent" in masked(run, tmp_path, clear)
    words = ["translate", run, tmp_path / "p.png", "--out", tmp_path / "out"]
    assert "--mask is needed" in refused(*words)
    (tmp_path / "masks").mkdir()
    assert "no mask with the name of p.png" in refused(*words, "--mask", tmp_path / "masks")
    assert "no such file" in refused(*words, "--mask", tmp_path / "none.png")


def test_masks_of_a_program_are_checked():
    good = np.zeros((2, 1, 4, 4))
    good[:, :, 1] = 1
    assert check_masks(good[:1], (2, 1, 4, 4)).shape == (2, 1, 4, 4)
    for wrong, message in (
        (None, "needs masks"),
        (good * 0.5, "hold 0.5"),
        (good[:, :, :3], "is needed for images of shape"),
        (good * 0, "no hole to fill"),
    ):
        with pytest.raises(ValueError, match=message):
            check_masks(wrong, (2, 1, 4, 4))


def test_pictures_that_do_not_exist_or_collide_are_refused(run, tmp_path):
    picture(tmp_path / "m.png", (12, 12))
    words = ["--mask", tmp_path / "m.png", "--out", tmp_path / "out"]
    assert "no such file" in refused("translate", run, tmp_path / "none.png", *words)
    (tmp_path / "empty").mkdir()
    assert "no image in this folder" in refused("translate", run, tmp_path / "empty", *words)
    picture(tmp_path / "empty" / "m.png", (12, 12))
    both = [tmp_path / "m.png", tmp_path / "empty"]
    assert "would both be written" in refused("translate", run, *both, *words)


# ------------------------------------------------------------------------------------- refused
def test_options_of_the_other_kind_are_refused(run, tmp_path):
    out = ["--out", tmp_path / "x"]
    assert "--latent-size is an option of images from noise" in refused(
        "train", "--task", "denoise", "--latent-size", 3, *out
    )
    assert "--hole: for images from images; --task names" in refused("train", "--hole", 0.3, *out)
    assert "does not go with --task" in refused(
        "train", "--task", "denoise", "--preset", "dcgan", *out
    )
    train(tmp_path / "d", "--task", "denoise", *SMALL)
    words = ["translate", tmp_path / "d", tmp_path / "x.png", "--mask", "m.png"]
    assert "--mask is for inpaint" in refused(*words, *out)
    assert "goes on with that run's own options: hole = 0.5 (not 0.25)" in refused(
        "train", "--resume", run, "--hole", 0.25
    )


@pytest.mark.parametrize("command", ["sample", "doctor", "report", "export", "info"])
def test_other_commands_name_the_ones_that_take_such_a_run(run, tmp_path, command):
    words = {"export": ["--onnx", tmp_path / "x.onnx"]}.get(command, [])
    result = cli(command, run, *words)
    assert result.status != 0
    assert "--task inpaint" in result.err
    assert "minigan translate" in result.err


def test_a_run_of_images_from_noise_is_not_translated(tmp_path):
    train(tmp_path / "gan", "--data", "ring", "--samples", 100, "--steps", 2)
    picture(tmp_path / "p.png", (8, 8))
    message = refused("translate", tmp_path / "gan", tmp_path / "p.png", "--out", tmp_path / "o")
    assert "makes images from noise" in message


# ------------------------------------------------------------------------------------ from Python
def test_arrays_are_trained_on_and_gone_on_with(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    options = {"steps": 4, "batch": 4, "width": 4, "schedule": "constant", "sample_every": 2}
    config = mg.TranslationConfig(task="pairs", **options)
    run = mg.train_translation(config, x, 255 - x, out=tmp_path / "a", progress=False)
    assert run.config.data == "python:array"
    assert run.translate(x[:2, None] / 127.5 - 1).shape == (2, 1, 8, 8)
    with pytest.raises(RunError, match="other images"):
        mg.train_translation(resume=run.folder, data=255 - x, target=x, progress=False)
    again = mg.train_translation(resume=run.folder, data=x, target=255 - x, steps=6, progress=False)
    assert (again.step, again.config.steps) == (6, 6)
    whole = mg.train_translation(
        config.replace(steps=6), x, 255 - x, out=tmp_path / "b", progress=False
    )
    assert_same_run(whole.folder, again.folder)
    assert mg.load_translation(run.folder, step="best").step in (2, 4, 6)


def test_a_config_of_one_kind_is_not_taken_for_the_other(run):
    with pytest.raises(TypeError, match=r"mg\.train_translation"):
        mg.train(mg.TranslationConfig())
    with pytest.raises(RunError, match="minigan translate"):
        mg.load_run(run)
    with pytest.raises(ValueError, match=r"images of shape \(2, 3, 8, 8\); \(n, 1, height"):
        mg.load_translation(run).translate(np.zeros((2, 3, 8, 8)), np.ones((1, 1, 8, 8)))


def test_only_an_outline_is_filled_in(tmp_path):
    train(tmp_path / "run", "--task", "outline", *SMALL)
    picture(tmp_path / "photo.png", (12, 12))
    words = ["translate", tmp_path / "run", "--out", tmp_path / "out"]
    assert "photo.png: not an outline" in refused(*words, tmp_path / "photo.png")
    lines = np.zeros((12, 12), np.uint8)
    lines[2:9, 4] = 255
    Image.fromarray(lines).save(tmp_path / "lines.png")
    assert cli(*words, tmp_path / "lines.png").status == 0
