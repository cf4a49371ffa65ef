"""Averages of parameters over training: the exponential moving average and the historical one."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from .. import ops
from ..engine.assign import assign, load_tensors
from ..engine.dtypes import REALS
from ..engine.recording import active_step
from ..engine.tensor import Tensor, no_grad, tensor
from .optimizers import sgd
from .replaced import check_not_replaced, replacement

if TYPE_CHECKING:
    from ..nn import Module

N_AVERAGED = "n_averaged"  # the number of updates in a state dict, as in PyTorch's AveragedModel
PAST_WARMUP = 2.0**53  # a number of updates after which the warm-up has no effect


class ExponentialMovingAverage:
    """A copy of a network with averaged parameters: a += (1 - decay) (p - a).

    The average of a generator makes better samples than the generator at any one step (Yazici et
    al. 2019). Buffers, such as the running statistics of batch norm, are copied without averaging.

        average = mg.optim.ExponentialMovingAverage(generator, 0.999)
        ...
        optimizer.step(gradients)
        average.update()
        samples = average.module(latent)      # it is in eval mode

    With `warmup` the decay of an update is min(decay, (1 + t) / (10 + t)) after t updates, as that
    of TensorFlow's `tf.train.ExponentialMovingAverage` with `num_updates`. Without it, the initial
    parameters, which are noise, still have the weight decay^t: 0.67 after 400 updates of 0.999.

    Args:
        module: the network.
        decay: the weight of the average so far, in [0, 1).
        warmup: whether the decay rises to `decay` over the first updates.

    Raises:
        ValueError: decay is not in [0, 1); the network has no parameters, or, with `warmup`, has a
            tensor with the name `n_averaged`.
    """

    def __init__(self, module: Module, decay: float = 0.999, *, warmup: bool = False) -> None:
        if not module.parameters():
            raise ValueError("ExponentialMovingAverage: the net has no parameters")
        self.source, self.module = module, copy.deepcopy(module).eval()
        device = module.parameters()[0].device
        self._decay = _check_decay(decay)
        self._rate = tensor(np.array([decay - 1.0]), device=device)  # the learning rate of `sgd`
        # The number of updates is on the device, so that a captured step counts it.
        self._count = tensor(np.zeros(1), device=device) if warmup else None
        if warmup and N_AVERAGED in dict(module.tensors()):
            raise ValueError(
                f"ExponentialMovingAverage: the net has a tensor {N_AVERAGED!r}, the name that the"
                " number of updates has in a state dict with warmup = True"
            )

    @property
    def decay(self) -> float:
        """The decay. It can be set at any time, also between replays of a captured step.

        With `warmup` it is the limit of the decay.
        """
        return self._decay

    @decay.setter
    def decay(self, value: float) -> None:
        self._decay = _check_decay(value)
        assign(self._rate, tensor(np.array([value - 1.0]), device=self._rate.device))

    @property
    def n_averaged(self) -> int | None:
        """The number of updates so far; None without `warmup`, which alone counts them."""
        return None if self._count is None else int(self._count.item())

    def update(self) -> None:
        """Move the average towards the network's present parameters, and copy its buffers.

        This is one step of the `sgd` update on a with gradient p, weight decay -1 and learning rate
        -(1 - decay).

        Raises:
            ValueError: the network's tensors and the average's differ in name, shape, dtype or
                device. Nothing is changed then.
        """
        recording = active_step()
        if recording is not None:
            recording.add_object(self)
        averages, sources = dict(self.module.tensors()), dict(self.source.tensors())
        if averages.keys() != sources.keys():
            different = sorted(averages.keys() ^ sources.keys())
            raise ValueError(
                f"ExponentialMovingAverage: {different} are in the net or its average alone"
            )
        parameters: dict[int, tuple[Tensor, Tensor]] = {}  # by id: one with two names moves once
        buffers = []
        for name, x in sources.items():
            average = averages[name]
            properties = [(y.shape, str(y.dtype), y.device.name) for y in (average, x)]
            if properties[0] != properties[1]:
                raise ValueError(
                    f"ExponentialMovingAverage: {name} is {properties[0]}, the net's"
                    f" {properties[1]}"
                )
            if x.requires_grad:
                parameters[id(average)] = average, x
            else:
                buffers.append((average, x))
        for average, x in buffers:
            assign(average, x)
        if not parameters:  # all parameters are frozen
            return
        moving, targets = (list(xs) for xs in zip(*parameters.values(), strict=True))
        if self._rate.device is not moving[0].device:
            self._rate = self._rate.to(moving[0].device)
        rate = self._rate
        if self._count is not None:
            if self._count.device is not moving[0].device:
                self._count = self._count.to(moving[0].device)
            with no_grad():  # (1 + t) / (10 + t) - 1 = -9 / (10 + t)
                rate = ops.minimum(rate, -9.0 / (self._count + 10.0))
                assign(self._count, self._count + 1.0)
        sgd(moving, targets, [], rate, momentum=0.0, nesterov=False, weight_decay=-1.0)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the state dict of the averaged network; with `warmup` also `n_averaged`."""
        count = {} if self._count is None else {N_AVERAGED: self._count.numpy()}
        return {**self.module.state_dict(), **count}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore the state that `state_dict` returned.

        A state without `n_averaged`, of an average without `warmup`, is taken for one after the
        warm-up: its updates have the decay `decay`, as before.
        """
        if self._count is None:
            self.module.load_state_dict(state)
            return
        state = {N_AVERAGED: np.array([PAST_WARMUP]), **state}
        load_tensors(
            {**dict(self.module.tensors()), N_AVERAGED: self._count}, state, type(self).__name__
        )


def _check_decay(decay: float) -> float:
    if not isinstance(decay, REALS) or not 0 <= decay < 1:
        raise ValueError(f"ExponentialMovingAverage: decay = {decay!r} is not in [0, 1)")
    return decay


class HistoricalAverage:
    """The mean of all values that parameters have had during training.

    Historical averaging adds the squared distance to it to each player's loss, which damps the
    oscillations of a two-player game (Salimans et al. 2016, section 3.3):

        history = mg.optim.HistoricalAverage(net.parameters())
        ...
        loss = loss + 0.1 * history.penalty()
        optimizer.step(mg.grad(loss, net.parameters()))
        history.update()

    The mean starts with the present values of the parameters.

    Raises:
        TypeError: a parameter is not a tensor.
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
        properties = {(str(p.dtype), p.device.name) for p in self.parameters}
        if len(properties) > 1:
            raise ValueError(
                f"HistoricalAverage: parameters differ in dtype or device: {sorted(properties)}"
            )
        self._replaced = [replacement(p) for p in self.parameters]
        self.means = [p.detach() * 1.0 for p in self.parameters]
        first = self.parameters[0]
        # The number of averaged values is on the device, so that a captured step can change it.
        self.count = tensor(np.ones((), first.dtype), device=first.device)

    def penalty(self) -> Tensor:
        """Return the sum of |p - mean|^2 over all parameters; the means are constants.

        Raises:
            ValueError: a parameter was replaced in its module.
        """
        check_not_replaced("HistoricalAverage", self.parameters, self._replaced)
        squares = (
            ((p - mean) ** 2).sum() for p, mean in zip(self.parameters, self.means, strict=True)
        )
        return reduce(operator.add, squares)

    def update(self) -> None:
        """Add the present values to the mean: mean += (p - mean) / count."""
        with no_grad():
            assign(self.count, self.count + 1.0)
            for p, mean in zip(self.parameters, self.means, strict=True):
                assign(mean, mean + (p - mean) / self.count)

    def _state_tensors(self) -> dict[str, Tensor]:
        return {"count": self.count} | {f"mean.{i}": x for i, x in enumerate(self.means)}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the means and their count as numpy arrays."""
        return {name: x.numpy() for name, x in self._state_tensors().items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore the state that `state_dict` returned."""
        load_tensors(self._state_tensors(), state, type(self).__name__)
