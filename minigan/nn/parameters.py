"""Create the parameters of layers, and check the sizes of layers."""

from __future__ import annotations

from typing import Any

from ..engine import random
from ..engine.dtypes import INTEGERS
from ..engine.tensor import Tensor


def uniform_parameter(
    shape: tuple[int, ...], bound: float, dtype: Any = None, device: Any = None
) -> Tensor:
    """Draw a parameter uniform in [-bound, bound) from the random stream "init"."""
    x = random.uniform(shape, -bound, bound, dtype=dtype, device=device, stream="init")
    x.requires_grad = True
    return x


def check_sizes(name: str, **sizes: int) -> None:
    """Raise ValueError, with the layer's name, unless all sizes are positive integers."""
    for key, size in sizes.items():
        if not isinstance(size, INTEGERS) or size < 1:
            raise ValueError(f"{name}: {key} = {size!r} is not a positive integer")
