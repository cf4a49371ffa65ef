"""`--preset auto`: what it chooses for which data, what it says, and what it stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import photo_folder
import pytest
from PIL import Image
from run_helpers import RING, cli, refused

from minigan.data.survey import Survey, survey
from minigan.gan.auto_preset import choose_by_data, choose_for

THIRDS = (100, 100, 100)


def images(samples: int, *sizes: tuple[int, int], per_class: Any = ()) -> Survey:
    return Survey(samples, sizes, min(map(min, sizes)), per_class)


@pytest.mark.parametrize(
    ("data", "given", "choice"),
    [
        (Survey(100_000), {}, "r3gan"),
        (Survey(60, per_class=(30, 30)), {}, "r3gan --batch 32"),
        (images(20_000, (28, 28)), {}, "dcgan"),
        (images(5000, (32, 24)), {}, "dcgan"),
        (images(5000, (32, 24), per_class=(2500, 2500)), {}, "dcgan --condition projection"),
        (images(4999, (28, 28)), {}, "photos-32 --size 28x28"),
        (images(300, (32, 24)), {}, "photos-32 --size 32x24"),
        (images(9000, (64, 48)), {}, "photos-64 --size 64x48"),
        (images(300, (30, 30)), {}, "photos-32"),  # the models do not take 30 x 30
        (images(300, (50, 70)), {}, "photos-32"),
        (images(9000, (640, 480)), {}, "photos-64"),
        (
            images(300, (72, 90), (160, 120), per_class=THIRDS),
            {},
            "photos-64 --condition projection",
        ),
        (Survey(300, [(40, 40), (90, 90)], typical=63), {}, "photos-32"),
        (Survey(300, [(40, 40), (90, 90)], typical=64), {}, "photos-64"),
        # labels that are not used: one class, a class of a few, a class for each image
        (images(300, (640, 480), per_class=(300,)), {}, "photos-64"),
        (images(300, (640, 480), per_class=(281, 19)), {}, "photos-64"),
        (images(300, (640, 480), per_class=(280, 20)), {}, "photos-64 --condition projection"),
        (images(9000, (640, 480), per_class=(45,) * 200), {}, "photos-64"),
        # few images
        (images(36, (640, 480)), {}, "photos-64"),
        (images(35, (640, 480)), {}, "photos-64 --batch 16"),  # 31 without those held out
        (images(35, (640, 480)), {"holdout": 0.0}, "photos-64"),
        (images(3, (640, 480)), {}, "photos-64 --batch 2"),
        # what is given is not chosen
        (images(20, (64, 48)), {"batch": 4, "size": "64x48"}, "photos-64"),
        (images(300, (99, 99), per_class=THIRDS), {"condition": "none"}, "photos-64"),
    ],
)
def test_what_is_chosen(data: Survey, given: dict[str, Any], choice: str) -> None:
    assert str(choose_for(data, given)).split(", so --preset ")[1] == choice


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (Survey(100_000), "100,000 points"),
        (images(300, (64, 48)), "300 images of 64x48 pixels"),
        (
            images(1300, (72, 90), (80, 80), (160, 120), per_class=(1000, 300)),
            "1,300 images of 72x90 to 160x120 pixels in 2 classes",
        ),
        (images(9, (64, 48), per_class=(9,)), "9 images of 64x48 pixels in 1 class"),
    ],
)
def test_what_is_said(data: Survey, seen: str) -> None:
    assert str(choose_for(data, {})).startswith(f"--preset auto: {seen}, so --preset ")


def test_options_are_those_of_the_preset_without_its_data() -> None:
    options = choose_for(Survey(1000), {}).options
    assert "data" not in options
    assert options["loss"] == "relativistic"
    assert options["standardize"] is True


# ------------------------------------------------------------------------------------ the survey
def test_headers_of_a_folder_are_enough(tmp_path: Path) -> None:
    """Files that are no images, or broken, are not counted, and sizes need not be one."""
    for name, size in (("a/1.png", (9, 4)), ("a/2.png", (9, 4)), ("b/3.png", (6, 8))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("none")
    (tmp_path / "a" / "broken.png").write_bytes(b"none")
    found = survey(str(tmp_path))
    assert found == Survey(3, [(9, 4), (6, 8)], 4, [2, 1])
    assert survey(str(tmp_path), size="16x12") == Survey(3, [(16, 12)], 12, [2, 1])


def test_arrays_and_named_sets(tmp_path: Path) -> None:
    data = tmp_path / "x.npz"
    labels = np.array([0, 0, 1, 0, 1])
    np.savez(
        data, images=np.tanh(np.random.default_rng(0).standard_normal((5, 4, 6))), labels=labels
    )
    assert survey(str(data)) == Survey(5, [(6, 4)], 4, [3, 2])
    assert survey("ring", samples=50) == Survey(50)
    assert str(choose_by_data({"data": "ring", "samples": 100})).endswith("r3gan --batch 64")


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images in it" in refused("train", "--preset", "auto", "--data", tmp_path / "empty")
    assert "there is no folder" in refused("train", "--preset", "auto", "--data", "./nothing")


# ------------------------------------------------------------------------------------ the command
def test_a_run_stores_what_was_chosen(tmp_path: Path) -> None:
    folder, run = tmp_path / "photos", tmp_path / "run"
    photo_folder.draw_folder(folder, 20)
    small = ["--size", "8", "--steps", 1, "--batch", 4]
    result = cli("train", "--preset", "auto", "--data", folder, *small, "--out", run)
    assert result.status == 0, result
    (line,) = result.errors
    assert line == (
        "minigan train: note: --preset auto: 60 images of 8x8 pixels in 3 classes, so --preset"
        " photos-32 --condition projection"
    )
    config = json.loads((run / "config.json").read_text())
    assert "preset" not in config
    expected = {"model": "narrow", "condition": "projection", "mirror": True, "size": "8"}
    assert {name: config[name] for name in expected} == expected
    again = tmp_path / "again"  # the command that the note names
    words = line.split(", so ")[1].split()
    assert cli("train", *words, "--data", folder, *small, "--out", again).status == 0
    assert (again / "checkpoint.safetensors").read_bytes() == (
        run / "checkpoint.safetensors"
    ).read_bytes()


def test_points_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = cli("train", "--preset", "auto", *RING, "--steps", 1, "--out", run)
    assert result.status == 0, result
    assert result.errors == ["minigan train: note: --preset auto: 600 points, so --preset r3gan"]
    assert json.loads((run / "config.json").read_text())["penalty"] == "r1+r2"


@pytest.mark.parametrize("name", ["photos-64", "photos-32"])
def test_presets_for_your_own_data_need_them(tmp_path: Path, name: str) -> None:
    message = refused("train", "--preset", name, "--out", tmp_path / "run")
    assert f"--preset {name} is for your own images: --data FOLDER" in message
    assert "did you mean 'auto'?" in refused("train", "--preset", "atuo")
