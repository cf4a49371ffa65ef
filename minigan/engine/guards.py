"""Guard the Python values that a captured step reads, as a replay does not read them again.

A step reads numbers, layers and tensors by name: closed-over and global variables, attributes such
as `self.alpha`, and the same in the functions and methods that it calls. A `Reader` (see
`code_reader.py`) follows these names in the bytecode of the step; modules and optimizers report
themselves when they are called. Each value has a guard, and a capture is replayed only while all
guards hold, as in `torch.compile`.

A value that no name leads to (an element of a large array, a clock, a file) has no guard;
`capture(step, check=2)` detects it by comparing replays with eager runs.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .tensor import Tensor

MAX_ELEMENTS = 64  # of a container that is compared element by element
MAX_ARRAY_BYTES = 4096  # of a numpy array that is compared by value

CONSTANTS = (int, float, complex, str, bytes, type(None), np.generic)
# Values that cannot change while they are the same object, or whose changes are detected elsewhere:
# `StepRecording.tensors` has the array and requires_grad of each tensor.
UNCHANGING = (*CONSTANTS, Tensor, type, types.ModuleType, types.BuiltinFunctionType)


# Where a value comes from, as in `torch.compile`: the id of an object, and the value's name in it.
Source = tuple[int, str]


class Guard(NamedTuple):
    """A value that a step reads: its name, a function that reads it again, and its old value."""

    name: str
    read: Callable[[], Any]
    before: Any  # the result of `freeze`

    def holds(self) -> bool:
        """Return whether the value is still the same."""
        return is_same(self.read(), self.before)


def guard(name: str, read: Callable[[], Any]) -> Guard:
    """Return a guard of the present value of `read()`."""
    return Guard(name, read, freeze(read()))


class FrozenArray(NamedTuple):
    """A small numpy array, and a copy of its bytes."""

    array: np.ndarray
    content: bytes


def freeze(value: Any) -> Any:
    """Return a copy of a small container or array, to compare by value; else the value itself."""
    if isinstance(value, np.ndarray) and value.nbytes <= MAX_ARRAY_BYTES:
        return FrozenArray(value, value.tobytes())
    if is_container(value):
        if isinstance(value, dict):
            return {key: freeze(x) for key, x in value.items()}
        return [freeze(x) for x in value]
    return set(value) if isinstance(value, set) else value


def is_same(value: Any, before: Any) -> bool:
    """Return whether a value is the same as when `freeze` returned `before`.

    Constants are compared by type and bits, so that 0.0 is not -0.0 and NaN is NaN; small
    containers and arrays by their elements; everything else by identity.
    """
    if value is before:
        return True
    if isinstance(before, FrozenArray):
        return value is before.array and value.tobytes() == before.content
    if isinstance(before, dict):
        return (
            isinstance(value, dict)
            and value.keys() == before.keys()
            and all(is_same(x, before[key]) for key, x in value.items())
        )
    if isinstance(before, list):
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(before)
            and all(map(is_same, value, before))
        )
    if isinstance(before, set):
        return isinstance(value, set) and value == before
    return (
        isinstance(value, CONSTANTS)
        and isinstance(before, CONSTANTS)
        and constant_bits(value) == constant_bits(before)
    )


def is_container(value: Any) -> bool:
    """Return whether a value is a list, tuple or dict that is compared element by element."""
    return isinstance(value, (list, tuple, dict)) and len(value) <= MAX_ELEMENTS


def constant_bits(value: Any) -> Any:
    """Return the type and the bits of a constant: 1 is not 1.0, 0.0 is not -0.0, NaN is NaN."""
    if isinstance(value, np.generic):
        return type(value), value.tobytes()
    return type(value), repr(value) if isinstance(value, (float, complex)) else value
