"""Run folders: what they hold, and what they do not depend on."""

import json
import math
import os
import threading

import numpy as np
import pytest
from PIL import Image
from run_helpers import (
    GLYPHS,
    RING,
    assert_same_picture,
    assert_same_run,
    cli,
    files,
    metrics,
    sha256,
    train,
)

import minigan as mg
from minigan import Config, Trainer
from minigan.training.gauges import GAUGES
from minigan.training.run import Run
from minigan.training.run_folder import RunError, locked, new_folder, read_config

KEYS = ["step", "loss_d", "loss_g", "d_real", "d_fake", "grad_norm_d", "grad_norm_g"]
MEASURED = ["sliced_wasserstein_n60", "sliced_wasserstein_n60_floor"]
MEASURED += ["modes_n2500", "high_quality_n2500", "kl_n2500"]


# --------------------------------------------------------------------------- what a folder holds
def test_a_folder_of_points(tmp_path):
    folder = tmp_path / "run"
    result = train(folder, *RING, "--steps", 30, "--sample-every", 10)
    names = {"config.json", "metrics.jsonl", "metrics.csv", "losses.png", "checkpoint.safetensors"}
    names |= {
        "best.safetensors",
        *(f"snapshots/step_{step:06d}.safetensors" for step in (10, 20, 30)),
    }
    pictures = {f"samples/step_{step:06d}.png" for step in (0, 10, 20, 30)}
    assert set(files(folder)) == names | pictures
    for name in [*pictures, "losses.png"]:
        pixels = np.asarray(Image.open(folder / name))
        assert pixels.shape[:2] == ((780, 840) if name == "losses.png" else (600, 600))
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
        measured = MEASURED if row["step"] == 30 else []
        gauges = [name for name in row if name in GAUGES]
        assert list(row) == [*KEYS, *measured, *gauges, "steps_per_second"]
        assert {"diversity", "saturation", "memorization", "dead_d", "lr_g"} <= set(gauges)
        assert ("movement" in gauges) == (row["step"] > 1)
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
        out = tmp_path / f"s{width}.npz"
        assert cli("sample", folder, "--out", out, "--n", 3).status == 0
        assert np.load(out)["samples"].shape == (3, width)


def test_data_without_spread_draws_no_warning(tmp_path):
    np.savez(tmp_path / "zero.npz", x=np.zeros((90, 2)))
    result = cli("train", "--data", tmp_path / "zero.npz", "--steps", 1, "--out", tmp_path / "run")
    note = f"minigan train: note: {tmp_path / 'zero.npz'}: all 90 samples are equal"
    assert (result.status, result.errors) == (0, [note])


# ------------------------------------------------------------------------------------ training
def test_the_same_command_is_the_same_folder(tmp_path):
    for name in "ab":
        train(tmp_path / name, *RING, "--steps", 15)
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert a.keys() == b.keys()
    different = {name for name in a if a[name] != b[name]} - {"metrics.jsonl", "metrics.csv"}
    assert all(name.endswith(".png") for name in different)  # They hold the name of the run.
    assert_same_picture(tmp_path / "a" / "losses.png", tmp_path / "b" / "losses.png")
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_pictures_and_checkpoints_never_change_training(tmp_path):
    train(tmp_path / "a", *RING, "--steps", 5)
    often = [*RING, "--steps", 5, "--sample-every", 1, "--checkpoint-every", 2, "--log-every", 1]
    train(tmp_path / "b", *often)
    (a, info_a), (b, info_b) = (mg.load(tmp_path / x / "checkpoint.safetensors") for x in "ab")
    # The gauges' positions are those of the last logged steps.
    names = [name for name in a if not name.startswith("gauges.")]
    assert len(names) > 20
    assert all(np.array_equal(a[name], b[name]) for name in names)
    assert info_a["random"] == info_b["random"]
    assert len(list((tmp_path / "b" / "samples").iterdir())) == 6


def test_training_in_a_python_thread(tmp_path):
    config = Config(data="ring", samples=600, steps=9, log_every=7)

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


def test_a_lock_goes_with_its_holder(tmp_path):
    again = pytest.raises(RunError, match="another process is training")
    with locked(tmp_path), again, locked(tmp_path):
        pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        1 / 0  # noqa: B018
    with locked(tmp_path):
        pass


def test_memory_stays_flat(tmp_path):
    """Several thousand steps later the process is as large as after the first hundreds."""
    statm = "/proc/self/statm"
    if not os.path.exists(statm):
        pytest.skip("no /proc on this system")

    def megabytes():
        with open(statm) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    trainer = Trainer(Config(data="ring", samples=600, batch=16))
    for _ in range(300):
        trainer.step(norms=True)
    before = megabytes()
    for _ in range(1500):
        trainer.step(norms=True)
    assert megabytes() - before < 8  # a graph kept from each step would be 100
