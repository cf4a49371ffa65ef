"""A run goes on to the same bits wherever it was cut: stopped, killed, or finished and extended."""

import json
import re
import shutil
import signal
import time

import numpy as np
import pytest
from run_helpers import (
    GLYPHS,
    RING,
    assert_same_run,
    assert_whole,
    cli,
    files,
    finish,
    lines_of,
    start,
    train,
    wait_for,
)

import minigan as mg
from minigan.training import checkpoint
from minigan.training.resume import load_trainer, resume
from minigan.training.signals import stop_requests


def checkpoint_step(folder):
    return mg.load(folder / "checkpoint.safetensors")[1]["step"]


# ---------------------------------------------------------------------------------- the same bits
@pytest.mark.slow
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


SIGNALS = {"SIGINT": 130, "SIGTERM": 130, "SIGKILL": -signal.SIGKILL}


@pytest.mark.parametrize("name", SIGNALS)
def test_a_stopped_or_killed_run_goes_on_to_the_same_bits(tmp_path, name):
    cut, straight = tmp_path / "cut short", tmp_path / "straight"
    # One that is asked to stop saves wherever it is; one that is killed falls back.
    every = "5" if name == "SIGKILL" else "1000000"
    words = [*RING, "--checkpoint-every", every, "--sample-every", "9"]
    process = start("train", *words, "--steps", "1000000", "--out", cut)
    wait_for(lambda: lines_of(cut) >= 3, process)

    for options in (["--resume", cut], [*words, "--steps", 1, "--out", cut]):  # it is taken
        result = cli("train", *options)
        assert result.status == 2
        assert re.search("another process is training in|is not empty", result.errors[0])

    time.sleep(float(np.random.default_rng().uniform(0, 0.1)))
    process.send_signal(getattr(signal, name))
    result = finish(process)
    assert (result.status, result.errors) == (SIGNALS[name], [])
    if name != "SIGKILL":
        assert_whole(cut)
        assert checkpoint_step(cut) >= 9
        assert f"stopped by {name} and saved" in result.out
        assert f"minigan train --resume '{cut}'" in result.out
        assert (cut / "losses.png").exists()
    steps = checkpoint_step(cut) + 12
    assert cli("train", "--resume", cut, "--steps", steps).status == 0
    assert_whole(cut)
    train(straight, *words, "--steps", steps)
    assert_same_run(cut, straight)


@pytest.mark.slow
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
    before = signal.default_int_handler
    signal.signal(signal.SIGINT, before)  # a program started in the background ignores it
    with stop_requests() as requests:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert requests == ["SIGINT", "SIGTERM"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as requests:
            signal.raise_signal(signal.SIGINT)
        assert requests == []
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


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
    return shutil.copytree(runs / "cut", tmp_path / "cut")


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
        (lambda path: path.write_text(""), "has 0 lines; the checkpoint counts 2"),
        (lambda path: path.write_text("{}\n"), "has 1 lines; the checkpoint counts 2"),
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


def test_resume_keeps_to_the_runs_own_options(cut):
    before = files(cut)
    for words, message in (
        (["--lr", 0.5], "lr_g = 0.0002 (not 0.5), lr_d = 0.0002 (not 0.5)"),
        (["--data", "grid"], "data = 'ring' (not 'grid')"),
        (["--out", "elsewhere"], "--out, --preset and --config do not go with it"),
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


def test_a_run_that_is_older_than_an_option_is_resumed(tmp_path):
    """Its checkpoint and config.json know nothing of `ema`."""
    out = tmp_path / "run"
    train(out, *RING, "--steps", 2)
    tensors, info = checkpoint.load(out / "checkpoint.safetensors")
    del info["config"]["ema"]
    checkpoint.save(out / "checkpoint.safetensors", tensors, info)
    (out / "config.json").write_text(json.dumps(info["config"]))
    assert load_trainer(out).step_count == 2
