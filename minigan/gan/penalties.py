"""Penalties: what is added to a player's loss to bound slopes or to keep weights apart.

Each is a plain mean, to be multiplied by a weight of one's own. Those on the slope of the
discriminator are gradients of gradients: `grad(..., create_graph=True)`, then `grad` again.
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


def gradient_penalty(
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    target: float = 1.0,
    one_sided: bool = False,
) -> Tensor:
    """Mean of (|grad D(x)| - target)^2, x between a real and a fake sample (Gulrajani et al. 2017).

    Each x is real + alpha (fake - real), one alpha for a sample, uniform in [0, 1), of the stream
    "penalty". The paper multiplies it by 10 and adds it to the critic's loss (equation 3). Where
    the gradient is zero its norm has none, so a derivative of 0 is taken there. At equilibrium
    every critic of that slope has the same loss, so the penalty's level is 0.

    Args:
        discriminator: from (n, ...) to one number a sample; it must not mix samples: batch norm
            does, and is warned of.
        real, fake: (n, ...), of one shape. Constants.
        one_sided: max(0, |grad D(x)| - target)^2: smaller slopes are free (section 4 there;
            Petzka et al. 2018, equation 8).

    Raises:
        ValueError: real and fake differ in shape.
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"gradient_penalty: real samples {real.shape} and fake ones {fake.shape} must have one"
            " shape"
        )
    real, fake = real.detach(), fake.detach()
    between = ops.add(real, ops.multiply(_alpha(real), ops.subtract(fake, real)))
    squares = _slopes("gradient_penalty", discriminator, _leaf(between))
    return _from_target(squares, target, one_sided)


def dragan_penalty(
    discriminator: Discriminator,
    real: Tensor,
    scale: float = 0.5,
    target: float = 1.0,
    one_sided: bool = False,
) -> Tensor:
    """Mean of (|grad D(x + d)| - target)^2 around real samples x (Kodali et al. 2017, equation 2).

    d is normal noise, `scale` times as large as the standard deviation of all numbers in `real`,
    of the stream "penalty". (The authors' program draws it uniform, and goes a random part of the
    way.) The paper multiplies it by 10 and adds it to the loss of `NonSaturating`: flat is what
    that loss asks for at equilibrium, slope 1 what the penalty does, so it has no level of its own.

    Raises:
        ValueError: scale is negative or not finite.
    """
    if not 0 <= scale < math.inf:
        raise ValueError(f"dragan_penalty: scale = {scale} is not a finite number of at least 0")
    real = real.detach()
    centred = ops.subtract(real, ops.mean(real))
    deviation = ops.sqrt(ops.mean(ops.multiply(centred, centred)))
    noise = random.normal(real.shape, dtype=real.dtype, device=real.device, stream="penalty")
    around = ops.add(real, ops.multiply(noise, ops.multiply(deviation, scale)))
    squares = _slopes("dragan_penalty", discriminator, _leaf(around))
    return _from_target(squares, target, one_sided)


def r1_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """Mean of |grad D(x)|^2 at real samples; Mescheder et al. 2018, eq. 9: times gamma / 2.

    At equilibrium D is flat on the data, and the penalty's level is 0.
    """
    return ops.mean(_slopes("r1_penalty", discriminator, _leaf(real)))


def r2_penalty(discriminator: Discriminator, fake: Tensor) -> Tensor:
    """The same at generated samples; they are constants."""
    return ops.mean(_slopes("r2_penalty", discriminator, _leaf(fake)))


def orthogonal_penalty(module: nn.Module) -> Tensor:
    """Sum over layers of the squared dot products of different filters (Brock et al. 2019, eq. 3).

    |M M' - diag(M M')|^2 for each weight as a matrix M (outputs, rest): filters are kept apart, and
    their lengths are free. The paper multiplies it by 1e-4. Dense layers and convolutions have
    such a weight.

    Raises:
        ValueError: no layer has one.
    """
    layers: list[Any] = [
        x
        for x in module.modules()
        if hasattr(x, "as_matrix") and not isinstance(x, nn.Embedding)  # rows are no filters
    ]
    if not layers:
        raise ValueError("orthogonal_penalty: the net has no dense layer and no convolution")
    total: Tensor | None = None
    for layer in layers:
        matrix = layer.as_matrix(layer.weight)
        different = tensor(1 - np.eye(len(matrix)), matrix.dtype, matrix.device)
        products = ops.multiply(ops.matmul(matrix, ops.transpose(matrix)), different)
        squares = ops.sum(ops.multiply(products, products))
        total = squares if total is None else ops.add(total, squares)
    assert total is not None
    return total


@dataclass(frozen=True)
class Penalty:
    """A penalty of (D, real, fake), its usual weight, and the slope that it asks of D, if one."""

    of: Callable[[Discriminator, Tensor, Tensor], Tensor]
    weight: float
    slope: float | None


# What `--penalty` accepts.
PENALTIES = {
    "wgan-gp": Penalty(gradient_penalty, 10, 1),
    "wgan-gp-one-sided": Penalty(
        lambda d, real, fake: gradient_penalty(d, real, fake, one_sided=True), 10, None
    ),
    "dragan": Penalty(lambda d, real, fake: dragan_penalty(d, real), 10, 1),
    "r1": Penalty(lambda d, real, fake: r1_penalty(d, real), 5, 0),
    "r2": Penalty(lambda d, real, fake: r2_penalty(d, fake), 5, 0),
}


# ---------------------------------------------------------------------------- what they share
def _slopes(name: str, discriminator: Any, x: Tensor) -> Tensor:
    """(n,): each sample's squared norm of the gradient of D there, differentiable again."""
    if nn.has_batch_norm(discriminator):
        warnings.warn(
            f"{name}: the discriminator has batch norm, so a sample's output depends on the whole"
            " batch, and the gradient by one sample is no slope of D at that sample; use LayerNorm"
            " or InstanceNorm2d (Gulrajani et al. 2017, section 4)",
            stacklevel=3,
        )
    (gradient,) = grad(ops.sum(discriminator(x)), [x], create_graph=True)
    axes = tuple(range(1, x.ndim))
    return ops.sum(ops.multiply(gradient, gradient), axis=axes)


def _from_target(squares: Tensor, target: float, one_sided: bool) -> Tensor:
    """Mean squared distance of the norms to the target, or above it; safe where a norm is zero."""
    # sqrt at 0 has an infinite slope: 1 goes through it there, and 0 comes out.
    flat = ops.equal(squares, 0.0)
    norms = ops.where(flat, 0.0, ops.sqrt(ops.where(flat, 1.0, squares)))
    distance = ops.subtract(norms, target)
    return ops.mean(ops.power(ops.relu(distance) if one_sided else distance, 2))


def _alpha(x: Tensor) -> Tensor:
    """One uniform number for each sample, (n, 1, ...)."""
    shape = (x.shape[0], *(1,) * (x.ndim - 1))
    return random.uniform(shape, dtype=x.dtype, device=x.device, stream="penalty")


def _leaf(x: Tensor) -> Tensor:
    """The same values, as an input that gradients can be asked for."""
    leaf = ops.multiply(x.detach(), 1.0)
    leaf.requires_grad = True
    return leaf
