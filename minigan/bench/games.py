"""The training steps that `minigan bench --devices` measures: an MLP GAN's and the ring's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from .. import nn
from ..device import Device, use_device
from .plan import DevicePlan, Game
from .steps import BETAS, LEARNING_RATE, SLOPE, Step, minigan_step, perceptron
from .timing import Call


def cases(plan: DevicePlan) -> Iterator[dict[str, Any]]:
    """What is measured: game, batch, and how work and memory compare.

    work: multiplications, once forward; bytes: the weights, their gradients and two moments.
    """
    for name, game in plan.games.items():
        layers = [*pairwise(game.generator), *pairwise(game.discriminator)]
        weights = sum(size * width for size, width in layers)
        for batch in game.batches:
            yield {"game": name, "batch": batch, "work": weights * batch, "bytes": 16 * weights}


def _nets(game: Game) -> tuple[nn.Sequential, nn.Sequential]:
    end = [nn.Tanh()] if game.bounded else []
    return perceptron(game.generator, *end), perceptron(game.discriminator)


def _data(game: Game, batch: int) -> np.ndarray:
    shape = (batch, game.discriminator[0])
    return np.tanh(np.random.default_rng(0).standard_normal(shape, np.float32))


def ready(game: Game, batch: int, device: Device) -> Step:
    """A step on the device; it leaves the losses there, as a run does but where it logs them."""
    with use_device(device):
        return minigan_step(*_nets(game), _data(game, batch), read=lambda loss: loss)


def peers(game: Game, batch: int, pytorch: ModuleType, device: str) -> dict[str, Any]:
    """By name, what makes PyTorch's steps from equal weights on its device of that name."""
    with use_device("cpu"):
        states = [net.state_dict() for net in _nets(game)]
    given = (*states, _data(game, batch), device, game.bounded, SLOPE, LEARNING_RATE, BETAS)
    makers: dict[str, Call] = pytorch.step_calls(partial(pytorch.eager_step, *given), device)
    return makers
