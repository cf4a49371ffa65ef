"""Presets: the options of a run that trains a published GAN on suitable data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Options of a run.

    Attributes:
        paper: the publication that the method is from.
        about: a description for the command line.
        options: the fields of a `Config` that differ from the defaults.
        needs_data: whether it is for the user's own data only.
    """

    paper: str
    about: str
    options: dict[str, Any]
    needs_data: bool = False


_GOODFELLOW = "Goodfellow et al. 2014"
_CONVOLUTIONAL = {"steps": 3000, "sample_every": 250}
# Options for mixtures with narrow modes: learning rates that fall to 0, no momentum, an average of
# G, and standardized data. `minigan reproduce` compares methods with them.
NARROW_MODES: dict[str, Any] = {
    "standardize": True,
    "model": "toy-relu",
    "steps": 25_000,
    "batch": 128,
    "lr_g": 2e-3,
    "lr_d": 2e-3,
    "beta1": 0.0,
    "beta2": 0.99,
    "schedule": "linear",
    "ema": 0.999,
}
R3GAN: dict[str, Any] = {
    "loss": "relativistic",
    "penalty": "r1+r2",
    "penalty_weight": 0.05,
    "penalty_end": 1e-5,
}

# Options for a folder of a few hundred images: R3GAN's loss and penalties on small nets without
# norm in D, DiffAugment and mirrored images, an average of G. They were measured only on 300 drawn
# images of three classes (tests/photo_folder.py); README.md beside this module has the
# numbers. With twice the rates D's gradients explode at 64 x 64, with half of them learning takes
# twice the steps; cutout, which DiffAugment also has, makes it slower.
PHOTOS: dict[str, Any] = {
    "fit": "crop",
    "mirror": True,
    "model": "narrow",
    "loss": "relativistic",
    "penalty": "r1+r2",
    "penalty_weight": 0.5,
    "augment": "color,translation",
    "steps": 4000,
    "batch": 32,
    "lr_g": 1e-3,
    "lr_d": 1e-3,
    "beta1": 0.0,
    "beta2": 0.99,
    "ema": 0.999,
    "sample_every": 500,
    "checkpoint_every": 500,
}

# The GANs of the tutorials are trained without the bugs of the tutorials: cross-entropy of logits,
# images in [-1, 1] as from tanh, alternating updates of D and G, shuffled batches, beta1 = 0.5.
PRESETS = {
    "keras-mlp": Preset(
        _GOODFELLOW, "the Keras tutorial's GAN: dropout 0.3 in D", {"model": "mlp-dropout"}
    ),
    "pytorch-mlp": Preset(
        _GOODFELLOW, "the PyTorch tutorial's GAN: batch 128", {"model": "mlp", "batch": 128}
    ),
    "tf-mlp": Preset(
        _GOODFELLOW, "the TensorFlow tutorial's GAN: 1024 units, twice", {"model": "mlp-wide"}
    ),
    "lsgan": Preset("Mao et al. 2017", "least squares on logits", {"loss": "leastsquares"}),
    "wgan": Preset(
        "Arjovsky et al. 2017",
        "a critic with clipped weights",
        {
            "data": "swiss-roll",
            "loss": "wasserstein",
            "clip_weights": 0.1,
            "n_critic": 5,
            "optimizer": "rmsprop",
            "beta2": 0.99,
            "lr_g": 5e-4,
            "lr_d": 5e-4,
            "batch": 256,
            "steps": 5000,
        },
    ),
    "wgan-gp": Preset(
        "Gulrajani et al. 2017",
        "a critic with gradient norm 1",
        {
            "data": "swiss-roll",
            "loss": "wasserstein",
            "penalty": "wgan-gp",
            "penalty_weight": 0.1,
            "n_critic": 5,
            "lr_g": 1e-3,
            "lr_d": 1e-3,
            "beta2": 0.9,
            "batch": 256,
            "steps": 5000,
        },
    ),
    "dragan": Preset(
        "Kodali et al. 2017",
        "gradient norm 1 around the data",
        {"penalty": "dragan"},
    ),
    "hinge": Preset(
        "Lim and Ye 2017", "margins, and two time scales (TTUR)", {"loss": "hinge", "lr_d": 4e-4}
    ),
    "sngan": Preset(
        "Miyato et al. 2018", "spectral norm in D", {"model": "sngan", **_CONVOLUTIONAL}
    ),
    "r3gan": Preset(
        "Huang et al. 2024",
        "relativistic pairs, R1 and R2",
        {"data": "grid", **NARROW_MODES, **R3GAN},
    ),
    "dcgan": Preset(
        "Radford et al. 2016", "convolutions and batch norm", {"model": "dcgan", **_CONVOLUTIONAL}
    ),
    "resnet": Preset(
        "Miyato et al. 2018, table 4",
        "residual nets, spectral norm in D, hinge",
        {
            "model": "resnet",
            "loss": "hinge",
            "steps": 2000,
            "sample_every": 250,
            "beta1": 0.0,
            "beta2": 0.9,
        },
    ),
    "cgan": Preset(
        "Mirza and Osindero 2014", "labels as one more channel", {"condition": "concat"}
    ),
    "acgan": Preset("Odena et al. 2017", "D also classifies samples", {"condition": "acgan"}),
    "infogan": Preset(
        "Chen et al. 2016",
        "D also recovers a code of the latents, so it means something",
        {"condition": "infogan", "codes": 2},
    ),
    "projection": Preset(
        "Miyato and Koyama 2018",
        "labels as an inner product with D's features",
        {"condition": "projection", "model": "sngan", **_CONVOLUTIONAL},
    ),
    "pacgan": Preset(
        "Lin et al. 2018",
        "D has two samples as one input",
        {"data": "ring", **NARROW_MODES, "pack": 2},
    ),
    "progressive": Preset(
        "Karras et al. 2018",
        "nets that grow from small images to the full size",
        {
            "model": "progressive",
            "penalty": "r1",
            "penalty_weight": 0.5,
            "steps": 3000,
            "sample_every": 250,
            "lr_g": 1e-3,
            "lr_d": 1e-3,
            "beta1": 0.0,
            "beta2": 0.99,
            "ema": 0.999,
        },
    ),
    "photos-64": Preset(
        "Huang et al. 2024; Zhao et al. 2020",
        "a few hundred images, resized to 64 x 64",
        {**PHOTOS, "size": "64"},
        needs_data=True,
    ),
    "photos-32": Preset(
        "Huang et al. 2024; Zhao et al. 2020",
        "the same, resized to 32 x 32",
        {**PHOTOS, "size": "32"},
        needs_data=True,
    ),
}
