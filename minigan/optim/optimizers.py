"""Optimizers with PyTorch's defaults. A step is one `Update`: one launch over all parameters.

The values that change from step to step (the learning rate, the powers of the betas) are in a small
float64 array on the device, so a captured step needs nothing from the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..engine.assign import assign, load_tensors
from ..engine.recording import active_step
from ..engine.tensor import Tensor, tensor
from ..engine.update import Update
from ..utils.pytorch_names import OPTIMIZER, missing_attribute
from .replaced import check_not_replaced, replacement

Arrays = list[np.ndarray]


# ------------------------------------------------------------------------- updates in numpy
def _sgd(
    parameters: Arrays,
    gradients: Arrays,
    means: Arrays,
    state: np.ndarray,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Compute the `sgd` update in numpy; `state` is [lr]."""
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
    """Compute the `rmsprop` update in numpy; `state` is [lr]."""
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
    """Compute the `adam` update in numpy; `state` is [lr, beta1^t, beta2^t]; `decoupled`: AdamW."""
    state[1:] *= (beta1, beta2)
    lr, power1, power2 = map(float, state)
    decay_factor, l2_decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
        T = p.dtype.type
        step = g + T(l2_decay) * p
        m[...] = m + (step - m) * T(1 - beta1)
        v[...] = v * T(beta2) + T(1 - beta2) * step * step
        denominator = np.sqrt(v) / T(math.sqrt(1 - power2)) + T(eps)
        p[...] = p * T(decay_factor) - T(lr / (1 - power1)) * m / denominator


sgd = Update("sgd", _sgd, "[f] [f] [f]? float64(1)", writes=(0, 2))
rmsprop = Update("rmsprop", _rmsprop, "[f] [f] [f] float64(1)", writes=(0, 2))
adam = Update("adam", _adam, "[f] [f] [f] [f] float64(3)", writes=(0, 2, 3, 4))


# ----------------------------------------------------------------------------- optimizers
def _option(name: str) -> Any:
    """Return a property that reads an option. It has no setter, so that setting it raises."""
    return property(lambda optimizer: optimizer._options[name], doc=f"The option `{name}`.")


class Optimizer:
    """The base class of optimizers.

        optimizer = mg.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999))
        optimizer.step(mg.grad(loss, net.parameters()))

    Attributes:
        parameters: a list of tensors.
        moments: running averages of the gradients, by name; each a list with a tensor for each
            parameter.
        state: the learning rate, then the powers of the betas, float64 on the device.

    Raises:
        TypeError: a parameter is not a tensor.
        ValueError: there are no parameters; one is listed twice, or is not a leaf that requires
            gradients; they differ in dtype or device; the learning rate is negative or not finite.
    """

    moment_names: ClassVar[tuple[str, ...]] = ()
    beta_powers: ClassVar[int] = 0  # the number of powers in `state`

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        name = type(self).__name__
        if hasattr(parameters, "parameters") or not isinstance(parameters, Iterable):
            raise TypeError(
                f"{name}: {type(parameters).__name__} is no list of parameters, as"
                f" net.parameters() returns: {name}(net.parameters())"
            )
        if isinstance(parameters, Tensor):
            raise TypeError(f"{name}: one tensor, not a list of parameters; write [tensor]")
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{name}: there are no parameters to optimize")
        for p in self.parameters:
            if not isinstance(p, Tensor):
                kind = type(p)
                raise TypeError(
                    f"{name}: a parameter is {kind.__name__}, not a tensor{_HINTS.get(kind, '')}"
                )
            if not p.requires_grad or p.op is not None:
                raise ValueError(
                    f"{name}: a parameter of shape {p.shape} is no leaf that requires gradients"
                )
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(f"{name}: a parameter is listed twice; each is stepped once")
        properties = {(str(p.dtype), p.device.name) for p in self.parameters}
        if len(properties) > 1:
            raise ValueError(f"{name}: parameters differ in dtype or device: {sorted(properties)}")
        _check_not_negative(name, lr=lr)
        self._replaced = [replacement(p) for p in self.parameters]
        self.moments = {moment: self._zeros() for moment in self.moment_names}
        state = np.array([lr] + [1.0] * self.beta_powers, np.float64)
        self.state = tensor(state, device=self.parameters[0].device)

    def _zeros(self) -> list[Tensor]:
        """Return a tensor of zeros for each parameter."""
        return [tensor(np.zeros(p.shape, p.dtype), device=p.device) for p in self.parameters]

    @property
    def lr(self) -> float:
        """The learning rate. It can be set at any time, also between replays of a captured step."""
        return float(self.state.numpy()[0])

    @lr.setter
    def lr(self, value: float) -> None:
        _check_not_negative(type(self).__name__, lr=value)
        assign(self.state[:1], tensor(np.array([value], np.float64), device=self.state.device))

    if not TYPE_CHECKING:  # where it would declare attributes of any name

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, with the fix for PyTorch's names, such as `zero_grad`."""
            return missing_attribute(self, name, OPTIMIZER)

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Update the parameters in place.

        Args:
            gradients: one for each parameter, as `mg.grad(loss, parameters)` returns them.

        Raises:
            TypeError: a gradient is not a tensor.
            ValueError: a gradient is missing, or differs from its parameter in shape or dtype.
        """
        name = type(self).__name__
        gradients = list(gradients)
        recording = active_step()
        if recording is not None:
            recording.add_object(self)
        if len(gradients) != len(self.parameters):
            raise ValueError(
                f"{name}: {len(gradients)} gradients for {len(self.parameters)} parameters; were"
                " parameters frozen, added or removed after the optimizer was made?"
            )
        check_not_replaced(name, self.parameters, self._replaced)
        checked: list[Tensor] = []
        for i, (g, p) in enumerate(zip(gradients, self.parameters, strict=True)):
            if not p.requires_grad:
                raise ValueError(
                    f"{name}: parameter {i} ({p.shape}) was frozen (requires_grad = False) after"
                    " the optimizer was made; make another optimizer"
                )
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

    def reset(self) -> None:
        """Set the moments, and the powers of the betas, to those of a new optimizer.

        The learning rate stays. It may be called between replays of a captured step.
        """
        for name, x in self._state_tensors().items():
            first = np.ones(self.beta_powers) if name == "state" else np.zeros(x.shape)
            target = x[1:] if name == "state" else x
            assign(target, tensor(first, dtype=x.dtype, device=x.device))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the moments ("mean.0", ...) and of "state" as numpy arrays."""
        return {name: x.numpy() for name, x in self._state_tensors().items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore the state that `state_dict` returned.

        Raises:
            ValueError: names are missing or unknown, or a shape or dtype differs. Nothing is
                changed then.
        """
        name, tensors = type(self).__name__, self._state_tensors()
        if isinstance(state, dict) and np.size(state.get("state", ())):
            _check_not_negative(f"{name}: in the state to load", lr=np.ravel(state["state"])[0])
        load_tensors(tensors, state, name)

    def _state_tensors(self) -> dict[str, Tensor]:
        moments = {f"{name}.{i}": x for name, xs in self.moments.items() for i, x in enumerate(xs)}
        return {**moments, "state": self.state}


class SGD(Optimizer):
    """Stochastic gradient descent, p -= lr g, with PyTorch's momentum and weight decay.

    Momentum (Polyak 1964): m = momentum m + g takes the place of g; with `nesterov`, g + momentum m
    does (Sutskever et al. 2013). Weight decay adds weight_decay p to g.
    """

    momentum, nesterov, weight_decay = map(_option, ("momentum", "nesterov", "weight_decay"))

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        _check_not_negative("SGD", momentum=momentum, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        super().__init__(parameters, lr)
        if momentum:
            self.moments["mean"] = self._zeros()
        self._options: dict[str, Any] = {
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
        }

    def _update(self, gradients: list[Tensor]) -> None:
        means = self.moments.get("mean", [])
        sgd(self.parameters, gradients, means, self.state, **self._options)


class RMSprop(Optimizer):
    """RMSprop: the gradient divided by its running root mean square (Hinton 2012, lecture 6).

    v = alpha v + (1 - alpha) g^2; p -= lr g / (sqrt(v) + eps). Weight decay adds weight_decay p
    to g.
    """

    moment_names = ("square",)

    alpha, eps, weight_decay = map(_option, ("alpha", "eps", "weight_decay"))

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        _check_not_negative("RMSprop", alpha=alpha, eps=eps, weight_decay=weight_decay)
        super().__init__(parameters, lr)
        self._options = {"alpha": alpha, "eps": eps, "weight_decay": weight_decay}

    def _update(self, gradients: list[Tensor]) -> None:
        rmsprop(self.parameters, gradients, self.moments["square"], self.state, **self._options)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); GANs are often trained with betas=(0.5, 0.999) (DCGAN).

    m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; with the bias corrections
    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t), p -= lr m' / (sqrt(v') + eps). Weight decay
    adds weight_decay p to g.
    """

    moment_names = ("mean", "square")
    beta_powers = 2
    decoupled = False  # False: weight decay is added to the gradient.
    eps, weight_decay = map(_option, ("eps", "weight_decay"))

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
        _check_not_negative(name, eps=eps, weight_decay=weight_decay)
        super().__init__(parameters, lr)
        self._options = {"beta1": betas[0], "beta2": betas[1], "eps": eps}
        self._options["weight_decay"] = weight_decay

    @property
    def betas(self) -> tuple[float, float]:
        """The option `betas`."""
        return self._options["beta1"], self._options["beta2"]

    def _update(self, gradients: list[Tensor]) -> None:
        means, squares = self.moments["mean"], self.moments["square"]
        options: dict[str, Any] = {**self._options, "decoupled": self.decoupled}
        adam(self.parameters, gradients, means, squares, self.state, **options)


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr weight_decay (Loshchilov and Hutter 2019)."""

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


# The choices of `--optimizer`: functions of (parameters, lr, beta1, beta2, weight_decay). beta1 is
# the momentum of SGD, beta2 the smoothing constant of RMSprop.
OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float, float, float, float], Optimizer]] = {
    "adam": lambda p, lr, b1, b2, decay: Adam(p, lr, (b1, b2), weight_decay=decay),
    "adamw": lambda p, lr, b1, b2, decay: AdamW(p, lr, (b1, b2), weight_decay=decay),
    "rmsprop": lambda p, lr, b1, b2, decay: RMSprop(p, lr, b2, weight_decay=decay),
    "sgd": lambda p, lr, b1, b2, decay: SGD(p, lr, b1, weight_decay=decay),
}


# What to write for what PyTorch's optimizers accept, or `named_parameters` yields.
_HINTS: dict[type, str] = {
    dict: "; there are no parameter groups: make one optimizer for each",
    tuple: "; net.parameters() is the list, net.named_parameters() has names too",
    str: "; net.parameters() is the list, without names",
}


def _check_not_negative(name: str, **numbers: float) -> None:
    for key, value in numbers.items():
        if isinstance(value, str) or not value >= 0 or math.isinf(value):
            raise ValueError(f"{name}: {key} = {value!s} is not a finite number of at least 0")
