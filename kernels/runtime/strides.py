"""Arrays as flat memory: strides in elements, and axes that may be walked as one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

Size = tuple[int, ...]


def elements(x: Any) -> Size:
    """Strides in elements."""
    size = x.dtype.itemsize
    return tuple(stride // size for stride in x.strides)


def scalar(x: float, dtype: np.dtype) -> np.generic:
    """Return x in that dtype; a number too large for it silently becomes infinite, as in numpy."""
    with np.errstate(over="ignore"):
        return dtype.type(x)


def padded(strides: Size, shape: Size, ndim: int) -> Size:
    """Strides over the broadcast shape: 0 on axes that repeat."""
    own = tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))
    return (0,) * (ndim - len(shape)) + own


def span(x: Any, address: int) -> tuple[int, int]:
    """The first byte of an array whose first element lies there, and the byte behind its last."""
    if 0 in x.shape:
        return address, address
    reach = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    low, high = (sum(r for r in reach if (r < 0) == below) for below in (True, False))
    return address + low, address + high + x.dtype.itemsize


@cache
def merge(shape: Size, strides: tuple[Size, ...]) -> tuple[Size, ...]:
    """(size, stride of operand 1, stride of operand 2, ..) per axis, to walk them together.

    Adjacent axes that every operand walks with one stride are merged, so that contiguous operands
    of equal shape are one long row.
    """
    axes: list[Size] = []
    for axis, size in enumerate(shape):
        steps = tuple(s[axis] for s in strides)
        if size == 1:
            continue
        if axes and all(a == b * size for a, b in zip(axes[-1][1:], steps, strict=True)):
            axes[-1] = (axes[-1][0] * size, *steps)
        else:
            axes.append((size, *steps))
    return tuple(axes) or ((1,) * (1 + len(strides)),)


def runs(shape: Size, axes: Size) -> Iterator[tuple[int, int, int]]:
    """How axes (sorted) are reduced, one run of adjacent ones at a time, the last one first.

    (elements before it, in it, behind it) for each run, those that are reduced already being 1.
    """
    sizes, remaining = list(shape), list(axes)
    while remaining:
        stop = remaining.pop() + 1
        first = stop - 1
        while remaining and remaining[-1] == first - 1:
            first = remaining.pop()
        parts = (slice(first), slice(first, stop), slice(stop, None))
        outer, size, width = (math.prod(sizes[part]) for part in parts)
        yield outer, size, width
        sizes[first:stop] = [1] * (stop - first)
