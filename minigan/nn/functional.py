"""Losses of classes and distances as functions of tensors, named as in `torch.nn.functional`."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..engine.op import require_floats
from ..engine.tensor import Tensor, require_tensors
from ..ops.indexing import check_indices


def binary_cross_entropy(probability: Tensor, target: Tensor | float) -> Tensor:
    """Return the mean of -(t log p + (1 - t) log(1 - p)), as PyTorch's `binary_cross_entropy`.

    Each logarithm is at least -100, so that p = 0 and p = 1 give finite losses and gradients.

    A probability outside of [0, 1] raises ValueError where the host can read it. On a GPU, and in
    the replay of a captured step, it gives NaN.

    Args:
        probability: p, of any shape, in [0, 1].
        target: t, a tensor of the same shape, or one number for all elements.

    Raises:
        ValueError: the shapes differ, or a probability is outside of [0, 1].
    """
    _check_target("binary_cross_entropy", probability, target)
    p = probability.array
    if isinstance(p, np.ndarray) and p.size:
        low, high = p.min(), p.max()
        if low < 0 or high > 1:  # False for NaN, which stays NaN
            raise ValueError(
                f"binary_cross_entropy: {low if low < 0 else high} is not a probability in"
                " [0, 1]; binary_cross_entropy_with_logits accepts any number"
            )
    return ops.binary_cross_entropy(probability, target).mean()


def binary_cross_entropy_with_logits(logits: Tensor, target: Tensor | float) -> Tensor:
    """Return the binary cross-entropy of p = sigmoid(x) for logits x: mean of softplus(x) - t x.

    It is exact for logits of any size, as PyTorch's `binary_cross_entropy_with_logits`:

        loss = mg.losses.binary_cross_entropy_with_logits(D(real), 1.0)

    Args:
        logits: x, of any shape.
        target: t, a tensor of the same shape, or one number for all elements.

    Raises:
        ValueError: the shapes differ.
    """
    _check_target("binary_cross_entropy_with_logits", logits, target)
    return (ops.softplus(logits) - logits * target).mean()


def _check_target(name: str, x: Tensor, target: Tensor | float) -> None:
    require_floats(name, x)
    if isinstance(target, Tensor) and target.shape != x.shape:
        raise ValueError(
            f"{name}: the target has shape {target.shape}, the input {x.shape}; they must be equal"
        )


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of -log softmax(logits)[label] in nats, as PyTorch's `cross_entropy`.

    Args:
        logits: (n, classes).
        labels: (n,), int64.

    Raises:
        ValueError: the shapes do not match.
        IndexError: a label is negative, or at least the number of classes.
    """
    require_tensors("cross_entropy", logits, labels)
    require_floats("cross_entropy", logits)
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"cross_entropy: logits {logits.shape} and labels {labels.shape}; (n, classes) and"
            " (n,) are needed"
        )
    check_indices("cross_entropy", labels, logits.shape[1])
    column = labels.reshape(len(labels), 1)
    return -ops.gather(ops.log_softmax(logits, axis=1), column, axis=1).mean()


def mse_loss(x: Tensor, target: Tensor | float) -> Tensor:
    """Return the mean of (x - t)^2, as PyTorch's `mse_loss`.

    Args:
        x: of any shape.
        target: t, a tensor of the same shape, or one number for all elements.

    Raises:
        ValueError: the shapes differ.
    """
    _check_target("mse_loss", x, target)
    return ((x - target) ** 2).mean()


def l1_loss(x: Tensor, target: Tensor | float) -> Tensor:
    """Return the mean of |x - t|, as PyTorch's `l1_loss`; its derivative is 0 where x = t.

    Args:
        x: of any shape.
        target: t, a tensor of the same shape, or one number for all elements.

    Raises:
        ValueError: the shapes differ.
    """
    _check_target("l1_loss", x, target)
    return (x - target).abs().mean()
