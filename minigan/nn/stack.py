"""Nets of several seeds as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from .. import stack
from ..engine.device import Device, use_device

T = TypeVar("T")


def stacked(
    seeds: Iterable[int], factory: Callable[[], T], device: str | Device | None = None
) -> T:
    """What `factory` makes, once per seed, as one: nets whose parameters have a seed axis.

    The net that it has for a seed is bit for bit the one that `mg.manual_seed(seed); factory()`
    makes, and so it stays in training. It takes tensors of its device, `mg.stacked(seeds, device)`,
    where the arguments and errors are told, and which makes latents, data and optimizers too:

        discriminator = nn.stacked(range(10), lambda: nn.Sequential(...))
        with mg.use_device(mg.stacked(range(10))):
            ...
    """
    with use_device(stack.stacked(seeds, device)):
        return factory()
