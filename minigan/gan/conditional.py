"""Nets that are told a label: a generator, and three discriminators that make use of it.

A conditional discriminator is called with samples and labels. Column 0 of what it returns is the
logit; an auxiliary classifier's logits of the classes stand behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import nn, ops
from ..engine.assign import assign
from ..engine.tensor import Tensor

Shape = tuple[int, ...]


def embedding_size(classes: int) -> int:
    """How many numbers tell a generator its label."""
    return min(classes, 64)


class ConditionalGenerator(nn.Module):
    """net([z, e(y)]): the label's embedding beside the latent (Mirza and Osindero 2014)."""

    def __init__(self, net: nn.Module, classes: int) -> None:
        self.embedding = nn.Embedding(classes, embedding_size(classes))
        self.net = net

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        return self.net(ops.concatenate([latent, self.embedding(labels)], axis=1))


class _Conditional(nn.Module):
    """A discriminator `net` of features and, last, a head that makes a logit of them."""

    def __init__(self, net: nn.Sequential) -> None:
        self.net = net

    def features(self, x: Tensor, labels: Tensor) -> Tensor:
        """(n, features): what the head sees."""
        return self.net[:-1](x)


class ConcatDiscriminator(_Conditional):
    """net([x, e(y)]): the label as one more plane of an image, or as more coordinates of a point.

    Mirza and Osindero 2014 put a one-hot label beside the pixels; an embedding as large as a plane
    does the same for dense and for convolutional nets.
    """

    def __init__(self, net: nn.Sequential, sample_shape: Shape, classes: int) -> None:
        super().__init__(net)
        plane = extra_shape(sample_shape, classes)
        self.embedding = nn.Embedding(classes, math.prod(plane))
        self.plane = nn.Reshape(*plane)

    def features(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.net[:-1](self._told(x, labels))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.net(self._told(x, labels))

    def _told(self, x: Tensor, labels: Tensor) -> Tensor:
        return ops.concatenate([x, self.plane(self.embedding(labels))], axis=1)


class AuxiliaryClassifier(_Conditional):
    """[logit, logits of the classes] from the same features (AC-GAN; Odena et al. 2017)."""

    def __init__(self, net: nn.Sequential, sample_shape: Shape, classes: int) -> None:
        super().__init__(net)
        self.classifier = nn.Dense(head_inputs(net), classes)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        found = self.features(x, labels)
        return ops.concatenate([self.net[-1](found), self.classifier(found)], axis=1)


class ProjectionDiscriminator(_Conditional):
    """psi(phi(x)) + <e(y), phi(x)> for features phi (Miyato and Koyama 2018, equation 3).

    log p(y|x) / q(y|x) is linear in phi where both are softmax regressions on it; the embedding is
    the difference of their weights. It has spectral norm where the head has.
    """

    def __init__(self, net: nn.Sequential, sample_shape: Shape, classes: int) -> None:
        super().__init__(net)
        embedding = nn.Embedding(classes, head_inputs(net))
        # Rows of length 1: the label says about as much as the head does at the start.
        assign(embedding.weight, ops.divide(embedding.weight.detach(), math.sqrt(head_inputs(net))))
        spectral = isinstance(net[-1], nn.SpectralNorm)
        self.embedding = nn.spectral_norm(embedding) if spectral else embedding

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        found = self.features(x, labels)
        products = ops.multiply(self.embedding(labels), found)
        return ops.add(self.net[-1](found), ops.sum(products, axis=1, keepdims=True))


# What `--condition` accepts.
CONDITIONS: dict[str, Callable[[nn.Sequential, Shape, int], nn.Module] | None] = {
    "none": None,
    "concat": ConcatDiscriminator,
    "acgan": AuxiliaryClassifier,
    "projection": ProjectionDiscriminator,
}


def extra_shape(sample_shape: Shape, classes: int) -> Shape:
    """What `ConcatDiscriminator` puts behind a sample on its first axis."""
    return (1, *sample_shape[1:]) if len(sample_shape) == 3 else (embedding_size(classes),)


def head_inputs(net: nn.Sequential) -> int:
    """How many features the last layer takes, a Dense or one with spectral norm."""
    head: Any = net[-1]
    dense = head.module if isinstance(head, nn.SpectralNorm) else head
    return int(dense.weight.shape[0])
