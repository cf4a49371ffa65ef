"""The guards of one capture: what its step has read from Python, and whether it has changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from .code_reader import Reader
from .guards import FrozenArray, FrozenObjects, Guard, guard, is_container, is_same
from .recording import StepRecording
from .tensor import Tensor

CONTENTS = (list, dict, set, FrozenArray, FrozenObjects)  # what `freeze` copies


class AttributeChanges:
    """A counter of the assignments to attributes of all modules.

    While it stays the same, no module has to be compared with what it was in a captured run.
    """

    count = 0


class StepGuards:
    """Guards of the values that a step has read in a recorded run."""

    def __init__(
        self, step: Callable[..., Any], arguments: Sequence[Any], recording: StepRecording
    ) -> None:
        reader = Reader()
        reader.read_step(step, arguments)
        self._module_guards: list[Guard] = []
        optimizer_guards: list[Guard] = []
        for x in recording.objects.values():
            if hasattr(x, "forward"):
                reader.read_function(x.forward)
                self._module_guards += _module_guards(x)
            else:
                optimizer_guards += _optimizer_guards(x)
                for value in vars(x).values():
                    if isinstance(value, Tensor):
                        recording.add_tensor(value)
        for x in reader.tensors:
            if id(x) not in recording.tensors:
                recording.add_tensor(x)
        # A change within a container is no assignment, so the counter does not show it.
        containers = [x for x in self._module_guards if isinstance(x.before, CONTENTS)]
        self._guards = [*reader.guards, *optimizer_guards, *containers]
        self._changes = AttributeChanges.count

    def changed(self) -> str | None:
        """Return the name of the first value that has changed, or None."""
        if self._changes != AttributeChanges.count:
            for x in self._module_guards:
                if not x.holds():
                    return x.name
            self._changes = AttributeChanges.count
        for name, read, before in self._guards:
            value = read()
            if value is not before and not is_same(value, before):
                return name
        return None


def _module_guards(module: Any) -> Iterator[Guard]:
    """Iterate over guards of the mode and the attributes of a module."""
    name = type(module).__name__
    yield guard(f"{name}.training", lambda: module.training)
    yield guard(
        f"the attributes of {name}", lambda: " ".join(x for x in vars(module) if x != "training")
    )
    attributes = vars(module)
    for key in attributes.keys() - {"training"}:
        yield guard(f"{name}.{key}", partial(attributes.get, key))


def _optimizer_guards(optimizer: Any) -> Iterator[Guard]:
    """Iterate over guards of the attributes of an optimizer: options by value, lists by identity.

    The arrays of its tensors are guarded elsewhere.
    """
    attributes = vars(optimizer)
    for key, value in attributes.items():
        name, read = f"{type(optimizer).__name__}.{key}", partial(attributes.get, key)
        is_options = isinstance(value, dict) and not any(map(is_container, value.values()))
        yield guard(name, read) if is_options else Guard(name, read, value)


@contextmanager
def watch_random_numbers(step: Callable[..., Any], arguments: Sequence[Any]) -> Iterator[None]:
    """Raise ValueError where a step takes random numbers, or elements of an iterator.

    A replay would repeat those of the first run.
    """
    reader = Reader()
    reader.read_step(step, arguments)
    if reader.iterators:
        raise ValueError(
            f"capture: the step takes elements of an iterator, {reader.iterators[0]}, which a"
            " replay would not advance; take them outside and pass them as arguments"
        )
    generators = {"numpy.random": np.random, "random": random, **reader.generators}
    before = {name: _random_state(x) for name, x in generators.items()}
    yield
    for name, x in generators.items():
        if _random_state(x) != before[name]:
            raise ValueError(
                f"capture: the step draws random numbers from {name}, which a replay would"
                " repeat; draw them with mg.random, or outside and pass a tensor"
            )


def _random_state(generator: Any) -> Any:
    """Return the state of a random generator of numpy or Python, as a value to compare."""
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    if hasattr(generator, "get_state"):
        name, keys, *rest = generator.get_state()
        return name, keys.tobytes(), rest
    return generator.getstate()
