"""Layers: Dense, Embedding, activations, Dropout, noise, and changes of shape."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..engine import random
from ..engine.assign import assign
from ..engine.tensor import Tensor, require_tensors, tensor
from .module import Module


def check_sizes(name: str, **sizes: int) -> None:
    """ValueError, with the layer's name, unless all sizes are positive integers."""
    for key, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name}: {key} = {size!r} is not a positive integer")


class Dense(Module):
    """y = x @ weight + bias, for x (..., in_features); weight is (in_features, out_features).

    Weight and bias start uniform in +-1/sqrt(in_features), as PyTorch's Linear, drawn from the
    stream "init".
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: Any = None,
    ) -> None:
        check_sizes("Dense", in_features=in_features, out_features=out_features)
        bound = 1 / math.sqrt(in_features)

        def parameter(*shape: int) -> Tensor:
            x = random.uniform(shape, -bound, bound, dtype=dtype, device=device, stream="init")
            x.requires_grad = True
            return x

        self.weight = parameter(in_features, out_features)
        self.bias = parameter(out_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(x, self.weight)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """What the layer does, with another weight in the place of its own."""
        return ops.dense(x, weight, self.bias)

    def as_matrix(self, weight: Tensor) -> Tensor:
        """(out_features, in_features)"""
        return ops.transpose(weight)

    def extra(self) -> str:
        inputs, outputs = self.weight.shape
        return f"{inputs}, {outputs}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """y[i] = weight[label i]: int64 labels (n,) to (n, embedding_dim), a row of numbers for each.

    weight is (num_embeddings, embedding_dim) and starts normal, of variance 1, as PyTorch's, drawn
    from the stream "init".

    Raises:
        TypeError: the labels are no int64 tensor.
        ValueError: they are not (n,), or one is outside [0, num_embeddings).
        IndexError: the latter, in a replay of a captured step on the CPU. The CUDA kernels do
            not look there, so check labels before they go into such a step.
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
        """What the layer does, with another table in the place of its own."""
        try:
            return ops.gather(weight, ops.reshape(x, -1, 1))
        except IndexError as error:
            raise ValueError(f"Embedding: a label has no row in the table: {error}") from None

    def as_matrix(self, weight: Tensor) -> Tensor:
        """(embedding_dim, num_embeddings): it takes a one-hot label to its row."""
        return ops.transpose(weight)

    def extra(self) -> str:
        return ", ".join(map(str, self.weight.shape))


class LeakyReLU(Module):
    """x where x > 0, else slope * x. PyTorch's default slope is 0.01; GANs use 0.2."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = float(slope)

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.slope)

    def extra(self) -> str:
        return f"{self.slope}"


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)). A discriminator trained on logits does not end in one."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """tanh(x), in [-1, 1] as the images are."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Dropout(Module):
    """Zero each element with probability p and divide the rest by 1 - p; in eval mode, nothing.

    The stream "dropout" says which (Srivastava et al. 2014).
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p = {p} is not in [0, 1)")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p) if self.training else x

    def extra(self) -> str:
        return f"{self.p}"


class GaussianNoise(Module):
    """x + sigma * noise, standard normal, of the stream "noise"; in eval mode, x itself.

    Noise on what a discriminator sees gives real and generated samples a common support (Sonderby
    et al. 2017; Arjovsky and Bottou 2017, section 3).

    sigma is a number of 0 or more, in the units of x. It lies on the device, in the buffer `scale`,
    and may be set at any time, as a learning rate may: `layer.sigma = 0.05` works on a captured
    step from its next replay on.

    Raises:
        ValueError: sigma is negative or not finite.
    """

    def __init__(self, sigma: float, *, dtype: Any = None, device: Any = None) -> None:
        value = _deviation(sigma)
        self.scale = tensor(value, dtype=dtype or "float32", device=device)

    @property
    def sigma(self) -> float:
        """The noise's standard deviation, rounded to the buffer's dtype."""
        return self.scale.item()

    @sigma.setter
    def sigma(self, value: float) -> None:
        number = tensor(_deviation(value), dtype=self.scale.dtype, device=self.scale.device)
        assign(self.scale, number)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        noise = random.normal(x.shape, dtype=x.dtype, device=x.device, stream="noise")
        return ops.add(x, ops.multiply(noise, self.scale))

    def extra(self) -> str:
        return f"{self.sigma:g}"


def _deviation(sigma: Any) -> float:
    if not isinstance(sigma, (int, float)) or not 0 <= sigma < math.inf:
        raise ValueError(f"GaussianNoise: sigma = {sigma!r} is not a finite number of at least 0")
    return float(sigma)


class Flatten(Module):
    """(n, ...) to (n, product of the rest)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.reshape(x, x.shape[0], math.prod(x.shape[1:]))


class Reshape(Module):
    """(n, ...) to (n, *shape)."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return ops.reshape(x, x.shape[0], *self.shape)

    def extra(self) -> str:
        return ", ".join(map(str, self.shape))
