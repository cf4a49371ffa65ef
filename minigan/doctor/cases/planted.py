"""The twelve planted failures: what a user did wrong, and the finding that must name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """A short run.

    Attributes:
        about: what was done.
        options: the fields of its Config, but for the seed.
        measure: the one of `measures.MEASURES` that shows whether it went well.
        remedy: what the finding's text says to change, where the doctor cannot write it into the
            configuration: nets of the user's own.
    """

    about: str
    options: Mapping[str, Any]
    measure: str = "distance"
    remedy: Mapping[str, Any] = field(default_factory=dict)


# Twenty lines of metrics are enough for the doctor; pictures take time, so there are few.
_POINTS: dict[str, Any] = {
    "samples": 20_000,
    "steps": 1200,
    "batch": 128,
    "beta1": 0.0,
    "beta2": 0.99,
    "lr_g": 1e-3,
    "lr_d": 1e-3,
    "ema": 0.99,
    "log_every": 30,
    "sample_every": 400,
    "checkpoint_every": 1200,
    "keep": 0,
}
SPIRAL: dict[str, Any] = {"data": "swiss-roll", "model": "toy", **_POINTS}
RING: dict[str, Any] = {**SPIRAL, "data": "ring", "standardize": True}
GRID: dict[str, Any] = {**RING, "data": "grid"}
DIGITS: dict[str, Any] = {
    **_POINTS,
    "data": "small-digits",
    "model": "toy-wide",
    "samples": 4000,
    "steps": 1000,
    "log_every": 25,
    "sample_every": 500,
    "batch": 64,
    "beta1": 0.5,
    "beta2": 0.999,
}

PLANTED: dict[str, Case] = {
    "mode-collapse": Case(
        "the generator's learning rate is ten times the discriminator's",
        {**RING, "lr_g": 2e-3, "lr_d": 2e-4, "ema": 0.0},
        "modes",
    ),
    "vanishing-gradient": Case(
        "the minimax loss, and three discriminator steps with five times the generator's rate",
        {**DIGITS, "loss": "minimax", "lr_g": 2e-4, "n_critic": 3},
    ),
    "memorizing-discriminator": Case(
        "a hundred samples, and three discriminator steps with five times the generator's rate",
        {**DIGITS, "samples": 130, "holdout": 0.25, "batch": 32, "lr_g": 2e-4, "n_critic": 3},
    ),
    "oscillation": Case(
        "a Wasserstein critic with clipped weights, trained by Adam with momentum 0.9",
        {**SPIRAL, "loss": "wasserstein", "clip_weights": 0.1, "beta1": 0.9, "ema": 0.0},
    ),
    "exploding-values": Case(
        "SGD with momentum 0.9 and learning rates of 0.05",
        {**SPIRAL, "optimizer": "sgd", "beta1": 0.9, "lr_g": 0.05, "lr_d": 0.05, "log_every": 5},
    ),
    "dead-units": Case(
        "nets with ReLU, and Adam with learning rates of 0.05",
        {**SPIRAL, "model": "relu-nets", "latent_size": 2, "lr_g": 0.05, "lr_d": 0.05},
    ),
    "range-mismatch": Case(
        "points with coordinates of up to 1900, not standardized",
        {**SPIRAL, "data": "spiral-in-micrometres"},
    ),
    "sigmoid-twice": Case(
        "a discriminator that ends in a sigmoid, with the loss of logits",
        {**DIGITS, "model": "ends-in-sigmoid", "latent_size": 64},
        remedy={"model": "toy"},
    ),
    "learning-rate-exhausted": Case(
        "a linear schedule that ends after a twentieth of the steps",
        {**SPIRAL, "lr_g": 3e-4, "lr_d": 3e-4, "schedule": "linear", "schedule_steps": 60},
    ),
    "weak-discriminator": Case(
        "a discriminator of two hidden units",
        {**SPIRAL, "model": "two-units", "latent_size": 2},
        remedy={"model": "toy"},
    ),
    "ignored-labels": Case(
        "a discriminator that does not use the label beside the point",
        {**GRID, "model": "drops-the-label", "latent_size": 2, "condition": "concat"},
        "label agreement",
        remedy={"model": "toy"},
    ),
    "penalty-too-strong": Case(
        "an R1 penalty of weight 1000",
        {**SPIRAL, "penalty": "r1", "penalty_weight": 1000.0},
    ),
}
