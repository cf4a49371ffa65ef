"""Modules that hold other modules by number: `Sequential` and `ModuleList`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any, overload

from ..engine.recording import active_step
from .module import Module


class _Numbered(Module):
    """A module whose children are its attributes "0", "1", ..., as their state-dict names say."""

    def __init__(self, modules: Iterable[Any]) -> None:
        self._assign(modules)

    def _assign(self, modules: Iterable[Any]) -> None:
        """Set the children: replace, add or remove attributes."""
        name, new = type(self).__name__, list(modules)
        for i, module in enumerate(new):
            if not isinstance(module, Module):
                raise TypeError(f"{name}: layer {i} is {_what_is(module, name)}")
        before = len(self)
        for i, module in enumerate(new):
            setattr(self, str(i), module)
        for i in range(len(new), before):
            delattr(self, str(i))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __iter__(self) -> Iterator[Module]:
        recording = active_step()
        if recording is not None:  # A captured step that reads this list depends on its elements.
            recording.add_object(self)
        return (x for x in vars(self).values() if isinstance(x, Module))


def _what_is(layer: Any, name: str) -> str:
    """Return what is wrong with a layer that is no module, and how to write it."""
    if isinstance(layer, type):
        return f"the class {layer.__name__}; write nn.{layer.__name__}(), with parentheses"
    if isinstance(layer, (list, tuple)):
        star = "nn.Sequential(*layers)" if name == "Sequential" else "one list of modules"
        return f"{type(layer).__name__}; write {star}"
    return f"{type(layer).__name__}; write nn.Tanh() rather than a function, or wrap it in a Module"


class Sequential(_Numbered):
    """Modules that are applied one after the other; their names are numbers from 0.

    It has a length, can be iterated over, and a slice is a `Sequential` of the same modules:

        net = nn.Sequential(nn.Dense(2, 128), nn.ReLU(), nn.Dense(128, 1))
        features = net[:-1](x)
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        for i, module in enumerate(self):
            try:
                x = module(x)
            except (TypeError, ValueError) as error:
                error.add_note(f"in layer {i} of {type(self).__name__}")
                raise
        return x

    @overload
    def __getitem__(self, i: int) -> Module: ...
    @overload
    def __getitem__(self, i: slice) -> Sequential: ...
    def __getitem__(self, i: int | slice) -> Module:
        modules = list(self)[i]
        return Sequential(*modules) if isinstance(modules, list) else modules


class ModuleList(_Numbered, MutableSequence[Module]):
    """A list of modules that are registered, as in PyTorch; what calls them is up to `forward`.

    A Python list of modules is registered as well, with the same names in the state dict. This one
    is a module itself: it has parameters(), to(), train() and a state dict of its own.

        self.blocks = nn.ModuleList(nn.Dense(64, 64) for _ in range(4))
        ...
        for block in self.blocks:
            x = ops.relu(block(x))

    Raises:
        TypeError: an element is no module, or the list is called.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        if isinstance(modules, Module) and not isinstance(modules, _Numbered):
            raise TypeError(f"ModuleList: {type(modules).__name__} is one module; write [module]")
        super().__init__(modules)

    def forward(self, *inputs: Any) -> Any:
        raise TypeError(
            "a ModuleList is not called: call its modules, or make them an nn.Sequential"
        )

    @overload
    def __getitem__(self, i: int) -> Module: ...
    @overload
    def __getitem__(self, i: slice) -> ModuleList: ...
    def __getitem__(self, i: int | slice) -> Module:
        modules = list(self)[i]
        return ModuleList(modules) if isinstance(modules, list) else modules

    def __setitem__(self, i: Any, value: Any) -> None:
        modules: list[Any] = list(self)
        modules[i] = value
        self._assign(modules)

    def __delitem__(self, i: int | slice) -> None:
        modules = list(self)
        del modules[i]
        self._assign(modules)

    def insert(self, i: int, value: Module) -> None:
        """Insert a module before module i; `append` and `extend` add at the end."""
        modules = list(self)
        modules.insert(i, value)
        self._assign(modules)
