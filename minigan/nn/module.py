"""What layers have in common: parameters found by name, state dicts, train and eval mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, overload

import numpy as np

from ..engine.assign import load_tensors
from ..engine.device import Device, current_device, get_device
from ..engine.recording import active_step
from ..engine.tensor import Tensor, check_dtype, no_grad


def _undefined(self: Module, *inputs: Any) -> Any:
    raise NotImplementedError(f"{type(self).__name__} does not define forward")


class Module:
    """A function of tensors with parameters.

    Assign tensors and modules as attributes; `forward` says what to compute. A tensor that
    requires gradients is a parameter, any other is a buffer. Names are PyTorch's: "0.weight".
    """

    training: bool = True
    forward: Callable[..., Any] = _undefined

    def __call__(self, *inputs: Any) -> Any:
        recording = active_step()
        if recording is not None:
            recording.modes[id(self)] = self, self.training
            for _, x in self.tensors():  # buffers too, which `to` may move
                recording.add_tensor(x)
        return self.forward(*inputs)

    @property
    def mixes_batch(self) -> bool:
        """Whether this module itself, in its mode, makes a sample's output depend on the others'.

        What its children do is for `nn.depends_on_batch` to find.
        """
        return False

    # ------------------------------------------------------------------------------- contents
    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are attributes, in the order in which they were first assigned."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers by name, a module's own before its children's."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                yield prefix + name, value
        for name, child in self.children():
            yield from child.tensors(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters by name; one that is found under several names, by its first."""
        seen: set[int] = set()
        for name, x in self.tensors():
            if x.requires_grad and id(x) not in seen:
                seen.add(id(x))
                yield name, x

    def parameters(self) -> list[Tensor]:
        return [x for _, x in self.named_parameters()]

    # ---------------------------------------------------------------------------------- state
    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers as numpy arrays, by name."""
        return {name: x.numpy() for name, x in self.tensors()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy values in, in place: tensors stay the same objects and their versions rise.

        Raises:
            ValueError: missing or unknown names, or another shape or dtype; nothing has changed.
        """
        load_tensors(dict(self.tensors()), state, type(self).__name__)

    def to(self, device: str | Device | None = None, dtype: Any = None) -> Self:
        """Move and convert all parameters and buffers in place; optimizers are made afterwards."""
        for _, x in self.tensors():
            target = x.device if device is None else get_device(device)
            floating = dtype is not None and x.dtype.kind == "f"
            values = x.numpy().astype(check_dtype(dtype)) if floating else x.numpy()
            x.array, x.device = target.from_numpy(values), target
            x.version_cell[0] += 1
        return self

    def train(self, mode: bool = True) -> Self:
        """Set the mode in which dropout drops, and moments and singular vectors move."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set the mode in which a trained net is used."""
        return self.train(False)

    # ---------------------------------------------------------------------------------- looks
    def extra(self) -> str:
        """What stands between the parentheses of the repr of a module without children."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  {name}: {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        inner = "\n" + "\n".join(lines) + "\n" if lines else self.extra()
        return f"{type(self).__name__}({inner})"


class Sequential(Module):
    """Modules applied one after the other; its children are numbered from 0."""

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(
                    f"Sequential: layer {i} is {type(module).__name__}; write nn.Tanh() rather than"
                    " a function, or wrap it in a Module"
                )
            setattr(self, str(i), module)

    def forward(self, x: Any) -> Any:
        for _, module in self.children():
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(list(self.children()))

    @overload
    def __getitem__(self, i: int) -> Module: ...
    @overload
    def __getitem__(self, i: slice) -> Sequential: ...
    def __getitem__(self, i: int | slice) -> Module:
        """One module, or for a slice a net of those, the same objects."""
        chosen = list(self)[i]
        return Sequential(*chosen) if isinstance(chosen, list) else chosen

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self.children())


def shapes(
    net: Module, shape: tuple[int, ...], batch: int = 2
) -> list[tuple[str, tuple[int, ...]]]:
    """What becomes of a batch of samples of that shape: (layer, shape of its result) in order.

    Nothing is changed, and nothing drawn: the net sees zeros, in eval mode.

    Raises:
        ValueError: a layer does not take what it is given; the message tells the shapes up to it.
    """
    like = next((x for _, x in net.tensors()), None)
    device = current_device() if like is None else like.device
    dtype = np.dtype("float32") if like is None else like.dtype
    x = Tensor(device.from_numpy(np.zeros((batch, *shape), dtype)), device)
    rows = [("input", x.shape)]
    with evaluating(net), no_grad():
        for i, layer in enumerate(net if isinstance(net, Sequential) else [net]):
            name = f"{i}: {type(layer).__name__}({layer.extra()})"
            try:
                x = layer(x)
            except (TypeError, ValueError) as error:
                before = "\n".join(f"  {name:40} {shape}" for name, shape in rows)
                raise ValueError(
                    f"layer {name} does not take {x.shape}: {error}\n{before}"
                ) from None
            rows.append((name, x.shape))
    return rows


@contextmanager
def evaluating(net: Module) -> Iterator[None]:
    """Within: the net is in eval mode; afterwards each of its modules is in the mode it had."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def depends_on_batch(net: Any) -> bool:
    """Whether a sample's output depends on the samples beside it, in the modes the layers are in.

    It does with batch norm in training, and always with the minibatch layers. Real and generated
    samples then go through a discriminator in batches of their own.
    """
    return isinstance(net, Module) and any(x.mixes_batch for x in net.modules())
