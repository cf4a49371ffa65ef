"""The quality that a run measures: right values, and no influence on the training."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from run_helpers import cli, refused, train

from minigan import Config, Trainer
from minigan.data import Dataset
from minigan.metrics import sliced_wasserstein
from minigan.training.quality import MAX_NUMBERS, Quality
from minigan.training.resume import load_trainer

RING = ["--data", "ring", "--samples", 400, "--batch", 16, "--device", "reference"]
RING += ["--log-every", 5, "--checkpoint-every", 4]
NOWHERE = Path("/nonexistent/quality.jsonl")


class SizedData:
    """Data of any size that take no memory."""

    def __init__(self, values):
        self.values, self.sample_shape = values, values.shape[1:]

    def __len__(self):
        return len(self.values)


def rows(folder):
    return [json.loads(line) for line in (folder / "quality.jsonl").open()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality") / "run"
    train(folder, *RING, "--steps", 10, "--sample-every", 3, "--condition", "concat")
    return folder


def test_there_is_a_line_for_each_picture_of_samples(finished):
    assert [row["step"] for row in rows(finished)] == [0, 3, 6, 9, 10]
    assert len({row["floor"] for row in rows(finished)}) == 1
    assert len({row["sliced_wasserstein"] for row in rows(finished)}) == 5


def test_the_values_are_those_of_the_distance(finished):
    trainer = load_trainer(finished)
    order = [np.random.Generator(np.random.Philox(0)).permutation(n) for n in (40, 360)]
    held_out = trainer.held_out.subset(order[0])
    samples = trainer.sample(40, 0, held_out.labels)
    last = rows(finished)[-1]
    expected = sliced_wasserstein(samples, held_out.values, 64)
    assert last["sliced_wasserstein"] == expected
    floors = [
        sliced_wasserstein(trainer.data.values[order[1][40 * k : 40 * k + 40]], held_out.values, 64)
        for k in range(5)
    ]
    assert last["floor"] == pytest.approx(np.mean(floors), rel=1e-12)
    assert last["floor"] < 0.5 * last["sliced_wasserstein"]


def test_real_data_are_at_the_floor_and_their_negative_is_not(rng):
    data = Dataset("d", rng.standard_normal((2000, 2)).astype(np.float32) + 3)
    trainer = Trainer(Config(steps=1, device="reference"), data)
    quality = Quality(NOWHERE, trainer)
    assert quality.samples == 200
    trainer.sample = lambda n, **other: trainer.data.values[:n]
    row = quality.measure()
    assert 0.5 < row["sliced_wasserstein"] / row["floor"] < 2
    trainer.sample = lambda n, **other: -trainer.data.values[:n]
    assert quality.measure()["sliced_wasserstein"] > 10 * row["floor"]


def test_large_images_are_measured_by_fewer():
    def samples(size, held_out, train):
        data, other = (
            np.broadcast_to(np.float32(0), (n, 1, size, size)) for n in (train, held_out)
        )
        trainer = SimpleNamespace(data=SizedData(data), held_out=SizedData(other), step_count=0)
        return Quality(NOWHERE, trainer).samples

    assert samples(28, 2000, 18_000) == 256
    assert samples(28, 20, 18_000) == 20
    assert samples(512, 2000, 18_000) == MAX_NUMBERS // 512**2 == 64
    assert samples(8192, 2000, 18_000) == 1


def test_without_held_out_data_there_is_no_file(tmp_path):
    train(tmp_path / "run", *RING, "--steps", 2, "--holdout", 0)
    assert not (tmp_path / "run" / "quality.jsonl").exists()


def test_a_stopped_run_measures_the_same(finished, tmp_path):
    """Cut after step 6: later lines, and half a line, are written again."""
    cut = tmp_path / "cut"
    train(cut, *RING, "--steps", 6, "--sample-every", 3, "--condition", "concat")
    with (cut / "quality.jsonl").open("a") as file:
        file.write('{"step": 9, "sliced_wasserstein": 0.5, "floor": 0.1}\n{"step": 1')
    assert cli("train", "--resume", cut, "--steps", 10).status == 0
    assert (cut / "quality.jsonl").read_bytes() == (finished / "quality.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"step": 0}\n{"step": 3}\n', "'sliced_wasserstein' is missing in a line"),
        ('{"step": 3, "sliced_wasserstein": 1, "floor": null}\n{}\n', "a line holds null"),
        ("\n[]\n", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named_and_can_be_removed(finished, tmp_path, text, message):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "quality.jsonl").write_text(text)
    line = refused("train", "--resume", run, "--steps", 12)
    assert message in line
    assert f"{run / 'quality.jsonl'} cannot be read" in line
    assert line.endswith("without it the run goes on")
    (run / "quality.jsonl").unlink()
    assert cli("train", "--resume", run, "--steps", 12).status == 0
    assert [row["step"] for row in rows(run)] == [12]
