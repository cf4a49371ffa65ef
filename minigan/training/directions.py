"""Find directions of the latent space, move latents along them, and truncate normal latents."""

from __future__ import annotations

import numpy as np

from .. import nn
from ..engine import random
from ..gan.conditional import ConditionalGenerator
from ..utils.names import shorten

LEAST_TRUNCATION = 0.01  # where one normal number in 125 is accepted


def first_weight(generator: nn.Module, latent_size: int) -> np.ndarray:
    """Return the weight (latent_size, features) with which the first layer takes a latent.

    Raises:
        ValueError: the first layer is no `nn.Dense`.
    """
    layer: object = generator
    if isinstance(layer, ConditionalGenerator):  # its net takes the label after the latent
        layer = layer.net
    while isinstance(layer, nn.Sequential) and len(layer):
        layer = layer[0]
    layer = layer.module if isinstance(layer, nn.SpectralNorm) else layer
    if not isinstance(layer, nn.Dense):
        raise ValueError(
            f"directions: the first layer of the generator is {type(layer).__name__}; nn.Dense is"
            " needed, whose weight has singular vectors"
        )
    return layer.weight.numpy()[:latent_size].astype(np.float64)


def sefa(weight: np.ndarray, k: int) -> np.ndarray:
    """Return the k directions that change the output of a first layer most (Shen and Zhou 2021).

    With z @ weight for the layer, these are the left singular vectors of its weight, in descending
    order of the singular values (equation 5). For normal latents they are also the principal
    components of z @ weight, on which GANSpace (Harkonen et al. 2020) is built: the covariance is
    weight.T @ weight.

    Args:
        weight: (latent_size, features).
        k: their number.

    Returns:
        (k, latent_size) unit vectors, perpendicular to each other. The sign, which is arbitrary, is
        that with which the largest number is positive.

    Raises:
        ValueError: there are not so many.
    """
    most = min(weight.shape)
    if not 1 <= k <= most:
        raise ValueError(f"directions: k = {k}; this generator has 1 to {most}")
    vectors = np.linalg.svd(weight)[0].T[:k]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    return vectors * np.sign(largest)


def unit_directions(directions: np.ndarray, latent_size: int) -> np.ndarray:
    """Return directions (k, latent_size) with norm 1.

    Raises:
        ValueError: they have another shape, or a norm of 0 or none.
    """
    values = np.asarray(directions, np.float64)
    if values.ndim != 2 or values.shape[1] != latent_size or not len(values):
        raise ValueError(
            f"directions of shape {values.shape}; (k, {latent_size}) is needed, a row for each"
        )
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    bad = np.flatnonzero(~((norms > 0) & np.isfinite(norms)))
    if bad.size:
        raise ValueError(
            f"directions {shorten(list(map(str, bad)))} have a norm that is 0 or not finite"
        )
    return values / norms


def move(latents: np.ndarray, direction: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return latents whose component along a direction is replaced by each position.

    Args:
        latents: (n, d).
        direction: (d,), of norm 1.
        positions: (m,), in the unit of the latents.

    Returns:
        (n, m, d) in float64. What is perpendicular to the direction stays, so a normal latent is
        typical in all other directions; along this one it lies `position` deviations from the mean.
    """
    rest = latents - (latents @ direction)[:, None] * direction
    return rest[:, None] + positions[:, None] * direction


def truncate(latents: np.ndarray, limit: float) -> np.ndarray:
    """Return normal latents, float32, numbers beyond a limit drawn again until all are inside.

    This is the truncation trick of BigGAN (Brock et al. 2019, section 3.1). Numbers inside keep
    their values; the others come from the random stream "truncation" of the current generator.

    Args:
        latents: from N(0, 1).
        limit: the largest absolute value, in standard deviations.

    Raises:
        ValueError: the limit is below 0.01, where nearly all draws are in vain, or NaN.
    """
    if not limit >= LEAST_TRUNCATION:
        raise ValueError(f"truncation = {limit}: a limit of at least {LEAST_TRUNCATION} is needed")
    values = latents.astype(np.float32).reshape(-1)
    outside = np.flatnonzero(np.abs(values) > limit)
    while outside.size:
        values[outside] = random.normal(outside.size, stream="truncation", device="cpu").numpy()
        outside = outside[np.abs(values[outside]) > limit]
    return values.reshape(latents.shape)
