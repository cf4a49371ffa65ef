"""Strides in elements, and the merging of axes that a kernel can traverse as one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

Size = tuple[int, ...]


def elements(x: Any) -> Size:
    """Return the strides of an array in elements, not bytes."""
    size = x.dtype.itemsize
    return tuple(stride // size for stride in x.strides)


def scalar(x: float, dtype: np.dtype) -> np.generic:
    """Return x in a dtype; a number too large for it becomes infinite, without a warning."""
    with np.errstate(over="ignore"):
        return dtype.type(x)


def padded(strides: Size, shape: Size, ndim: int) -> Size:
    """Return the strides of an operand over the broadcast shape: 0 on axes that repeat."""
    repeated = tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))
    return (0,) * (ndim - len(shape)) + repeated


def span(x: Any, address: int) -> tuple[int, int]:
    """Return the first address of an array's elements and the address after the last one.

    `address` is that of element [0, 0, ...]; with negative strides, others are below it.
    """
    if 0 in x.shape:
        return address, address
    extents = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    low, high = (sum(e for e in extents if (e < 0) == negative) for negative in (True, False))
    return address + low, address + high + x.dtype.itemsize


@cache
def merge(shape: Size, strides: tuple[Size, ...]) -> tuple[Size, ...]:
    """Return the axes of a loop nest over all operands: (size, stride of each operand) per axis.

    Two adjacent axes become one where, for every operand, the outer stride is the inner stride
    times the inner size. So contiguous operands of equal shape give one axis.
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
    """Yield (outer, size, inner) for each run of adjacent axes to reduce, the last run first.

    `axes` is sorted. The three are products of sizes: of the axes before the run, in it and
    after it. Axes that were reduced by an earlier run count as 1.
    """
    sizes, remaining = list(shape), list(axes)
    while remaining:
        stop = remaining.pop() + 1
        first = stop - 1
        while remaining and remaining[-1] == first - 1:
            first = remaining.pop()
        parts = (slice(first), slice(first, stop), slice(stop, None))
        outer, size, inner = (math.prod(sizes[part]) for part in parts)
        yield outer, size, inner
        sizes[first:stop] = [1] * (stop - first)
