"""Guard the values that the step of one capture reads from Python, and detect changes of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .code_reader import Reader, elements
from .guards import FrozenArray, FrozenObjects, Guard, Source, guard, is_container, is_same
from .recording import StepRecording
from .tensor import Tensor

GLOBAL_GENERATORS = {"numpy.random": np.random, "random": random}
MISSING = object()  # the value before the run of an attribute that did not exist
CONTENTS = (list, dict, set, FrozenArray, FrozenObjects)  # what `freeze` copies


class AttributeChanges:
    """A counter of the assignments to attributes, over all modules.

    While it stays the same, the attributes of modules need not be compared with those of the run.
    """

    count = 0


class StepGuards:
    """Guards of the values that a step reads in a recorded run.

    Create it before the run, and call `finish` after it. `arguments` are those of the step that are
    neither tensors nor constants.

    Attributes:
        unstable: the name of a value that the run both changes and computes with, such as a
            counter, or None. A replay would not change it, so such a run is not replayed. A value
            that only the first run sets is stable from the second run on.
    """

    def __init__(self, step: Callable[..., Any], arguments: Sequence[Any] = ()) -> None:
        self._step, self._arguments = step, arguments
        self._before = Reader()
        self._before.read_step(step, arguments)
        if self._before.iterators:
            raise ValueError(
                f"capture: the step takes elements of {self._before.iterators[0]}, an iterator,"
                " which a replay would not advance; take them outside and pass them as arguments"
            )
        self._random = {
            name: (generator, _random_state(generator))
            for name, generator in {**GLOBAL_GENERATORS, **self._before.generators}.items()
        }
        self._module_guards: list[Guard] = []
        self._guards: list[Guard] = []
        self._changes = -1
        self.unstable: str | None = None

    def finish(self, recording: StepRecording) -> None:
        """Guard all values as they are after the run.

        Raises:
            ValueError: the run drew random numbers that a replay would repeat.
        """
        for name, (generator, state) in self._random.items():
            if _random_state(generator) != state:
                raise ValueError(
                    f"capture: the step draws random numbers from {name}, which a replay would"
                    " repeat; draw them with mg.random, or outside and pass a tensor"
                )
        reader = Reader()
        reader.read_step(self._step, self._arguments)
        for x, _ in recording.objects.values():
            if hasattr(x, "forward"):
                reader.read_function(x.forward)
        changed = self._changes_of_the_run(recording)
        for source, (before, after) in changed.items():
            if _is_state(before, after, reader.reads[source], recording):
                is_guarded = source in reader.guards
                self.unstable = reader.guards[source].name if is_guarded else source[1]
        for x, _ in recording.objects.values():
            if hasattr(x, "forward"):
                self._module_guards += _module_guards(x, changed)
                continue
            self._guards += _optimizer_guards(x)
            for value in vars(x).values():
                if isinstance(value, Tensor):
                    recording.add_tensor(value)
        for x in reader.tensors:
            if id(x) not in recording.tensors:
                recording.add_tensor(x)
        self._guards += [x for source, x in reader.guards.items() if source not in changed]
        # A change inside a container is not an assignment, so AttributeChanges does not count it.
        self._guards += [x for x in self._module_guards if isinstance(x.before, CONTENTS)]
        self._changes = AttributeChanges.count

    def _changes_of_the_run(self, recording: StepRecording) -> dict[Source, tuple[Any, Any]]:
        """Return (value before, value after) for each value that the run changed."""
        result: dict[Source, tuple[Any, Any]] = {}
        for source, x in self._before.guards.items():
            value = x.read()
            if not is_same(value, x.before):
                result[source] = x.before, value
        for x, attributes in recording.objects.values():
            for key, value in vars(x).items():
                before = attributes.get(key, MISSING)
                if not is_same(value, before):
                    result[id(x), key] = before, value
        return result

    def changed(self) -> str | None:
        """Return the name of the first value that has changed, or None."""
        if self.unstable is not None:
            return self.unstable
        if self._changes != AttributeChanges.count:
            for x in self._module_guards:
                if not x.holds():
                    return x.name
            self._changes = AttributeChanges.count
        for x in self._guards:
            value = x.read()
            if value is not x.before and not is_same(value, x.before):
                return x.name
        return None


def _is_state(before: Any, after: Any, reads: int, recording: StepRecording) -> bool:
    """Return whether a later run depends on a value that this run changed.

    It does not depend on a stored result, nor on a counter that nothing else reads, as in
    `self.count += 1`: these are side effects, which a replay does not repeat.
    """
    if before is MISSING:
        return False
    if any(isinstance(x, Tensor) for x in elements(after)):
        tensors = [x for x in elements(before) if isinstance(x, Tensor)]
        return not tensors or any(id(x) in recording.used for x in tensors)
    return reads > 1


def _module_guards(module: Any, changed: Mapping[Source, Any]) -> Iterator[Guard]:
    """Iterate over guards of the mode, and of the attributes that the run did not change."""
    name, attributes = type(module).__name__, vars(module)
    yield guard(f"{name}.training", lambda: module.training)
    yield guard(
        f"the attributes of {name}", lambda: " ".join(x for x in attributes if x != "training")
    )
    for key in attributes:
        if key != "training" and (id(module), key) not in changed:
            yield guard(f"{name}.{key}", partial(attributes.get, key))


def _optimizer_guards(optimizer: Any) -> Iterator[Guard]:
    """Iterate over guards of the attributes of an optimizer: options by value, lists by identity.

    The arrays of its tensors are guarded by `StepRecording.tensors`.
    """
    attributes = vars(optimizer)
    for key, value in attributes.items():
        name, read = f"{type(optimizer).__name__}.{key}", partial(attributes.get, key)
        is_options = isinstance(value, dict) and not any(map(is_container, value.values()))
        yield guard(name, read) if is_options else Guard(name, read, value)


def _random_state(generator: Any) -> Any:
    """Return the state of a random generator of numpy or Python, as a value to compare."""
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    if hasattr(generator, "get_state"):
        name, keys, *rest = generator.get_state()
        return name, keys.tobytes(), rest
    return generator.getstate()
