"""Create the parameters of layers, and check the sizes and inputs of layers."""

from __future__ import annotations

from typing import Any

from ..engine import random
from ..engine.dtypes import INTEGERS
from ..engine.tensor import Tensor


class DenseWeight(Tensor):
    """The weight of `nn.Dense`, (in, out). PyTorch's is (out, in), so `nn.init` has to know."""

    __slots__ = ()


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


def check_input(layer: Any, x: Any, fits: bool, needed: str) -> None:
    """Raise, with the layer and its settings, unless the shape of x fits and its dtype is right.

    Args:
        layer: a module with a weight.
        x: its input. What is no tensor of floats is left to the op, which refuses it.
        fits: whether its shape does.
        needed: the shape that is needed, for the message.
    """
    if not isinstance(x, Tensor) or x.dtype.kind != "f":
        return
    if not fits:
        raise ValueError(f"{layer_name(layer)}: the input is {x.shape}; {needed} is needed")
    dtype = layer.weight.dtype
    if x.dtype != dtype:
        raise TypeError(
            f"{layer_name(layer)}: the input is {x.dtype}, the parameters are {dtype}; convert"
            f" one: x.to('{dtype}') or net.to('{x.dtype}')"
        )


def layer_name(layer: Any) -> str:
    """Return the class and the settings of a layer: "Dense(2, 128)"."""
    return f"{type(layer).__name__}({layer.extra_repr()})"
