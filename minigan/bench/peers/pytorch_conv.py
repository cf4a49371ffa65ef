"""PyTorch's convolutions on the CPU, which are oneDNN's: each of the three faces by itself."""

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


Face = Callable[[], Tensor]
# By name, the order of its arrays in memory: minigan's, and the one that it is often faster with.
ORDERS = {
    "PyTorch": torch.contiguous_format,
    "PyTorch, NHWC": torch.channels_last,
}


def calls(
    x: np.ndarray, w: np.ndarray, g: np.ndarray, stride: int, padding: int
) -> dict[str, list[Face]]:
    """By name: y of x and w, the gradient of x of g and w, and that of w of x and g."""
    return {
        name: _faces(*(_ordered(a, order) for a in (x, w, g)), [stride] * 2, [padding] * 2)
        for name, order in ORDERS.items()
    }


def _ordered(a: np.ndarray, order: torch.memory_format) -> Tensor:
    """A copy: of one channel, `contiguous` would leave the strides, which oneDNN goes by."""
    x = torch.from_numpy(a)
    return torch.empty_like(x, memory_format=order).copy_(x)


def _faces(*given: Any) -> list[Face]:
    x, w, g, stride, padding = given

    def gradient(which: int) -> Tensor:
        mask = [i == which for i in range(3)]
        rest = None, stride, padding, [1, 1], False, [0, 0], 1, mask
        found: list[Tensor] = torch.ops.aten.convolution_backward(g, x, w, *rest)
        return found[which]

    return [partial(conv2d, x, w, None, stride, padding), *(partial(gradient, i) for i in (0, 1))]
