"""What a network does to shapes and batches: the shapes of its layers' outputs, its modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..engine.device import current_device
from ..engine.tensor import Tensor, no_grad
from .containers import Sequential
from .module import Module, observers
from .parameters import layer_name


def shapes(
    net: Module, shape: tuple[int, ...], batch: int = 2
) -> list[tuple[str, tuple[int, ...]]]:
    """Return (layer, shape of its output) for each layer, for a batch of samples of that shape.

    The network is applied to zeros in eval mode, so nothing is changed and nothing is drawn.

        nn.shapes(nn.Sequential(nn.Dense(2, 5), nn.ReLU()), (2,))
        # [("input", (2, 2)), ("0: Dense(2, 5)", (2, 5)), ("1: ReLU()", (2, 5))]

    Raises:
        ValueError: a layer does not accept its input; the message lists the shapes up to it.
    """
    first = next((x for _, x in net.tensors()), None)
    device = current_device() if first is None else first.device
    dtype = np.dtype("float32") if first is None else first.dtype
    x = Tensor(device.from_numpy(np.zeros((batch, *shape), dtype)), device)
    rows = [("input", x.shape)]
    with evaluating(net), no_grad():
        for i, layer in enumerate(net if isinstance(net, Sequential) else [net]):
            name = f"{i}: {layer_name(layer)}"
            try:
                x = layer(x)
            except (TypeError, ValueError) as error:
                previous = "\n".join(f"  {name:40} {shape}" for name, shape in rows)
                raise ValueError(
                    f"layer {name} does not take {x.shape}: {error}\n{previous}"
                ) from None
            rows.append((name, x.shape))
    return rows


@contextmanager
def evaluating(net: Module) -> Iterator[None]:
    """Set eval mode in a `with` block; afterwards each module has the mode that it had before."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def observing(observer: Callable[[Module, Any], Any]) -> Iterator[None]:
    """Call `observer(module, output)` after each call of a module in a `with` block.

    Children come before the module that calls them. It holds for this thread or asyncio task.

        with nn.observing(lambda module, y: print(type(module).__name__, y.shape)):
            net(x)
    """
    token = observers.set(observer)
    try:
        yield
    finally:
        observers.reset(token)


def depends_on_batch(net: Any) -> bool:
    """Return whether a sample's output depends on the other samples of its batch.

    It does with batch norm in train mode, and with minibatch layers in both modes. Real and
    generated samples then go through a discriminator in separate batches.
    """
    return isinstance(net, Module) and any(x.mixes_batch for x in net.modules())
