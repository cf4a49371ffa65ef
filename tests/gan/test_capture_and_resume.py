"""A captured, an eager and a resumed run have the same bits; each option has an effect."""

from itertools import chain

import numpy as np
import pytest
from player_helpers import (
    POINTS,
    TABLE,
    cloud,
    small_models,
)

from minigan import Config, Trainer
from minigan.data import load
from minigan.training import checkpoint

__all__ = ["small_models"]

EACH = pytest.mark.parametrize("name", TABLE)
pytestmark = pytest.mark.usefixtures("small_models")


def trainer_of(name):
    data, own = TABLE[name]
    return Trainer(Config(**own), data())


def assert_same(a, b):
    (tensors, info), (others, other) = a.state(), b.state()
    assert info == other
    assert tensors.keys() == others.keys()
    for key, x in tensors.items():
        assert np.array_equal(x, others[key]), key


@EACH
def test_captured_cut_in_half_and_neither_are_one_run(name, tmp_path):
    straight = trainer_of(name)
    rows = [straight.step(norms=True) for _ in range(5)]
    assert np.isfinite([x for row in rows for x in row.values()]).all()
    latent = straight.fixed_latent
    pictures = straight.generate(latent)

    eager = trainer_of(name)
    eager.captured = False
    assert [eager.step(norms=True) for _ in range(5)] == rows
    assert_same(straight, eager)

    half = trainer_of(name)
    for _ in range(2):
        half.step()
    checkpoint.save(tmp_path / "half", *half.state())
    half.step()  # what comes after the checkpoint is lost
    other = trainer_of(name)
    other.load_state(*checkpoint.load(tmp_path / "half"))
    assert [other.step(norms=True) for _ in range(3)] == rows[2:]
    assert_same(straight, other)
    assert np.array_equal(other.generate(other.fixed_latent), pictures)


NEEDS = {
    "penalty": ("penalty_weight", "penalty_end", "penalty_steps"),
    "penalty_end": ("penalty_steps",),
    "instance_noise": ("noise_steps",),
    "condition": ("categories", "codes"),
}
USUAL = {"model", "batch", "steps"}
ALONE = [
    (name, option) for name, (_, own) in TABLE.items() for option in own if option not in USUAL
]


@pytest.mark.parametrize(("name", "option"), ALONE)
def test_each_option_counts(name, option):
    """A run without it is another one."""
    data, own = TABLE[name]
    without = {k: x for k, x in own.items() if k not in (option, *NEEDS.get(option, ()))}
    runs = []
    for options in (own, without):
        trainer = Trainer(Config(**options), data())
        rows = [trainer.step(norms=True) for _ in range(4)]
        runs.append((rows, trainer.sample(2).tolist()))
    assert runs[0] != runs[1]


def test_the_table_has_every_option_that_shapes_a_step():
    """But those of the whole run, and betas and rates, which other tests change."""
    whole = {"data", "split", "data_dir", "holdout", "latent", "latent_size", "device", "seed"}
    whole |= {"samples", "log_every", "sample_every", "evaluate_every", "checkpoint_every"}
    whole |= {"schedule_steps", "lr_g", "lr_d", "beta1", "beta2", "init_from", "keep"}
    whole |= {"sample_shape", "value_range", "classes", "remap_labels", "max_gb"}
    whole |= {"size", "fit", "mirror", "grey", "background", "skip_broken"}
    whole |= {"matmul_precision"}  # of a GPU's products; test_matmul_precision changes it
    named = set(chain(*(own for _, own in TABLE.values())))
    assert named | whole == set(Config().as_dict())


# ----------------------------------------------------------------------------------- going further
def test_a_longer_run_keeps_its_schedules():
    options = {"schedule": "linear", "penalty": "r1", "penalty_end": 0.5, "instance_noise": 0.2}
    config = Config(**POINTS, **options)
    short = Trainer(config, cloud())
    assert (short.config.schedule_steps, short.config.noise_steps) == (5, 5)
    assert Trainer(short.config.replace(steps=9), cloud()).config.schedule_steps == 5
    assert Trainer(config.replace(schedule_steps=7), cloud()).config.schedule_steps == 7
    plain = Trainer(Config(**POINTS, warmup=1), cloud()).config
    assert (plain.schedule_steps, plain.noise_steps) == (None, None)


def test_a_trainer_of_its_own_data_seeds_alike():
    """`Trainer(config)` and `Trainer(config, load(...))` are one, but for the name of the data."""
    config = Config(data="ring", samples=60, condition="acgan", **POINTS)
    a = Trainer(config)
    rows = [a.step() for _ in range(2)]
    b = Trainer(config, load("ring", samples=60))
    assert [b.step() for _ in range(2)] == rows
    assert b.config.data == "python:ring"
    b.config = a.config
    assert_same(a, b)
