"""Penalties that are added to a player's loss: on gradients of the discriminator, and on weights.

Each function returns a mean or a sum without any weight; the caller multiplies it. A gradient
penalty is differentiated again when the discriminator is trained, so its inner gradient is taken
with `create_graph=True`:

    loss_d = loss.discriminator(D(real), D(fake)) + 10 * gradient_penalty(D, real, fake)
    optimizer_d.step(mg.grad(loss_d, D.parameters()))
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn, ops
from ..engine import random
from ..engine.autograd import grad
from ..engine.tensor import Tensor, tensor

Discriminator = Callable[[Tensor], Tensor]


# --------------------------------------------------------------- gradients of the discriminator
def gradient_penalty(
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    target: float = 1.0,
    one_sided: bool = False,
) -> Tensor:
    """Return the WGAN-GP penalty: mean of (|grad D(x)| - target)^2 (Gulrajani et al. 2017, eq. 3).

    The gradient is taken at x = real + alpha (fake - real), with one alpha per sample, uniform in
    [0, 1), from the random stream "penalty". The paper's weight is 10. Where the gradient is zero,
    the norm has no derivative, and 0 is used.

    Args:
        discriminator: maps (n, ...) to one number per sample. It must not mix the samples of a
            batch; for batch norm, which does, there is a warning.
        real, fake: (n, ...), of one shape; constants.
        target: the gradient norm that is not penalized.
        one_sided: penalize only norms above the target: mean of max(0, |grad D(x)| - target)^2
            (section 4 of the paper; Petzka et al. 2018, equation 8).

    Raises:
        ValueError: real and fake differ in shape.
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"gradient_penalty: real samples {real.shape} and fake ones {fake.shape} must have one"
            " shape"
        )
    real, fake = real.detach(), fake.detach()
    alpha = random.uniform(
        (len(real), *(1,) * (real.ndim - 1)),
        dtype=real.dtype,
        device=real.device,
        stream="penalty",
    )
    interpolated = penalty_input(real + alpha * (fake - real))
    squared_norms = _squared_gradient_norms("gradient_penalty", discriminator, interpolated)
    return _mean_squared_distance(squared_norms, target, one_sided)


def dragan_penalty(
    discriminator: Discriminator,
    real: Tensor,
    scale: float = 0.5,
    target: float = 1.0,
    one_sided: bool = False,
) -> Tensor:
    """Return the DRAGAN penalty: mean of (|grad D(x + d)| - target)^2 near real samples x.

    d is normal noise with `scale` times the standard deviation of all numbers in `real`, from the
    random stream "penalty" (Kodali et al. 2017, equation 2; the authors' code draws uniform noise
    and moves each sample a random part of the way). The paper's weight is 10, and its loss is
    `NonSaturating`. At equilibrium that loss requires a flat discriminator and the penalty one of
    slope 1, so neither has a known value there.

    Args:
        discriminator: maps (n, ...) to one number per sample, as for `gradient_penalty`.
        real: (n, ...), constants.
        scale: the noise's standard deviation, as a multiple of the batch's.
        target, one_sided: as for `gradient_penalty`.

    Raises:
        ValueError: scale is negative or not finite.
    """
    if not 0 <= scale < math.inf:
        raise ValueError(f"dragan_penalty: scale = {scale} is not a finite number of at least 0")
    real = real.detach()
    centered = real - real.mean()
    deviation = ops.sqrt((centered * centered).mean())
    noise = random.normal(real.shape, dtype=real.dtype, device=real.device, stream="penalty")
    perturbed = penalty_input(real + noise * (deviation * scale))
    squared_norms = _squared_gradient_norms("dragan_penalty", discriminator, perturbed)
    return _mean_squared_distance(squared_norms, target, one_sided)


def r1_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """Return the mean of |grad D(x)|^2 at real samples; the weight is gamma / 2 in the paper.

    Mescheder et al. 2018, equation 9. At equilibrium the discriminator is flat on the data, and
    the penalty is 0.
    """
    return _squared_gradient_norms("r1_penalty", discriminator, penalty_input(real)).mean()


def r2_penalty(discriminator: Discriminator, fake: Tensor) -> Tensor:
    """Return the mean of |grad D(x)|^2 at generated samples, which are constants.

    Mescheder et al. 2018, equation 10; the weight is gamma / 2, as for `r1_penalty`.
    """
    return _squared_gradient_norms("r2_penalty", discriminator, penalty_input(fake)).mean()


def r1_and_r2_penalties(logits: Tensor, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return `r1_penalty` and `r2_penalty` for logits that the discriminator has computed already.

    The loss needs the same logits, so that its forward pass serves the penalties too.

    Args:
        logits: (2n, 1), of real samples and then of generated ones, with their graph.
        real, fake: (n, ...), tensors made by `penalty_input`.

    Raises:
        ValueError: there is not one logit per sample.
    """
    if logits.size != len(real) + len(fake):
        raise ValueError(
            f"r1_and_r2_penalties: the discriminator gives {logits.shape} for"
            f" {len(real)} + {len(fake)} samples; one number per sample is needed"
        )
    gradients = grad(logits.sum(), [real, fake], create_graph=True)
    r1, r2 = (_squares_per_sample(g).mean() for g in gradients)
    return r1, r2


def _squared_gradient_norms(name: str, discriminator: Any, x: Tensor) -> Tensor:
    """Return |grad D(x)|^2 per sample, (n,), as a tensor that can be differentiated again."""
    if nn.has_batch_norm(discriminator):
        warnings.warn(
            f"{name}: the discriminator has batch norm, so a sample's output depends on the whole"
            " batch, and the gradient by one sample is no slope of D at that sample; use LayerNorm"
            " or InstanceNorm2d (Gulrajani et al. 2017, section 4)",
            stacklevel=3,
        )
    output = discriminator(x)
    if output.size != len(x):
        raise ValueError(
            f"{name}: the discriminator gives {output.shape} for {len(x)} samples; one number per"
            " sample is needed"
        )
    (gradient,) = grad(output.sum(), [x], create_graph=True)
    return _squares_per_sample(gradient)


def _squares_per_sample(gradient: Tensor) -> Tensor:
    """Return the sum of squares of each sample, (n,)."""
    return (gradient * gradient).sum(axis=tuple(range(1, gradient.ndim)))


def _mean_squared_distance(squared_norms: Tensor, target: float, one_sided: bool) -> Tensor:
    """Return the mean squared distance of norms to the target, or of their excess above it."""
    # The derivative of sqrt at 0 is infinite, and infinity times 0 is NaN. So where the norm is 0,
    # sqrt is applied to 1 instead, and `where` discards both its value and its gradient.
    is_zero = ops.equal(squared_norms, 0.0)
    norms = ops.where(is_zero, 0.0, ops.sqrt(ops.where(is_zero, 1.0, squared_norms)))
    distance = norms - target
    return ((ops.relu(distance) if one_sided else distance) ** 2).mean()


def penalty_input(x: Tensor) -> Tensor:
    """Return a copy of x that has no graph and requires a gradient."""
    leaf = x.detach() * 1.0
    leaf.requires_grad = True
    return leaf


# ----------------------------------------------------------------------------------- weights
def orthogonal_penalty(module: nn.Module) -> Tensor:
    """Return the sum over layers of squared inner products of different filters.

    That is |M M' - diag(M M')|^2 for each weight as a matrix M (outputs, inputs): filters become
    orthogonal, and their lengths are free. The paper's weight is 1e-4 (Brock et al. 2019,
    equation 3). The layers are the dense and convolutional ones; for a layer with spectral norm,
    M is the weight before it is normalized.

    Raises:
        ValueError: the module has no such layer.
    """
    layers: list[Any] = [
        layer
        for layer in module.modules()
        # The rows of an embedding are not filters.
        if hasattr(layer, "as_matrix") and not isinstance(layer, nn.Embedding)
    ]
    if not layers:
        raise ValueError("orthogonal_penalty: the net has no dense layer and no convolution")
    total: Tensor | None = None
    for layer in layers:
        matrix = layer.as_matrix(layer.weight)
        off_diagonal = tensor(1 - np.eye(len(matrix)), matrix.dtype, matrix.device)
        products = (matrix @ matrix.T) * off_diagonal
        squares = (products * products).sum()
        total = squares if total is None else total + squares
    assert total is not None
    return total


# -------------------------------------------------------------------------------------- options
@dataclass(frozen=True)
class Penalty:
    """A gradient penalty that can be chosen by name.

    Attributes:
        compute: a function of (discriminator, real, fake) that returns the penalty, not weighted.
        weight: the usual weight.
        target_slope: the gradient norm at which the penalty is 0; None if that is a range.
    """

    compute: Callable[[Discriminator, Tensor, Tensor], Tensor]
    weight: float
    target_slope: float | None


# The choices of `--penalty`.
PENALTIES = {
    "wgan-gp": Penalty(gradient_penalty, 10, 1),
    "wgan-gp-one-sided": Penalty(
        lambda d, real, fake: gradient_penalty(d, real, fake, one_sided=True), 10, None
    ),
    "dragan": Penalty(lambda d, real, fake: dragan_penalty(d, real), 10, 1),
    "r1": Penalty(lambda d, real, fake: r1_penalty(d, real), 5, 0),
    "r2": Penalty(lambda d, real, fake: r2_penalty(d, fake), 5, 0),
}
