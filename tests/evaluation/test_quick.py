"""The quick measures of a training: right values in metrics.jsonl, and no influence on it."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from run_helpers import assert_same_run, cli, lines, metrics, refused, sha256, train

import minigan as mg
from minigan import Config, Trainer
from minigan.data import Dataset
from minigan.evaluation.quick import MAX_NUMBERS, QuickMeasures
from minigan.metrics import mixture_quality, sliced_wasserstein
from minigan.training.best import read_best
from minigan.training.load_sampler import load_sampler
from minigan.training.resume import load_trainer

RING = ["--data", "ring", "--samples", 400, "--batch", 16, "--device", "reference"]
RING += ["--log-every", 5, "--checkpoint-every", 4, "--condition", "concat", "--lr", 0.02]
DISTANCE = "sliced_wasserstein_n40"


class SizedData:
    """Data of any size that take no memory."""

    modes = sigma = None

    def __init__(self, values):
        self.values, self.sample_shape = values, values.shape[1:]

    def __len__(self):
        return len(self.values)


def measured(folder):
    return {row["step"]: row[DISTANCE] for row in metrics(folder) if DISTANCE in row}


def best_of(folder):
    return read_best(folder / "best.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick") / "run"
    train(folder, *RING, "--steps", 10, "--evaluate-every", 3)
    return folder


# ---------------------------------------------------------------------------------------- values
def test_measured_steps_have_a_line_with_all_losses(finished):
    rows = metrics(finished)
    assert [row["step"] for row in rows] == [1, 3, 6, 9, 10]  # 1 and 6 are those of log_every
    assert list(measured(finished)) == [3, 6, 9, 10]
    assert all("grad_norm_d" in row for row in rows)
    assert len({row.get(DISTANCE + "_floor") for row in rows}) == 2  # and None
    assert len(set(measured(finished).values())) == 4


def test_the_values_are_those_of_the_metrics(finished):
    trainer = load_trainer(finished)
    order = [np.random.Generator(np.random.Philox(0)).permutation(n) for n in (40, 360)]
    held_out = trainer.held_out.subset(order[0])
    samples = trainer.sample(40, 0, held_out.labels)
    last = metrics(finished)[-1]
    assert last[DISTANCE] == sliced_wasserstein(samples, held_out.values, 64)
    # Real samples have the labels of the generated ones: the next ones of each class.
    ordered = trainer.data.subset(order[1])
    parts = [np.empty((40, 2), np.float32) for _ in range(5)]
    for label in range(8):
        is_label = held_out.labels == label
        n, values = is_label.sum(), ordered.values[ordered.labels == label]
        for k, part in enumerate(parts):
            part[is_label] = np.take(values, np.arange(k * n, (k + 1) * n), axis=0, mode="wrap")
    floors = [sliced_wasserstein(part, held_out.values, 64) for part in parts]
    assert last[DISTANCE + "_floor"] == pytest.approx(np.mean(floors), rel=1e-12)
    assert last[DISTANCE + "_floor"] < 0.5 * last[DISTANCE]
    quality = mixture_quality(trainer.sample(2500), trainer.data.modes, trainer.data.sigma)
    assert last["modes_n2500"] == quality.modes
    assert last["high_quality_n2500"] == quality.high_quality
    assert last["kl_n2500"] == quality.kl


def test_real_data_are_at_the_floor_and_their_negative_is_not(rng):
    data = Dataset("d", rng.standard_normal((2000, 2)).astype(np.float32) + 3)
    trainer = Trainer(Config(steps=1, device="reference"), data)
    measures = QuickMeasures(trainer)
    assert measures.criterion == measures.distance == "sliced_wasserstein_n200"
    trainer.sample = lambda n, **other: trainer.data.values[:n]
    row = measures.measure()
    assert 0.5 < row["sliced_wasserstein_n200"] / row["sliced_wasserstein_n200_floor"] < 2
    trainer.sample = lambda n, **other: -trainer.data.values[:n]
    assert measures.measure()["sliced_wasserstein_n200"] > 10 * row["sliced_wasserstein_n200_floor"]


def test_numbers_of_images_that_are_out_of_range_are_counted():
    data = Dataset("d", np.linspace(-1, 1, 160).reshape(40, 1, 2, 2))
    trainer = Trainer(Config(steps=1, batch=8, holdout=0, device="reference"), data)
    trainer.sample = lambda n, **other: np.tile(np.float32([[1, -1], [1.01, 0]]), (n, 1, 1, 1))
    assert QuickMeasures(trainer).measure() == {"out_of_range_n40": 0.25}


def test_large_images_are_measured_by_fewer():
    def samples(size, held_out, train):
        data, other = (
            np.broadcast_to(np.float32(0), (n, 1, size, size)) for n in (train, held_out)
        )
        trainer = SimpleNamespace(data=SizedData(data), held_out=SizedData(other), step_count=0)
        return QuickMeasures(trainer).samples

    assert samples(28, 2000, 18_000) == 1000
    assert samples(28, 20, 18_000) == 20
    assert samples(512, 2000, 18_000) == MAX_NUMBERS // 512**2 == 64
    assert samples(8192, 2000, 18_000) == 1


def test_they_do_not_change_the_training(finished, tmp_path):
    train(tmp_path / "run", *RING, "--steps", 10, "--evaluate-every", 1)
    (a, first), (b, second) = (
        mg.load(x / "checkpoint.safetensors") for x in (finished, tmp_path / "run")
    )
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert first["random"] == second["random"]


# ------------------------------------------------------------------------------------------- best
def test_the_best_step_is_the_one_with_the_least_kl(finished):
    values = {row["step"]: row["kl_n2500"] for row in metrics(finished) if "kl_n2500" in row}
    del values[10]  # A longer training would not measure it.
    best = best_of(finished)
    assert (best.measure, best.value) == ("kl_n2500", min(values.values()))
    assert best.step == min(values, key=values.get)
    line = f"best           step {best.step}, kl_n2500 {best.value:.4g}"
    assert line in cli("info", finished).out


def test_a_better_last_step_is_said(tmp_path):
    words = ["--data", "swiss-roll", "--samples", 200, "--device", "reference", "--steps", 15]
    result = train(tmp_path / "run", *words, "--batch", 8, "--lr", 0.02, "--evaluate-every", 10)
    rows = {row["step"]: row.get("sliced_wasserstein_n20") for row in metrics(tmp_path / "run")}
    assert best_of(tmp_path / "run").step == 10
    assert ("of every 10 steps; the last one is better" in result.out) == (rows[15] < rows[10])
    assert rows[15] < rows[10], "choose another learning rate"


def test_it_is_the_generator_of_that_step(tmp_path):
    run, short = tmp_path / "run", tmp_path / "short"
    words = ["--data", "swiss-roll", "--samples", 200, "--batch", 8, "--device", "reference"]
    words += ["--lr", 0.05, "--evaluate-every", 1, "--keep", 0, "--ema", 0.5]
    result = train(run, *words, "--steps", 12)
    best = best_of(run)
    assert best.measure == "sliced_wasserstein_n20"
    assert best.step < 12, "choose a larger learning rate"
    assert f"best:     {best} (best.safetensors)" in result.out
    train(short, *words, "--steps", best.step)
    samples = load_sampler(run, "best").sample(5)
    np.testing.assert_array_equal(samples, load_sampler(short).sample(5))
    assert load_sampler(run, "best").step == best.step
    saved = mg.load_run(run, step="best")
    np.testing.assert_array_equal(saved.sample(5), samples)
    assert (saved.step, saved.last_step, saved.metrics["step"][-1]) == (best.step, 12, 12)
    with pytest.raises(ValueError, match="of which only the generator is kept"):
        saved.discriminator  # noqa: B018
    assert mg.load_run(run).discriminator is not None
    with pytest.raises(ValueError, match="'bst': a number, or 'best', is accepted"):
        mg.load_run(run, step="bst")
    out = tmp_path / "s.npz"
    assert cli("sample", run, "--step", "best", "--n", 5, "--out", out).status == 0
    np.testing.assert_array_equal(np.load(out)["samples"], samples)
    assert "step" in refused("sample", run, "--step", "bst")


def test_a_run_without_one_says_why(tmp_path):
    train(tmp_path / "run", *RING, "--steps", 2)
    line = refused("sample", tmp_path / "run", "--step", "best")
    assert "keeps no best step: samples are measured every 1000 steps, and it is at step 2" in line
    assert "best           none" in cli("info", tmp_path / "run").out


# ----------------------------------------------------------------------------------------- resume
@pytest.mark.parametrize("steps", [6, 8, 9])
def test_a_stopped_run_measures_the_same(finished, tmp_path, steps):
    """Step 6 is a measured one, 8 is measured as the last one only, 9 is no regular line."""
    cut = tmp_path / "cut"
    train(cut, *RING, "--steps", steps, "--evaluate-every", 3)
    assert list(measured(cut))[-1] == steps
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss_d": 0.5, "loss_g": 0.1}\n{"step": 1')
    assert cli("train", "--resume", cut, "--steps", 10).status == 0
    assert_same_run(cut, finished)


def test_a_regular_line_that_was_measured_only_as_the_last_one(tmp_path):
    words = [*RING, "--evaluate-every", 4]
    train(tmp_path / "run", *words, "--steps", 6)
    assert list(measured(tmp_path / "run")) == [4, 6]
    train(tmp_path / "straight", *words, "--steps", 10)
    assert cli("train", "--resume", tmp_path / "run", "--steps", 10).status == 0
    assert list(measured(tmp_path / "run")) == [4, 8, 10]
    assert_same_run(tmp_path / "run", tmp_path / "straight")


def test_the_interval_may_change(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    words = ["--steps", 16, "--evaluate-every", 4, "--log-every", 7]
    assert cli("train", "--resume", run, *words).status == 0
    assert list(measured(run)) == [3, 6, 9, 12, 16]
    assert [row["step"] for row in metrics(run)] == [1, 3, 6, 9, 12, 15, 16]
    info = mg.load(run / "checkpoint.safetensors")[1]
    assert info["evaluate_every"] == [[1, 3], [11, 4]]
    assert mg.load_run(run).metrics[DISTANCE].shape == (7,)
    assert cli("train", "--resume", run, "--steps", 20).status == 0
    assert list(measured(run)) == [3, 6, 9, 12, 16, 20]


def test_the_interval_is_that_of_the_pictures_at_the_start(tmp_path):
    train(tmp_path / "run", *RING, "--steps", 2, "--sample-every", 2)
    assert cli("train", "--resume", tmp_path / "run", "--steps", 5, "--sample-every", 1).status == 0
    assert list(measured(tmp_path / "run")) == [2, 4, 5]


def test_a_run_of_an_older_version_goes_on_and_its_old_file_is_said(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "best.safetensors").unlink()
    tensors, info = mg.load(run / "checkpoint.safetensors")
    del info["config"]["evaluate_every"]
    info["metrics_lines"] = 2
    mg.save(run / "checkpoint.safetensors", tensors, info)
    config = json.loads((run / "config.json").read_text())
    del config["evaluate_every"]
    (run / "config.json").write_text(json.dumps(config | {"sample_every": 4}))
    rows = [row for row in lines(run / "metrics.jsonl") if row["step"] in (1, 6, 10)]
    rows = [{k: x for k, x in row.items() if "_n" not in k or "norm" in k} for row in rows]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "quality.jsonl").write_text('{"step": 0, "sliced_wasserstein": 1, "floor": 0.1}\n')
    result = cli("train", "--resume", run, "--steps", 17)
    assert result.status == 0, result
    (line,) = result.errors
    assert f"{run / 'quality.jsonl'} is of an older version and stays as it is" in line
    assert [row["step"] for row in metrics(run)] == [1, 6, 11, 12, 16, 17]
    assert list(measured(run)) == [12, 16, 17]
    assert best_of(run).step in (12, 16)
    assert cli("train", "--resume", run, "--steps", 18).status == 0


def test_a_damaged_best_step_is_said_and_replaced(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "best.safetensors").write_bytes(b"half")
    assert "is not a readable checkpoint" in refused("sample", run, "--step", "best")
    result = cli("train", "--resume", run, "--steps", 12)
    assert result.status == 0
    assert "the best of the later steps will replace it" in result.errors[0]
    assert best_of(run).step == 12


def test_a_best_step_of_a_process_that_was_killed(finished, tmp_path):
    """One that is later than the checkpoint goes, one that is not replaces the one before."""
    cut, later = tmp_path / "cut", tmp_path / "later"
    train(cut, *RING, "--steps", 4, "--evaluate-every", 3)
    shutil.copytree(cut, later)
    before = sha256(cut / "best.safetensors")
    train(tmp_path / "whole", *RING, "--steps", 9, "--evaluate-every", 9)
    shutil.copy(tmp_path / "whole" / "best.safetensors", cut / "best.new.safetensors")
    assert cli("train", "--resume", cut).status == 0
    assert sha256(cut / "best.safetensors") == before
    assert not (cut / "best.new.safetensors").exists()
    (later / "best.safetensors").rename(later / "best.new.safetensors")
    assert cli("train", "--resume", later).status == 0
    assert sha256(later / "best.safetensors") == before
