"""A folder of pictures of mixed sizes: the script that draws it, and the presets on it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import photo_folder
import pytest
from PIL import Image
from run_helpers import cli

from minigan import Config, Trainer
from minigan.gan.presets import PRESETS
from minigan.metrics import sliced_wasserstein
from minigan.training.resume import load_trainer

SIZES = ["--size", 16, "--batch", 8, "--steps", 2]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_folder.draw_folder(tmp_path_factory.mktemp("drawn") / "photos", 20)


def test_the_pictures_are_the_same_each_time_and_differ(photos: Path, tmp_path: Path) -> None:
    again = photo_folder.draw_folder(tmp_path / "again", 2)
    digests = set()
    for path in sorted(again.rglob("*.*")):
        content = path.read_bytes()
        assert content == (photos / path.relative_to(again)).read_bytes()
        digests.add(hashlib.sha256(content).digest())
    assert len(digests) == 6
    files = sorted(photos.rglob("*.*"))
    assert [path.name for path in files[:3]] == ["000.png", "001.jpg", "002.png"]
    assert {path.parent.name for path in files} == {"faces", "stars", "stripes"}
    sizes = set()
    for path in files:
        with Image.open(path) as image:
            assert image.mode == "RGB"
            sizes.add(image.size)
    assert len(files) == 60
    assert len(sizes) > 50
    assert {min(map(min, sizes)), max(map(max, sizes))} <= {*range(72, 161)}


@pytest.mark.parametrize("condition", ["none", "concat", "acgan", "projection"])
def test_a_preset_with_each_condition(photos: Path, tmp_path: Path, condition: str) -> None:
    words = ["--preset", "photos-32", "--data", photos, *SIZES, "--condition", condition]
    result = cli("train", *words, "--out", tmp_path / "run")
    assert result.status == 0, result
    trainer = load_trainer(tmp_path / "run")
    assert trainer.config.condition == condition
    assert trainer.data.sample_shape == (3, 16, 16)
    assert trainer.sample(4).shape == (4, 3, 16, 16)
    if condition != "none":
        words = ["--n", 3, "--label", 1, "--out", tmp_path / "stars.png"]
        assert cli("sample", tmp_path / "run", *words).status == 0


@pytest.mark.slow
def test_photos_are_learned(photos: Path) -> None:
    """200 steps at 16 x 16."""
    options = {**PRESETS["photos-32"].options, "size": "16", "batch": 16, "holdout": 0.3}
    trainer = Trainer(Config(**options, data=str(photos)))
    real = trainer.data.values
    start = sliced_wasserstein(trainer.sample(len(real)), real, seed=0)
    for _ in range(200):
        trainer.step()
    end = sliced_wasserstein(trainer.sample(len(real)), real, seed=0)
    print(f"{end:.3f} of {start:.3f}")
    assert end < 0.5 * start
    assert np.abs(trainer.sample(8)).max() <= 1
