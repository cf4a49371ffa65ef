"""Conditional networks: a generator, and the discriminators of cGAN, AC-GAN, projection, InfoGAN.

A conditional discriminator is called with samples and labels. Column 0 of its output is the logit;
an auxiliary classifier's class logits are the columns after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import nn, ops
from ..engine.assign import assign
from ..engine.tensor import Tensor
from ..utils.names import choose
from .losses import cross_entropy

Shape = tuple[int, ...]
MAX_EMBEDDING_SIZE = 64


def embedding_size(classes: int) -> int:
    """Return the width of a label's embedding that is concatenated to a latent or a point."""
    return min(classes, MAX_EMBEDDING_SIZE)


class ConditionalGenerator(nn.Module):
    """Compute net([z, e(y)]): the label's embedding is concatenated to the latent z.

    This is the generator of cGAN (Mirza and Osindero 2014), which has one-hot labels for e(y).
    """

    def __init__(self, net: nn.Module, classes: int) -> None:
        self.embedding = nn.Embedding(classes, embedding_size(classes))
        self.net = net

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        return self.net(ops.concatenate([latent, self.embedding(labels)], axis=1))


class _ConditionalDiscriminator(nn.Module):
    """A discriminator `net` whose last layer makes one logit from features (n, features)."""

    def __init__(self, net: nn.Sequential) -> None:
        self.net = net

    def features(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the input of the last layer, (n, features)."""
        return self.net[:-1](x)


class ConcatDiscriminator(_ConditionalDiscriminator):
    """Compute net([x, e(y)]), as cGAN: the label's embedding is concatenated to the sample.

    The embedding is one more channel of an image, or more coordinates of a point. (Mirza and
    Osindero 2014 concatenate a one-hot label to the pixels; an embedding as large as an image
    channel has the same effect for dense and for convolutional networks.)
    """

    def __init__(self, net: nn.Sequential, sample_shape: Shape, classes: int) -> None:
        super().__init__(net)
        shape = label_shape(sample_shape, classes)
        self.embedding = nn.Embedding(classes, math.prod(shape))
        self.plane = nn.Reshape(*shape)

    def features(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.net[:-1](self._concatenate(x, labels))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.net(self._concatenate(x, labels))

    def _concatenate(self, x: Tensor, labels: Tensor) -> Tensor:
        return ops.concatenate([x, self.plane(self.embedding(labels))], axis=1)


class AuxiliaryClassifier(_ConditionalDiscriminator):
    """Compute [logit, class logits] from the same features, as AC-GAN (Odena et al. 2017).

    This is InfoGAN's Q too (Chen et al. 2016): its class logits are those of the categorical code,
    and the means of the continuous codes are `codes` more columns. The labels among the arguments
    are not used.
    """

    def __init__(
        self, net: nn.Sequential, sample_shape: Shape, classes: int, codes: int = 0
    ) -> None:
        super().__init__(net)
        self.classifier = nn.Dense(head_in_features(net), classes + codes)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.net[:-1](x)
        return ops.concatenate([self.net[-1](features), self.classifier(features)], axis=1)


class ProjectionDiscriminator(_ConditionalDiscriminator):
    """Compute psi(phi(x)) + <e(y), phi(x)>, features phi (Miyato and Koyama 2018, equation 3).

    If p(y|x) and q(y|x), the label's distributions for real and for generated samples, are softmax
    regressions on phi, then log p(y|x) / q(y|x) is linear in phi, and e(y) is the difference of
    their weights. The embedding has spectral norm if the last layer of `net` has.
    """

    def __init__(self, net: nn.Sequential, sample_shape: Shape, classes: int) -> None:
        super().__init__(net)
        size = head_in_features(net)
        embedding = nn.Embedding(classes, size)
        # Rows have lengths of about 1, so that the label has as much influence as the last layer.
        assign(embedding.weight, embedding.weight.detach() / math.sqrt(size))
        is_spectral = isinstance(net[-1], nn.SpectralNorm)
        self.embedding = nn.spectral_norm(embedding) if is_spectral else embedding

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        features = self.features(x, labels)
        inner_products = (self.embedding(labels) * features).sum(axis=1, keepdims=True)
        return self.net[-1](features) + inner_products


# The choices of `--condition`: functions of (net, sample_shape, classes) that return a
# discriminator.
CONDITIONS: dict[str, Callable[..., nn.Module] | None] = {
    "none": None,
    "concat": ConcatDiscriminator,
    "acgan": AuxiliaryClassifier,
    "projection": ProjectionDiscriminator,
    "infogan": AuxiliaryClassifier,
}
# Of these the discriminator's output has class logits after the logit.
CLASSIFYING = ("acgan", "infogan")
LOG_NORMALIZER = 0.5 * math.log(2 * math.pi)


def information_losses(output: Tensor, categories: Tensor, codes: Tensor) -> dict[str, Tensor]:
    """Return -log q of InfoGAN's codes given generated samples, in nats, mean over the samples.

    With the entropy of the codes, H, the lower bound of the mutual information of codes and samples
    is H - class - code (Chen et al. 2016, equation 4). A continuous code is normal around the mean
    that Q predicts, with standard deviation 1, as in the authors' code for MNIST: so Q cannot make
    the loss small without bound.

    Args:
        output: Q's, (n, K + k): logits of the K categories, means of the k continuous codes.
        categories: (n,) integers, the categorical code.
        codes: (n, k), the continuous ones; k may be 0.

    Returns:
        "class", the cross-entropy of the categorical code; if k > 0 also "code", the sum of the
        negative log-likelihoods of the continuous codes.
    """
    k = codes.shape[1]
    classes = output.shape[1] - k
    losses = {"class": cross_entropy(output[:, :classes], categories)}
    if k:
        squares = (output[:, classes:] - codes) ** 2
        losses["code"] = squares.sum() * (0.5 / len(codes)) + k * LOG_NORMALIZER
    return losses


def input_sizes(
    condition: str, latent_size: int, sample_shape: Shape, classes: int
) -> tuple[int, Shape]:
    """Return (latent size, discriminator shape) of the networks that `make_conditional` takes.

    `condition` is a name of `CONDITIONS`, but not "none".
    """
    first, *rest = sample_shape
    if condition == "concat":
        first += label_shape(sample_shape, classes)[0]
    return latent_size + embedding_size(classes), (first, *rest)


def make_conditional(
    condition: str,
    generator: nn.Module,
    discriminator: nn.Sequential,
    sample_shape: Shape,
    classes: int,
    codes: int = 0,
) -> tuple[nn.Module, nn.Module]:
    """Return a conditional generator and discriminator with these networks as parts.

    Args:
        condition: a name of `CONDITIONS`, but not "none".
        generator, discriminator: networks with the inputs of `input_sizes`.
        sample_shape: (C, H, W) or (D,).
        classes: the number of labels, or of InfoGAN's categories.
        codes: the number of InfoGAN's continuous codes.

    Raises:
        ValueError: there is no such condition.
    """
    build = choose("condition", condition, {k: x for k, x in CONDITIONS.items() if x is not None})
    more = {"codes": codes} if codes else {}
    conditional = build(discriminator, sample_shape, classes, **more)
    return ConditionalGenerator(generator, classes), conditional


def label_shape(sample_shape: Shape, classes: int) -> Shape:
    """Return the shape of the embedding that `ConcatDiscriminator` concatenates to a sample."""
    return (1, *sample_shape[1:]) if len(sample_shape) == 3 else (embedding_size(classes),)


def head_in_features(net: nn.Sequential) -> int:
    """Return `in_features` of the last layer, a `Dense`, also if it is wrapped."""
    head: Any = net[-1]
    dense = head.module if isinstance(head, (nn.SpectralNorm, nn.EqualizedLR)) else head
    return int(dense.weight.shape[0])
