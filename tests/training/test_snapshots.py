"""Snapshots: which are kept, that they draw what the run drew then, also after a kill."""

import shutil

import numpy as np
import pytest
from PIL import Image
from run_helpers import assert_same_run, cli, refused, train

import minigan as mg
from minigan.training import checkpoint
from minigan.training.load_sampler import load_sampler
from minigan.training.resume import load_trainer
from minigan.training.snapshots import interval, is_due, remove_later, snapshot_steps, thin_out

RING = ["--data", "ring", "--samples", 300, "--batch", 16, "--device", "reference"]
RING += ["--log-every", 100, "--checkpoint-every", 4, "--sample-every", 2, "--keep", 3]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("snapshots") / "run"
    train(folder, *RING, "--steps", 11, "--ema", 0.5)
    return folder


@pytest.mark.parametrize(("step", "expected"), [(1, 2), (6, 2), (7, 4), (12, 4), (13, 8), (99, 64)])
def test_the_interval_doubles_when_no_more_fit(step, expected):
    assert interval(step, every=2, keep=3) == expected


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 7])
def test_at_most_so_many_evenly_spaced_ones_stay(tmp_path, keep):
    (tmp_path / "snapshots").mkdir()
    for step in range(1, 400):
        if is_due(step, 10, keep):
            (tmp_path / f"snapshots/step_{step:06d}.safetensors").touch()
        thin_out(tmp_path, step, 10, keep)
        steps = snapshot_steps(tmp_path)
        assert len(steps) <= keep
        gaps = np.diff([0, *steps])
        assert len(set(gaps)) <= 1
        assert len(steps) >= min(step // 10, (keep + 1) // 2)
        assert step < 10 or step - steps[-1] < 2 * gaps[0]


def test_there_are_none_without_keep(tmp_path):
    assert not any(is_due(step, 1, 0) for step in range(100))
    words = [x if x != 3 else 0 for x in RING]
    train(tmp_path / "run", *words, "--steps", 4)
    assert not (tmp_path / "run" / "snapshots").exists()


def test_a_run_keeps_snapshots_and_draws_from_them_what_it_drew_then(finished, tmp_path):
    assert snapshot_steps(finished) == [4, 8]
    train(tmp_path / "short", *RING, "--steps", 8, "--ema", 0.5)
    expected = load_trainer(tmp_path / "short").sample(5, seed=3)
    sampler = load_sampler(finished, 8)
    assert np.array_equal(sampler.sample(5, seed=3), expected)
    assert sampler.step == 8
    words = ["--step", 8, "--n", 5, "--seed", 3, "--out", tmp_path / "s.npz"]
    assert cli("sample", finished, *words).status == 0
    assert np.array_equal(np.load(tmp_path / "s.npz")["samples"], expected)
    assert cli("sample", finished, "--step", 4).status == 0
    text = Image.open(finished / "sample_step_000004_seed_0_n_64.png").text
    assert (text["step"], text["run"]) == ("4", "run")
    assert np.array_equal(load_sampler(finished, 11).sample(2), load_sampler(finished).sample(2))


def test_a_snapshot_is_small(finished):
    path = finished / "snapshots" / "step_000008.safetensors"
    tensors, info = mg.load(path)
    assert {name.split(".")[0] for name in tensors} == {"generator", "average", "points"}
    assert set(info) == {"config", "step", "data"}


def test_steps_without_a_snapshot_name_the_nearest(finished):
    line = refused("sample", finished, "--step", 6)
    assert f"{finished} has no snapshot of step 6; the nearest are 4 and 8 (of 4, 8, 11" in line
    assert "the nearest is 11" in refused("sample", finished, "--step", 12)
    assert "the nearest is 4 " in refused("sample", finished, "--step", 0)
    assert "the nearest is 4 " in refused("sample", finished, "--step", -3)


def test_an_older_run_without_snapshots_works(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / "snapshots")
    assert cli("sample", run, "--out", tmp_path / "a.npz").status == 0
    assert "the nearest is 11" in refused("sample", run, "--step", 8)
    assert cli("train", "--resume", run, "--steps", 12).status == 0
    assert snapshot_steps(run) == [12]


def test_a_run_that_goes_on_keeps_the_same_snapshots(finished, tmp_path):
    cut = tmp_path / "cut"
    train(cut, *RING, "--steps", 6, "--ema", 0.5)
    assert snapshot_steps(cut) == [2, 4, 6]
    # A process that was killed after its checkpoint at step 6 has left these.
    shutil.copy(finished / "snapshots/step_000008.safetensors", cut / "snapshots")
    shutil.copy(
        cut / "snapshots/step_000006.safetensors", cut / "snapshots/step_000010.safetensors"
    )
    (cut / "snapshots/step_000010.safetensors.0123456789ab.tmp").write_bytes(b"half")
    assert cli("train", "--resume", cut, "--steps", 11).status == 0
    assert_same_run(cut, finished)
    assert sorted(p.name for p in (cut / "snapshots").iterdir()) == [
        "step_000004.safetensors",
        "step_000008.safetensors",
    ]


@pytest.mark.parametrize(("folder", "suffix"), [("snapshots", "safetensors"), ("samples", "png")])
def test_later_snapshots_and_pictures_are_removed(folder, suffix, tmp_path):
    (tmp_path / folder).mkdir()
    for name in ("step_000002", "step_000005", "step_000006", "step_1000000", "mine"):
        (tmp_path / folder / f"{name}.{suffix}").touch()
    remove_later(tmp_path, 5)
    kept = {p.stem for p in (tmp_path / folder).iterdir()}
    assert kept == {"step_000002", "step_000005", "mine"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensors, info: info.update(step=5), "it is of step 5"),
        (lambda tensors, info: info.pop("data"), "'data' is missing"),
        (lambda tensors, info: info["config"].update(latent_size=3), "latent_size = 3, not 2"),
        (lambda tensors, info: tensors.update(x=np.zeros(2)), "unknown ['x']"),
        (lambda tensors, info: tensors.pop("generator.0.weight"), "missing ['0.weight']"),
        (lambda tensors, info: tensors["points"].fill(np.nan), "points has values that are NaN"),
        (lambda tensors, info: info["data"].update(classes=2**60), "data.classes"),
        (lambda tensors, info: info["data"].update(class_names=["a"]), "has 1 of 8 classes"),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(finished, tmp_path, spoil, message):
    run = shutil.copytree(finished, tmp_path / "run")
    path = run / "snapshots" / "step_000008.safetensors"
    tensors, info = mg.load(path)
    spoil(tensors, info)
    checkpoint.save(path, tensors, info)
    line = refused("sample", run, "--step", 8, "--out", tmp_path / "s.npz")
    assert f"{path} does not fit this run: " in line
    assert message in line


def test_a_corrupt_snapshot_is_named(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    path = run / "snapshots" / "step_000008.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path} is not a readable checkpoint" in refused("sample", run, "--step", 8)
    assert cli("sample", run, "--step", 4, "--out", tmp_path / "s.npz").status == 0


def test_a_smaller_number_keeps_the_last_ones(tmp_path):
    (tmp_path / "snapshots").mkdir()
    for step in (8, 16, 24):
        (tmp_path / f"snapshots/step_{step:06d}.safetensors").touch()
    thin_out(tmp_path, 26, 4, 1)  # 32 steps apart there is none
    assert snapshot_steps(tmp_path) == [24]
