"""A step, captured: run once, and from then on replayed from a list of its launches.

A training step does the same few dozen small launches each time, on memory of the same shapes. What
differs, parameters and moments, random positions, the learning rate, lies in arrays that updates
change in place. So the second time nothing has to be decided any more: no graph, no VJP, no shape,
no new memory. `capture` notes the launches of one real run, and the memory they use, and runs the
notes. As the list is the eager step's, its results are the eager step's, bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.runtime.recording import active, record
from .device import current_device
from .recording import StepRecording
from .tensor import Tensor, is_recording

CAPTURES = 8  # of one signature, in different modes; the oldest makes room


def capture(step: Callable[..., Any]) -> Callable[..., Any]:
    """A function that does what `step` does, from the second call on without running its Python.

    Use it where the same step is done many times:

        @mg.capture
        def step(real):
            fake = generator(mg.random.normal((64, 100)))
            ...
            optimizer_d.step(mg.grad(loss_d, discriminator.parameters()))
            return loss_d, loss_g

    Arguments and results are tensors, or tuples, lists and dicts of them; other arguments are part
    of the signature. The first call of a signature (shapes, dtypes, devices, other arguments; the
    current device; whether a graph is recorded) runs the step. Later ones copy the arguments into
    that run's memory and replay its launches. The step is run anew when a module that it calls has
    changed between train and eval, when a parameter was moved to other memory, and when the number
    of threads or the random streams are others.

    - Tensors that the step takes from outside are the same ones in each replay, with the values
      they have then. Numbers and numpy arrays it takes from outside are those of the first run.
    - Results are the same tensors each time, overwritten by the next replay. They have no graph.
    - Inside, what would need a value on the host raises: `.item()`, `.numpy()`, `bool(tensor)`.
    - What Python does beside, such as counting or printing, happens in the first run alone.

    Raises:
        TypeError: an argument is a numpy array, whose values would be taken once for all.
        ValueError: an argument has a graph; the step changes an argument in place; it runs on more
            than one device.
    """
    return functools.update_wrapper(_Captured(step), step)


class _Captured:
    def __init__(self, step: Callable[..., Any]) -> None:
        self.step = step
        self.captures: dict[Any, list[_Capture]] = {}

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if active() is not None:  # within another captured step: part of it
            return self.step(*arguments, **named)
        tensors: list[Tensor] = []
        form = _flatten((arguments, named), tensors)
        key = (form, current_device(), is_recording())
        known = self.captures.setdefault(key, [])
        for found in known:
            if found.holds() and found.fits():
                return found.replay(tensors)
        known[:] = [x for x in known if x.holds()][1 - CAPTURES :]
        found = _Capture(self.step, form, tensors)
        known.append(found)
        return found.outputs


class _Capture:
    """One run of a step, noted."""

    def __init__(self, step: Callable[..., Any], form: Any, tensors: list[Tensor]) -> None:
        self.inputs = [_copy(x, i) for i, x in enumerate(tensors)]
        arguments, named = _unflatten(form, iter(self.inputs))
        recording = StepRecording()
        with record(recording):
            recording.read_only = {id(x.version_cell) for x in self.inputs}
            outputs = step(*arguments, **named)
        self.recording = recording
        self.results: list[Tensor] = []
        # Without its graph, a result keeps no other memory of the run.
        made = _flatten(outputs, self.results, (Tensor,))
        self.results = [x.detach() for x in self.results]
        self.outputs = _unflatten(made, iter(self.results))
        self.cells = [*recording.written_versions, *(x.version_cell for x in self.results)]
        devices = [*recording.devices] or [current_device()]
        if len(devices) > 1:
            names = ", ".join(repr(device.name) for device in devices)
            raise ValueError(f"capture: a step runs on one device, this one on {names}")
        self.program = devices[0].program(recording)
        recording.launches.clear()

    def holds(self) -> bool:
        """Whether the tensors and streams of the run are where they were."""
        return all(x.array is array for x, array in self.recording.tensors.values()) and all(
            condition() for condition in self.recording.conditions
        )

    def fits(self) -> bool:
        """Whether modules are in the modes that they had."""
        return all(x.training is training for x, training in self.recording.modes.values())

    def replay(self, tensors: list[Tensor]) -> Any:
        for own, given in zip(self.inputs, tensors, strict=True):
            own.device.copy(own.array, given.array)
        self.program()
        for cell in self.cells:
            cell[0] += 1
        return self.outputs


# ---------------------------------------------------------------------------------- nested values
def _flatten(value: Any, tensors: list[Tensor], accepted: tuple[type, ...] = ()) -> Any:
    """The form of a nested value, hashable; its tensors are appended to the list."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return (Tensor, value.shape, value.dtype, value.device, value.requires_grad)
    if isinstance(value, (tuple, list)):
        return (type(value), *(_flatten(x, tensors, accepted) for x in value))
    if isinstance(value, dict):
        items = [(key, _flatten(x, tensors, accepted)) for key, x in value.items()]
        return (dict, *items)
    if accepted:  # a result, which is what the first run gave
        return ("", _Same(value))
    if isinstance(value, np.ndarray):
        raise TypeError(
            "capture: an argument is a numpy array, whose values would be those of the first call"
            " for ever; make a tensor of it (mg.tensor)"
        )
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"capture: an argument is {type(value).__name__}; tensors, tuples, lists and dicts of"
            " them, and what can be hashed, are accepted"
        ) from None
    return (type(value), value)


class _Same:
    """A value of any kind, as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _unflatten(form: Any, tensors: Any) -> Any:
    kind, *rest = form
    if kind is Tensor:
        return next(tensors)
    if kind is dict:
        return {key: _unflatten(x, tensors) for key, x in rest}
    if isinstance(kind, type) and issubclass(kind, (tuple, list)):
        values = [_unflatten(x, tensors) for x in rest]
        return kind(*values) if hasattr(kind, "_fields") else kind(values)
    return rest[0].value if isinstance(rest[0], _Same) else rest[0]


def _copy(x: Tensor, number: int) -> Tensor:
    """An argument in memory of its own, which each replay overwrites."""
    if x.op is not None:
        raise ValueError(
            f"capture: tensor {number} of the arguments has a graph, which would not be followed;"
            " detach() it"
        )
    array = x.device.empty(x.shape, x.dtype)
    x.device.copy(array, x.array)
    return Tensor(array, x.device, x.requires_grad)
