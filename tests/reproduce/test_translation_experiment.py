"""The experiments on images from images: what their rows measure."""

from dataclasses import replace

import numpy as np
import pytest

from minigan.data import Dataset
from minigan.reproduce import EXPERIMENTS, reproduce, translation
from minigan.reproduce.runner import FIGURE
from minigan.translation import images as image_loading
from minigan.translation import measures


class Net:
    """A classifier that says 3 of everything."""

    accuracy = 0.1

    def probabilities(self, values):
        return np.eye(10)[np.full(len(values), 3)]


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    def load(name, **options):
        channels = 3 if name == "textures" else 1
        rng = np.random.default_rng(len(name))
        x = rng.uniform(-1, 1, (40, channels, 8, 8)).astype(np.float32)
        return Dataset(name, x, np.arange(40) % 10, 10)

    monkeypatch.setattr(image_loading, "load", load)
    monkeypatch.setattr(translation, "load", load)
    monkeypatch.setattr(measures, "feature_net", lambda *data, progress: Net())
    monkeypatch.setattr(
        translation, "train_classifier", lambda values, labels, classes, steps: None
    )
    monkeypatch.setattr(translation, "classify", lambda net, x: np.ones(len(x), int))
    translation._style_net.cache_clear()
    yield
    translation._style_net.cache_clear()


def small(name):
    experiment, cases = EXPERIMENTS[name], {}
    for case_name, case in experiment.cases.items():
        training = {**case.config["training"], "steps": 2, "batch": 4, "width": 4, "depth": 1}
        cases[case_name] = replace(case, config={**case.config, "training": training})
    return replace(experiment, cases=cases)


@pytest.mark.parametrize("name", ["restore", "unpaired"])
def test_every_row_is_measured_and_drawn(name, tmp_path):
    document = reproduce(name, small(name), [0], tmp_path, workers=1)
    assert (tmp_path / FIGURE).stat().st_size > 1000
    for row, case in document["cases"].items():
        assert case["mean"]["agreement"] <= 1, row
    rows = document["cases"]
    if name == "restore":
        assert rows["noisy digit: blur and curve"]["mean"]["psnr"] > 5
        assert rows["outline: input"]["mean"]["psnr"] < 20
    else:
        assert rows["with serifs: as it is"]["mean"]["style"] == 1
        assert "psnr" not in rows["with serifs: CycleGAN"]["mean"]


def test_the_rows_of_a_task_differ_in_the_loss_alone():
    cases = EXPERIMENTS["restore"].cases
    for title in ("hole in a digit", "outline"):
        alone, both = (
            cases[f"{title}: {x}"].config["training"] for x in ("L1 alone", "L1 and GAN")
        )
        assert {k for k in alone if alone[k] != both[k]} == {"adversarial"}


def test_a_baseline_trains_nothing():
    config = small("restore").cases["digit of 7 x 7: bicubic"].config
    first, second = (
        translation.measure_column({**config, "training": {**config["training"], "lr_g": x}}, 0)
        for x in (1e-3, 1.0)
    )
    assert first.values == second.values
