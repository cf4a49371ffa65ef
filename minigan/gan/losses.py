"""Losses: binary cross-entropy, and the pairs of losses that make a GAN a game.

A GAN loss takes logits: the discriminator's output before any sigmoid.
"""

from __future__ import annotations

import math
from typing import ClassVar

from .. import ops
from ..engine.tensor import Tensor
from .penalties import dragan_penalty, gradient_penalty, orthogonal_penalty, r1_penalty, r2_penalty

__all__ = [
    "LOSSES",
    "GANLoss",
    "Hinge",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "Relativistic",
    "RelativisticAverage",
    "Wasserstein",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dragan_penalty",
    "feature_matching",
    "gradient_penalty",
    "orthogonal_penalty",
    "r1_penalty",
    "r2_penalty",
]


def binary_cross_entropy(probability: Tensor, target: Tensor | float) -> Tensor:
    """Mean of -(t log p + (1 - t) log(1 - p)); each log is at least -100, so 0 and 1 are safe.

    A tensor target has the shape of `probability`; a number stands for a tensor full of it.
    """
    _check_target("binary_cross_entropy", probability, target)
    return ops.mean(ops.cross_entropy(probability, target))


def binary_cross_entropy_with_logits(logits: Tensor, target: Tensor | float) -> Tensor:
    """The same of p = sigmoid(logits), as mean softplus(x) - t x: exact for logits of any size."""
    _check_target("binary_cross_entropy_with_logits", logits, target)
    return ops.mean(ops.subtract(ops.softplus(logits), ops.multiply(logits, target)))


def _check_target(name: str, x: Tensor, target: Tensor | float) -> None:
    if isinstance(target, Tensor) and target.shape != x.shape:
        raise ValueError(
            f"{name}: the target has shape {target.shape}, the input {x.shape}; they must be equal"
        )


class GANLoss:
    """Two losses on logits, each to minimise: `discriminator(real, fake)`, `generator(fake, real)`.

    The generator's takes the real logits too, which only relativistic losses need.

    Args:
        smooth: the target for real samples of the discriminator, in place of 1: one-sided label
            smoothing (Salimans et al. 2016, section 3.4). Fakes are never smoothed: that would put
            the generator's density into the best discriminator's numerator. Losses without
            targets accept 1 alone.
    """

    # A logit above it says "real". None: only differences of logits count, and a sample is held for
    # real where its logit is above the mean of the other batch.
    threshold: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = "nats"
    has_targets: ClassVar[bool] = True
    is_relativistic: ClassVar[bool] = False

    def __init__(self, smooth: float = 1.0) -> None:
        name = type(self).__name__
        if not self.has_targets and smooth != 1:
            raise ValueError(f"{name}: smooth = {smooth}, but this loss has no targets to smooth")
        if not 0.5 < smooth <= 1:
            raise ValueError(f"{name}: smooth = {smooth} is not in (0.5, 1]")
        self.smooth = smooth

    @property
    def levels(self) -> tuple[float | None, float | None]:
        """Both losses where generator and data agree and D is at its best; None where D is free."""
        raise NotImplementedError

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        raise NotImplementedError

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class NonSaturating(GANLoss):
    """D: -log D(x) - log(1 - D(G(z))); G: -log D(G(z)) (Goodfellow et al. 2014, section 3)."""

    @property
    def levels(self) -> tuple[float, float]:  # D's best is smooth / 2
        best, t = self.smooth / 2, self.smooth
        real = t * math.log(best) + (1 - t) * math.log(1 - best)
        return -real - math.log(1 - best), -math.log(best)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real = ops.softplus(ops.negative(real_logits))
        if self.smooth < 1:  # t softplus(-r) + (1 - t) softplus(r) = softplus(-r) + (1 - t) r
            real = ops.add(real, ops.multiply(real_logits, 1 - self.smooth))
        return ops.add(ops.mean(real), ops.mean(ops.softplus(fake_logits)))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return ops.mean(ops.softplus(ops.negative(fake_logits)))


class Minimax(NonSaturating):
    """The zero-sum game itself: G minimises log(1 - D(G(z))) (Goodfellow et al. 2014, equation 1).

    Its gradient vanishes where the discriminator is sure of a fake, which is where training starts.
    """

    @property
    def levels(self) -> tuple[float, float]:
        return super().levels[0], math.log(1 - self.smooth / 2)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return ops.negative(ops.mean(ops.softplus(fake_logits)))


class LeastSquares(GANLoss):
    """D: ((r - 1)^2 + f^2) / 2; G: (f - 1)^2 / 2 (Mao et al. 2017, equation 9)."""

    threshold = 0.5
    unit = "squared logits"

    @property
    def levels(self) -> tuple[float, float]:
        best = self.smooth / 2
        return best**2, (1 - best) ** 2 / 2

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real = ops.mean(ops.power(ops.subtract(real_logits, self.smooth), 2))
        return ops.multiply(ops.add(real, ops.mean(ops.power(fake_logits, 2))), 0.5)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return ops.multiply(ops.mean(ops.power(ops.subtract(fake_logits, 1.0), 2)), 0.5)


class Hinge(GANLoss):
    """D: relu(1 - r) + relu(1 + f); G: -f (Lim and Ye 2017; Miyato et al. 2018, equation 16).

    At equilibrium D is any constant in [-1, 1], its loss 2; the generator's is that constant.
    """

    unit = "logits"
    has_targets = False

    @property
    def levels(self) -> tuple[float, None]:
        return 2.0, None

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real = ops.relu(ops.subtract(1.0, real_logits))
        return ops.add(ops.mean(real), ops.mean(ops.relu(ops.add(fake_logits, 1.0))))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return ops.negative(ops.mean(fake_logits))


class Wasserstein(GANLoss):
    """D: f - r; G: -f (Arjovsky et al. 2017, algorithm 1), for a critic whose slope is bounded.

    The critic's loss is -W1 times its slope, where weight clipping, a gradient penalty or spectral
    norm bounds that. At equilibrium it is 0, and the generator's is whatever D adds to everything.
    """

    threshold = None
    unit = "logits"
    has_targets = False

    @property
    def levels(self) -> tuple[float, None]:
        return 0.0, None

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return ops.subtract(ops.mean(fake_logits), ops.mean(real_logits))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return ops.negative(ops.mean(fake_logits))


class Relativistic(GANLoss):
    """D: softplus(f - r); G: softplus(r - f), each fake beside one real sample.

    RSGAN (Jolicoeur-Martineau 2019, section 4), the loss of R3GAN (Huang et al. 2024, equation
    2). Both have as many real samples as fakes.
    """

    threshold = None
    has_targets = False
    is_relativistic = True

    @property
    def levels(self) -> tuple[float, float]:
        return math.log(2), math.log(2)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return ops.mean(ops.softplus(self._over(fake_logits, real_logits)))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return ops.mean(ops.softplus(self._over(self._needed(real_logits), fake_logits)))

    def _needed(self, real_logits: Tensor | None) -> Tensor:
        if real_logits is None:
            name = type(self).__name__
            raise ValueError(f"{name}: the generator's loss needs the logits of real samples too")
        return real_logits

    def _over(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape:  # (n, 1) and (n,) would broadcast to (n, n)
            raise ValueError(
                f"{type(self).__name__}: logits of shapes {a.shape} and {b.shape}; they are"
                " compared in pairs"
            )
        return ops.subtract(a, b)


class RelativisticAverage(Relativistic):
    """D: softplus(mean f - r) + softplus(f - mean r); G: the same with r and f exchanged.

    RaSGAN: each sample beside the mean of the others (Jolicoeur-Martineau 2019, section 4).
    """

    @property
    def levels(self) -> tuple[float, float]:
        return 2 * math.log(2), 2 * math.log(2)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        above = ops.softplus(ops.subtract(ops.mean(fake_logits), real_logits))
        below = ops.softplus(ops.subtract(fake_logits, ops.mean(real_logits)))
        return ops.add(ops.mean(above), ops.mean(below))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return self.discriminator(fake_logits, self._needed(real_logits))


LOSSES: dict[str, type[GANLoss]] = {
    "minimax": Minimax,
    "nonsaturating": NonSaturating,
    "leastsquares": LeastSquares,
    "hinge": Hinge,
    "wasserstein": Wasserstein,
    "relativistic": Relativistic,
    "relativistic-average": RelativisticAverage,
}


# --------------------------------------------------------------------- losses beside the logits
def feature_matching(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """|mean f(x) - mean f(G(z))|^2 of a layer f of D, a generator's loss (Salimans et al. 2016).

    At equilibrium it is 0 but for the noise of the batches.

    Args:
        real_features, fake_features: (n, ...) and (m, ...); the real ones are constants.

    Raises:
        ValueError: they differ in more than the number of samples.
    """
    if real_features.shape[1:] != fake_features.shape[1:]:
        raise ValueError(
            f"feature_matching: features of shapes {real_features.shape} and"
            f" {fake_features.shape}; all but the first size must be equal"
        )
    real = ops.mean(real_features.detach(), axis=0)
    return ops.sum(ops.power(ops.subtract(real, ops.mean(fake_features, axis=0)), 2))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log softmax(logits)[label] in nats: logits (n, classes), labels int64 (n,).

    Raises:
        ValueError: their shapes do not fit. IndexError: a label is no class.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"cross_entropy: logits {logits.shape} and labels {labels.shape}; (n, classes) and"
            " (n,) are needed"
        )
    which = ops.reshape(labels, len(labels), 1)
    return ops.negative(ops.mean(ops.gather(ops.log_softmax(logits, axis=1), which, axis=1)))
