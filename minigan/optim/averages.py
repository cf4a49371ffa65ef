"""Averages of parameters over training: one that makes samples, one that holds a player back."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .. import ops
from ..engine.assign import assign, load_tensors
from ..engine.tensor import Tensor, no_grad
from .optimizers import new_like, sgd

if TYPE_CHECKING:
    from ..nn import Module


class ExponentialMovingAverage:
    """A copy of a net whose parameters follow those of the net slowly: a += (1 - decay)(p - a).

    The average of a generator makes better samples than any of its moments (Yazici et al. 2019).
    Buffers, as the running moments of batch norm, are the net's as they are now.

        average = ExponentialMovingAverage(generator, 0.999)
        ...
        optimizer.step(gradients)
        average.update()
        samples = average.module(latent)      # in eval mode

    Raises:
        ValueError: decay is not in [0, 1), or the net has no parameters.
    """

    def __init__(self, module: Module, decay: float = 0.999) -> None:
        if not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(f"ExponentialMovingAverage: decay = {decay!r} is not in [0, 1)")
        if not module.parameters():
            raise ValueError("ExponentialMovingAverage: the net has no parameters")
        self.source, self.module, self.decay = module, copy.deepcopy(module).eval(), decay
        self._rate = new_like(module.parameters()[0], np.array([decay - 1.0]))

    def update(self) -> None:
        """Move the average towards the net as it is now.

        A step of `sgd` on a, with "gradient" p, weight decay -1 and rate -(1 - decay), is this.

        Raises:
            ValueError: the net's tensors are not those of the average any more: others, or of
                another shape, dtype or device. Nothing has changed.
        """
        averages, now = dict(self.module.tensors()), dict(self.source.tensors())
        if averages.keys() != now.keys():
            other = sorted(averages.keys() ^ now.keys())
            raise ValueError(
                f"ExponentialMovingAverage: {other} are in the net or its average alone"
            )
        moving: dict[int, tuple[Tensor, Tensor]] = {}  # a tensor of several names moves once
        copied = []
        for name, x in now.items():
            average = averages[name]
            kinds = [(y.shape, str(y.dtype), y.device.name) for y in (average, x)]
            if kinds[0] != kinds[1]:
                raise ValueError(
                    f"ExponentialMovingAverage: {name} is {kinds[0]}, the net's {kinds[1]}"
                )
            if x.requires_grad:
                moving[id(average)] = average, x
            else:
                copied.append((average, x))
        for average, x in copied:
            assign(average, x)
        pairs = list(moving.values())
        if not pairs:  # all are frozen
            return
        first = pairs[0][0]
        if self._rate.device is not first.device:
            self._rate = new_like(first, np.array([self.decay - 1.0]))
        options = {"momentum": 0.0, "nesterov": False, "weight_decay": -1.0}
        sgd([a for a, _ in pairs], [x for _, x in pairs], [], self._rate, **options)

    def state_dict(self) -> dict[str, np.ndarray]:
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        self.module.load_state_dict(state)


class HistoricalAverage:
    """The mean of all values that parameters have had, and the squared distance to it.

    Adding `penalty()` to each player's loss damps the orbits of a game that does not settle
    (historical averaging; Salimans et al. 2016, section 3.3). The mean begins with the values that
    the parameters have now; call `update` after each step.

    Raises:
        TypeError: a parameter is no tensor.
        ValueError: there are no parameters, or they differ in dtype or device.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError("HistoricalAverage: there are no parameters")
        for p in self.parameters:
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"HistoricalAverage: a parameter is {type(p).__name__}, not a tensor"
                )
        kinds = {(str(p.dtype), p.device.name) for p in self.parameters}
        if len(kinds) > 1:
            raise ValueError(
                f"HistoricalAverage: parameters differ in dtype or device: {sorted(kinds)}"
            )
        self.means = [ops.multiply(p.detach(), 1.0) for p in self.parameters]
        first = self.parameters[0]
        self.count = new_like(first, np.ones((), first.dtype))  # on the device, as all that moves

    def penalty(self) -> Tensor:
        """Sum of |p - mean|^2 over all parameters; its gradient reaches the parameters alone."""
        total: Tensor | None = None
        for p, mean in zip(self.parameters, self.means, strict=True):
            squares = ops.sum(ops.power(ops.subtract(p, mean), 2))
            total = squares if total is None else ops.add(total, squares)
        assert total is not None
        return total

    def update(self) -> None:
        """mean += (p - mean) / t, t the number of values so far."""
        with no_grad():
            assign(self.count, ops.add(self.count, 1.0))
            for p, mean in zip(self.parameters, self.means, strict=True):
                assign(mean, ops.add(mean, ops.divide(ops.subtract(p, mean), self.count)))

    def _held(self) -> dict[str, Tensor]:
        return {"count": self.count} | {f"mean.{i}": x for i, x in enumerate(self.means)}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: x.numpy() for name, x in self._held().items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state_dict` gave."""
        load_tensors(self._held(), state, type(self).__name__)
