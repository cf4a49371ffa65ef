"""A classifier trained on real data, to check the labels that samples were generated with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
TRAINING_BATCH = 128
# Maps (net, x, labels) to the inputs (n, ...) that the net is trained on in place of x.
Perturb = Callable[[nn.Module, Tensor, Tensor], Tensor]


def train_classifier(
    values: Any,
    labels: np.ndarray,
    classes: int,
    steps: int = 600,
    seed: int = 0,
    progress: bool = False,
    augment: Callable[[Tensor], Tensor] | None = None,
    more: tuple[Any, np.ndarray] | None = None,
    share: float = 0.5,
    perturb: Perturb | None = None,
) -> nn.Sequential:
    """Train a network from samples (n, ...) to logits (n, classes), and return it in eval mode.

    For images (n, c, h, w) it has two convolutions of stride 2 with 32 and 64 channels and two
    dense layers, for points (n, d) three dense layers. It is trained by Adam with cross-entropy, a
    learning rate that falls from 2e-3 to 0 (cosine), and batches of 128 drawn with replacement.

        train_classifier(images, labels, 10, augment=lambda x: shift(x, 2, fill=-1.0))
        train_classifier(images, labels, 10, more=(generated, asked), share=0.25)

    Args:
        values: (n, ...) samples, an array or what has its length, shape and rows.
        labels: (n,) integers in [0, classes).
        steps: of training. seed: of the weights, of the batches and of what `augment` draws; the
            default random generator is left as it was. progress: show a progress bar.
        augment: what each batch passes through before the network, a function of a tensor made of
            ops, such as `shift` or `diff_augment` of `minigan.gan.augment`.
        more: other samples of the same shape with their labels, generated ones say.
        share: the part of each batch that is drawn from `more`, rounded to whole samples.
        perturb: a function perturb(net, x, labels) of the module and the tensors of a step, after
            `augment`; what it returns is trained on in place of x. For adversarial training (Madry
            et al. 2018, equation 2.1) it is `functools.partial(mg.adversarial.pgd, epsilon=0.1,
            steps=5)`.

    Raises:
        ValueError: the numbers of values and labels differ or are 0, a label is out of range, or
            there are fewer than two classes; labels are not (n,) integers; `more` has samples of
            another shape; `share` is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"train_classifier: share = {share} is not in [0, 1]")
    others = round(share * TRAINING_BATCH) if more is not None else 0
    parts = [_Part(values, np.asarray(labels), TRAINING_BATCH - others)]
    if more is not None:
        parts.append(_Part(more[0], np.asarray(more[1]), others))
    for part in parts:
        _check(part, values.shape[1:], classes)
    with random.fork_rng(seed):
        return _train(parts, classes, steps, seed, progress, augment, perturb)


class _Part(NamedTuple):
    """Samples with their labels, and how many of them a batch has."""

    values: Any
    labels: np.ndarray
    batch: int


def _check(part: _Part, shape: tuple[int, ...], classes: int) -> None:
    """Raise ValueError unless a classifier of these classes can learn from these samples."""
    values, labels, _ = part
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
    if values.shape[1:] != shape:
        raise ValueError(
            f"train_classifier: more samples of shape {values.shape[1:]}; the first ones have"
            f" {shape}"
        )
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise ValueError(f"train_classifier: label {outside[0]} is not one of 0 .. {classes - 1}")


def _train(
    parts: Sequence[_Part],
    classes: int,
    steps: int,
    seed: int,
    progress: bool,
    augment: Callable[[Tensor], Tensor] | None,
    perturb: Perturb | None,
) -> nn.Sequential:
    net = build_classifier(parts[0].values.shape[1:], classes)
    optimizer = optim.Adam(net.parameters(), 2e-3)

    @capture
    def step(x: Tensor, y: Tensor) -> None:
        x = x if augment is None else augment(x)
        x = x if perturb is None else perturb(net, x, y)
        loss = cross_entropy(net(x), y)
        optimizer.step(grad(loss, net.parameters()))

    rng = np.random.Generator(np.random.Philox(seed))
    with training_bar("classifier", steps, 0, progress) as bar:
        for i in range(steps):
            optimizer.lr = 2e-3 * factor("cosine", i, steps)
            drawn = [rng.integers(len(part.values), size=part.batch) for part in parts]
            x = [part.values[rows] for part, rows in zip(parts, drawn, strict=True)]
            y = [part.labels[rows] for part, rows in zip(parts, drawn, strict=True)]
            step(
                tensor(np.concatenate(x), dtype="float32"),
                tensor(np.concatenate(y), dtype="int64"),
            )
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
