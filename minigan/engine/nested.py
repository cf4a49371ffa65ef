"""The tensors in nested arguments and results of a captured step: tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import is_dataclass
from typing import Any

import numpy as np

from .guards import CONSTANTS, constant_bits
from .tensor import Tensor


def signature(value: Any, tensors: list[Tensor]) -> Any:
    """Return the hashable signature of nested arguments, and append their tensors to the list.

    A tensor stands for its shape, dtype, device and requires_grad; any other leaf for itself.
    """
    if isinstance(value, Tensor):
        if value.op is not None:
            raise ValueError(
                f"capture: tensor {len(tensors)} of the arguments has a graph, which a captured"
                " step does not follow; detach() it"
            )
        tensors.append(value)
        return (Tensor, value.shape, value.dtype, value.device, value.requires_grad)
    if isinstance(value, (tuple, list)):
        return (type(value), *(signature(x, tensors) for x in value))
    if isinstance(value, dict):
        return (dict, *((key, signature(x, tensors)) for key, x in value.items()))
    if isinstance(value, np.ndarray):
        raise TypeError(
            "capture: an argument is a numpy array, whose values would stay those of the first"
            " call; make a tensor of it (mg.tensor)"
        )
    if isinstance(value, Iterator):
        raise TypeError(
            f"capture: an argument is {type(value).__name__}, an iterator, which a replay would"
            " not advance; pass its elements"
        )
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"capture: an argument is {type(value).__name__}; tensors, tuples, lists and dicts of"
            " them, and hashable values are accepted"
        ) from None
    # With type and bits, as 1 == 1.0 == True and 0.0 == -0.0.
    return constant_bits(value) if isinstance(value, CONSTANTS) else (type(value), value)


def other_leaves(value: Any) -> Iterator[Any]:
    """Iterate over the leaves of nested arguments that are neither tensors nor constants."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for x in value:
            yield from other_leaves(x)
    elif not isinstance(value, (Tensor, *CONSTANTS)):
        yield value


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Return the nested value with each tensor replaced by function(tensor)."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(function, x) for key, x in value.items()}
    if isinstance(value, (tuple, list)):
        values = [map_tensors(function, x) for x in value]
        is_named_tuple = hasattr(value, "_fields")
        return type(value)(*values) if is_named_tuple else type(value)(values)
    return value


def check_results(value: Any) -> None:
    """Raise TypeError for a result that may hold tensors which a replay does not find."""
    if isinstance(value, (tuple, list, dict)):
        for x in value.values() if isinstance(value, dict) else value:
            check_results(x)
    elif isinstance(value, (Awaitable, Iterator, set, frozenset)) or is_dataclass(value):
        raise TypeError(
            f"capture: a result is {type(value).__name__}; tensors, and tuples, lists and dicts of"
            " them, are accepted"
        )
