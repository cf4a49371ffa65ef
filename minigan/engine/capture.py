"""Capture of a training step: run it once, then replay its launches without its Python code.

A training step makes the same few dozen small launches each time, on memory of the same shapes.
What changes from step to step (parameters, moments, positions of random streams, the learning
rate) lies in arrays that updates change in place. So `capture` runs the step once, records its
launches and the memory that they use, and replays the list from then on, as a CUDA graph does. The
list is that of the eager step, and so its results are those of the eager step, bit for bit.

As in `jax.jit`, captures are cached by the signature of the arguments: their tree structure, and
the shape, dtype and device of each tensor among the leaves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.runtime.recording import active, record
from .device import current_device
from .recording import StepRecording
from .tensor import Tensor, is_grad_enabled

# The modules of a step may be in train or eval mode, and each combination of modes is a capture of
# its own. Above this number the oldest capture is dropped.
MAX_CAPTURES_PER_SIGNATURE = 8


def capture(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs the Python code of `step` once and replays its launches later.

    Use it where the same step is done many times:

        @mg.capture
        def step(real):
            fake = generator(mg.random.normal((64, 100)))
            ...
            optimizer_d.step(mg.grad(loss_d, discriminator.parameters()))
            return loss_d, loss_g

    Arguments and results are tensors, or tuples, lists and dicts of them; other arguments are part
    of the signature. The first call of a signature (tree structure; shapes, dtypes and devices of
    tensors; other arguments; the current device; whether the graph is recorded) runs and captures
    the step. Later calls copy the arguments into the memory of that run and replay its launches.
    The step is captured again when a module that it calls has changed between train and eval mode,
    when a parameter was moved to other memory, and when the number of threads or the random streams
    have changed.

    - Tensors that the step takes from outside (closes over) are the same ones in each replay, with
      their present values. Numbers and numpy arrays keep the values of the first run.
    - Results are the same tensors each time, overwritten by the next replay. They have no graph.
    - Inside the step, what reads values raises: `.item()`, `.numpy()`, `bool(tensor)`.
    - Side effects of Python code, such as counting or printing, happen in the first run only.

    Raises:
        TypeError: an argument is a numpy array, whose values would never change, or not hashable.
        ValueError: an argument has a graph; the step changes an argument in place; it runs on more
            than one device.
    """
    return functools.update_wrapper(CapturedStep(step), step)


class CapturedStep:
    """A step and its captures, cached by signature."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step = step
        self.captures: dict[Any, list[Capture]] = {}

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if active() is not None:  # within another captured step: part of that one
            return self.step(*arguments, **keywords)
        tensors: list[Tensor] = []
        structure = _signature((arguments, keywords), tensors)
        captures = self.captures.setdefault((structure, current_device(), is_grad_enabled()), [])
        for captured in captures:
            if captured.is_valid() and captured.has_same_modes():
                return captured.replay(tensors)
        valid = [captured for captured in captures if captured.is_valid()]
        captures[:] = valid[1 - MAX_CAPTURES_PER_SIGNATURE :]
        captured = Capture(self.step, arguments, keywords)
        captures.append(captured)
        return captured.outputs


class Capture:
    """One run of a step: its static inputs and outputs, and the launches to replay.

    Attributes:
        inputs: the static copies of the tensors among the arguments, which a replay overwrites.
        outputs: the results of the step; each replay overwrites their tensors.
        recording: the tensors, modes and conditions that the run depends on, and its memory.
    """

    def __init__(
        self, step: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> None:
        self.inputs: list[Tensor] = []
        results: list[Tensor] = []

        def copy_input(x: Tensor) -> Tensor:
            self.inputs.append(_copy(x, len(self.inputs)))
            return self.inputs[-1]

        def detach_result(x: Tensor) -> Tensor:
            results.append(x.detach())
            return results[-1]

        arguments, keywords = _map_tensors(copy_input, (arguments, keywords))
        recording = StepRecording()
        with record(recording):
            recording.read_only = {id(x.version_cell) for x in self.inputs}
            outputs = step(*arguments, **keywords)
        self.recording = recording
        # Results are detached, because a graph would keep all memory of the run alive.
        self.outputs = _map_tensors(detach_result, outputs)
        self._version_cells = [*recording.written_versions, *(x.version_cell for x in results)]
        devices = [*recording.devices] or [current_device()]
        if len(devices) > 1:
            names = ", ".join(repr(device.name) for device in devices)
            raise ValueError(f"capture: a step runs on one device, this one on {names}")
        self.program = devices[0].program(recording)
        recording.launches.clear()

    def is_valid(self) -> bool:
        """Return whether tensors, threads and random streams are those of the run.

        A capture that is not valid is dropped when the step is captured again.
        """
        return all(x.array is array for x, array in self.recording.tensors.values()) and all(
            condition() for condition in self.recording.conditions
        )

    def has_same_modes(self) -> bool:
        """Return whether each module is in the train or eval mode that it had in the run."""
        return all(x.training is training for x, training in self.recording.modes.values())

    def replay(self, tensors: list[Tensor]) -> Any:
        """Copy the tensors into the static inputs, replay the launches, and return the outputs."""
        for static, x in zip(self.inputs, tensors, strict=True):
            static.device.copy(static.array, x.array)
        self.program()
        for cell in self._version_cells:
            cell[0] += 1
        return self.outputs


# ------------------------------------------------------------------------------ nested values
def _signature(value: Any, tensors: list[Tensor]) -> Any:
    """Return the hashable signature of nested arguments, and append their tensors to the list.

    A tensor stands for its shape, dtype, device and requires_grad; any other leaf for itself.
    """
    if isinstance(value, Tensor):
        tensors.append(value)
        return (Tensor, value.shape, value.dtype, value.device, value.requires_grad)
    if isinstance(value, (tuple, list)):
        return (type(value), *(_signature(x, tensors) for x in value))
    if isinstance(value, dict):
        return (dict, *((key, _signature(x, tensors)) for key, x in value.items()))
    if isinstance(value, np.ndarray):
        raise TypeError(
            "capture: an argument is a numpy array, whose values would stay those of the first"
            " call; make a tensor of it (mg.tensor)"
        )
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"capture: an argument is {type(value).__name__}; tensors, tuples, lists and dicts of"
            " them, and hashable values are accepted"
        ) from None
    return (type(value), value)  # with the type, since 1 == 1.0 == True


def _map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Return the nested value with each tensor replaced by function(tensor)."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _map_tensors(function, x) for key, x in value.items()}
    if isinstance(value, (tuple, list)):
        values = [_map_tensors(function, x) for x in value]
        is_named_tuple = hasattr(value, "_fields")
        return type(value)(*values) if is_named_tuple else type(value)(values)
    return value


def _copy(x: Tensor, number: int) -> Tensor:
    """Return a copy of an argument, in memory that each replay overwrites."""
    if x.op is not None:
        raise ValueError(
            f"capture: tensor {number} of the arguments has a graph, which a captured step does not"
            " follow; detach() it"
        )
    array = x.device.empty(x.shape, x.dtype)
    x.device.copy(array, x.array)
    return Tensor(array, x.device, x.requires_grad)
