"""A classifier trained on real data alone: whether samples show the label that was asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import nn, optim
from ..engine import random
from ..engine.autograd import grad
from ..engine.capture import capture
from ..engine.tensor import Tensor, no_grad, tensor
from ..gan.losses import cross_entropy
from ..optim.schedules import factor
from ..utils.progress import training_bar

PART = 512  # samples classified at once


def train_classifier(
    values: np.ndarray,
    labels: np.ndarray,
    classes: int,
    steps: int = 600,
    seed: int = 0,
    progress: bool = False,
) -> nn.Module:
    """A net from samples (n, ...) to logits (n, classes), trained on them, in eval mode.

    Images (n, c, h, w): two convolutions of stride 2 with 32 and 64 channels and two dense layers;
    points (n, d): three dense layers. Adam at 2e-3 falling to 0, batches of 128 drawn with
    replacement, cross-entropy. The same seed gives the same net, and no other random numbers are
    touched.

    Raises:
        ValueError: values and labels do not fit together, a label is none of the classes, or there
            are fewer than two of them.
    """
    if len(values) != len(labels) or not len(values) or classes < 2:
        raise ValueError(
            f"train_classifier: {len(values)} samples, {len(labels)} labels, {classes} classes; as"
            " many labels as samples, and two classes or more, are needed"
        )
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise ValueError(f"train_classifier: label {outside[0]} is not one of 0 .. {classes - 1}")
    before = random.default_generator().state()
    random.manual_seed(seed)
    try:
        return _trained(values, labels, classes, steps, seed, progress)
    finally:
        random.default_generator().set_state(before)


def _trained(
    values: np.ndarray, labels: np.ndarray, classes: int, steps: int, seed: int, progress: bool
) -> nn.Module:
    net = _net(values.shape[1:], classes)
    optimizer = optim.Adam(net.parameters(), 2e-3)

    @capture
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = cross_entropy(net(x), y)
        optimizer.step(grad(loss, net.parameters()))
        return loss

    rows = np.random.Generator(np.random.Philox(seed))
    with training_bar("classifier", steps, 0, progress) as bar:
        for i in range(steps):
            optimizer.lr = 2e-3 * factor("cosine", i, steps)
            chosen = rows.integers(len(values), size=128)
            step(tensor(values[chosen], dtype="float32"), tensor(labels[chosen], dtype="int64"))
            bar.update()
    return net.eval()


def _net(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    if len(shape) != 3:
        size = math.prod(shape)
        return nn.Sequential(
            *(nn.Flatten(), nn.Dense(size, 128), nn.ReLU()),
            *(nn.Dense(128, 128), nn.ReLU(), nn.Dense(128, classes)),
        )
    height, width = ((n + 3) // 4 for n in shape[1:])  # halved twice, rounded up
    return nn.Sequential(
        *(nn.Conv2d(shape[0], 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Dense(64 * height * width, 128), nn.ReLU(), nn.Dense(128, classes)),
    )


def classify(net: nn.Module, values: np.ndarray) -> np.ndarray:
    """(n,) int64: the class of the largest logit of each sample."""
    with no_grad():
        logits: list[Any] = [
            net(tensor(values[i : i + PART], dtype="float32")).numpy()
            for i in range(0, max(1, len(values)), PART)
        ]
    return np.concatenate(logits).argmax(axis=1)
