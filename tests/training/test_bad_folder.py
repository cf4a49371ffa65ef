"""Run folders that are broken, in use, not writable, or on a full disk: nothing is lost."""

import os
import shutil
import subprocess

import numpy as np
import pytest
from run_helpers import (
    RING,
    assert_same_run,
    assert_whole,
    cli,
    complaint_of,
    files,
    refused,
    run,
    sha256,
    small_files,
    train,
)

import minigan as mg
from minigan import Config, Trainer
from minigan.training.checkpoint import CheckpointError
from minigan.training.resume import load_trainer, resume
from minigan.training.run import Run
from minigan.training.run_folder import RunError, new_folder, read_config


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
    return shutil.copytree(runs / "run", tmp_path / "run")


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
        (a_run, f"is not empty; give another --out, or --resume {a_run} to continue"),
        (tmp_path / "full", "is not empty"),
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


def test_folders_without_permission(tmp_path, a_run, monkeypatch):
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write everywhere")
    monkeypatch.chdir(tmp_path / "locked")
    assert "cannot write" in refused("train", *RING, "--steps", 1)
    assert "cannot write" in refused("train", *RING, "--steps", 1, "--out", "here")
    a_run.chmod(0o500)
    assert "cannot write" in refused("train", "--resume", a_run, "--steps", 12)
    a_run.chmod(0o700)


def test_a_full_disk_while_saving(runs, a_run):
    before = sha256(a_run / "checkpoint.safetensors")
    result = run("train", "--resume", a_run, "--steps", "20", before=small_files)
    complaint = complaint_of(result, "train")
    assert f"cannot write to {a_run}: File too large" in complaint
    assert "checkpoint.safetensors is still the last good state" in complaint
    assert sha256(a_run / "checkpoint.safetensors") == before
    assert_whole(a_run)
    assert cli("train", "--resume", a_run, "--steps", 20).status == 0
    assert_same_run(a_run, runs / "straight")


def test_a_full_disk_at_the_first_checkpoint(runs, tmp_path):
    folder = tmp_path / "run"
    result = run("train", *RING, "--steps", "20", "--out", folder, before=small_files)
    complaint = complaint_of(result, "train")
    reason = f"cannot write to {folder}: File too large (checkpoint.safetensors)"
    assert f"{reason}; there is no checkpoint yet" in complaint
    assert_whole(folder)
    assert cli("train", "--resume", folder).status == 0
    assert_same_run(folder, runs / "straight")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 900 kB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", place]
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
    note, error = cli("sample", folder, "--out", folder / "s.npz", "--n", 50_000).errors
    assert "of step 10; its training is at step 20" in note
    assert "No space left" in error
    assert_whole(folder)
    moved = shutil.move(folder, small_disk.parent / "moved")
    assert cli("train", "--resume", moved, "--steps", 20).status == 0
    assert_same_run(moved, runs / "straight")


@pytest.mark.parametrize("name", ["samples", "losses.png", ".lock"])
def test_the_file_that_cannot_be_written_is_named(a_run, name):
    if name == "samples":
        shutil.rmtree(a_run / name)
        (a_run / name).touch()
    else:
        (a_run / name).unlink()
        (a_run / name).mkdir()
    complaint = refused("train", "--resume", a_run, "--steps", 20)
    assert f"cannot write to {a_run}: " in complaint
    assert f" ({name})" in complaint


def test_a_run_that_was_moved_during_the_training(tmp_path, monkeypatch):
    trainer = Trainer(Config(data="ring", samples=600, steps=3, device="reference"))
    (tmp_path / "run").mkdir()
    run = Run(tmp_path / "run", trainer)
    monkeypatch.setattr(run, "_log", lambda *x: (tmp_path / "run").rename(tmp_path / "moved"))
    with pytest.raises(RunError, match=r"run was moved or removed during the training$"):
        run.train(progress=False)
    assert load_trainer(tmp_path / "moved").step_count == 0


def test_a_link_to_nothing_is_no_folder_to_train_in(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    complaint = refused("train", *RING, "--out", tmp_path / "link")
    assert "link is a link to nowhere, which does not exist" in complaint


def test_python_gets_typed_errors(tmp_path):
    trainer = Trainer(Config(data="ring", samples=600, steps=3))
    (tmp_path / "run").mkdir()
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(RunError, match=r"cannot write to .*: No such file"):
        Run(tmp_path / "run", trainer).train(progress=False)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        mg.load(tmp_path / "none")
    with pytest.raises(RunError, match="is not a run"):
        resume(tmp_path)
