"""Embeddings, dropout, noise, and changes of shape."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..engine import random
from ..engine.assign import assign
from ..engine.dtypes import REALS
from ..engine.tensor import Tensor, require_tensors, tensor
from .module import Module
from .parameters import check_sizes


class Embedding(Module):
    """A table of vectors: y[i] = weight[labels[i]], int64 (n,) to (n, embedding_dim).

    weight is (num_embeddings, embedding_dim) and starts standard normal, as in PyTorch, from the
    random stream "init".

    Raises:
        TypeError: the labels are not an int64 tensor.
        ValueError: they are not (n,), or one is outside [0, num_embeddings).
        IndexError: a label is outside that range in a replay of a captured step on the CPU. The
            CUDA kernels do not check, so check labels before they enter such a step.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, dtype: Any = None, device: Any = None
    ) -> None:
        check_sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        shape = (num_embeddings, embedding_dim)
        self.weight = random.normal(shape, dtype=dtype, device=device, stream="init")
        self.weight.requires_grad = True

    def forward(self, x: Tensor) -> Tensor:
        require_tensors("Embedding", x)
        if x.dtype.kind != "i":
            raise TypeError(f"Embedding: the labels are {x.dtype}, not int64")
        if x.ndim != 1:
            raise ValueError(f"Embedding: labels of shape {x.shape}; (n,) is needed")
        return self.apply_weight(x, self.weight)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the layer's output with `weight` in the place of its own weight."""
        try:
            return ops.gather(weight, x.reshape(-1, 1))
        except IndexError as error:
            raise ValueError(f"Embedding: a label has no row in the table: {error}") from None

    def as_matrix(self, weight: Tensor) -> Tensor:
        """Return the matrix (embedding_dim, num_embeddings) that maps one-hot labels to rows."""
        return weight.T

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))


# ---------------------------------------------------------------------------- dropout and noise
class Dropout(Module):
    """Zero each element with probability p and divide the others by 1 - p (Srivastava et al. 2014).

    The elements are drawn from the random stream "dropout". In eval mode the output is x itself.

    Raises:
        ValueError: p is not in [0, 1).
    """

    def __init__(self, p: float = 0.5) -> None:
        if not isinstance(p, REALS) or not 0 <= p < 1:
            raise ValueError(f"Dropout: p = {p} is not in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p) if self.training else x

    def extra_repr(self) -> str:
        return f"{self.p}"


class GaussianNoise(Module):
    """Add normal noise of standard deviation sigma, from the random stream "noise".

    In eval mode the output is x itself. Noise on the discriminator's input (instance noise) gives
    real and generated samples a common support (Sonderby et al. 2017; Arjovsky and Bottou 2017,
    section 3).

    sigma is a number of at least 0 in the units of x. It is stored on the device, in the buffer
    `scale`, and can be set at any time, also between replays of a captured step:

        noise = nn.GaussianNoise(0.1)
        noise.sigma = 0.05

    Raises:
        ValueError: sigma is negative or not finite.
    """

    def __init__(self, sigma: float, *, dtype: Any = None, device: Any = None) -> None:
        self.scale = tensor(_check_sigma(sigma), dtype=dtype or "float32", device=device)

    @property
    def sigma(self) -> float:
        """The noise's standard deviation, rounded to the dtype of `scale`."""
        return self.scale.item()

    @sigma.setter
    def sigma(self, value: float) -> None:
        number = tensor(_check_sigma(value), dtype=self.scale.dtype, device=self.scale.device)
        assign(self.scale, number)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        noise = random.normal(x.shape, dtype=x.dtype, device=x.device, stream="noise")
        return x + noise * self.scale

    def extra_repr(self) -> str:
        return f"{self.sigma:g}"


def _check_sigma(sigma: Any) -> float:
    if not isinstance(sigma, REALS) or not 0 <= sigma < math.inf:
        raise ValueError(f"GaussianNoise: sigma = {sigma!r} is not a finite number of at least 0")
    return float(sigma)


# -------------------------------------------------------------------------------------- shapes
class Flatten(Module):
    """Flatten all axes but the first: (n, ...) to (n, product of the other sizes)."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.ndim:
            raise ValueError("Flatten: a tensor of shape () has no axis to keep")
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Identity(Module):
    """Return the input itself. Arguments are not used, so that it can stand for any layer:

    norm = nn.BatchNorm2d if batch_norm else nn.Identity
    layers = nn.Conv2d(3, 64, 4), norm(64)
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        return x


class Reshape(Module):
    """Reshape all axes but the first: (n, ...) to (n, *shape)."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.shape)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.shape))
