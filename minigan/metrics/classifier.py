"""A classifier trained on real data, to check the labels that samples were generated with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import nn, optim
from ..engine import random
from ..engine.autograd import grad
from ..engine.capture import capture
from ..engine.tensor import Tensor, no_grad, tensor
from ..nn.functional import cross_entropy
from ..optim.schedules import factor
from ..utils.progress import training_bar

BATCH = 512  # samples in a forward pass of `classify`


def train_classifier(
    values: Any,
    labels: np.ndarray,
    classes: int,
    steps: int = 600,
    seed: int = 0,
    progress: bool = False,
) -> nn.Sequential:
    """Train a network from samples (n, ...) to logits (n, classes), and return it in eval mode.

    For images (n, c, h, w) it has two convolutions of stride 2 with 32 and 64 channels and two
    dense layers, for points (n, d) three dense layers. It is trained by Adam with cross-entropy, a
    learning rate that falls from 2e-3 to 0 (cosine), and batches of 128 drawn with replacement.

    Args:
        values: (n, ...) samples, an array or what has its length, shape and rows.
        labels: (n,) integers in [0, classes).
        steps: of training. seed: of the weights and batches; the default random generator is left
            as it was. progress: show a progress bar.

    Raises:
        ValueError: the numbers of values and labels differ or are 0, a label is out of range, or
            there are fewer than two classes; labels are not (n,) integers.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"train_classifier: labels are {labels.dtype} of shape {labels.shape}; integers (n,)"
            " are needed"
        )
    if len(values) != len(labels) or not len(values) or classes < 2:
        raise ValueError(
            f"train_classifier: {len(values)} samples, {len(labels)} labels, {classes} classes; as"
            " many labels as samples, and two classes or more, are needed"
        )
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise ValueError(f"train_classifier: label {outside[0]} is not one of 0 .. {classes - 1}")
    with random.fork_rng(seed):
        return _train(values, labels, classes, steps, seed, progress)


def _train(
    values: Any, labels: np.ndarray, classes: int, steps: int, seed: int, progress: bool
) -> nn.Sequential:
    net = build_classifier(values.shape[1:], classes)
    optimizer = optim.Adam(net.parameters(), 2e-3)

    @capture
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = cross_entropy(net(x), y)
        optimizer.step(grad(loss, net.parameters()))
        return loss

    rng = np.random.Generator(np.random.Philox(seed))
    with training_bar("classifier", steps, 0, progress) as bar:
        for i in range(steps):
            optimizer.lr = 2e-3 * factor("cosine", i, steps)
            indices = rng.integers(len(values), size=128)
            step(tensor(values[indices], dtype="float32"), tensor(labels[indices], dtype="int64"))
            bar.update()
    return net.eval()


def build_classifier(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    if len(shape) != 3:
        size = math.prod(shape)
        return nn.Sequential(
            *(nn.Flatten(), nn.Dense(size, 128), nn.ReLU()),
            *(nn.Dense(128, 128), nn.ReLU(), nn.Dense(128, classes)),
        )
    height, width = ((n + 3) // 4 for n in shape[1:])  # two strides of 2, rounded up
    return nn.Sequential(
        *(nn.Conv2d(shape[0], 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Dense(64 * height * width, 128), nn.ReLU(), nn.Dense(128, classes)),
    )


def classify(net: nn.Module, values: np.ndarray) -> np.ndarray:
    """Return the class of the largest logit of each sample, (n,) int64."""
    with no_grad():
        logits: list[Any] = [
            net(tensor(values[i : i + BATCH], dtype="float32")).numpy()
            for i in range(0, max(1, len(values)), BATCH)
        ]
    return np.concatenate(logits).argmax(axis=1)
