"""Losses: binary cross-entropy, and the pairs of losses that make a GAN a game.

A GAN loss takes logits: the discriminator's output before any sigmoid.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from . import nn, ops, random
from .autograd import grad
from .tensor import Tensor


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
    """Two losses on logits: `discriminator(real, fake)` and `generator(fake)`, each to minimise.

    Args:
        smooth: the target for real samples of the discriminator, in place of 1: one-sided label
            smoothing (Salimans et al. 2016, section 3.4). Fakes are never smoothed: that would put
            the generator's density into the best discriminator's numerator.
    """

    threshold: ClassVar[float] = 0.0  # a logit above it says "real"
    unit: ClassVar[str] = "nats"

    def __init__(self, smooth: float = 1.0) -> None:
        if not 0.5 < smooth <= 1:
            raise ValueError(f"{type(self).__name__}: smooth = {smooth} is not in (0.5, 1]")
        self.smooth = smooth

    @property
    def levels(self) -> tuple[float, float]:
        """Both losses where generator and data agree and D is at its best, smooth / 2."""
        raise NotImplementedError

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        raise NotImplementedError

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        raise NotImplementedError


class NonSaturating(GANLoss):
    """D: -log D(x) - log(1 - D(G(z))); G: -log D(G(z)) (Goodfellow et al. 2014, section 3)."""

    @property
    def levels(self) -> tuple[float, float]:
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


LOSSES: dict[str, type[GANLoss]] = {
    "minimax": Minimax,
    "nonsaturating": NonSaturating,
    "leastsquares": LeastSquares,
}


# -------------------------------------------------------------------------------------- penalties
def _slopes(name: str, discriminator: Any, x: Tensor) -> Tensor:
    """(n,): each sample's squared norm of the gradient of D there, differentiable again."""
    if nn.depends_on_batch(discriminator):
        warnings.warn(
            f"{name}: the discriminator has batch norm, so a sample's output depends on the whole"
            " batch, and the gradient by one sample is no slope of D at that sample; use LayerNorm"
            " or InstanceNorm2d (Gulrajani et al. 2017, section 4)",
            stacklevel=3,
        )
    (gradient,) = grad(ops.sum(discriminator(x)), [x], create_graph=True)
    axes = tuple(range(1, x.ndim))
    return ops.sum(ops.multiply(gradient, gradient), axis=axes)


def _leaf(x: Tensor) -> Tensor:
    """The same values, as an input that gradients can be asked for."""
    leaf = ops.multiply(x.detach(), 1.0)
    leaf.requires_grad = True
    return leaf


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, target: float = 1.0
) -> Tensor:
    """Mean of (|grad D(x)| - target)^2, x between a real and a fake sample (Gulrajani et al. 2017).

    Each x is real + alpha (fake - real), one alpha for a sample, uniform in [0, 1), of the stream
    "penalty". The paper multiplies it by 10 and adds it to the critic's loss. Where the gradient is
    zero its norm has none, so a derivative of 0 is taken there.

    Args:
        discriminator: from (n, ...) to one number a sample; it must not mix samples: batch norm
            does, and is warned of.
        real, fake: (n, ...), of one shape. Constants.

    Raises:
        ValueError: real and fake differ in shape.
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"gradient_penalty: real samples {real.shape} and fake ones {fake.shape} must have one"
            " shape"
        )
    shape = (real.shape[0], *(1,) * (real.ndim - 1))
    alpha = random.uniform(shape, dtype=real.dtype, device=real.device, stream="penalty")
    real, fake = real.detach(), fake.detach()
    between = ops.add(real, ops.multiply(alpha, ops.subtract(fake, real)))
    squares = _slopes("gradient_penalty", discriminator, _leaf(between))
    # sqrt at 0 has an infinite slope: 1 goes through it there, and 0 comes out.
    flat = ops.equal(squares, 0.0)
    norms = ops.where(flat, 0.0, ops.sqrt(ops.where(flat, 1.0, squares)))
    return ops.mean(ops.power(ops.subtract(norms, target), 2))


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Mean of |grad D(x)|^2 at real samples; Mescheder et al. 2018, eq. 9: times gamma / 2."""
    return ops.mean(_slopes("r1_penalty", discriminator, _leaf(real)))


def r2_penalty(discriminator: Callable[[Tensor], Tensor], fake: Tensor) -> Tensor:
    """The same at generated samples; they are constants."""
    return ops.mean(_slopes("r2_penalty", discriminator, _leaf(fake)))
