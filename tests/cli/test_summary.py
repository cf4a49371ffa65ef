"""What `minigan train` says before it starts, and --dry-run."""

import re

import numpy as np
import pytest
from PIL import Image
from run_helpers import cli, files, train

from minigan import Config, Trainer
from minigan.cli import summary
from minigan.data import Dataset

WORDS = ["--batch", 8, "--device", "reference", "--steps", 50]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary") / "photos"
    for name, count in (("faces", 10), ("stars", 12), ("stripes", 8)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((4, 6, 3), 23 * i, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_it_says_what_was_loaded_before_it_starts(photos, tmp_path):
    result = cli("train", "--data", photos, *WORDS, "--steps", 1, "--out", tmp_path / "run")
    lines = result.err.splitlines()
    assert "notes.txt" in lines[0]
    assert lines[1] == (
        "data: 30 images, 6x4 RGB, 3 classes (faces 10, stars 12, stripes 8), not used without"
        " --condition; 27 to train on, 3 held out"
    )
    trainer = Trainer(Config(data=str(photos), batch=8))
    sizes = [
        sum(p.size for p in net.parameters()) for net in (trainer.generator, trainer.discriminator)
    ]
    assert sizes == [194_376, 168_961]  # 100-256-512-72 and 72-512-256-1, with biases
    assert lines[2] == (
        "nets: mlp, G 194 k and D 169 k parameters; 1 steps of 8 samples on reference"
    )
    assert len(lines) == 3


def test_a_resumed_run_says_where_it_is(tmp_path):
    words = ["--data", "ring", "--samples", 100, *WORDS, "--condition", "concat", "--steps", 2]
    train(tmp_path / "run", *words, "--holdout", 0)
    result = cli("train", "--resume", tmp_path / "run", "--steps", 3)
    assert "100 points of 2 numbers, 8 classes of " in result.err
    assert "; none held out" in result.err
    assert "without --condition" not in result.err
    assert "2 of 3 steps of 8 samples" in result.err


def test_classes_of_many_sizes_and_without_names():
    labels = np.repeat(np.arange(8), [1, 2, 3, 4, 5, 6, 7, 9])
    values = np.linspace(-1, 1, 148, dtype=np.float32).reshape(37, 1, 2, 2)
    trainer = Trainer(Config(batch=8, model="mlp"), Dataset("d", values, labels))
    text = summary.describe_data(trainer)
    assert text.startswith("37 images, 2x2 grey, 8 classes of 1 to 9, not used")
    few = Dataset("d", values, labels % 2)
    assert "2 classes (0 16, 1 21)" in summary.describe_data(Trainer(Config(batch=8), few))


# ---------------------------------------------------------------------------------------- dry runs
def test_a_dry_run_times_steps_and_writes_nothing(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(summary, "SECONDS", 0)
    before = files(tmp_path)
    for words in ([], ["--out", tmp_path / "run"], ["--seeds", "3,4"]):
        result = cli("train", "--data", photos, *WORDS, *words, "--dry-run")
        assert (result.status, result.out) == (0, "")
        last = result.err.splitlines()[-1]
        assert re.fullmatch(r"time: about \d+ s for 50 steps of [\d.e-]+ s, without pictures", last)
        assert ("runs: 2, " in result.err) == ("--seeds" in words)
    assert files(tmp_path) == before
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_run_that_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "SECONDS", 0)
    train(tmp_path / "run", "--data", "ring", "--samples", 100, *WORDS, "--steps", 4)
    before = files(tmp_path)
    result = cli("train", "--resume", tmp_path / "run", "--steps", 10, "--dry-run")
    assert result.status == 0
    assert "for 6 steps of" in result.err
    assert files(tmp_path) == before


def test_the_time_is_that_of_the_steps_after_the_first(monkeypatch):
    clock = [0.0]

    class Steps:
        count = 0

        def step(self):
            self.count += 1
            clock[0] += 9.0 if self.count <= summary.WARM_UP else 0.5

    monkeypatch.setattr(summary.time, "perf_counter", lambda: clock[0])
    steps = Steps()
    assert summary.seconds_per_step(steps) == 0.5
    assert steps.count == summary.WARM_UP + 4  # two seconds of them


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.01, "1 s"), (42, "42 s"), (99, "99 s"), (100, "2 min"), (720, "12 min"), (9000, "2.5 h")],
)
def test_durations(seconds, text):
    assert summary.describe_seconds(seconds) == text


@pytest.mark.parametrize(("n", "text"), [(950, "950"), (16_770, "17 k"), (1_740_000, "1.7 M")])
def test_counts(n, text):
    assert summary.describe_count(n) == text
