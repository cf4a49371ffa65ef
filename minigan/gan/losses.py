"""Losses of discriminators and generators.

A GAN loss takes logits: the discriminator's output before any sigmoid. The penalties that are added
to these losses, and cross-entropies, can be imported from here too.
"""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

from .. import ops
from ..engine.tensor import Tensor
from ..nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy
from ..utils.registry import Registry
from .own import as_loss
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
    "register",
]


class GANLoss:
    """The losses of a discriminator and a generator; each player minimizes its own.

    Subclasses define `discriminator(real_logits, fake_logits)` and
    `generator(fake_logits, real_logits)`; only relativistic losses use the generator's second
    argument. Both return a scalar tensor:

        loss = mg.losses.NonSaturating()
        loss_d = loss.discriminator(D(real), D(fake.detach()))
        loss_g = loss.generator(D(fake))

    Args:
        smooth: the discriminator's target for real samples in place of 1: one-sided label
            smoothing (Salimans et al. 2016, section 3.4). The target for fakes stays 0: smoothing
            it too would put the generator's density into the numerator of the optimal
            discriminator. Losses without targets accept only 1.

    Raises:
        ValueError: `smooth` is not in (0.5, 1], or is not 1 for a loss without targets.
    """

    # A sample with a logit above this number is classified as real. It is None where only
    # differences of logits are meaningful; a logit is then compared with the mean logit of the
    # other batch.
    threshold: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = "nats"  # the unit of both losses, for the axis of a plot
    has_targets: ClassVar[bool] = True
    is_relativistic: ClassVar[bool] = False

    def __init__(self, smooth: float = 1.0) -> None:
        name = type(self).__name__
        if not self.has_targets and smooth != 1:
            raise ValueError(f"{name}: smooth = {smooth}, but this loss has no targets to smooth")
        if not 0.5 < smooth <= 1:
            raise ValueError(f"{name}: smooth = {smooth} is not in (0.5, 1]")
        self._smooth = smooth

    @property
    def smooth(self) -> float:
        """The target for real samples. It is read-only: a captured step would miss a change."""
        return self._smooth

    @property
    def levels(self) -> tuple[float | None, float | None]:
        """The losses (discriminator, generator) at equilibrium.

        There the generator's distribution is the data's, and the discriminator is optimal. None
        stands for a loss that has no single value there, or none that is known.
        """
        return None, None

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar, for the logits of a real and a fake batch."""
        raise NotImplementedError

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar; a relativistic one needs the real logits too."""
        raise NotImplementedError


class NonSaturating(GANLoss):
    """The original GAN with the non-saturating generator loss (Goodfellow et al. 2014, section 3).

    With p = sigmoid(logit), the discriminator minimizes -log p(real) - log(1 - p(fake)) and the
    generator -log p(fake). This is the binary cross-entropy of PyTorch's DCGAN example: label 1
    for real samples, 0 for fakes, and 1 for fakes in the generator's step.
    """

    @property
    def levels(self) -> tuple[float, float]:
        # The optimal discriminator outputs p = smooth / 2 everywhere.
        p, target = self.smooth / 2, self.smooth
        real = target * math.log(p) + (1 - target) * math.log(1 - p)
        return -real - math.log(1 - p), -math.log(p)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real = ops.softplus(-real_logits)
        if self.smooth < 1:  # t softplus(-r) + (1 - t) softplus(r) = softplus(-r) + (1 - t) r
            real = real + real_logits * (1 - self.smooth)
        return real.mean() + ops.softplus(fake_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return ops.softplus(-fake_logits).mean()


class Minimax(NonSaturating):
    """The zero-sum GAN: the generator minimizes log(1 - p(fake)) (Goodfellow et al. 2014, eq. 1).

    The generator's gradient vanishes where the discriminator recognizes its samples, which is the
    case when training starts; `NonSaturating` does not have this problem.
    """

    @property
    def levels(self) -> tuple[float, float]:
        return super().levels[0], math.log(1 - self.smooth / 2)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return -ops.softplus(fake_logits).mean()


class LeastSquares(GANLoss):
    """LSGAN: squared distances of the outputs to 1 (real) and 0 (fake) (Mao et al. 2017, eq. 9).

    For outputs r and f the discriminator minimizes (mean (r - 1)^2 + mean f^2) / 2, the generator
    mean (f - 1)^2 / 2.
    """

    threshold = 0.5
    unit = "squared logits"

    @property
    def levels(self) -> tuple[float, float]:
        output = self.smooth / 2  # of the optimal discriminator
        return output**2, (1 - output) ** 2 / 2

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real = ((real_logits - self.smooth) ** 2).mean()
        return (real + (fake_logits**2).mean()) * 0.5

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return ((fake_logits - 1.0) ** 2).mean() * 0.5


class Hinge(GANLoss):
    """The hinge loss (Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17).

    The discriminator minimizes mean relu(1 - r) + mean relu(1 + f), the generator -mean f. At
    equilibrium the discriminator is any constant c in [-1, 1]: its loss is 2, the generator's -c.
    """

    unit = "logits"
    has_targets = False

    @property
    def levels(self) -> tuple[float, None]:
        return 2.0, None

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real = ops.relu(1.0 - real_logits)
        return real.mean() + ops.relu(fake_logits + 1.0).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return -fake_logits.mean()


class Wasserstein(GANLoss):
    """WGAN: mean f - mean r for the critic, -mean f for the generator (Arjovsky et al. 2017).

    The critic must be Lipschitz: combine this loss with weight clipping, a gradient penalty or
    spectral normalization. The optimal critic's loss is then -W1 times its Lipschitz constant. At
    equilibrium it is 0; the generator's loss is any number, since a constant that is added to the
    critic changes nothing.
    """

    threshold = None
    unit = "logits"
    has_targets = False

    @property
    def levels(self) -> tuple[float, None]:
        return 0.0, None

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return -fake_logits.mean()


class Relativistic(GANLoss):
    """RSGAN: each fake is compared with one real sample (Jolicoeur-Martineau 2019, section 4).

    The discriminator minimizes mean softplus(f - r), the generator mean softplus(r - f). This is
    also the loss of R3GAN (Huang et al. 2024, equation 2). Both batches have the same size.
    """

    threshold = None
    has_targets = False
    is_relativistic = True

    @property
    def levels(self) -> tuple[float, float]:
        return math.log(2), math.log(2)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return ops.softplus(self._difference(fake_logits, real_logits)).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return ops.softplus(self._difference(self._require(real_logits), fake_logits)).mean()

    def _require(self, real_logits: Tensor | None) -> Tensor:
        if real_logits is None:
            name = type(self).__name__
            raise ValueError(f"{name}: the generator's loss needs the logits of real samples too")
        return real_logits

    def _difference(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape:  # (n, 1) and (n,) would broadcast to (n, n)
            raise ValueError(
                f"{type(self).__name__}: logits of shapes {a.shape} and {b.shape}; they are"
                " compared in pairs"
            )
        return a - b


class RelativisticAverage(Relativistic):
    """RaSGAN: each sample is compared with the mean of the other batch.

    The discriminator minimizes mean softplus(mean f - r) + mean softplus(f - mean r), the
    generator the same with r and f exchanged (Jolicoeur-Martineau 2019, section 4).
    """

    @property
    def levels(self) -> tuple[float, float]:
        return 2 * math.log(2), 2 * math.log(2)

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real = ops.softplus(fake_logits.mean() - real_logits)
        fake = ops.softplus(fake_logits - real_logits.mean())
        return real.mean() + fake.mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return self.discriminator(fake_logits, self._require(real_logits))


# The choices of `--loss`.
LOSSES: dict[str, type[GANLoss]] = {
    "minimax": Minimax,
    "nonsaturating": NonSaturating,
    "leastsquares": LeastSquares,
    "hinge": Hinge,
    "wasserstein": Wasserstein,
    "relativistic": Relativistic,
    "relativistic-average": RelativisticAverage,
}
register = Registry("loss", LOSSES, partial(as_loss, GANLoss))


def feature_matching(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """Return |mean f(x) - mean f(G(z))|^2, a generator's loss (Salimans et al. 2016, section 3.1).

    f is a hidden layer of the discriminator. At equilibrium the loss is 0, up to the noise of the
    batches.

    Args:
        real_features: (n, ...), constants: no gradient flows to them.
        fake_features: (m, ...).

    Raises:
        ValueError: the shapes differ in more than the first axis.
    """
    if real_features.shape[1:] != fake_features.shape[1:]:
        raise ValueError(
            f"feature_matching: features of shapes {real_features.shape} and"
            f" {fake_features.shape}; all but the first size must be equal"
        )
    real_mean = real_features.detach().mean(axis=0)
    return ((real_mean - fake_features.mean(axis=0)) ** 2).sum()
