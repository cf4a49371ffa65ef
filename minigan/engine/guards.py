"""Guard the Python values that a captured step reads, as a replay does not read them again.

A step reads numbers, layers and tensors by name: closed-over and global variables, attributes such
as `self.alpha`, and the same in the functions and methods that it calls. A `Reader` (see
`code_reader.py`) follows these names in the bytecode of the step; modules and optimizers report
themselves when they are called. Each value has a guard, and a capture is replayed only while all
guards hold, as in `torch.compile`.

A value that no name leads to (an element of a large array, `eval`, a clock, a file) has no guard;
`capture(step, check=2)` detects it by comparing replays with eager runs.
"""

from __future__ import annotations

import types
from array import array
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import is_
from typing import Any

import numpy as np

from .tensor import Tensor

MAX_ELEMENTS = 64  # of a container whose elements are compared by value
MAX_OBJECTS = 1024  # of a container whose elements are compared by identity
MAX_ARRAY_BYTES = 4096  # of an array that is compared by value

CONSTANTS = (int, float, complex, str, bytes, type(None), np.generic)
MAPPINGS = (dict, types.MappingProxyType, UserDict, ChainMap)
SEQUENCES = (list, tuple, deque, UserList)
# Values that cannot change while they are the same object, or whose changes are detected elsewhere:
# `StepRecording.tensors` has the array and requires_grad of each tensor.
UNCHANGING = (*CONSTANTS, Tensor, type, types.ModuleType, types.BuiltinFunctionType)


# Where a value comes from, as in `torch.compile`: the id of an object, and the value's name in it.
Source = tuple[int, str]


@dataclass(frozen=True, eq=False, slots=True)
class Guard:
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


@dataclass(frozen=True, eq=False)
class FrozenArray:
    """A small array of numpy or Python, and a copy of its bytes."""

    array: Any
    content: bytes

    def is_same(self, value: Any) -> bool:
        """Return whether a value is this array, and has the same bytes."""
        return value is self.array and _content(value) == self.content


@dataclass(frozen=True, eq=False)
class FrozenObjects:
    """The elements, and the keys of a mapping, that a container of many elements had."""

    objects: list[Any]

    def is_same(self, value: Any) -> bool:
        """Return whether a value is a container of the same objects."""
        if not isinstance(value, (*MAPPINGS, *SEQUENCES)):
            return False
        objects = _objects(value)
        return len(objects) == len(self.objects) and all(map(is_, objects, self.objects))


def freeze(value: Any) -> Any:
    """Return a copy of a container or small array, to compare later; else the value itself."""
    if isinstance(value, np.ndarray) and value.nbytes <= MAX_ARRAY_BYTES:
        return FrozenArray(value, _content(value))
    if isinstance(value, (array, bytearray)) and len(bytes(value)) <= MAX_ARRAY_BYTES:
        return FrozenArray(value, _content(value))
    if is_container(value):
        if isinstance(value, MAPPINGS):
            return {key: freeze(x) for key, x in value.items()}
        return [freeze(x) for x in value]
    if isinstance(value, (*MAPPINGS, *SEQUENCES)) and len(value) <= MAX_OBJECTS:
        return FrozenObjects(_objects(value))
    return set(value) if isinstance(value, set) else value


def _content(value: Any) -> bytes:
    return value.tobytes() if isinstance(value, np.ndarray) else bytes(value)


def _objects(value: Any) -> list[Any]:
    """Return the elements of a sequence, or the keys and values of a mapping."""
    return [*value.keys(), *value.values()] if isinstance(value, MAPPINGS) else list(value)


def is_same(value: Any, before: Any) -> bool:
    """Return whether a value is the same as when `freeze` returned `before`.

    Constants are compared by type and bits, so that 0.0 is not -0.0 and NaN is NaN; containers and
    small arrays by their elements; everything else by identity.
    """
    if value is before:
        return True
    if isinstance(before, (FrozenArray, FrozenObjects)):
        return before.is_same(value)
    if isinstance(before, dict):
        return (
            isinstance(value, MAPPINGS)
            and value.keys() == before.keys()
            and all(is_same(x, before[key]) for key, x in value.items())
        )
    if isinstance(before, list):
        return (
            isinstance(value, SEQUENCES)
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
    """Return whether a value is a sequence or mapping whose elements are compared by value."""
    return isinstance(value, (*MAPPINGS, *SEQUENCES)) and len(value) <= MAX_ELEMENTS


def constant_bits(value: Any) -> Any:
    """Return the type and the bits of a constant: 1 is not 1.0, 0.0 is not -0.0, NaN is NaN."""
    if isinstance(value, np.generic):
        return type(value), value.tobytes()
    return type(value), repr(value) if isinstance(value, (float, complex)) else value
