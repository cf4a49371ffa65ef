"""Option conflicts are a one-line error before a step is done or a folder is written."""

from dataclasses import dataclass

import numpy as np
import pytest
from player_helpers import cloud, tiles
from run_helpers import refused

from minigan import Config, Trainer, nn
from minigan.data import Dataset
from minigan.gan.models import MODELS

POINTS = Config(data="ring", samples=60, batch=8)
UNTOLD = Dataset("untold", cloud().values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pack": 3}, "pack = 3 does not divide batch = 8"),
        ({"pack": 2, "condition": "concat"}, "packed samples have no one label"),
        ({"loss": "hinge", "smooth": 0.9}, "Hinge: smooth = 0.9, but this loss has no targets"),
        ({"loss": "relativistic", "smooth": 0.9}, "no targets"),
        ({"penalty_weight": 2.0}, "penalty_weight = 2.0 without a penalty"),
        ({"penalty_end": 2.0}, "penalty_end = 2.0 without a penalty"),
        ({"noise_steps": 5}, "noise_steps = 5 without instance_noise"),
        ({"warmup": 7, "steps": 7}, "warmup = 7 leaves nothing of the 7 steps"),
        ({"warmup": 7, "schedule": "linear", "schedule_steps": 7}, "nothing of the 7 steps"),
        ({"schedule_steps": 7}, "schedule_steps = 7 without a schedule"),
        ({"penalty": "r1", "penalty_steps": 7}, "penalty_steps = 7 without penalty_end"),
        (
            {"penalty": "r1+dragan", "penalty_end": 1.0},
            "begin at different weights, .5, 10.; a pen",
        ),
        ({"minibatch": "stddev", "batch": 18}, "make 18 of them, which 4 does not divide"),
        ({"minibatch": "stddev", "batch": 12, "pack": 2}, "pack = 2 make 6 of them"),
        (
            {"generator_loss": "feature-matching", "condition": "acgan"},
            "those features know no label.*condition = 'concat' goes",
        ),
        ({"generator_loss": "feature-matching", "condition": "projection"}, "know no label"),
        # Names, with the nearest that is accepted.
        ({"penalty": "wgangp"}, "unknown penalty 'wgangp'; did you mean 'wgan-gp'"),
        ({"penalty": "r1+wgan"}, "unknown penalty 'wgan'; did you mean 'wgan-gp'"),
        ({"penalty": "r1+r1"}, "penalty = 'r1[+]r1' names one twice"),
        ({"penalty": "r1+none"}, "unknown penalty 'none'"),
        ({"penalty": None}, "penalty = None is not a string"),
        ({"augment": "colour"}, "unknown augment 'colour'; did you mean 'color'"),
        ({"augment": "color,"}, "unknown augment ''"),
        ({"condition": "acgn"}, "unknown condition 'acgn'; did you mean 'acgan'"),
        ({"minibatch": "stdev"}, "unknown minibatch 'stdev'; did you mean 'stddev'"),
        ({"generator_loss": "adverse"}, "generator loss 'adverse'; did you mean 'adversarial'"),
        ({"optimizer": "rmsprob"}, "unknown optimizer 'rmsprob'; did you mean 'rmsprop'"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        # Numbers.
        ({"penalty": "r1", "penalty_weight": 0.0}, "penalty_weight = 0.0 is not a positive number"),
        ({"clip_norm": -1.0}, "clip_norm = -1.0 is not a finite number of at least 0"),
        ({"clip_value": np.inf}, "clip_value = inf is not"),
        ({"clip_weights": np.nan}, "clip_weights = nan is not"),
        ({"instance_noise": "much"}, "instance_noise = 'much' is not a number"),
        ({"ema": 1.0}, r"ema = 1.0 is not in \[0, 1\)"),
        ({"pack": 0}, "pack = 0 is not a positive integer"),
        ({"warmup": -1}, "warmup = -1 is not an integer of at least 0"),
        ({"standardize": 1}, "standardize = 1 is neither True nor False"),
    ],
)
def test_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        POINTS.replace(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"condition": "concat"}, UNTOLD, "condition = 'concat' needs labels, and the data have"),
        ({"condition": "acgan"}, Dataset("odd", cloud().values, None, 5), "needs labels"),
        ({"augment": "cutout"}, cloud(), r"augment = 'cutout' is for images, not for \(2,\)"),
        ({"standardize": True}, tiles(), "standardize is for points; tiles has images"),
        (
            {"standardize": True},
            Dataset("flat", np.ones((40, 2))),
            "standardize: all numbers of flat are equal",
        ),
        (
            {"model": "dcgan", "penalty": "r1"},
            tiles(),
            "penalty = 'r1', but the discriminator of model = 'dcgan' has batch norm",
        ),
        (
            {"model": "dcgan", "penalty": "wgan-gp", "condition": "projection"},
            tiles(),
            "has batch norm",
        ),
        ({"model": "dcgan"}, cloud(), "make images"),
    ],
)
@pytest.mark.filterwarnings("ignore::minigan.data.DataWarning")
def test_options_that_do_not_fit_the_data_are_refused(options, data, message):
    with pytest.raises(ValueError, match=message) as caught:
        Trainer(Config(batch=8, **options), data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "swiss-roll", "--condition", "acgan"), "needs labels"),
        (("--data", "ring", "--augment", "color"), "is for images"),
        (("--samples", 80, "--standardize"), "standardize is for points"),
        (("--samples", 80, "--model", "dcgan", "--penalty", "r1"), "has batch norm"),
        (("--data", "ring", "--pack", 3), "pack = 3 does not divide batch = 64"),
        (("--data", "ring", "--minibatch", "stddev", "--batch", 18), "which 4 does not divide"),
        (("--penalty", "r3"), "unknown penalty 'r3'"),
    ],
)
def test_the_command_says_so_in_one_line_and_leaves_no_folder(tmp_path, words, message):
    assert message in refused("train", *words, "--steps", 1, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_of_less_than_a_group_is_one():
    trainer = Trainer(Config(batch=3, minibatch="stddev"), cloud())
    assert np.isfinite(trainer.step()["loss_d"])


def test_penalties_need_no_batch_norm_in_the_generator_alone():
    assert "penalty" in Trainer(Config(model="sngan", batch=4, penalty="r1"), tiles()).step()


def test_a_discriminator_that_does_not_fit_is_told_with_its_shapes(monkeypatch):
    @dataclass(frozen=True)
    class Misfit:
        about, latent_size = "D takes one number too many", 2

        def build(self, sample_shape, latent_size, discriminator_shape=None):
            wide = nn.Dense(discriminator_shape[0] + 1, 1)
            return nn.Sequential(nn.Dense(latent_size, *sample_shape)), nn.Sequential(wide)

    monkeypatch.setitem(MODELS, "misfit", Misfit())
    with pytest.raises(ValueError, match=r"layer 0: Dense\(3, 1\) does not take \(2, 2\)"):
        Trainer(Config(data="ring", samples=100, model="misfit"))
