"""Optimizers. Each step is one `Update`, one launch over all parameters; defaults are PyTorch's.

What changes from step to step (learning rate, powers of the betas) lies in a small float64 array
on the device, so that a step needs nothing from the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.assign import assign, load_tensors
from ..engine.tensor import Tensor
from ..engine.update import Update

Arrays = list[np.ndarray]


# --------------------------------------------------------------------------------- the updates
def _sgd(
    parameters: Arrays,
    gradients: Arrays,
    means: Arrays,
    state: np.ndarray,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    for k, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        T = p.dtype.type
        step = g + T(weight_decay) * p
        if means:
            means[k][...] = means[k] * T(momentum) + step
            step = step + T(momentum) * means[k] if nesterov else means[k]
        p[...] = p - T(state[0]) * step


def _rmsprop(
    parameters: Arrays,
    gradients: Arrays,
    squares: Arrays,
    state: np.ndarray,
    alpha: float,
    eps: float,
    weight_decay: float,
) -> None:
    for p, g, v in zip(parameters, gradients, squares, strict=True):
        T = p.dtype.type
        step = g + T(weight_decay) * p
        v[...] = v * T(alpha) + T(1 - alpha) * step * step
        p[...] = p - T(state[0]) * step / (np.sqrt(v) + T(eps))


def _adam(
    parameters: Arrays,
    gradients: Arrays,
    means: Arrays,
    squares: Arrays,
    state: np.ndarray,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    state[1:] *= (beta1, beta2)
    lr, power1, power2 = map(float, state)
    shrink, couple = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
        T = p.dtype.type
        step = g + T(couple) * p
        m[...] = m + (step - m) * T(1 - beta1)
        v[...] = v * T(beta2) + T(1 - beta2) * step * step
        denominator = np.sqrt(v) / T(math.sqrt(1 - power2)) + T(eps)
        p[...] = p * T(shrink) - T(lr / (1 - power1)) * m / denominator


sgd = Update("sgd", _sgd, "[f] [f] [f]? float64(1)", writes=(0, 2))
rmsprop = Update("rmsprop", _rmsprop, "[f] [f] [f] float64(1)", writes=(0, 2))
adam = Update("adam", _adam, "[f] [f] [f] [f] float64(3)", writes=(0, 2, 3, 4))


# ------------------------------------------------------------------------------- the optimizers
class Optimizer:
    """Parameters, their moments (lists of tensors, by name) and the device-held numbers.

    Raises:
        ValueError: no parameter, or parameters of different dtypes or devices.
    """

    moments: ClassVar[tuple[str, ...]] = ()
    powers: ClassVar[int] = 0  # how many running powers stand behind the learning rate

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters = list(parameters)
        name = type(self).__name__
        if not self.parameters:
            raise ValueError(f"{name}: there are no parameters to optimize")
        for p in self.parameters:
            if not isinstance(p, Tensor):
                raise TypeError(f"{name}: a parameter is {type(p).__name__}, not a tensor")
            if not p.requires_grad or p.op is not None:
                raise ValueError(
                    f"{name}: a parameter of shape {p.shape} is no leaf that requires gradients"
                )
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(f"{name}: a parameter is listed twice; each is stepped once")
        kinds = {(str(p.dtype), p.device.name) for p in self.parameters}
        if len(kinds) > 1:
            raise ValueError(f"{name}: parameters differ in dtype or device: {sorted(kinds)}")
        at_least_zero(name, lr=lr)
        first = self.parameters[0]
        self.slots: dict[str, list[Tensor]] = {
            moment: [new_like(p, np.zeros(p.shape, p.dtype)) for p in self.parameters]
            for moment in self.moments
        }
        self.state = new_like(first, np.array([lr] + [1.0] * self.powers))

    @property
    def lr(self) -> float:
        """The learning rate; set it and the next step uses it."""
        return float(self.state.numpy()[0])

    @lr.setter
    def lr(self, value: float) -> None:
        at_least_zero(type(self).__name__, lr=value)
        assign(self.state[:1], new_like(self.state, np.array([value])))

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Change the parameters in place; `gradients` as `grad(loss, parameters)` gives them."""
        name = type(self).__name__
        gradients = list(gradients)
        if len(gradients) != len(self.parameters):
            raise ValueError(
                f"{name}: {len(gradients)} gradients for {len(self.parameters)} parameters"
            )
        checked: list[Tensor] = []
        for i, (g, p) in enumerate(zip(gradients, self.parameters, strict=True)):
            if g is None:
                raise ValueError(f"{name}: there is no gradient for parameter {i} ({p.shape})")
            if not isinstance(g, Tensor):
                raise TypeError(f"{name}: gradient {i} is {type(g).__name__}, not a tensor")
            if g.array.shape != p.array.shape or g.array.dtype != p.array.dtype:
                raise ValueError(
                    f"{name}: gradient {i} is {g.dtype}{g.shape}, its parameter {p.dtype}{p.shape}"
                )
            checked.append(g)
        self._update(checked)

    def _update(self, gradients: list[Tensor]) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, np.ndarray]:
        """The moments ("mean.0", ...) and the numbers ("state"), as numpy arrays."""
        found = {f"{m}.{i}": x.numpy() for m in self.slots for i, x in enumerate(self.slots[m])}
        return {**found, "state": self.state.numpy()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state_dict` gave."""
        targets = {f"{m}.{i}": x for m in self.slots for i, x in enumerate(self.slots[m])}
        load_tensors({**targets, "state": self.state}, state, type(self).__name__)


class SGD(Optimizer):
    """p -= lr g, with momentum (Polyak 1964) and Nesterov's variant (Sutskever et al. 2013)."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        at_least_zero("SGD", momentum=momentum, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        super().__init__(parameters, lr)
        if momentum:
            self.slots["mean"] = [new_like(p, np.zeros(p.shape, p.dtype)) for p in self.parameters]
        self._options: dict[str, Any] = {
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
        }

    def _update(self, gradients: list[Tensor]) -> None:
        means = self.slots.get("mean", [])
        sgd(self.parameters, gradients, means, self.state, **self._options)


class RMSprop(Optimizer):
    """Steps scaled by a running root mean square of the gradient (Hinton 2012, lecture 6)."""

    moments = ("square",)

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        at_least_zero("RMSprop", alpha=alpha, eps=eps, weight_decay=weight_decay)
        super().__init__(parameters, lr)
        self._options = {"alpha": alpha, "eps": eps, "weight_decay": weight_decay}

    def _update(self, gradients: list[Tensor]) -> None:
        rmsprop(self.parameters, gradients, self.slots["square"], self.state, **self._options)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015). GANs like betas=(0.5, 0.999) (Radford et al. 2016)."""

    moments = ("mean", "square")
    powers = 2
    decoupled = False  # weight decay is added to the gradient

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        name = type(self).__name__
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{name}: betas = {betas} are not two numbers in [0, 1)")
        at_least_zero(name, eps=eps, weight_decay=weight_decay)
        super().__init__(parameters, lr)
        self._options = {"beta1": betas[0], "beta2": betas[1], "eps": eps}
        self._options["weight_decay"] = weight_decay

    def _update(self, gradients: list[Tensor]) -> None:
        means, squares = self.slots["mean"], self.slots["square"]
        options: dict[str, Any] = {**self._options, "decoupled": self.decoupled}
        adam(self.parameters, gradients, means, squares, self.state, **options)


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters directly (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)


# What `--optimizer` accepts: of (parameters, lr, beta1, beta2, weight_decay), where beta1 is the
# momentum of SGD and beta2 the smoothing of RMSprop.
OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float, float, float, float], Optimizer]] = {
    "adam": lambda p, lr, b1, b2, decay: Adam(p, lr, (b1, b2), weight_decay=decay),
    "adamw": lambda p, lr, b1, b2, decay: AdamW(p, lr, (b1, b2), weight_decay=decay),
    "rmsprop": lambda p, lr, b1, b2, decay: RMSprop(p, lr, b2, weight_decay=decay),
    "sgd": lambda p, lr, b1, b2, decay: SGD(p, lr, b1, weight_decay=decay),
}


def new_like(like: Tensor, values: np.ndarray) -> Tensor:
    """A tensor with these values on the device of another."""
    return Tensor(like.device.from_numpy(values), like.device)


def at_least_zero(name: str, **numbers: float) -> None:
    for key, value in numbers.items():
        if not value >= 0 or math.isinf(value):
            raise ValueError(f"{name}: {key} = {value} is not a finite number of at least 0")
