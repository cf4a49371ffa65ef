"""Presets: each is what it is named after, runs on every device at hand, and learns."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from emulator_helpers import EMULATOR
from run_helpers import RING, cli, refused, train

from minigan import Config, Trainer, nn
from minigan.data import Dataset
from minigan.evaluation.evaluate import evaluate
from minigan.gan.presets import PRESETS
from minigan.metrics import sliced_wasserstein
from minigan.training.resume import load_trainer

NAMES = (
    *("keras-mlp", "pytorch-mlp", "tf-mlp", "lsgan", "wgan", "wgan-gp", "dragan", "hinge", "sngan"),
    *("r3gan", "dcgan", "resnet", "cgan", "acgan", "infogan", "projection", "pacgan"),
    *("progressive", "photos-64", "photos-32"),
)
PHOTOS = ("photos-64", "photos-32")


# --------------------------------------------------------------------------------------- the list
def test_presets_are_listed_with_data_and_paper():
    head, *lines, last = cli("presets").out.splitlines()
    assert head.split() == ["name", "data"]
    assert last.split()[:2] == ["auto", "any"]
    assert tuple(line.split()[0] for line in lines) == NAMES == tuple(PRESETS)
    for line, preset in zip(lines, PRESETS.values(), strict=True):
        data = "your" if preset.needs_data else preset.options.get("data", "glyphs")
        assert line.split()[1] == data
        assert line.endswith(f"{preset.about} ({preset.paper})")
        assert re.search(r"\d{4}", preset.paper)


# ----------------------------------------------------------------------------------- what they are
# Widths of the tutorials' nets, generator then discriminator.
NETS = {
    "keras-mlp": ([100, 256, 512, 784], [784, 512, 256, 1], 64),
    "pytorch-mlp": ([100, 256, 512, 784], [784, 512, 256, 1], 128),
    "tf-mlp": ([100, 1024, 1024, 784], [784, 1024, 1024, 1], 64),
}
LAYERS = {
    "dcgan": (["Dense", "ConvTranspose2d", "ConvTranspose2d"], ["Conv2d", "Conv2d", "Dense"]),
    "sngan": (["Dense", "ConvTranspose2d", "ConvTranspose2d"], ["SpectralNorm"] * 3),
    "photos-32": (["Dense"] + ["ConvTranspose2d"] * 3, ["Conv2d"] * 3 + ["Dense"]),
    "resnet": (["Dense", "UpBlock", "UpBlock", "Conv2d"], ["DownBlock"] * 2 + ["SpectralNorm"]),
}
METHODS = {
    "lsgan": {"loss": "leastsquares"},
    "wgan": {"loss": "wasserstein", "n_critic": 5, "penalty": "none", "optimizer": "rmsprop"},
    "wgan-gp": {"loss": "wasserstein", "n_critic": 5, "penalty": "wgan-gp", "clip_weights": 0},
    "dragan": {"loss": "nonsaturating", "penalty": "dragan"},
    "hinge": {"loss": "hinge"},
    "r3gan": {"loss": "relativistic", "penalty": "r1+r2"},
    "cgan": {"condition": "concat"},
    "acgan": {"condition": "acgan"},
    "infogan": {"condition": "infogan", "codes": 2},
    "projection": {"condition": "projection"},
    "pacgan": {"pack": 2},
    "progressive": {"model": "progressive", "penalty": "r1"},
    "photos-64": {"loss": "relativistic", "penalty": "r1+r2", "size": "64", "mirror": True},
    "photos-32": {"augment": "color,translation", "size": "32", "fit": "crop"},
}


@pytest.mark.parametrize("name", NETS)
def test_the_tutorials_nets(tmp_path, name):
    train(tmp_path / "run", "--preset", name, "--samples", 150, "--steps", 1)
    trainer = load_trainer(tmp_path / "run")
    *nets, batch = NETS[name]
    for net, widths in zip((trainer.generator, trainer.discriminator), nets, strict=True):
        shapes = [x.shape for x in net.state_dict().values() if x.ndim == 2]
        assert shapes == list(pairwise(widths))
        assert (name == "keras-mlp" and net is trainer.discriminator) == ("Dropout" in repr(net))
    config = trainer.config
    assert (config.batch, config.lr_g, config.lr_d, config.beta1) == (batch, 2e-4, 2e-4, 0.5)


@pytest.mark.parametrize("name", LAYERS)
def test_convolutional_nets(name):
    trainer = Trainer(Config(**{**PRESETS[name].options, "samples": 80}))
    plain = ("BatchNorm2d", "ReLU", "LeakyReLU", "Tanh", "Reshape", "Flatten", "SumPixels")
    nets = (trainer.generator, trainer.discriminator)
    for net, kinds in zip(nets, LAYERS[name], strict=True):
        assert [k for k in (type(x).__name__ for x in net) if k not in plain] == kinds
    assert nn.has_batch_norm(trainer.discriminator) == (name == "dcgan")


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    config = Config(**PRESETS[name].options)
    assert {key: getattr(config, key) for key in METHODS[name]} == METHODS[name]
    assert (config.clip_weights > 0) == (name == "wgan")
    assert config.lr_d >= config.lr_g
    assert (config.lr_d > config.lr_g) == (name == "hinge")


# ------------------------------------------------------------------------------------ they all run
def pictures():
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    values = np.tanh(rng.standard_normal((30, 1, 8, 8)) + labels[:, None, None, None])
    return Dataset("pictures", values, labels)


@pytest.mark.parametrize("device", ["cpu", EMULATOR])
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_trains_samples_and_is_evaluated(tmp_path, name, device):
    """From the command line, at a small size: one folder with all that belongs there."""
    run, data = tmp_path / "run", tmp_path / "pictures.npz"
    images = pictures()
    np.savez(data, images=images.values, labels=images.labels)
    points = PRESETS[name].options.get("data", "glyphs") in ("ring", "grid", "swiss-roll")
    where = ["--samples", 200] if points else ["--data", data, "--holdout", 0.3]
    where += ["--size", 8] if name in PHOTOS else []
    small = [*where, "--batch", 8 if device == "cpu" else 4, "--steps", 2, "--log-every", 1]
    train(run, "--preset", name, *small, "--device", device)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert ("penalty" in rows[0]) == (
        name in ("wgan-gp", "dragan", "r3gan", "progressive", *PHOTOS)
    )
    assert cli("sample", run, "--n", 4).status == 0
    assert cli("evaluate", run, "--only", "quick").status == 0
    assert {p.name for p in run.iterdir()} >= {"losses.png", "checkpoint.safetensors"}


# -------------------------------------------------------------------------------------- they learn
# name: steps, other options, and a bound for the sliced Wasserstein distance to held-out data, as a
# share of what it is before training. Behind it what was measured.
LEARNING = {
    "keras-mlp": (150, {"samples": 2000}, 0.65),  # 0.571
    "pytorch-mlp": (100, {"samples": 2000}, 0.78),  # 0.697
    "tf-mlp": (60, {"samples": 2000}, 0.74),  # 0.657
    "lsgan": (150, {"samples": 2000}, 0.70),  # 0.617
    "wgan": (200, {"samples": 5000}, 0.20),
    "wgan-gp": (150, {"samples": 5000}, 0.20),
    "dragan": (150, {"samples": 2000}, 0.78),  # 0.697
    "hinge": (300, {"samples": 2000}, 0.56),  # 0.489
    "sngan": (60, {"samples": 1000, "batch": 16}, 0.55),  # 0.459
    "r3gan": (1000, {"samples": 20_000}, 0.45),
    "dcgan": (60, {"samples": 1000, "batch": 16}, 0.62),  # 0.537
    "resnet": (20, {"samples": 400, "batch": 8}, 0.90),  # 0.841
    "cgan": (300, {"samples": 2000}, 0.70),  # 0.606
    "acgan": (300, {"samples": 2000}, 0.50),  # 0.419
    "infogan": (300, {"samples": 2000}, 0.64),  # 0.559
    "projection": (60, {"samples": 1000, "batch": 16}, 0.64),  # 0.553
    "pacgan": (1000, {"samples": 20_000}, 0.45),
    "progressive": (120, {"samples": 1000, "batch": 16}, 0.58),  # 0.489
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in PHOTOS])
def test_every_preset_learns(name):
    steps, options, bound = LEARNING[name]
    trainer = Trainer(Config(**{**PRESETS[name].options, **options, "steps": steps}))
    real, n = trainer.held_out, min(1000, len(trainer.held_out))
    labels = real.labels[:n] if trainer.config.needs_labels else None

    def distance():
        return sliced_wasserstein(trainer.sample(n, 1, labels), real.values[:n], 128)

    start = distance()
    for _ in range(steps):
        trainer.step()
    share = distance() / start
    print(f"{name}: {share:.3f} of the distance is left, of {start:.3f}")
    assert share < bound
    if name == "acgan":
        actual = evaluate(trainer, 16, only=["label_agreement", "label_agreement_permuted"])
        assert actual["label_agreement"].value > 0.4  # 0.489
        assert actual["label_agreement_permuted"].value < 0.15
        assert actual["label_agreement"].floor > 0.9


# ------------------------------------------------------------------------- data they cannot take
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--preset", "dcgan", *RING], "samples of shape (2,) are not"),
        (["--preset", "cgan", "--data", "swiss-roll"], "condition = 'concat' needs labels"),
        (["--preset", "acgan", "--data", "swiss-roll"], "condition = 'acgan' needs labels"),
        (["--preset", "wgan-gp", "--data", "glyphs", "--model", "dcgan"], "batch norm"),
        (["--preset", "pacgan", "--batch", "33"], "pack = 2 does not divide batch = 33"),
        (["--preset", "r3gan", "--data", "glyphs"], "standardize is for points"),
        (["--preset", "keras-mlp", "--augment", "color", *RING], "is for images"),
        (["--preset", "hinge", "--smooth", "0.9"], "has no targets to smooth"),
        (["--preset", "wgna"], "did you mean 'wgan'?"),
    ],
)
def test_what_is_said_before_training_starts(tmp_path, words, complaint):
    run = tmp_path / "run"
    assert complaint in refused("train", *words, "--steps", "1", "--out", run)
    assert not run.exists()


def test_options_overrule_a_preset(tmp_path):
    train(tmp_path / "run", "--preset", "pytorch-mlp", *RING, "--batch", 16, "--steps", 1)
    config = load_trainer(tmp_path / "run").config
    assert (config.model, config.batch, config.data) == ("mlp", 16, "ring")
