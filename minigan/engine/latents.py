"""The distributions of latents, with all that depends on which one a run has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .random import Shape, laplace, normal, uniform
from .tensor import Tensor, tensor


@dataclass(frozen=True)
class Latent:
    """A distribution of latents.

    Attributes:
        draw: returns latents of a shape (n, size); the options are those of `random.normal`.
        interpolation: that of a walk between two latents, a name of
            `training.walk.INTERPOLATIONS`.
        reach: how far a traversal along a direction goes to both sides: two standard deviations,
            or the end of the range; 0 where numbers have different deviations, so that it has no
            unit.
        torch: an expression of PyTorch for the same latents; it names {n} and {size}.
    """

    draw: Callable[..., Tensor]
    interpolation: str
    reach: float
    torch: str


def _decaying(shape: Shape, **options: Any) -> Tensor:
    """Return normal numbers (n, size); number i of a row has the standard deviation 1 / i."""
    x = normal(shape, **options)
    return x * tensor(1 / np.arange(1, x.shape[-1] + 1), x.dtype, x.device)


# The choices of `--latent`. The uniform distribution has the range of a tanh, (-1, 1). Decaying
# numbers vary in few directions, whatever their count: a generator separates modes sooner.
#
# The interpolation is the one that stays where a distribution has its mass. The norm of a normal
# latent of 100 numbers is 10.0 with a standard deviation of 0.7, and the middle of a straight line
# between two has a norm of about 7.1, which no training has shown to the generator; an arc keeps
# the norm (White 2016). It does so for Laplace latents too. A cube is convex: a straight line
# between uniform latents stays in it, and an arc may leave it. Decaying latents have two or three
# numbers that matter, so 0 is no odd place, and an arc may lead through values of small numbers
# that are many standard deviations large.
LATENTS: dict[str, Latent] = {
    "normal": Latent(normal, "slerp", 2.0, "torch.randn({n}, {size})"),
    "uniform": Latent(
        lambda shape, **options: uniform(shape, -1.0, 1.0, **options),
        "lerp",
        1.0,
        "2 * torch.rand({n}, {size}) - 1",
    ),
    "laplace": Latent(
        laplace, "slerp", 2 * 2**0.5, "torch.distributions.Laplace(0.0, 1.0).sample(({n}, {size}))"
    ),
    "decaying": Latent(
        _decaying, "lerp", 0.0, "torch.randn({n}, {size}) / torch.arange(1, {size} + 1)"
    ),
}
