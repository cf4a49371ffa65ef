"""Several runs of a Config as one: the bits of each are those that it has alone."""

import numpy as np
import pytest

from minigan import Config, Trainer
from minigan.data import Dataset, load
from minigan.metrics import mixture_quality
from minigan.seeds import train_seeds

RING = Config(data="ring", batch=8, steps=6, holdout=0.0)
ALL = {
    "plain": {},
    "scaled, falling rates, averaged": {
        "standardize": True,
        "schedule": "cosine",
        "warmup": 2,
        "ema": 0.5,
    },
    "r3gan": {"loss": "relativistic", "penalty": "r1+r2", "penalty_end": 0.01, "n_critic": 2},
    "wgan-gp, packed": {"loss": "wasserstein", "penalty": "wgan-gp", "pack": 2},
    "wgan": {"loss": "wasserstein", "clip_weights": 0.1, "optimizer": "rmsprop"},
    "compared and limited": {"minibatch": "discrimination", "clip_norm": 0.1, "clip_value": 0.01},
    "noise and averages": {"instance_noise": 0.3, "historical": 0.1, "orthogonal": 0.1},
    "dropout, features": {"model": "mlp-dropout", "generator_loss": "feature-matching"},
}


@pytest.mark.parametrize("name", ALL)
def test_each_run_is_the_trainers(name):
    config, data = RING.replace(**ALL[name]), load("ring", size=50)
    ticks = []
    draw = train_seeds(config, [3, 5], data, lambda: ticks.append(1))
    assert len(ticks) == config.steps
    together = draw(7, 11)
    assert together.shape == (2, 7, 2)
    for found, seed in zip(together, (3, 5), strict=True):
        alone = Trainer(config.replace(seed=seed), data)
        for _ in range(config.steps):
            alone.step()
        assert np.array_equal(found, alone.sample(7, seed + 11))


def test_seeds_differ_and_equal_seeds_do_not():
    draw = train_seeds(RING, [0, 1, 0], load("ring", size=50))
    a, b, c = draw(20, 0)
    assert np.array_equal(a, c)
    assert not np.array_equal(a, b)
    assert not np.array_equal(draw(20, 0), draw(20, 1))


def test_images_too():
    images = Dataset("noise", np.tanh(np.random.default_rng(0).standard_normal((9, 1, 8, 8))))
    config = RING.replace(augment="color,translation,cutout", minibatch="stddev", batch=4, steps=2)
    assert train_seeds(config, range(2), images)(3, 0).shape == (2, 3, 1, 8, 8)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="condition = 'acgan'; labels are not taken"):
        train_seeds(RING.replace(condition="acgan"), [0], load("ring", size=50))


def test_a_kl_with_an_off_mode_bin(rng):
    modes = np.array([[0.0, 0.0], [10.0, 0.0]])
    real = modes[rng.integers(2, size=200_000)] + rng.standard_normal((200_000, 2))
    found = mixture_quality(real, modes, 1.0)
    assert found.high_quality == pytest.approx(1 - np.exp(-4.5), abs=1e-3)
    assert 0 <= found.kl < 1e-4
    one = mixture_quality(real[real[:, 0] < 5], modes, 1.0)
    assert one.kl == pytest.approx(np.log(2), abs=0.01)
    off = mixture_quality(real + 100, modes, 1.0)
    assert (off.modes, off.reverse_kl) == (0, np.inf)
    assert off.kl == pytest.approx(4.5)
