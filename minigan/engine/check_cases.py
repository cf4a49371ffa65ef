"""The cases that the kernels of an op are checked on: its samples, and samples of other sizes."""

from __future__ import annotations

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


def cases_of(op: Op) -> tuple[list[Case], int]:
    """Return the samples, then samples of other sizes, and the number of those refused."""
    cases = []
    for sample in op.samples:
        attributes = sample[-1] if isinstance(sample[-1], dict) else {}
        cases.append(Case(tuple(sample[: len(sample) - bool(attributes)]), attributes))
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


def _resized(case: Case) -> Iterator[Case]:
    """Yield the case at other sizes: 1, odd ones, 257 along one axis, and 0.

    Where inputs have the same size, they still have. A size of 1, which may broadcast, stays.
    """
    makers = [x for x in case.inputs if callable(x)]
    if not makers or not all(hasattr(x, "at") for x in makers):
        return
    sizes = sorted({n for x in makers for n in x.shape if n > 1}, reverse=True)
    count = len(sizes)
    for new in (
        [1] * count,
        [2 * n + 1 for n in sizes],
        *([257 if i == k else 3 for i in range(count)] for k in range(count)),
        *([0 if i == k else 2 for i in range(count)] for k in range(count)),
    ):
        size = dict(zip(sizes, new, strict=True))
        inputs = tuple(
            x.at(tuple(size.get(n, n) for n in x.shape)) if callable(x) else x for x in case.inputs
        )
        yield Case(inputs, case.attributes)
