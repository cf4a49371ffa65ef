"""What a training run is made of: one flat record, written to config.json as it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .device import device_names
from .losses import LOSSES
from .models import MODELS
from .names import choose

LATENTS = ("normal", "uniform", "laplace")


@dataclass(frozen=True)
class Config:
    """All options of a run. None means: what suits the data, filled in when they are loaded.

    Raises ValueError, with the option's name, for a value that is not accepted.
    """

    data: str = "glyphs"
    split: str = "train"
    data_dir: str | None = None
    size: int | None = None  # samples to make, for the sets that are made
    holdout: float = 0.1  # share set aside for `minigan evaluate`
    model: str | None = None
    loss: str = "nonsaturating"
    smooth: float = 1.0  # target for real samples (one-sided label smoothing)
    latent: str = "normal"
    latent_size: int | None = None
    steps: int = 12_000
    batch: int = 64
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    beta1: float = 0.5
    n_critic: int = 1  # discriminator updates per step
    n_generator: int = 1  # generator updates per step
    ema: float = 0.0  # decay of the generator's average, which is then what makes samples; 0: none
    device: str = "cpu"
    seed: int = 0
    log_every: int = 50
    sample_every: int = 1000
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.data, str) or not isinstance(self.data_dir, str | None):
            raise ValueError(
                f"data = {self.data!r}, data_dir = {self.data_dir!r}: strings are needed"
            )
        if self.model is not None:
            choose("model", self.model, MODELS)
        choose("loss", self.loss, LOSSES)
        choose("latent", self.latent, dict.fromkeys(LATENTS))
        choose("device", self.device, dict.fromkeys(device_names()))
        counts = ["steps", "batch", "n_critic", "n_generator", "log_every", "sample_every"]
        for name in [*counts, "checkpoint_every", "latent_size", "size"]:
            value = getattr(self, name)
            optional = name in ("latent_size", "size")
            if not (optional and value is None) and (type(value) is not int or value < 1):
                raise ValueError(f"{name} = {value!r} is not a positive integer")
        for name in ("lr_g", "lr_d", "beta1", "ema", "smooth", "holdout"):
            if not isinstance(getattr(self, name), int | float):
                raise ValueError(f"{name} = {getattr(self, name)!r} is not a number")
        for name in ("lr_g", "lr_d"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} = {getattr(self, name)!r} is not a positive number")
        for name in ("beta1", "ema", "holdout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r} is not in [0, 1)")
        if not 0.5 < self.smooth <= 1:
            raise ValueError(f"smooth = {self.smooth!r} is not in (0.5, 1]")
        if type(self.seed) is not int or not 0 <= self.seed < 2**64:
            raise ValueError(f"seed = {self.seed!r} is not an integer in [0, 2^64)")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def replace(self, **options: Any) -> Config:
        return dataclasses.replace(self, **options)


@dataclass(frozen=True)
class Preset:
    """Options under a name, and what they stand for."""

    about: str
    options: dict[str, Any]


# What each tutorial meant, without its bugs: logits into one cross-entropy, images in [-1, 1] to
# match tanh, D and G updated in turn, shuffled batches, Adam with beta1 = 0.5.
PRESETS = {
    "keras-mlp": Preset(
        "the Keras tutorial's GAN: dropout 0.3 in D, batch 64",
        {"model": "mlp-dropout", "batch": 64},
    ),
    "pytorch-mlp": Preset(
        "the PyTorch tutorial's GAN: no dropout, batch 128",
        {"model": "mlp", "batch": 128},
    ),
    "tf-mlp": Preset(
        "the TensorFlow tutorial's GAN: two hidden layers of 1024, batch 64",
        {"model": "mlp-wide", "batch": 64},
    ),
    "dcgan": Preset(
        "convolutions and batch norm (Radford et al. 2016)",
        {"model": "dcgan", "batch": 64, "steps": 3000, "sample_every": 250},
    ),
    "sngan": Preset(
        "the same with spectral norm in D (Miyato et al. 2018)",
        {"model": "sngan", "batch": 64, "steps": 3000, "sample_every": 250},
    ),
    "resnet": Preset(
        "residual nets, spectral norm in D (Miyato et al. 2018, table 4)",
        {"model": "resnet", "batch": 64, "steps": 2000, "sample_every": 250, "beta1": 0.0},
    ),
}
