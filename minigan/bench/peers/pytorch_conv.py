"""PyTorch's convolutions on the CPU, which are oneDNN's, and each of their gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from .pytorch import get_threads, set_threads

__all__ = ["ORDERS", "calls", "get_threads", "set_threads"]

Operation = Callable[[], Tensor]
# The orders of the arrays in memory: minigan's, and channels last, which is often faster.
ORDERS = {
    "PyTorch": torch.contiguous_format,
    "PyTorch, NHWC": torch.channels_last,
}


def calls(
    x: np.ndarray, w: np.ndarray, g: np.ndarray, stride: int, padding: int
) -> dict[str, list[Operation]]:
    """Return by name the forward call, the input gradient's and the weight gradient's."""
    return {
        name: _operations(
            _copy(x, order), _copy(w, order), _copy(g, order), [stride] * 2, [padding] * 2
        )
        for name, order in ORDERS.items()
    }


def _copy(a: np.ndarray, order: torch.memory_format) -> Tensor:
    """Return a copy in that order, with its strides even for one channel: oneDNN reads them."""
    x = torch.from_numpy(a)
    return torch.empty_like(x, memory_format=order).copy_(x)


def _operations(
    x: Tensor, w: Tensor, g: Tensor, stride: list[int], padding: list[int]
) -> list[Operation]:
    def gradient(position: int) -> Tensor:
        """Return the gradient of x (0) or of w (1)."""
        mask = [i == position for i in range(3)]
        options: Any = None, stride, padding, [1, 1], False, [0, 0], 1, mask
        gradients: list[Tensor] = torch.ops.aten.convolution_backward(g, x, w, *options)
        return gradients[position]

    return [partial(conv2d, x, w, None, stride, padding), *(partial(gradient, i) for i in (0, 1))]
