"""Ten healthy runs: different losses, penalties, nets, conditions and data."""

from __future__ import annotations

from typing import Any

from ...gan.presets import R3GAN
from .planted import DIGITS, GRID, RING, SPIRAL, Case

_GRID: dict[str, Any] = {**GRID, "model": "toy-relu"}
_GLYPHS: dict[str, Any] = {
    "ema": 0.99,
    "data": "glyphs",
    "samples": 3000,
    "steps": 500,
    "batch": 64,
    "lr_g": 5e-4,
    "lr_d": 5e-4,
    "log_every": 25,
    "sample_every": 250,
    "checkpoint_every": 500,
    "keep": 0,
}

HEALTHY: dict[str, Case] = {
    "ring, non-saturating": Case(
        "two nets of 128 units", {**RING, "schedule": "linear", "lr_d": 2e-3}, "modes"
    ),
    "ring, R3GAN": Case(
        "relativistic pairs, R1 and R2", {**RING, **R3GAN, "penalty_end": None}, "modes"
    ),
    "grid, hinge": Case(
        "25 modes, rates that fall to 0",
        {**_GRID, "loss": "hinge", "lr_g": 2e-3, "lr_d": 4e-3, "schedule": "linear"},
        "modes",
    ),
    "grid, concat": Case(
        "a cGAN: labels beside latents and points",
        {**_GRID, "condition": "concat"},
        "label agreement",
    ),
    "swiss-roll, WGAN-GP": Case(
        "a critic with gradient norm 1",
        {
            **SPIRAL,
            "loss": "wasserstein",
            "penalty": "wgan-gp",
            "penalty_weight": 0.1,
            "n_critic": 2,
        },
    ),
    "swiss-roll, least squares": Case(
        "least squares on logits", {**SPIRAL, "loss": "leastsquares"}
    ),
    "small digits, hinge": Case(
        "hinge, R1", {**DIGITS, "loss": "hinge", "penalty": "r1", "lr_g": 2e-4, "lr_d": 5e-4}
    ),
    "small digits, AC-GAN": Case(
        "the discriminator also classifies",
        {**DIGITS, "condition": "acgan", "penalty": "r1", "lr_g": 2e-4, "lr_d": 5e-4},
    ),
    "glyphs, MLP": Case("the tutorials' nets, R1", {**_GLYPHS, "model": "mlp", "penalty": "r1"}),
    "discs, convolutions": Case(
        "colour images of 16 x 16, relativistic pairs, R1 and R2",
        {
            **_GLYPHS,
            "data": "discs",
            "samples": 2000,
            "model": "narrow",
            "loss": "relativistic",
            "penalty": "r1+r2",
            "penalty_weight": 0.5,
            "batch": 16,
            "lr_g": 1e-3,
            "lr_d": 1e-3,
            "beta1": 0.0,
            "beta2": 0.99,
            "steps": 300,
            "log_every": 15,
            "sample_every": 150,
        },
    ),
}
