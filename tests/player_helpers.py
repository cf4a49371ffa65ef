"""Small networks for tests of training steps, spies on their calls, and arithmetic in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import minigan as mg
from minigan import Config, nn
from minigan.data import Dataset
from minigan.gan.conditional import CONDITIONS, ConditionalGenerator
from minigan.gan.models import MODELS, Dcgan, Perceptrons
from minigan.gan.players import Players
from minigan.gan.progressive import Progressive

# SGD without momentum at a rate of 1: what a parameter loses is its gradient.
PLAIN = {"optimizer": "sgd", "beta1": 0.0, "lr_g": 1.0, "lr_d": 1.0, "model": "toy"}
N = 8


def line(inputs: int = 2) -> nn.Sequential:
    """A discriminator whose slope is its weight, the same everywhere."""
    return nn.Sequential(nn.Dense(inputs, 1))


def bent(inputs: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Dense(inputs, 3), nn.LeakyReLU(0.2), nn.Dense(3, 1))


def make_players(
    discriminator: nn.Module | None = None, generator: nn.Module | None = None, **options: Any
) -> Players:
    """Players on points of the plane, with a linear generator."""
    config = Config(**{**PLAIN, "batch": N, **options})
    return Players(
        config, generator or nn.Sequential(nn.Dense(2, 2)), discriminator or line(2 * config.pack)
    )


def make_conditional_players(
    condition: str, net: nn.Sequential, classes: int = 3, **options: Any
) -> Players:
    """The same with labels: `net` discriminates points, with the label's embedding if concat."""
    generator = ConditionalGenerator(nn.Sequential(nn.Dense(2 + classes, 2)), classes)
    build: Any = CONDITIONS[condition]
    return make_players(build(net, (2,), classes), generator, condition=condition, **options)


def points(count: int = N, seed: int = 5) -> mg.Tensor:
    values = np.random.default_rng(seed).standard_normal((count, 2))
    return mg.tensor(values.astype(np.float32) + 1)


def labels(*values: int) -> mg.Tensor:
    return mg.tensor(np.array(values or (0, 1, 2, 0, 1, 2, 2, 1), np.int64))


# ------------------------------------------------------------------------------------------- spies
def spy(module: nn.Module) -> list[list[np.ndarray]]:
    """A list that receives [*inputs, output] of each later call of the module."""
    calls: list[list[np.ndarray]] = []
    forward = module.forward

    def noted(*inputs: mg.Tensor) -> mg.Tensor:
        result = forward(*inputs)
        calls.append([x.numpy() for x in (*inputs, result)])
        return result

    module.forward = noted
    return calls


def arrays(module: nn.Module) -> list[np.ndarray]:
    """Parameters in numpy, float64."""
    return [x.numpy().astype(np.float64) for x in module.parameters()]


def moved(module: nn.Module, before: list[np.ndarray]) -> list[np.ndarray]:
    """What each parameter has lost since."""
    return [a - b for a, b in zip(before, arrays(module), strict=True)]


def numbers(actual: dict[str, Any], *names: str) -> list[float]:
    return [float(actual[name]) for name in names]


# ---------------------------------------------------------------------------------- by hand, numpy
def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64))
    return e / e.sum(axis=1, keepdims=True)


def entropy(logits: np.ndarray, classes: np.ndarray) -> float:
    """Mean -log softmax at the class."""
    return float(-np.log(softmax(logits)[np.arange(len(logits)), classes]).mean())


def close(actual: Any, expected: Any, bound: float = 2e-6) -> None:
    """Within float32's rounding of numbers about 1."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=bound)


# ------------------------------------------------------------------------------------- whole runs
@dataclass(frozen=True)
class Lines:
    """A model whose players are a matrix each, so that its numbers can be computed by hand."""

    about: str = "linear"
    latent_size: int = 2

    def build(
        self,
        sample_shape: tuple[int, ...],
        latent_size: int,
        discriminator_shape: tuple[int, ...] | None = None,
    ) -> tuple[nn.Sequential, nn.Sequential]:
        (inputs,) = discriminator_shape or sample_shape
        return nn.Sequential(nn.Dense(latent_size, *sample_shape)), line(inputs)


SMALL = {
    "line": Lines(),
    "small": Perceptrons("", (16,), (16, 8), 3),
    "small-dropout": Perceptrons("", (16,), (16, 8), 3, 0.3),
    "small-dcgan": Dcgan("", width=4, latent_size=5),
    "small-sngan": Dcgan("", width=4, latent_size=5, norm="spectral"),
    "progressive": Progressive("", width=4, latent_size=5),
}


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that `Config` knows for the length of a test."""
    for name, model in SMALL.items():
        monkeypatch.setitem(MODELS, name, model)


def cloud(count: int = 40, classes: int = 3) -> Dataset:
    """Points whose first coordinate is near their label."""
    rng = np.random.default_rng(1)
    y = rng.integers(classes, size=count)
    return Dataset("cloud", rng.normal(0, 0.1, (count, 2)) + y[:, None], y, classes)


def tiles(count: int = 24, channels: int = 3, side: int = 16) -> Dataset:
    """Images of noise, with labels of which one is missing."""
    rng = np.random.default_rng(2)
    values = np.tanh(rng.standard_normal((count, channels, side, side)))
    return Dataset("tiles", values, rng.integers(3, size=count), 4)


# Options beside those of POINTS or IMAGES. Between them: every option that shapes a training step.
ON_POINTS = {
    "plain": {},
    "wgan": {"loss": "wasserstein", "clip_weights": 0.05, "optimizer": "rmsprop", "n_critic": 3},
    "wgan-gp": {"loss": "wasserstein", "penalty": "wgan-gp", "n_critic": 2, "schedule": "linear"},
    "r3gan": {
        "loss": "relativistic",
        "penalty": "r1+r2",
        "penalty_end": 0.1,
        "penalty_steps": 3,
        "schedule": "cosine",
        "warmup": 2,
        "ema": 0.9,
        "standardize": True,
    },
    "dragan": {"penalty": "dragan+wgan-gp-one-sided", "penalty_weight": 2.0, "smooth": 0.9},
    "packed": {"pack": 2, "penalty": "wgan-gp", "minibatch": "discrimination", "loss": "hinge"},
    "noise": {"instance_noise": 0.3, "noise_steps": 3, "loss": "relativistic-average"},
    "averages": {"historical": 0.1, "orthogonal": 0.1, "weight_decay": 0.1, "optimizer": "adamw"},
    "limits": {"clip_norm": 0.1, "clip_value": 0.01, "optimizer": "sgd", "n_generator": 2},
    "features": {"model": "small-dropout", "generator_loss": "feature-matching"},
    "concat": {"condition": "concat", "penalty": "r1", "n_critic": 2, "schedule": "exponential"},
    "acgan": {"condition": "acgan", "penalty": "r2", "minibatch": "stddev", "ema": 0.5},
    "projection": {"condition": "projection", "loss": "relativistic", "n_generator": 2},
    "infogan": {"condition": "infogan", "codes": 2, "categories": 4, "penalty": "r1"},
}
ON_IMAGES = {
    "dcgan, averaged": {"model": "small-dcgan", "ema": 0.9, "loss": "relativistic"},
    "augmented, packed": {
        "augment": "color,translation,cutout",
        "pack": 2,
        "penalty": "r1",
        "minibatch": "stddev",
        "instance_noise": 0.1,
    },
    "cgan": {"condition": "concat", "model": "small-dcgan", "loss": "leastsquares"},
    "sngan, projection": {"condition": "projection", "augment": "cutout", "loss": "hinge"},
    "sngan, acgan": {"condition": "acgan", "penalty": "dragan", "historical": 0.01},
    "dcgan, infogan": {"condition": "infogan", "model": "small-dcgan", "codes": 1, "ema": 0.9},
}
POINTS = {"model": "small", "batch": 8, "steps": 5}
IMAGES = {"model": "small-sngan", "batch": 4, "steps": 5}
TABLE = {
    **{name: (cloud, {**POINTS, **options}) for name, options in ON_POINTS.items()},
    **{name: (tiles, {**IMAGES, **options}) for name, options in ON_IMAGES.items()},
    # It grows from 4 x 4 pixels: steps 2 and 3 fade 8 x 8 in.
    "progressive": (
        lambda count=24, channels=3, side=8: tiles(count, channels, side),
        {**IMAGES, "model": "progressive", "grow_steps": 2, "ema": 0.9, "penalty": "r1"},
    ),
}
