"""Streams that fail, encodings, options that are refused or have no effect, signals, limits."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from run_helpers import ENVIRONMENT, cli, finish, lines_of, refused, run, start, train, wait_for

from minigan import Config, Trainer
from minigan.training.run import Run
from minigan.training.run_folder import new_folder
from minigan.utils.streams import MessageStream

RING = [
    "--data",
    "ring",
    "--samples",
    200,
    "--batch",
    16,
    "--device",
    "reference",
    "--log-every",
    2,
]
full_disk = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")


def _shell(command, folder, **environment):
    """Run a shell command with MINIGAN for the program; return its status, stdout and stderr."""
    words = " ".join(map(str, RING))
    text = command.replace("TRAIN", f"MINIGAN train {words} --steps 3 --out {folder}/run")
    text = text.replace("MINIGAN", f"{sys.executable} -m minigan")
    done = subprocess.run(
        ["bash", "-c", text],
        env={**ENVIRONMENT, "TQDM_DISABLE": "", **environment},
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# ----------------------------------------------------------------------------------- progress bars
@full_disk
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2> >(head -c 1 >/dev/null)"])
def test_a_progress_bar_that_cannot_be_written_ends_no_training(tmp_path, where):
    status, out, _ = _shell(f"TRAIN {where}", tmp_path)
    assert status == 0
    assert "samples: " in out
    assert (tmp_path / "run" / "losses.png").exists()


class _Broken(io.StringIO):
    def write(self, text):
        raise OSError(5, "Input/output error")

    def flush(self):
        raise BrokenPipeError


def test_a_broken_progress_bar_in_python_ends_no_training(tmp_path, monkeypatch):
    config = Config(data="ring", samples=100, batch=8, steps=3, device="reference")
    folder = new_folder(tmp_path / "run", config)
    monkeypatch.setattr(sys, "stderr", _Broken())
    assert Run(folder, Trainer(config, progress=True)).train(progress=True) is None


def test_a_message_stream_wraps_its_stream():
    stream = io.StringIO()
    message = MessageStream(MessageStream(stream))
    assert message == MessageStream(stream)
    assert message != io.StringIO()
    assert not message.isatty()
    assert (message.write("a"), stream.getvalue(), message.getvalue()) == (1, "a", "a")
    stream.close()
    assert (message.write("b"), message.flush(), message.isatty()) == (1, None, False)


# ---------------------------------------------------------------------------------------- stdout
@full_disk
def test_a_full_disk_behind_stdout_ends_no_training(tmp_path):
    status, _, err = _shell("TRAIN >/dev/full", tmp_path)
    assert status == 0
    assert err.count("note: standard output cannot be written: No space left on device") == 1
    status, _, err = _shell(f"MINIGAN sample {tmp_path}/run >/dev/full", tmp_path)
    assert (status, err.count("\n")) == (0, 1)
    assert (tmp_path / "run" / "sample_step_000003_seed_0_n_64.png").exists()
    status, _, err = _shell(f"MINIGAN info {tmp_path}/run >/dev/full", tmp_path)
    assert (status, err) == (2, "minigan info: error: [Errno 28] No space left on device\n")


def test_closed_streams_end_no_training(tmp_path):
    assert _shell("TRAIN >&- 2>&-", tmp_path)[0] == 0
    assert (tmp_path / "run" / "losses.png").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_paths_with_characters_that_the_encoding_lacks(tmp_path, environment):
    folder = tmp_path / "привет"
    words = ["train", *map(str, RING), "--steps", "2", "--out", os.fspath(folder)]
    result = run(*words, **environment)
    assert (result.status, result.errors) == (0, [])
    assert "samples/step_000002.png" in result.out
    result = run("sample", tmp_path / "нет", **environment)
    assert result.status == 2
    assert len(result.errors) == 1


def test_numba_disable_jit_is_one_line(tmp_path):
    for words in (["train", "--data", "ring", "--out", tmp_path / "run"], ["check"], ["info"]):
        result = run(*words, NUMBA_DISABLE_JIT="1")
        assert result.status == 2
        (line,) = result.errors
        assert "NUMBA_DISABLE_JIT" in line
        assert "use the device reference" in line
    words = ["train", *map(str, RING), "--steps", "2", "--out", tmp_path / "run"]
    assert run(*words, NUMBA_DISABLE_JIT="1").status == 0


# ----------------------------------------------------------------------------------- command lines
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--los", "hinge"], "unknown option '--los'; did you mean '--loss'?"),
        (["train", "--step", "5"], "unknown option '--step'; did you mean '--steps'?"),
        (["sample", "x", "--see", "1"], "did you mean '--seed'?"),
        (["evaluate", "x", "--proj", "1"], "did you mean '--projections'?"),
        (["check", "--dev", "cpu"], "did you mean '--device'?"),
        (["bench", "--rep", "1"], "unknown option '--rep'"),
    ],
)
def test_options_are_written_in_full(words, message):
    result = cli(*words)
    assert (result.status, result.out) == (2, "")
    assert message in result.errors[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimizer", "sgd", "--beta2", 0.9], "--beta2 0.9 has no effect: --optimizer sgd"),
        (["--optimizer", "rmsprop", "--beta1", 0.9], "--beta1 0.9 has no effect"),
        (["--minibatch", "stddev", "--batch", 1], "--minibatch stddev has no effect"),
    ],
)
def test_an_option_without_effect_is_noted(tmp_path, words, message):
    result = cli("train", *RING, *words, "--steps", 1, "--out", tmp_path / "run")
    assert result.status == 0
    (line,) = result.errors
    assert line.startswith(f"minigan train: note: {message}")


def test_a_schedule_that_ends_before_the_steps_is_said(tmp_path):
    words = ["--schedule", "linear", "--schedule-steps", 2, "--steps", 3, "--out", tmp_path / "run"]
    (line,) = cli("train", *RING, *words).errors
    assert line.endswith("its learning rates are 0, and the last 1 of 3 steps change nothing")


# ------------------------------------------------------------------------------ signals, divergence
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_a_closed_terminal_saves_the_run(tmp_path):
    folder = tmp_path / "run"
    words = ["train", *map(str, RING), "--steps", "1000000", "--out", folder]
    process = start(*words, "--checkpoint-every", "1000000")
    wait_for(lambda: lines_of(folder) >= 3, process)
    process.send_signal(signal.SIGHUP)
    result = finish(process)
    assert result.status == 130
    assert "stopped by SIGHUP and saved" in result.out
    assert "trained        0 of" not in cli("info", folder).out


def test_a_signal_that_nohup_ignores_stays_ignored(tmp_path):
    folder = tmp_path / "run"

    def ignore():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    words = ["train", *map(str, RING), "--steps", "1000000", "--out", folder]
    process = start(*words, before=ignore)
    wait_for(lambda: lines_of(folder) >= 2, process)
    process.send_signal(signal.SIGHUP)
    lines = lines_of(folder)
    wait_for(lambda: lines_of(folder) >= lines + 3, process)
    process.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM" in finish(process).out


def test_an_infinite_gradient_stops_the_run_without_a_line_of_metrics(tmp_path, monkeypatch):
    real = Trainer._update

    def update(trainer, reals, labels):
        output = real(trainer, reals, labels)
        if trainer.step_count == 2:
            output["gradients_g"] = [g * float("inf") for g in output["gradients_g"]]
        return output

    monkeypatch.setattr(Trainer, "_update", update)
    folder = tmp_path / "run"
    words = [*RING, "--no-capture", "--steps", 9, "--out", folder]
    complaint = refused("train", *words)
    assert "grad_norm_g became" in complaint
    assert "at step 3" in complaint
    assert f"{folder / 'checkpoint.safetensors'} is still the last good state" in complaint
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").open()] == [1]


def test_the_norm_of_large_gradients_is_finite(monkeypatch):
    """Their squares overflow in float32."""
    trainer = Trainer(Config(data="ring", samples=100, batch=8, device="reference"))
    trainer.captured = False
    real = trainer._update

    def update(reals, labels):
        output = real(reals, labels)
        output["gradients_d"] = [g * 0 + 1e30 for g in output["gradients_d"]]
        return output

    monkeypatch.setattr(trainer, "_update", update)
    count = sum(p.numpy().size for p in trainer.discriminator.parameters())
    norm = trainer.step(norms=True)["grad_norm_d"]
    assert norm == pytest.approx(1e30 * count**0.5, rel=1e-6)


# --------------------------------------------------------------------------- sizes, empty arguments
def test_sizes_are_checked_before_memory_is_taken(tmp_path):
    folder = tmp_path / "run"
    assert cli("train", *RING, "--steps", 1, "--out", folder).status == 0
    complaint = refused("sample", folder, "--n", 10**12)
    assert "at most 134,217,728 samples of this run are drawn at once" in complaint
    complaint = refused("evaluate", folder, "--projections", 10**12)
    assert "projections = 1000000000000; at most 13,421,772 are accepted" in complaint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--preset", ""], "unknown preset ''"),
        (["train", "--data", ""], "unknown data ''"),
        (["check", "--op", ""], "unknown op ''"),
        (["sample", "run", "--out", ""], "a name that ends in .png or .npz is needed"),
    ],
)
def test_an_empty_argument_is_not_a_default(words, message):
    assert message in refused(*words)


def test_names_cannot_steer_the_terminal(tmp_path):
    for i, name in enumerate(("a\x1b[31m", "b")):
        (tmp_path / "\x1b]0;data\x07" / name).mkdir(parents=True)
        picture = tmp_path / "\x1b]0;data\x07" / name / "a.png"
        Image.fromarray(np.full((8, 8), 255 * i, np.uint8)).save(picture)
    words = ["--batch", 1, "--holdout", 0, "--steps", 1, "--device", "reference"]
    result = train(tmp_path / "run", "--data", tmp_path / "\x1b]0;data\x07", *words)
    for out in (result.out, cli("info", tmp_path / "run").out):
        assert out.replace("\n", "").isprintable()
        assert "(a\\x1b[31m, b)" in out


def test_a_run_that_cannot_be_measured_is_not_advised_to_be(tmp_path):
    for holdout, is_advised in ((0, False), (0.1, True)):
        words = ["--holdout", holdout, "--steps", 1, "--device", "reference"]
        result = train(tmp_path / f"run_{holdout}", *RING, *words)
        assert ("minigan evaluate" in result.out) == is_advised


def test_a_number_of_classes_is_limited(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(9), y=np.arange(9) % 2)
    words = ["--data", tmp_path / "a.npz", "--condition", "concat", "--classes", 10**9]
    assert "classes = 1000000000 is not a positive integer of at most" in refused("train", *words)


def test_a_run_without_a_checkpoint_begins_again_with_a_notice(tmp_path):
    folder = tmp_path / "run"
    assert cli("train", *RING, "--steps", 1, "--out", folder).status == 0
    for name in ("checkpoint.safetensors", "metrics.jsonl"):
        (folder / name).unlink()
    (line,) = cli("train", "--resume", folder).errors
    assert line == f"minigan train: note: {folder} has no checkpoint: it begins at step 0"
