"""`minigan train --seeds`: a run per seed, each as it is alone, and what they come to."""

import json
import os
import signal
import time

import joblib
import pytest
from PIL import Image
from run_helpers import RING, cli, finish, fresh_signals, lines_of, refused, start, train, wait_for

from minigan.evaluation.estimate import Estimate
from minigan.kernels.runtime.files import atomic_write
from minigan.training.resume import load_trainer
from minigan.training.seed_runs import parse_seeds
from minigan.training.signals import POLL_SECONDS, stopped_with
from minigan.training.trainer import Trainer

SMALL = [*RING, "--steps", 9, "--batch", 16]


def files(run):
    """What is the same in any run of these options, by name: speed is not."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["steps_per_second"]
    # A PNG holds the name of its run, so the pixels are compared.
    pictures = {path.name: Image.open(path).tobytes() for path in run.glob("samples/*")}
    names = ("checkpoint.safetensors", "config.json")
    return {"metrics": rows} | pictures | {name: (run / name).read_bytes() for name in names}


def test_each_run_is_the_one_of_that_seed_alone_and_their_mean_is_printed(tmp_path):
    result = train(tmp_path / "all", *SMALL, "--seeds", "3,0")
    evaluated = []
    for seed in (3, 0):
        alone, among = tmp_path / f"alone_{seed}", tmp_path / "all" / f"seed_{seed}"
        train(alone, *SMALL, "--seed", seed)
        assert files(alone) == files(among)
        assert (among / "losses.png").is_file()
        output = cli("evaluate", alone, "--only", "quick", "--json").out
        evaluated.append(json.loads(output)["measures"])
    lines = result.out.splitlines()
    assert lines[0] == f"seed 3: {tmp_path / 'all' / 'seed_3'}"
    assert lines[1] == f"seed 0: {tmp_path / 'all' / 'seed_0'}"
    assert lines[2] == "step 9, 2 seeds, mean +- standard error over seeds"
    mean = Estimate.of([row[0]["value"] for row in evaluated])
    assert lines[4].split("  ")[1:2] == ["sliced Wasserstein distance"]
    assert f" 60  {mean} " in lines[4]
    assert len(lines) == 4 + len(evaluated[0])
    assert "last step" in cli("train", "--resume", tmp_path / "all" / "seed_0").out


def test_folders_are_the_next_ones_in_the_order_of_the_seeds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = cli("train", *SMALL, "--device", "reference", "--holdout", 0, "--seeds", "7-8")
    assert (result.status, result.errors) == (0, [])
    assert result.out == "seed 7: runs/001-ring-toy\nseed 8: runs/002-ring-toy\n"
    for seed, folder in ((7, "001-ring-toy"), (8, "002-ring-toy")):
        assert json.loads((tmp_path / "runs" / folder / "config.json").read_text())["seed"] == seed


def test_what_does_not_go_together_is_said_in_a_line(tmp_path):
    assert "--seed does not go with it" in refused("train", "--seeds", "0-1", "--seed", "3")
    assert "--resume does not go with it" in refused("train", "--seeds", "0", "--resume", tmp_path)
    assert "seeds such as 0-9 or 0,3,5" in refused("train", "--seeds", "0-x")
    assert "batch = 90000" in refused("train", *RING, "--batch", 90_000, "--seeds", "0-1")
    assert not list(tmp_path.iterdir())
    (tmp_path / "seed_1").mkdir()
    (tmp_path / "seed_1" / "file").touch()
    assert "seed_1 is not empty" in refused("train", *RING, "--seeds", "0-1", "--out", tmp_path)
    assert not (tmp_path / "seed_0").exists()


def test_a_run_that_fails_is_named(tmp_path):
    words = ["--optimizer", "sgd", "--lr", "1e30", "--device", "reference", "--seeds", "4,5"]
    text = refused("train", *SMALL, *words, "--out", tmp_path / "run")
    assert "seed 4: DivergedError: " in text or "seed 5: DivergedError: " in text
    assert "is still the last good state" in text


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-3", [0, 1, 2, 3]), ("5", [5]), ("3,0", [3, 0]), ("0-1, 7", [0, 1, 7]), ("9-9", [9])],
)
def test_lists_of_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        *((text, "seeds such as") for text in ("", ",", "1,", "-1", "1-", "a", "1.5", "0--2")),
        ("3-1", "no range"),
        ("0-10000", "no range"),
        ("0-3,2", "named twice"),
    ],
)
def test_what_is_no_list_of_seeds(text, complaint):
    with pytest.raises(ValueError, match=f"^--seeds {text}: .*{complaint}"):
        parse_seeds(text)


def test_a_signal_stops_the_run_and_no_other_begins(tmp_path, monkeypatch):
    step = Trainer.step

    def step_with_signal(self, norms=False):
        row = step(self, norms)
        if self.step_count == 3:
            signal.raise_signal(signal.SIGTERM)
        return row

    monkeypatch.setattr(Trainer, "step", step_with_signal)
    with joblib.parallel_config(n_jobs=1):
        result = cli("train", *SMALL, "--device", "reference", "--seeds", "0-1", "--out", tmp_path)
    assert (result.status, result.errors) == (130, [])
    assert result.out.splitlines() == [
        f"seed 0: {tmp_path}/seed_0  stopped by SIGTERM and saved; go on with: minigan train"
        f" --resume {tmp_path}/seed_0",
        f"seed 1: {tmp_path}/seed_1  not begun; train it with --seed 1 --out {tmp_path}/seed_1",
    ]
    assert load_trainer(tmp_path / "seed_0").step_count == 3
    assert not (tmp_path / "seed_1" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("send", "name"),
    [(os.kill, "SIGTERM"), (os.killpg, "SIGINT"), (os.killpg, "SIGTERM")],
    ids=["the parent", "Ctrl-C in a terminal", "all processes"],
)
def test_a_signal_stops_and_saves_the_runs_of_all_workers(tmp_path, send, name):
    words = ["--steps", "1000000", "--device", "reference", "--seeds", "0-8", "--out", tmp_path]
    process = start("train", *RING, *words, before=lambda: (fresh_signals(), os.setsid()))
    wait_for(lambda: lines_of(tmp_path / "seed_0") >= 2, process)
    send(process.pid, getattr(signal, name))
    result = finish(process)
    assert result.status == 130
    lines = result.out.splitlines()
    assert len(lines) == 9
    assert f"seed_0  stopped by {name} and saved" in lines[0]
    assert "seed_8  not begun" in lines[8]
    assert load_trainer(tmp_path / "seed_0").step_count > 0


def test_a_worker_stops_with_its_parent(tmp_path):
    for parent, text in ((os.getppid(), "SIGTERM"), (-1, "the end of its parent process")):
        requests = []
        with stopped_with(parent, tmp_path / "stop", requests):
            time.sleep(2 * POLL_SECONDS)
            if parent == os.getppid():
                assert requests == []
                # In one step, as a run does: the watcher must not see an empty file.
                atomic_write(tmp_path / "stop", lambda file: file.write(b"SIGTERM"))
            wait_until = time.monotonic() + 10
            while not requests and time.monotonic() < wait_until:
                time.sleep(POLL_SECONDS / 10)
        assert requests == [text]
        (tmp_path / "stop").unlink(missing_ok=True)


def test_a_list_of_seeds_that_is_too_large_makes_no_folder(tmp_path):
    text = refused("train", *SMALL, "--seeds", f"0,{2**64}", "--out", tmp_path / "run")
    assert "--seeds 0,18446744073709551616: seeds below 2^64" in text
    assert not (tmp_path / "run").exists()
