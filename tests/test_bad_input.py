"""What is wrong is told in one line, with exit status 2; nothing is lost or half-written."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_helpers import (
    RING,
    assert_same_run,
    assert_whole,
    cli,
    files,
    run,
    sha256,
    small_files,
    train,
)

import minigan as mg
from minigan import Config, Trainer
from minigan.checkpoint import CheckpointError
from minigan.folder import RunError, new_folder, read_config
from minigan.run import Run, load_trainer, resume
from minigan.trainer import DivergedError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of 10 steps, of 20 steps, and runs of other nets and of another seed."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "run", *RING, "--steps", 10)
    train(folder / "straight", *RING, "--steps", 20)
    train(folder / "wide", *RING, "--steps", 10, "--latent-size", 3)
    train(folder / "seed", *RING, "--steps", 10, "--seed", 1)
    return folder


@pytest.fixture
def a_run(runs, tmp_path):
    """A copy of the first, to break."""
    return Path(shutil.copytree(runs / "run", tmp_path / "run"))


def refused(*words):
    """The one line on stderr of a command that fails, in this process."""
    return the_complaint(cli(*words), words[0])


def the_complaint(result, command):
    assert result.status == 2, result
    assert result.out == ""
    assert len(result.errors) == 1, result.errors
    assert result.errors[0].startswith(f"minigan {command}: error: ")
    return result.errors[0]


# ------------------------------------------------------------------------------------------ words
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'? (accepted: train, sample, "),
        (["train", "--stesp", "3"], "unknown option '--stesp'; did you mean '--steps'?"),
        (["train", "--bacth=3"], "unknown option '--bacth'; did you mean '--batch'?"),
        (["info", "--verbose"], "unknown option '--verbose' (accepted: --help)"),
        (["--hlep"], "unknown option '--hlep'; did you mean '--help'?"),
        (["sample"], "the following arguments are required: RUN"),
        (["train", "--steps"], "argument --steps: expected one argument"),
        (["train", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["train", "--lr", "fast"], "argument --lr: invalid float value: 'fast'"),
        (["sample", "run", "--n", "2.5"], "argument --n: invalid int value"),
    ],
)
def test_words_that_are_no_commands_and_no_options(words, message):
    result = cli(*words)
    assert (result.status, result.out) == (2, "")
    assert len(result.errors) == 1
    assert message in result.errors[0]
    assert "--help)" in result.errors[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "glyhps"], "the nearest names are glyphs"),
        (["--data", "rings"], "the nearest names are ring"),
        (["--data", "no/such/folder"], "no folder of images and no .npz at no/such/folder"),
        (["--data", "none.npz"], "no .npz at none.npz"),
        (["--split", "valid"], "split 'valid': must be one of train, test"),
        (["--data", "ring", "--data-dir", "x"], "data_dir is for mnist and fashion-mnist only"),
        (["--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
        (["--model", "mpl"], "unknown model 'mpl'; did you mean 'mlp'? (accepted: mlp, mlp-drop"),
        (["--loss", "hinged"], "unknown loss 'hinged' (accepted: "),
        (["--loss", "minmax"], "unknown loss 'minmax'; did you mean 'minimax'?"),
        (["--preset", "torch-mlp"], "unknown preset 'torch-mlp'; did you mean 'pytorch-mlp'?"),
        (["--device", "cpus"], "unknown device 'cpus'; did you mean 'cpu'? (accepted: reference"),
        (["--latent", "normla"], "unknown latent 'normla'; did you mean 'normal'?"),
        (["--steps", "0"], "steps = 0 is not a positive integer"),
        (["--steps", "-5"], "steps = -5 is not a positive integer"),
        (["--batch", "0"], "batch = 0 is not a positive integer"),
        (["--size", "-1"], "size = -1 is not a positive integer"),
        (["--latent-size", "0"], "latent_size = 0 is not a positive integer"),
        (["--n-critic", "0"], "n_critic = 0 is not a positive integer"),
        (["--n-generator", "-1"], "n_generator = -1 is not a positive integer"),
        (["--log-every", "0"], "log_every = 0 is not a positive integer"),
        (["--lr", "-1"], "lr_g = -1.0 is not a positive number"),
        (["--lr-d", "nan"], "lr_d = nan is not a positive number"),
        (["--lr-g", "inf"], "lr_g = inf is not a positive number"),
        (["--beta1", "1"], "beta1 = 1.0 is not in [0, 1)"),
        (["--smooth", "2"], "smooth = 2.0 is not in (0.5, 1]"),
        (["--holdout", "1"], "holdout = 1.0 is not in [0, 1)"),
        (["--seed", "-1"], "seed = -1 is not an integer in [0, 2^64)"),
        (["--seed", str(2**64)], "is not an integer in [0, 2^64)"),
        (["--data", "ring", "--size", "50"], "batch = 64, but ring has only 45 training samples"),
        (["--data", "ring", "--size", "4", "--batch", "1"], "holdout fraction 0.1 of 4 samples"),
    ],
)
def test_values_that_are_not_accepted(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("train", *words)
    assert message in refused("train", *words, "--out", "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "RUN", "--n", "0"], "--n 0 is not a positive number"),
        (["sample", "RUN", "--n", "-2"], "--n -2 is not a positive number"),
        (["sample", "RUN", "--seed", "-1"], "-1 is outside [0, 2**64)"),
        (["sample", "RUN", "--seed", str(2**64)], "is outside [0, 2**64)"),
        (["sample", "RUN", "--out", "a.gif"], "a.gif: a name that ends in .png or .npz is needed"),
        (["sample", "RUN", "--out", "no/a.png"], "--out no/a.png: there is no folder no"),
        (["evaluate", "RUN", "--projections", "-1"], "projections = -1 is not positive"),
        (["check", "--op", "tahn"], "unknown op 'tahn'; did you mean 'tanh'?"),
        (["check", "--op", "tanh", "--order", "0"], "--order 0 is not a positive integer"),
        (["check", "--device", "cuda9"], "unknown device 'cuda9'"),
    ],
)
def test_values_of_other_commands(a_run, words, message):
    before = files(a_run)
    assert message in refused(*(a_run if word == "RUN" else word for word in words))
    assert files(a_run) == before


# ------------------------------------------------------------------------------------------- data
def test_data_that_cannot_be_used(tmp_path, rng):
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    points = rng.standard_normal((99, 2))
    points[3, 1] = np.nan
    np.savez(tmp_path / "nan.npz", x=points)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "nan.npz").read_bytes()[:500])
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.png").write_bytes(b"\x89PNG broken")
    before = files(tmp_path)
    for name, message in (
        ("empty", "no images in it"),
        ("objects.npz", "not an .npz that can be read"),
        ("nan.npz", "1 of 198 values are NaN or infinite in float32, the first at (3, 1)"),
        ("cut.npz", "not an .npz that can be read"),
        ("images", "b.png: not an image that can be read"),
    ):
        complaint = refused("train", "--data", tmp_path / name, "--out", tmp_path / "out")
        assert message in complaint
        assert str(tmp_path / name) in complaint
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------- divergence
def test_a_loss_that_diverges_is_named_with_its_step(tmp_path):
    folder = tmp_path / "run"
    complaint = refused("train", *RING, "--lr", "1e30", "--steps", 9, "--out", folder)
    assert "loss_g became nan at step 1" in complaint
    assert f"{folder / 'checkpoint.safetensors'} is still the last good state" in complaint
    assert load_trainer(folder).step_count == 0
    assert_whole(folder)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_run_that_diverges_later_keeps_its_last_good_checkpoint(a_run, poison):
    before = sha256(a_run / "checkpoint.safetensors")
    run_ = resume(a_run, steps=30)
    taken = run_.trainer.step

    def step(norms):
        row = taken(norms)
        if run_.trainer.step_count == 14:
            state = run_.trainer.generator.state_dict()
            state["0.bias"][3] = poison
            run_.trainer.generator.load_state_dict(state)
        return row

    run_.trainer.step = step
    with pytest.raises(DivergedError, match=r"became nan at step 15; .* is still the last good"):
        run_.train(progress=False)
    assert sha256(a_run / "checkpoint.safetensors") == before
    assert load_trainer(a_run).step_count == 10


def test_weights_that_are_not_finite_are_neither_saved_nor_drawn(a_run):
    before = files(a_run)
    run_ = resume(a_run)
    state = run_.trainer.generator.state_dict()
    state["0.weight"][1, 1] = np.nan
    run_.trainer.generator.load_state_dict(state)
    with pytest.raises(DivergedError, match=r"generator.0.weight is not finite at step 10"):
        run_.save()
    with pytest.raises(DivergedError, match="samples are not finite at step 10"):
        run_.draw_samples()
    assert files(a_run) == before


# ---------------------------------------------------------------------------- checkpoints, configs
COMMANDS = [("train", "--resume"), ("sample",), ("evaluate",)]


def all_refuse(folder, message, error):
    before = files(folder)
    for command in COMMANDS:
        assert message in refused(*command, folder)
    with pytest.raises(error):
        load_trainer(folder)
    assert files(folder) == before


def test_a_truncated_checkpoint(a_run):
    path = a_run / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    all_refuse(a_run, f"{path} is not a readable checkpoint", CheckpointError)


def test_a_corrupt_checkpoint(a_run):
    path = a_run / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[-5000] ^= 1
    path.write_bytes(data)
    all_refuse(a_run, f"{path} is corrupt", CheckpointError)


@pytest.mark.parametrize(
    ("other", "message"),
    [("wide", "latent_size = 3, not 2"), ("seed", "seed = 1, not 0")],
)
def test_the_checkpoint_of_another_run(runs, a_run, other, message):
    shutil.copy(runs / other / "checkpoint.safetensors", a_run)
    all_refuse(a_run, f"does not fit this run: it was written with {message}", CheckpointError)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors, info: info.pop("config"),
        lambda tensors, info: info.pop("step"),
        lambda tensors, info: info.update(random=[]),
        lambda tensors, info: info.update(step="x"),
        lambda tensors, info: tensors.pop("batches.order"),
        lambda tensors, info: tensors.update({"batches.order": np.array([0, 10**6])}),
        lambda tensors, info: tensors.pop("generator.0.weight"),
        lambda tensors, info: tensors.update({"generator.0.weight": np.zeros((2, 3))}),
    ],
)
def test_a_checkpoint_with_something_missing(a_run, spoil):
    tensors, info = mg.load(a_run / "checkpoint.safetensors")
    spoil(tensors, info)
    mg.save(a_run / "checkpoint.safetensors", tensors, info)
    all_refuse(a_run, "checkpoint.safetensors does not fit this run", CheckpointError)


def test_a_run_without_a_checkpoint(a_run):
    (a_run / "checkpoint.safetensors").unlink()
    all_refuse(a_run, "there is no checkpoint", CheckpointError)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '{"steps": 3, "colour": 1}', '{"steps": 0}', '{"lr_g": "x"}',
     '{"data": ["ring"]}', '{"model": {}}', '{"seed": null}', "\udcff"],
)  # fmt: skip
def test_a_corrupt_config(a_run, text):
    (a_run / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    all_refuse(a_run, f"{a_run / 'config.json'} cannot be read", RunError)


def test_what_is_not_a_run(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "none", tmp_path / "file"):
        for command in COMMANDS:
            assert str(folder) in refused(*command, folder)
        with pytest.raises(RunError):
            read_config(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# ----------------------------------------------------------------------------------- where to write
def test_output_folders_that_cannot_be_used(a_run, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    before = files(tmp_path)
    for out, message in (
        (a_run, f"is in use; give another --out, or --resume {a_run} to go on"),
        (tmp_path / "full", "is in use"),
        (tmp_path / "file", "is a file, not a folder to train in"),
        (tmp_path / "file" / "under", f"cannot write to {tmp_path / 'file' / 'under'}: Not a dir"),
        ("/proc/run", "cannot write to /proc/run: "),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "nul\0", "null"),
    ):
        assert message in refused("train", *RING, "--steps", 1, "--out", out)
    assert files(tmp_path) == before
    with pytest.raises(RunError):
        new_folder(tmp_path / "full", Config())


def test_no_folder_for_runs_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    complaint = refused("train", *RING, "--steps", 1)
    assert "cannot write to runs/ here; give another --out" in complaint
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folders_without_permission(tmp_path, a_run, monkeypatch):
    (tmp_path / "locked").mkdir(mode=0o500)
    monkeypatch.chdir(tmp_path / "locked")
    assert "cannot write" in refused("train", *RING, "--steps", 1)
    assert "cannot write" in refused("train", *RING, "--steps", 1, "--out", "here")
    a_run.chmod(0o500)
    assert "cannot write" in refused("train", "--resume", a_run, "--steps", 12)
    a_run.chmod(0o700)


def test_a_full_disk_while_saving(runs, a_run):
    before = sha256(a_run / "checkpoint.safetensors")
    result = run("train", "--resume", a_run, "--steps", "20", before=small_files)
    complaint = the_complaint(result, "train")
    assert f"cannot write to {a_run}: File too large" in complaint
    assert "checkpoint.safetensors is still the last good state" in complaint
    assert sha256(a_run / "checkpoint.safetensors") == before
    assert_whole(a_run)
    assert cli("train", "--resume", a_run, "--steps", 20).status == 0
    assert_same_run(a_run, runs / "straight")


def test_a_full_disk_at_the_first_checkpoint(runs, tmp_path):
    folder = tmp_path / "run"
    result = run("train", *RING, "--steps", "20", "--out", folder, before=small_files)
    complaint = the_complaint(result, "train")
    assert f"cannot write to {folder}: File too large; there is no checkpoint yet" in complaint
    assert_whole(folder)
    assert cli("train", "--resume", folder).status == 0
    assert_same_run(folder, runs / "straight")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 600 kB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", place]
    if (
        not shutil.which("mount")
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("no disk may be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_fills_up(small_disk, runs):
    folder = small_disk / "run"
    shutil.copytree(runs / "run", folder)
    before = files(folder)
    complaint = refused("train", "--resume", folder, "--steps", 20)
    assert f"cannot write to {folder}: No space left on device" in complaint
    assert files(folder)["checkpoint.safetensors"] == before["checkpoint.safetensors"]
    assert_whole(folder)
    assert "No space left" in refused("sample", folder, "--out", folder / "s.npz", "--n", 50_000)
    assert_whole(folder)
    moved = shutil.move(folder, small_disk.parent / "moved")
    assert cli("train", "--resume", moved, "--steps", 20).status == 0
    assert_same_run(moved, runs / "straight")


def test_python_gets_typed_errors(tmp_path):
    trainer = Trainer(Config(data="ring", size=600, steps=3))
    (tmp_path / "run").mkdir()
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(RunError, match=r"cannot write to .*: No such file"):
        Run(tmp_path / "run", trainer).train(progress=False)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        mg.load(tmp_path / "none")
    with pytest.raises(RunError, match="is not a run"):
        resume(tmp_path)
