"""Data and nets of a user's own for the cases; `registered` enters them in the tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ... import nn
from ...data import Dataset, load
from ...data import register as register_data
from ...engine.tensor import Tensor
from ...gan.convolutional import Shape
from ...gan.models import register as register_model

SIDE, CELL = 7, 4  # a small digit has 7 x 7 numbers, each the mean of 4 x 4 pixels
Nets = tuple[nn.Module, nn.Module]


def small_digits(samples: int = 4000, seed: int = 0, split: str = "train") -> Dataset:
    """Return digits of 49 numbers in [-1, 1], the pixels of glyphs averaged in 4 x 4 cells."""
    glyphs = load("glyphs", samples=samples, seed=seed, split=split)
    cells = glyphs.values.reshape(-1, SIDE, CELL, SIDE, CELL).mean((2, 4))
    return Dataset("small-digits", cells.reshape(-1, SIDE * SIDE), glyphs.labels, glyphs.classes)


def spiral_in_micrometres(samples: int = 20_000, seed: int = 0, split: str = "train") -> Dataset:
    """Return the points of swiss-roll times 1000."""
    roll = load("swiss-roll", samples=samples, seed=seed, split=split)
    return Dataset("spiral-in-micrometres", roll.values * 1000)


def discs(samples: int = 2000, seed: int = 0, split: str = "train") -> Dataset:
    """Return colour images (3, 16, 16) of a bright disc on a dark ground."""
    rng = np.random.Generator(np.random.Philox([seed, split == "test"]))
    x, y = rng.uniform(5, 10, (2, samples, 1, 1, 1))
    radius = rng.uniform(2.5, 5, (samples, 1, 1, 1))
    bright, dark = rng.uniform(0, 1, (samples, 3, 1, 1)), rng.uniform(-1, -0.6, (samples, 3, 1, 1))
    rows, columns = np.mgrid[:16, :16]
    inside = 1 / (1 + np.exp(2 * (np.hypot(rows - y, columns - x) - radius)))  # smooth edges
    return Dataset("discs", dark + (bright - dark) * inside)


def layers(inputs: int, outputs: int, width: int, activation: type[nn.Module]) -> list[nn.Module]:
    """Return the layers of a net with two hidden layers."""
    sizes = (inputs, width, width, outputs)
    stack: list[nn.Module] = []
    for size, next_size in itertools.pairwise(sizes):
        stack += [nn.Dense(size, next_size), activation()]
    return stack[:-1]


def relu_nets(sample_shape: Shape, latent_size: int) -> Nets:
    """Return nets for points with ReLU, whose units can die, in both."""
    (n,) = sample_shape
    return (
        nn.Sequential(*layers(latent_size, n, 128, nn.ReLU)),
        nn.Sequential(*layers(n, 1, 128, nn.ReLU)),
    )


def ends_in_sigmoid(sample_shape: Shape, latent_size: int) -> Nets:
    """Return nets for points; the discriminator returns probabilities, not logits."""
    (n,) = sample_shape
    return (
        nn.Sequential(*layers(latent_size, n, 128, nn.LeakyReLU)),
        nn.Sequential(*layers(n, 1, 128, nn.LeakyReLU), nn.Sigmoid()),
    )


def two_units(sample_shape: Shape, latent_size: int) -> Nets:
    """Return nets for points; the discriminator has one hidden layer of two units."""
    (n,) = sample_shape
    return (
        nn.Sequential(*layers(latent_size, n, 128, nn.LeakyReLU)),
        nn.Sequential(nn.Dense(n, 2), nn.LeakyReLU(0.2), nn.Dense(2, 1)),
    )


class FirstColumns(nn.Module):
    """Return the first n columns of x, (batch, n)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.n]


def drops_the_label(sample_shape: Shape, latent_size: int, discriminator_shape: Shape) -> Nets:
    """Return nets for points; the discriminator uses the point, and not the label beside it."""
    (n,) = sample_shape
    return (
        nn.Sequential(*layers(latent_size, n, 128, nn.LeakyReLU)),
        nn.Sequential(FirstColumns(n), *layers(n, 1, 128, nn.LeakyReLU)),
    )


DATA = {
    "small-digits": small_digits,
    "spiral-in-micrometres": spiral_in_micrometres,
    "discs": discs,
}
MODELS = {
    "relu-nets": relu_nets,
    "ends-in-sigmoid": ends_in_sigmoid,
    "two-units": two_units,
    "drops-the-label": drops_the_label,
}


@contextmanager
def registered() -> Iterator[None]:
    """Enter the data and nets in the tables of `mg.data` and `mg.models` while the block runs."""
    for register, things in ((register_data, DATA), (register_model, MODELS)):
        for name, thing in things.items():
            register.add(name, thing)
    try:
        yield
    finally:
        for register, things in ((register_data, DATA), (register_model, MODELS)):
            for name in things:
                del register.table[name]
