"""Generators to export: every model with random weights and statistics, and layers of all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import minigan as mg
from minigan import nn, ops
from minigan.data import Dataset
from minigan.gan.models import MODELS
from minigan.training.sampler import Sampler

CONVOLUTIONAL = ("dcgan", "sngan", "narrow", "resnet", "progressive")


def randomize(net: nn.Module, seed: int = 0) -> nn.Module:
    """The net with running statistics as of a training, and batch norm's weights away from 1."""
    rng = np.random.default_rng(seed)
    for name, x in net.tensors():
        last = name.rpartition(".")[2]
        if last in ("running_mean", "running_var") or (last != "weight" and x.ndim == 1):
            low, high = (0.5, 2.0) if last == "running_var" else (-0.3, 0.3)
            mg.optim.assign(x, mg.tensor(rng.uniform(low, high, x.shape).astype(np.float32)))
    return net


def sample_shape(model: str) -> tuple[int, ...]:
    """Three channels and two different sides; points for models of points."""
    if model.startswith("toy"):
        return (2,)
    return (3, 16, 8) if model in CONVOLUTIONAL else (3, 5, 7)


def make_sampler(
    model: str, condition: str = "none", shape: tuple[int, ...] = (), **options: Any
) -> Sampler:
    """The sampler of a trainer at step 0; the average, if any, differs from the generator."""
    rng = np.random.default_rng(1)
    shape = shape or sample_shape(model)
    values = np.tanh(rng.standard_normal((24, *shape))).astype(np.float32)
    names = ("ant", "bee", "cat")
    data = Dataset("noise", values, np.arange(24) % 3, 3, class_names=names)
    config = mg.Config(model=model, condition=condition, batch=4, **options)
    trainer = mg.Trainer(config, data)
    randomize(trainer.players.generator, 1)
    if trainer.players.average is not None:
        randomize(trainer.players.average.module, 2)
    return trainer.sampler


def latents(sampler: Sampler, n: int, seed: int = 7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, sampler.latent_size)).astype(np.float32)


def expected(sampler: Sampler, z: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    return sampler.generate(mg.tensor(z), y)


def run_onnx(path: Path, *inputs: np.ndarray | None) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {x.name: value for x, value in zip(session.get_inputs(), inputs, strict=False)}
    (samples,) = session.run(["samples"], feed)
    return samples


MODEL_NAMES = list(MODELS)


class Function(nn.Module):
    """A generator that is a linear layer and a function of its 6 features."""

    def __init__(self, function: Any) -> None:
        self.layer = nn.Dense(4, 6)
        self.function = function

    def forward(self, latent: mg.Tensor) -> mg.Tensor:
        return self.function(self.layer(latent))


def images(x: mg.Tensor) -> mg.Tensor:
    """(n, 6) to images (n, 1, 2, 3) that are then 4 x 6."""
    return ops.upsample_nearest(x.reshape(-1, 1, 2, 3), 2)
