"""Capture of a training step: run it once, then replay its launches without its Python code.

A training step makes the same few dozen small launches each time, on memory of the same shapes.
What changes from step to step (parameters, moments, positions of random streams, the learning
rate) lies in arrays that updates change in place. So `capture` runs the step once, records its
launches and the memory that they use, and replays the list from then on, as a CUDA graph does. The
list is that of the eager step, and so its results are those of the eager step, bit for bit.

As in `jax.jit`, captures are cached by the signature of the arguments: their tree structure, and
the shape, dtype and device of each tensor among the leaves. What the step reads from outside its
arguments has guards, as in `torch.compile` (see `guards.py`).
"""

from __future__ import annotations

import functools
import threading
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast, overload

from ..kernels.runtime.locks import ForkSafeLock
from ..kernels.runtime.recording import active, collected, record
from .device import current_device
from .grad_mode import is_grad_enabled
from .nested import check_results, map_tensors, other_leaves, signature
from .precision import matmul_precision
from .random import current_generator
from .recording import StepRecording
from .step_guards import StepGuards
from .tensor import Tensor

# The most captures that a captured function keeps; the least recently used are dropped. It has one
# for each signature and each combination of guarded values, such as the modes of modules.
MAX_CAPTURES = 16


P = ParamSpec("P")
R = TypeVar("R")


@overload
def capture(step: Callable[P, R], *, check: int = 0) -> Callable[P, R]: ...
@overload
def capture(step: None = None, *, check: int = 0) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def capture(step: Callable[..., Any] | None = None, *, check: int = 0) -> Callable[..., Any]:
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
    tensors; other arguments; the current device, generator and `matmul_precision`; the Python
    thread; whether the graph is recorded) runs and captures the step. Later calls copy the
    arguments into the memory of that run and replay its launches. The step is captured again when
    something that it reads has changed: a closed-over or global variable, an attribute, a layer or
    its train and eval mode, `requires_grad`, the memory of a parameter, the number of threads, the
    random streams.

    - A number that differs from call to call costs a capture for each value: pass it as a tensor.
      At most MAX_CAPTURES captures are kept; a warning says why there are more.
    - Tensors from outside the step are the same ones in each replay, with their present values. A
      numpy array of more than 4 kB, and a list or dict of more than 1024 elements, keeps the values
      of the first run.
    - Results are the same tensors each time, overwritten by the next replay. They have no graph.
    - Inside the step, what reads values raises: `.item()`, `.numpy()`, `bool(tensor)`.
    - Side effects of Python code, such as counting or printing, happen in the first run only. A
      counter that the step also computes with is captured again in each call.
    - As a decorator of a method it makes a method, with the object as an argument.

    Args:
        step: the function; without it, `capture(check=2)` is a decorator.
        check: the number of replays of each capture that are compared, bit by bit, with an eager
            run of the step from the same state. It detects changes of what has no guard: clocks,
            files, large arrays, the state of other libraries.

    Raises:
        TypeError: an argument is a numpy array or an iterator, whose values would never change, or
            not hashable; a result is an iterator, set or dataclass, as that of a generator is.
        ValueError: an argument, or a tensor from outside, has a graph; the step changes an argument
            in place; it runs on more than one device; it draws from numpy's or Python's random
            numbers, or from an iterator, which a replay would repeat.
        RuntimeError: `check` found a difference.
    """
    if type(check) is not int or check < 0:
        raise TypeError(f"capture: check = {check!r} is not a number of replays, at least 0")
    if step is None:
        return cast(Callable[..., Any], functools.partial(capture, check=check))
    if not callable(step):
        raise TypeError(f"capture: {type(step).__name__} is not a function")
    return functools.update_wrapper(CapturedStep(step, check), step)


class CapturedStep:
    """A step and its captures, cached by signature.

    Each Python thread has captures of its own, as another thread would overwrite its results. The
    lock keeps the replays of several threads from running at the same time, as they change the same
    parameters.
    """

    def __init__(self, step: Callable[..., Any], check: int = 0) -> None:
        self.step, self.check = step, check
        self.captures: OrderedDict[Any, list[Capture]] = OrderedDict()
        self._lock = ForkSafeLock()
        self._has_warned = False
        self._not_kept = 0  # the number of captures that could not be replayed

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if active() is not None:  # inside another captured step, which records this one too
            return self.step(*arguments, **keywords)
        if collected() is not None:  # No launch runs, so there is none to replay later.
            return Capture(self.step, arguments, keywords).outputs
        tensors: list[Tensor] = []
        structure = signature((arguments, keywords), tensors)
        state = (current_device(), current_generator(), threading.get_ident(), is_grad_enabled())
        key = (structure, *state, matmul_precision())
        with self._lock:
            captures = self.captures.setdefault(key, [])
            self.captures.move_to_end(key)
            captures[:] = [x for x in captures if x.is_valid()]
            for captured in captures:
                if captured.guards.changed() is None:
                    if captured.checks_left:
                        return captured.checked_replay(self.step, tensors, arguments, keywords)
                    return captured.replay(tensors)
            reason = (
                "a tensor has another shape or dtype, or another argument another value; pass"
                " numbers that change as tensors"
            )
            if captures:
                reason = f"{captures[-1].guards.changed()} has changed"
            captured = Capture(self.step, arguments, keywords, self.check)
            if captured.guards.unstable is None:
                captures.append(captured)
            else:
                reason = f"the step changes {captured.guards.unstable}, which it also reads"
                self._not_kept += 1
            self._drop_old(reason)
            return captured.outputs

    def __reduce__(self) -> str:
        return self.step.__qualname__  # Like a function, it is pickled by its name.

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Return the step as a method of an object, if it is an attribute of its class."""
        return self if instance is None else types.MethodType(self, instance)

    def _drop_old(self, reason: str) -> None:
        """Drop the oldest captures above MAX_CAPTURES, and warn once that there are more."""
        count = sum(map(len, self.captures.values()))
        if count + self._not_kept > MAX_CAPTURES and not self._has_warned:
            self._has_warned = True
            name = getattr(self.step, "__qualname__", repr(self.step))
            warnings.warn(
                f"capture: {name} was captured more than {MAX_CAPTURES} times, which is slow. The"
                f" last reason: {reason}",
                RuntimeWarning,
                stacklevel=4,
            )
        while count > MAX_CAPTURES:
            oldest = next(iter(self.captures))
            count -= len(self.captures[oldest][:1])
            del self.captures[oldest][:1]
            if not self.captures[oldest]:
                del self.captures[oldest]


class Capture:
    """One run of a step: its static inputs and outputs, and the launches to replay.

    Attributes:
        inputs: the static copies of the tensors among the arguments, which a replay overwrites.
        outputs: the results of the step; each replay overwrites their tensors.
        recording: the tensors and conditions that the run depends on, and its memory.
        guards: guards of the Python values that the run depends on.
        checks_left: the number of replays that are still to be compared with eager runs.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        checks: int = 0,
    ) -> None:
        self.inputs: list[Tensor] = []
        self.checks_left = checks
        self._results: list[Tensor] = []

        def copy_input(x: Tensor) -> Tensor:
            self.inputs.append(_copy(x))
            recording.read_only |= {id(x.version_cell), id(self.inputs[-1].version_cell)}
            return self.inputs[-1]

        def detach_result(x: Tensor) -> Tensor:
            self._results.append(x.detach())
            return self._results[-1]

        self.recording = recording = StepRecording()
        self.guards = StepGuards(step, [*other_leaves((arguments, keywords))])
        arguments, keywords = map_tensors(copy_input, (arguments, keywords))
        with record(recording):
            outputs = step(*arguments, **keywords)
        self.guards.finish(recording)
        check_results(outputs)
        # Results are detached, because a graph would keep all memory of the run alive.
        self.outputs = map_tensors(detach_result, outputs)
        self._version_cells = [
            *recording.written_versions,
            *(x.version_cell for x in self._results),
        ]
        self._written_ids = {id(cell) for cell in recording.written_versions}
        devices = [*recording.devices] or [current_device()]
        if len(devices) > 1:
            names = ", ".join(repr(device.name) for device in devices)
            raise ValueError(f"capture: a step runs on one device, this one on {names}")
        self.program = devices[0].program(recording)
        recording.launches.clear()

    def is_valid(self) -> bool:
        """Return whether tensors, threads and random streams are still those of the run."""
        return all(
            x.array is array and x.requires_grad is requires_grad
            for x, array, requires_grad in self.recording.tensors.values()
        ) and all(condition() for condition in self.recording.conditions)

    def replay(self, tensors: list[Tensor]) -> Any:
        """Copy the tensors into the static inputs, replay the launches, and return the outputs."""
        for i, x in enumerate(tensors):
            if id(x.version_cell) in self._written_ids:
                raise ValueError(
                    f"capture: tensor {i} of the arguments is one that the step changes in place,"
                    " and a replay takes a copy of it; take the tensor from outside instead"
                )
        cells = [x.version_cell for x in self.inputs]
        sources = [
            # A result of the step may be one of its static inputs, which the copies overwrite.
            _copy(x) if any(x.version_cell is cell for cell in cells) else x
            for x in tensors
        ]
        for static, x in zip(self.inputs, sources, strict=True):
            static.device.copy(static.array, x.array)
        self.program()
        for cell in self._version_cells:
            cell[0] += 1
        return self.outputs

    def checked_replay(
        self,
        step: Callable[..., Any],
        tensors: list[Tensor],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
    ) -> Any:
        """Replay, and compare all results and updated tensors with those of an eager run.

        The eager run begins in the state before the replay, and its state is the one that stays.
        """
        self.checks_left -= 1
        arguments, keywords = map_tensors(_copy, (arguments, keywords))
        written = self.recording.written_tensors()
        before = [x.device.to_numpy(x.array) for x in written]
        self.replay(tensors)
        replayed = [x.numpy() for x in (*self._results, *written)]
        for x, values in zip(written, before, strict=True):
            x.device.copy(x.array, x.device.from_numpy(values))
        results: list[Tensor] = []
        map_tensors(results.append, step(*arguments, **keywords))
        eager = [x.numpy() for x in (*results, *written)]
        if len(results) != len(self._results):
            raise RuntimeError(
                f"capture: the captured step has {len(self._results)} results, an eager run"
                f" {len(results)}: its Python code depends on something that has no guard"
            )
        for i, (a, b) in enumerate(zip(replayed, eager, strict=True)):
            if (a.shape, a.dtype, a.tobytes()) != (b.shape, b.dtype, b.tobytes()):
                is_result = i < len(results)
                name = f"result {i}" if is_result else f"a tensor {a.shape} that the step updates"
                raise RuntimeError(
                    f"capture: {name} of a replay differs from that of an eager run: the step"
                    " depends on something that a replay does not run, such as random numbers of"
                    " another library, a clock, a file, or a large numpy array that has changed;"
                    " pass it as an argument"
                )
        return self.outputs


def _copy(x: Tensor) -> Tensor:
    """Return a copy of a tensor in memory of its own."""
    array = x.device.empty(x.shape, x.dtype)
    x.device.copy(array, x.array)
    return Tensor(array, x.device, x.requires_grad)
