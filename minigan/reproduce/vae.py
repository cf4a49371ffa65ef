"""A VAE beside a GAN: bounds, reconstructions and samples of digits, with PCA as the baseline.

The decoder of each VAE is the GAN's generator without tanh, its encoder the GAN's discriminator
with another last layer (Kingma and Welling 2014; Goodfellow et al. 2014). PCA has as many
components as the others have latents; with its probabilistic form (Tipping and Bishop 1999) it has
a density and samples too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..engine.autograd import grad
from ..engine.capture import capture
from ..engine.tensor import Tensor, no_grad, tensor
from ..gan.models import MODELS
from ..metrics import (
    feature_net,
    frechet_distance,
    precision_recall,
    sharpness,
    sliced_wasserstein,
)
from ..metrics.features import FeatureNet
from ..optim import Adam
from ..training.config import Config
from ..training.trainer import Trainer
from ..utils.figures import figure, tile
from ..vae import VAE
from .experiment import Case, CaseResult, Experiment, Goal, Measure, Outcome
from .parzen import split

SHOWN = 64  # images in the figure, per case
LATENTS_OF_BOUND = 50  # of the importance-weighted bound


# ------------------------------------------------------------------------------------------ data
@cache
def digits(name: str, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (training, floor, test) images in [0, 1]; no image is in two of them."""
    train, validation, test = ((data.values + 1) / 2 for data in split(name, part))
    return train, validation, test


@cache
def classifier(name: str, part: str) -> FeatureNet:
    """Return the classifier whose features the Frechet distance, precision and recall use."""
    return feature_net(*split(name, part)[:2])


def binarize(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return images of 0 and 1: each pixel is 1 with its grey value as the probability.

    So a likelihood of binary pixels is one of images, in nats (Salakhutdinov and Murray 2008).
    """
    return (rng.random(images.shape, dtype=np.float32) < images).astype(np.float32)


# ------------------------------------------------------------------------------------- the models
def build_vae(model: str, sample_shape: tuple[int, ...], latent_size: int, likelihood: str) -> VAE:
    """Return a VAE of the nets of a GAN: a name of MODELS whose generator ends in tanh."""
    generator, discriminator = MODELS[model].build(sample_shape, latent_size)
    decoder = nn.Sequential(*(layer for layer in generator if not isinstance(layer, nn.Tanh)))
    *layers, head = discriminator
    assert isinstance(head, nn.Dense)
    encoder = nn.Sequential(*layers, nn.Dense(head.in_features, 2 * latent_size))
    return VAE(encoder, decoder, latent_size, likelihood)


def train_vae(config: Mapping[str, Any], seed: int, train: np.ndarray) -> VAE:
    """Return a VAE after Adam's steps; the learning rate falls linearly to 0."""
    rng = np.random.Generator(np.random.Philox(seed))
    vae = build_vae(config["model"], train.shape[1:], config["latent_size"], config["likelihood"])
    optimizer = Adam(vae.parameters())

    @capture
    def step(x: Tensor) -> None:
        optimizer.step(grad(-vae.elbo(x).mean(), vae.parameters()))

    for i in range(config["steps"]):
        x = train[rng.integers(len(train), size=config["batch"])]
        optimizer.lr = config["lr"] * (1 - i / config["steps"])
        step(tensor(x if vae.is_gaussian else binarize(x, rng)))
    return vae.eval()


class Pca:
    """Probabilistic PCA by maximum likelihood (Tipping and Bishop 1999), in float64.

    Attributes:
        mean: of the data, (d,).
        axes: (d, k) orthonormal, those of the k largest eigenvalues.
        deviations: (k,) of the latents' images along the axes, without the noise.
        variance: of the noise, the mean of the other eigenvalues.
    """

    def __init__(self, x: np.ndarray, components: int) -> None:
        rows = x.reshape(len(x), -1).astype(np.float64)
        self.mean = rows.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
        self.axes, self.values = vectors[:, -components:], values[-components:]
        self.variance = float(values[:-components].mean())
        self.deviations = np.sqrt(self.values - self.variance)

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """Return the nearest images in the space of the axes, the least squared error of all."""
        rows = x.reshape(len(x), -1) - self.mean
        return (rows @ self.axes @ self.axes.T + self.mean).reshape(x.shape)

    def log_likelihood(self, x: np.ndarray) -> np.ndarray:
        """Return the exact log density of each image in nats, (n,)."""
        rows = x.reshape(len(x), -1) - self.mean
        size, (_, k) = rows.shape[1], self.axes.shape
        scores = rows @ self.axes
        rest = (rows**2).sum(axis=1) - (scores**2).sum(axis=1)
        squares = (scores**2 / self.values).sum(axis=1) + rest / self.variance
        log_det = np.log(self.values).sum() + (size - k) * np.log(self.variance)
        return -(squares + log_det + size * np.log(2 * np.pi)) / 2

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return n images (n, d) without the noise, as a VAE's are shown."""
        latents = rng.standard_normal((n, len(self.deviations)))
        return (latents * self.deviations) @ self.axes.T + self.mean


# --------------------------------------------------------------------------------- what is measured
def measure_samples(images: np.ndarray, config: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Return how near images in [0, 1] are to as many test images, and how sharp they are."""
    real = digits(config["data"], config["split"])[2]
    x, y = np.clip(images, 0, 1) * 2 - 1, real * 2 - 1
    net = classifier(config["data"], config["split"])
    features, real_features = net.features(x), net.features(y)
    overlap = precision_recall(real_features, features)
    return {
        "sliced": sliced_wasserstein(x[: len(y)], y[: len(x)], seed=seed),
        "frechet": frechet_distance(features, real_features),
        "precision": overlap.precision,
        "recall": overlap.recall,
        "sharpness": sharpness(x, y),
    }


def measure_vae(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a VAE; measure its bounds, reconstructions and samples.

    Args:
        config: "data" and "split"; "model", "latent_size", "likelihood", and "steps", "batch" and
            "lr" of the training.
        seed: of weights, batches and noise; the split of the data is always the same.
    """
    train, _, test = digits(config["data"], config["split"])
    vae = train_vae(config, seed, train)
    seen = test if vae.is_gaussian else binarize(test, np.random.Generator(np.random.Philox(0)))
    with no_grad():
        elbo, bound = (
            np.concatenate([function(tensor(x)).numpy() for x in np.array_split(seen, 10)])
            for function in (vae.elbo, lambda x: vae.importance_bound(x, LATENTS_OF_BOUND))
        )
        again = vae.reconstruct(tensor(test)).numpy()
        images = vae.sample(len(test)).numpy()
    values = {
        "elbo": float(elbo.mean()),
        "bound": float(bound.mean()),
        "error": float(((again - test) ** 2).mean()),
        **measure_samples(images, config, seed),
    }
    return Outcome(values, {"reconstructed": again[:SHOWN], "images": images[:SHOWN]})


def measure_gan(config: Mapping[str, Any], seed: int) -> Outcome:
    """Train a GAN, whose "training" are the options of a `Config`; measure its samples."""
    options = Config.from_dict(dict(config["training"]))
    trainer = Trainer(options.replace(seed=seed), split(options.data, options.split)[0])
    for _ in range(options.steps):
        trainer.step()
    images = (trainer.sample(len(digits(options.data, options.split)[2]), seed) + 1) / 2
    values = measure_samples(images, config["training"], seed)
    return Outcome(values, {"images": images[:SHOWN].astype(np.float32)})


def measure_pca(config: Mapping[str, Any], seed: int) -> Outcome:
    """Fit PCA; measure its exact log-likelihood, reconstructions and samples."""
    train, _, test = digits(config["data"], config["split"])
    pca = Pca(train, config["latent_size"])
    again, rng = pca.reconstruct(test), np.random.Generator(np.random.Philox(seed))
    images = pca.sample(len(test), rng).reshape(test.shape).astype(np.float32)
    nats = float(pca.log_likelihood(test).mean())
    values = {
        "elbo": nats,
        "bound": nats,
        "error": float(((again - test) ** 2).mean()),
        **measure_samples(images, config, seed),
    }
    shown = again[:SHOWN].astype(np.float32)
    return Outcome(values, {"reconstructed": shown, "images": images[:SHOWN]})


def measure_data(config: Mapping[str, Any], seed: int) -> Outcome:
    """Measure other held-out digits in the place of samples: the floor of each measure."""
    _, floor, test = digits(config["data"], config["split"])
    return Outcome(measure_samples(floor, config, seed), {"images": test[:SHOWN]})


# ------------------------------------------------------------------------------------------- figure
def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG: reconstructions of the test digits above, samples below, a column per case."""
    with figure(path, 2.6 * len(results), 6.0) as drawing:
        panels = drawing.subplots(2, len(results), squeeze=False)
        for (top, bottom), result in zip(panels.T, results, strict=True):
            arrays = result.arrays[0]
            for axes in (top, bottom):
                axes.set_axis_off()
            is_data = "reconstructed" not in arrays and top is panels[0, 0]
            shown = arrays.get("reconstructed", arrays["images"] if is_data else None)
            if shown is not None:
                top.imshow(tiles(shown), cmap="gray", vmin=0, vmax=255)
                top.set_title(f"{result.name}\n{'test digits' if is_data else 'reconstructed'}")
            if not is_data:
                bottom.imshow(tiles(arrays["images"]), cmap="gray", vmin=0, vmax=255)
                sharpness = 100 * np.mean(result.values["sharpness"])
                bottom.set_title(f"{result.name}: samples\nsharpness {sharpness:.0f} %")


def tiles(images: np.ndarray) -> np.ndarray:
    """Return images in [0, 1] side by side, clipped."""
    return tile(np.clip(images, 0, 1) * 2 - 1, columns=8)


# -------------------------------------------------------------------------------------------- table
_DATA: dict[str, Any] = {"data": "mnist", "split": "test"}
_NETS: dict[str, Any] = {"model": "mlp", "latent_size": 32}
_VAE: dict[str, Any] = {**_DATA, **_NETS, "steps": 4000, "batch": 64, "lr": 1e-3}
_GAN = Config(
    **_DATA,
    **_NETS,
    holdout=0.0,
    loss="relativistic",
    penalty="r1+r2",
    penalty_weight=0.5,
    steps=1500,
    batch=64,
    lr_g=1e-3,
    lr_d=1e-3,
    beta1=0.0,
    beta2=0.99,
    schedule="linear",
    ema=0.99,
).as_dict()


# What PCA reaches; nothing of it is random. A VAE has to be better, and its samples to be blurred.
_PCA_NATS, _PCA_ERROR = 412.8615, 0.01669
_GOALS = {"error": Goal(high=_PCA_ERROR), "sharpness": Goal(high=0.9)}

VAE_AND_GAN = Experiment(
    about="a VAE beside a GAN of the same nets and training time, on digits",
    source="",
    minutes=9,
    cases={
        "data": Case(measure_data, _DATA, seeds=1),
        "PCA": Case(measure_pca, {**_DATA, "latent_size": _NETS["latent_size"]}),
        "VAE, Gaussian": Case(
            measure_vae,
            {**_VAE, "likelihood": "gaussian"},
            {"elbo": Goal(low=_PCA_NATS), **_GOALS},
        ),
        "VAE, Bernoulli": Case(measure_vae, {**_VAE, "likelihood": "bernoulli"}, _GOALS),
        "GAN": Case(measure_gan, {"training": _GAN}, {"sharpness": Goal(low=0.9)}),
    },
    measures={
        "elbo": Measure("elbo, nats", 1),
        "bound": Measure("bound with 50 latents", 1),
        "error": Measure("reconstruction error x 1000", 2, 1000),
        "sliced": Measure("sliced Wasserstein", 4),
        "frechet": Measure("Frechet", 3),
        "precision": Measure("precision, %", 1, 100),
        "recall": Measure("recall, %", 1, 100),
        "sharpness": Measure("sharpness, %", 0, 100),
    },
    published={},
    draw=draw,
    caption=(
        "Seed 0. Above: test digits and their reconstructions from 32 numbers. Below: samples, of a"
        " VAE and of PCA the means of the pixels."
    ),
)
