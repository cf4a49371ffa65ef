"""Run folders: what they hold, and that a run goes on to the same bits wherever it was cut."""

import json
import math
import os
import re
import shutil
import signal
import threading
import time
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
    finish,
    lines_of,
    metrics,
    run,
    sha256,
    start,
    train,
    wait_for,
)

import minigan as mg
from minigan import Config, Trainer
from minigan.folder import RunError, locked, new_folder, read_config
from minigan.run import Run, _stop_requests, load_trainer, resume

KEYS = ["step", "loss_d", "loss_g", "d_real", "d_fake", "grad_norm_d", "grad_norm_g"]
GLYPHS = ["--data", "glyphs", "--size", 80, "--batch", 16, "--log-every", 2]


def checkpoint_step(folder):
    return mg.load(folder / "checkpoint.safetensors")[1]["step"]


# --------------------------------------------------------------------------- what a folder holds
def test_a_folder_of_points(tmp_path):
    folder = tmp_path / "run"
    result = train(folder, *RING, "--steps", 30, "--sample-every", 10)
    names = {"config.json", "metrics.jsonl", "losses.png", "checkpoint.safetensors"}
    pictures = {f"samples/step_{step:06d}.png" for step in (0, 10, 20, 30)}
    assert set(files(folder)) == names | pictures
    for name in [*pictures, "losses.png"]:
        pixels = np.asarray(Image.open(folder / name))
        assert pixels.shape[:2] == ((480, 840) if name == "losses.png" else (600, 600))
        assert pixels.std() > 5
    assert len({sha256(folder / name) for name in pictures}) == 4
    assert str(folder / "samples/step_000030.png") in result.out
    assert str(folder / "losses.png") in result.out
    assert f"minigan evaluate {folder}" in result.out


def test_a_folder_of_images(tmp_path):
    train(tmp_path / "run", *GLYPHS, "--steps", 3)
    for step in (0, 3):
        picture = Image.open(tmp_path / "run" / "samples" / f"step_{step:06d}.png")
        assert (picture.mode, picture.size) == ("L", (2 * (8 * 29 + 1),) * 2)
        assert np.asarray(picture).std() > 5


def test_metrics_are_flat_rows_with_the_first_and_the_last_step(tmp_path):
    train(tmp_path / "run", *RING, "--steps", 30)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 8, 15, 22, 29, 30]
    for row in rows:
        assert list(row) == [*KEYS, "steps_per_second"]
        assert all(isinstance(x, int | float) and math.isfinite(x) for x in row.values())
        assert row["steps_per_second"] > 0


def test_config_round_trip(tmp_path):
    words = ["--latent", "laplace", "--lr", 0.001, "--lr-g", 0.002, "--n-critic", 2, "--seed", 9]
    train(tmp_path / "run", *RING, *words, "--steps", 1, "--loss", "minimax")
    config = read_config(tmp_path / "run")
    expected = {"data": "ring", "model": "toy", "latent_size": 2, "latent": "laplace", "seed": 9}
    expected |= {"lr_g": 0.002, "lr_d": 0.001, "n_critic": 2, "loss": "minimax", "steps": 1}
    assert expected.items() <= config.as_dict().items()
    assert Config(**json.loads((tmp_path / "run" / "config.json").read_text())) == config


def test_runs_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "1041-old").mkdir(parents=True)
    (tmp_path / "runs" / "notes²").mkdir()
    for _ in range(2):
        result = cli("train", *RING, "--steps", "1")
        assert result.status == 0
    assert (tmp_path / "runs" / "1042-ring-toy" / "losses.png").exists()
    assert "runs/1043-ring-toy/samples/step_000001.png" in result.out


def test_two_that_start_together_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(data="ring", model="toy")
    folders = [new_folder(None, config) for _ in range(5)]
    assert len(set(folders)) == 5


def test_points_of_one_and_of_five_dimensions(tmp_path, rng):
    for width in (1, 5):
        np.savez(tmp_path / f"{width}.npz", x=rng.standard_normal((90, width)))
        folder = tmp_path / str(width)
        train(folder, "--data", tmp_path / f"{width}.npz", "--steps", 1)
        assert np.asarray(Image.open(folder / "samples" / "step_000001.png")).std() > 5
        assert cli("sample", folder, "--out", tmp_path / "s.npz", "--n", 3).status == 0
        assert np.load(tmp_path / "s.npz")["samples"].shape == (3, width)


def test_data_without_spread_draws_no_warning(tmp_path):
    np.savez(tmp_path / "zero.npz", x=np.zeros((90, 2)))
    train(tmp_path / "run", "--data", tmp_path / "zero.npz", "--steps", 1)


# ---------------------------------------------------------------------------------- the same bits
@pytest.mark.parametrize(
    "options",
    [
        RING,
        [*RING, "--n-critic", 2, "--latent", "uniform", "--smooth", 0.9, "--batch", 70],
        [*RING, "--n-generator", 2, "--latent", "laplace", "--loss", "leastsquares"],
        [*RING, "--loss", "minimax", "--device", "reference", "--model", "mlp"],
        [*GLYPHS, "--model", "mlp-dropout"],
        [*GLYPHS, "--preset", "keras-mlp", "--n-critic", 2],
    ],
    ids=["ring", "critic", "generator", "reference", "dropout", "preset"],
)
def test_a_finished_run_extended_is_a_longer_run(tmp_path, options):
    a, b = tmp_path / "a", tmp_path / "b"
    train(a, *options, "--steps", 9)
    train(b, *options, "--steps", 4)
    finished = files(b)
    for _ in range(2):  # there is nothing to do, and nothing changes
        result = cli("train", "--resume", b)
        assert (result.status, result.errors) == (0, [])
        assert "--steps can extend it" in result.out
        assert files(b) == finished
    assert cli("train", "--resume", b, "--steps", 6).status == 0
    assert cli("train", "--resume", b, "--steps", 9).status == 0
    assert_same_run(a, b)


def test_the_same_command_is_the_same_folder(tmp_path):
    for name in "ab":
        train(tmp_path / name, *RING, "--steps", 15)
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert a.keys() == b.keys()
    assert {name for name in a if a[name] != b[name]} <= {"metrics.jsonl"}
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_pictures_and_checkpoints_never_change_training(tmp_path):
    train(tmp_path / "a", *RING, "--steps", 5)
    often = [*RING, "--steps", 5, "--sample-every", 1, "--checkpoint-every", 2, "--log-every", 1]
    train(tmp_path / "b", *often)
    (a, info_a), (b, info_b) = (mg.load(tmp_path / x / "checkpoint.safetensors") for x in "ab")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert info_a["random"] == info_b["random"]
    assert len(list((tmp_path / "b" / "samples").iterdir())) == 6


SIGNALS = {"SIGINT": 130, "SIGTERM": 130, "SIGKILL": -signal.SIGKILL}


@pytest.mark.parametrize("name", SIGNALS)
def test_a_stopped_or_killed_run_goes_on_to_the_same_bits(tmp_path, name):
    cut, straight = tmp_path / "cut short", tmp_path / "straight"
    words = [*RING, "--checkpoint-every", "5", "--sample-every", "9"]
    process = start("train", *words, "--steps", "1000000", "--out", cut)
    wait_for(lambda: lines_of(cut) >= 3, process)

    for options in (["--resume", cut], [*words, "--steps", 1, "--out", cut]):  # it is taken
        result = cli("train", *options)
        assert result.status == 2
        assert re.search("another process is training in|is in use", result.errors[0])

    time.sleep(float(np.random.default_rng().uniform(0, 0.1)))
    process.send_signal(getattr(signal, name))
    result = finish(process)
    assert (result.status, result.errors) == (SIGNALS[name], [])
    if name != "SIGKILL":
        assert_whole(cut)
        assert f"stopped by {name} and saved" in result.out
        assert f"minigan train --resume '{cut}'" in result.out
        assert (cut / "losses.png").exists()
    steps = checkpoint_step(cut) + 12
    assert cli("train", "--resume", cut, "--steps", steps).status == 0
    assert_whole(cut)
    train(straight, *words, "--steps", steps)
    assert_same_run(cut, straight)


def test_control_c_twice(tmp_path):
    process = start("train", *RING, "--steps", "1000000", "--out", tmp_path / "run")
    wait_for(lambda: lines_of(tmp_path / "run") >= 2, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.003)
    process.send_signal(signal.SIGINT)
    result = finish(process)
    # The second one comes while it saves, or when it is nearly gone.
    assert result.status in (130, -signal.SIGINT)
    assert len(result.errors) <= 2 or result.status == -signal.SIGINT
    assert_whole(tmp_path / "run")
    assert load_trainer(tmp_path / "run").step_count >= 0


def test_the_first_signal_asks_and_the_second_acts():
    before = signal.getsignal(signal.SIGINT)
    with _stop_requests() as requests:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert requests == ["SIGINT", "SIGTERM"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _stop_requests() as requests:
            signal.raise_signal(signal.SIGINT)
        assert requests == []
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_a_python_thread(tmp_path):
    config = Config(data="ring", size=600, steps=9, log_every=7)

    def work():
        folder = new_folder(tmp_path / "thread", config)
        assert Run(folder, Trainer(config)).train(progress=False) is None

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    train(tmp_path / "main", *RING, "--steps", 9)
    a, b = (mg.load(tmp_path / x / "checkpoint.safetensors")[0] for x in ("thread", "main"))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert metrics(tmp_path / "thread") == metrics(tmp_path / "main")


# ----------------------------------------------------------------------- killed between two files
@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of 10 steps and one of 20."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "cut", *RING, "--steps", 10)
    train(folder / "straight", *RING, "--steps", 20)
    return folder


@pytest.fixture
def straight(runs):
    return runs / "straight"


@pytest.fixture
def cut(runs, tmp_path):
    """A copy of the shorter one, to play with."""
    return Path(shutil.copytree(runs / "cut", tmp_path / "cut"))


def test_what_was_written_after_the_checkpoint_is_written_again(cut, straight):
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "loss_d": 0.1}\n{"step": 2')
    assert cli("train", "--resume", cut, "--steps", 20).status == 0
    assert_same_run(cut, straight)


def test_what_a_killed_writer_left_is_removed(cut, straight):
    leftovers = ["checkpoint.safetensors", "config.json", "samples/step_000010.png", "losses.png"]
    for name in leftovers:
        (cut / f"{name}.0123456789ab.tmp").write_bytes(b"half")
    (cut / "mine.tmp").write_bytes(b"a user's own")
    assert cli("train", "--resume", cut, "--steps", 20).status == 0
    assert [p.name for p in cut.rglob("*.tmp")] == ["mine.tmp"]
    assert_same_run(cut, straight)


@pytest.mark.parametrize("kept", [["config.json"], ["config.json", "samples/step_000000.png"]])
def test_killed_before_the_first_checkpoint(cut, straight, kept):
    for name in files(cut):
        if name not in kept:
            (cut / name).unlink()
    assert cli("train", "--resume", cut, "--steps", 20).status == 0
    assert_same_run(cut, straight)


def test_killed_before_the_first_file(tmp_path):
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / "config.json.0123456789ab.tmp").touch()
    train(tmp_path / "run", *RING, "--steps", 1)
    assert_whole(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), r"metrics.jsonl is gone; it had 2 lines at the checkpoint"),
        (lambda path: path.write_text(""), "has 0 lines; the checkpoint knows of 2"),
        (lambda path: path.write_text("{}\n"), "has 1 lines; the checkpoint knows of 2"),
        (lambda path: path.write_text("{}\n{}\n{}\n"), "metrics.jsonl cannot be read: 'step'"),
        (lambda path: path.write_text("a\nb\nc\n"), "metrics.jsonl cannot be read: Expecting"),
        (lambda path: path.write_text("[]\n3\n4\n"), "metrics.jsonl cannot be read: "),
    ],
)
def test_metrics_that_are_not_those_of_the_checkpoint(cut, change, message):
    change(cut / "metrics.jsonl")
    before = files(cut)
    result = cli("train", "--resume", cut, "--steps", 20)
    assert result.status == 2
    assert len(result.errors) == 1
    assert re.search(message, result.errors[0])
    assert files(cut) == before
    assert checkpoint_step(cut) == 10


# ---------------------------------------------------------------------------------------- and more
def test_a_lock_goes_with_its_holder(tmp_path):
    again = pytest.raises(RunError, match="another process is training")
    with locked(tmp_path), again, locked(tmp_path):
        pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        1 / 0  # noqa: B018
    with locked(tmp_path):
        pass


def test_resume_keeps_to_the_runs_own_options(cut):
    before = files(cut)
    for words, message in (
        (["--lr", 0.5], "lr_g = 0.0002 (not 0.5), lr_d = 0.0002 (not 0.5)"),
        (["--data", "grid"], "data = 'ring' (not 'grid')"),
        (["--out", "elsewhere"], "--out and --preset do not go with it"),
        (["--steps", 4], "is at step 10 already, beyond 4"),
        (["--steps", 0], "steps = 0 is not a positive integer"),
    ):
        result = cli("train", "--resume", cut, *words)
        assert result.status == 2
        assert len(result.errors) == 1
        assert message in result.errors[0]
    assert files(cut) == before
    assert cli("train", "--resume", cut, "--data", "ring", "--seed", 0).status == 0


def test_python_resumes_too(cut, straight):
    run_ = resume(cut, steps=20)
    assert run_.train(progress=False) is None
    assert_same_run(cut, straight)


def test_memory_stays_flat(tmp_path):
    """Several thousand steps later the process is as large as after the first hundreds."""
    statm = "/proc/self/statm"
    if not os.path.exists(statm):
        pytest.skip("no /proc on this system")

    def megabytes():
        with open(statm) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    trainer = Trainer(Config(data="ring", size=600, batch=16))
    for _ in range(300):
        trainer.step(norms=True)
    before = megabytes()
    for _ in range(1500):
        trainer.step(norms=True)
    assert megabytes() - before < 8  # a graph kept from each step would be 100


def test_a_whole_run_in_a_real_process_with_progress(tmp_path):
    words = ["--data", "ring", "--size", "600", "--steps", "120", "--log-every", "1"]
    result = run("train", *words, "--out", tmp_path / "run", CI="")
    assert result.status == 0
    text = " ".join(result.errors)
    assert "ring toy: 100%" in text
    assert "120/120" in text
    assert re.search(r"D \d\.\d{3}  G \d\.\d{3}  D is right on \d+% real \d+% fake", text)
