"""The cases that the kernels of an op are checked on: its samples, and samples of other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .device import Device, get_device
from .tensor import Tensor

if TYPE_CHECKING:
    from .op import Op

# Each returns the numbers of an array in the memory of a device, with other strides.
LAYOUTS: dict[str, Callable[[Device, np.ndarray], Any]] = {
    "contiguous": lambda device, x: device.from_numpy(x),
    "transposed": lambda device, x: device.from_numpy(x.T).T,
    "reversed": lambda device, x: device.from_numpy(np.flip(x))[(slice(None, None, -1),) * x.ndim],
    "every second": lambda device, x: (
        device.from_numpy(np.repeat(x, 2, axis=-1))[..., ::2] if x.ndim else device.from_numpy(x)
    ),
}


@dataclass(frozen=True)
class Case:
    """The inputs of a sample: functions that draw arrays, and numbers; and its attributes."""

    inputs: tuple[Any, ...]
    attributes: dict[str, Any]

    def draw(self, dtype: str, seed: int) -> list[Any]:
        """Draw the arrays, those of floats in `dtype`; numbers stay as they are."""
        rng = np.random.default_rng(seed)
        drawn = [np.asarray(x(rng)) if callable(x) else x for x in self.inputs]
        return [cast(x, dtype) for x in drawn]


def cast(x: Any, dtype: str) -> Any:
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def case_of(sample: tuple[Any, ...]) -> Case:
    """Return a sample's inputs and attributes."""
    attributes = sample[-1] if isinstance(sample[-1], dict) else {}
    return Case(tuple(sample[: len(sample) - isinstance(sample[-1], dict)]), attributes)


def cases_of(op: Op) -> tuple[list[Case], int]:
    """Return the samples, then samples of other sizes, and the number of those refused."""
    cases = [case_of(sample) for sample in op.samples]
    known = {tuple(getattr(x, "shape", x) for x in case.inputs) for case in cases}
    resized, refused = [], 0
    for case in list(cases):
        for other in _resized(case):
            key = tuple(getattr(x, "shape", x) for x in other.inputs)
            if key in known:
                continue
            known.add(key)
            try:
                arrays = [
                    Tensor(x, get_device("reference")) if isinstance(x, np.ndarray) else x
                    for x in other.draw("float64", 0)
                ]
                op(*arrays, **other.attributes)
                resized.append(other)
            except Exception:  # whatever the reference raises for sizes that do not fit
                refused += 1
    return cases + resized, refused


def _sizes(case: Case) -> list[int]:
    """Return the sizes above 1 of the inputs, the largest first; none if one has a fixed size."""
    makers = [x for x in case.inputs if callable(x)]
    if not all(hasattr(x, "at") for x in makers):
        return []
    return sorted({n for x in makers for n in x.shape if n > 1}, reverse=True)


def _with_sizes(case: Case, size: dict[int, int]) -> Case:
    """Return the case with other sizes in place of those of the table."""
    inputs = (
        x.at(tuple(size.get(n, n) for n in x.shape)) if callable(x) else x for x in case.inputs
    )
    return Case(tuple(inputs), case.attributes)


def scaled(case: Case, elements: int) -> Case | None:
    """Return the case with all sizes times one factor, the largest input of about `elements`.

    None if its sizes are fixed or already larger.
    """
    sizes = _sizes(case)
    shapes = [x.shape for x in case.inputs if callable(x)] if sizes else []
    factors = [
        (elements / math.prod(shape)) ** (1 / axes)
        for shape in shapes
        if (axes := sum(n > 1 for n in shape))
    ]
    factor = min(factors, default=0.0)
    if factor <= 1:
        return None
    return _with_sizes(case, {n: round(n * factor) for n in sizes})


def _resized(case: Case) -> Iterator[Case]:
    """Yield the case at other sizes: 1, odd ones, 257 along one axis, and 0.

    Where inputs have the same size, they still have. A size of 1, which may broadcast, stays.
    """
    sizes = _sizes(case)
    count = len(sizes)
    if not sizes:
        return
    for new in (
        [1] * count,
        [2 * n + 1 for n in sizes],
        *([257 if i == k else 3 for i in range(count)] for k in range(count)),
        *([0 if i == k else 2 for i in range(count)] for k in range(count)),
    ):
        yield _with_sizes(case, dict(zip(sizes, new, strict=True)))
