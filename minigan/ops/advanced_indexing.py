"""x[index]: a view for integers, slices, None and `...`; a copy for arrays of integers and bools.

The rules are numpy's. Arrays of integers broadcast against each other, and with integers beside
them. The axes of the result take the place of the indexed axes, or stand first if a slice, None or
`...` lies between two of them. A bool array stands for the positions of its True elements: one
array for each of its axes.

The positions become one array of positions in the flattened axes, and `gather` takes the elements.
In a captured step the positions of a tensor are computed on the device, so that a replay follows
its values; a bool tensor is refused there, as the shape of the result depends on its values.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from ..engine.dtypes import check_int64_range
from ..engine.tensor import Tensor, require_tensors
from ..kernels.runtime.recording import active
from .elementwise import greater_equal, less, where
from .indexing import gather
from .shape import reshape, slice, transpose

__all__ = ["index"]

ALL = builtins.slice(None)


def index(x: Tensor, index: Any) -> Tensor:
    """Return x[index] for any index of numpy's: see the module.

        x[2], x[1:, ::2], x[None], x[..., 0]      a view
        x[[0, 2]], x[i, j], x[:, i], x[x > 0]     a copy; gradients of equal positions add up

    i and j are integer tensors, numpy arrays or lists; negative numbers count from the end.

    Raises:
        IndexError: an integer is outside its axis (see `indexing` for captured steps on a GPU), or
            a bool array has another shape than the axes that it indexes.
        TypeError: a part of the index is of another type.
        ValueError: there are more indices than axes, or arrays that do not broadcast.
        RuntimeError: a bool tensor in a captured step.
    """
    require_tensors("index", x)
    parts = index if isinstance(index, tuple) else (index,)
    if not any(map(_is_array, parts)):
        return slice(x, parts)
    arrays = [_index_array(x, part) if _is_array(part) else part for part in parts]
    return _take(x, _without_masks(x, _with_slices(x, arrays)))


def _is_array(part: Any) -> bool:
    """Return whether a part of an index is an array: a tensor, a list or an array of a library."""
    if isinstance(part, (Tensor, list, range)):
        return True
    return hasattr(part, "__array__") and not isinstance(part, np.generic)


def _index_array(x: Tensor, part: Any) -> np.ndarray | Tensor:
    """Return a part as an array of int64 or bool; a tensor only where its values cannot be read.

    They cannot in a captured step, where the result must depend on the values of each replay.
    """
    if isinstance(part, Tensor):
        if part.device is not x.device:
            raise ValueError(
                f"index: the indices are on device {part.device.name!r}, the tensor on"
                f" {x.device.name!r}; move one with .to(device)"
            )
        _check_index_dtype(part)
        if active() is not None and part.dtype.kind == "i":
            return part
        if active() is not None:
            raise RuntimeError(
                "a captured step cannot index with a bool tensor: the shape of the result depends"
                " on its values, which differ in each replay; mg.where(mask, x, 0.0) keeps the"
                " shape, or index outside and pass the result"
            )
        part = part.numpy()
    array = np.asarray(part)
    if not array.size and isinstance(part, list):
        array = array.astype(np.int64)
    _check_index_dtype(array)
    check_int64_range("index", array)
    return array if array.dtype.kind == "b" else array.astype(np.int64)


def _check_index_dtype(array: np.ndarray | Tensor) -> None:
    """Raise TypeError unless an array has integers, or bools and an axis."""
    kind = array.dtype.kind
    if kind not in "iub" or (kind == "b" and not array.ndim):
        raise TypeError(
            f"index: an index of {array.dtype} and shape {array.shape}; arrays of integers, or of"
            " bools with an axis, are accepted"
        )


def _with_slices(x: Tensor, parts: list[Any]) -> list[Any]:
    """Return the parts with an index for each axis: slices take the place of `...` and the end."""
    ellipses = sum(part is ... for part in parts)
    indexed = sum(
        part.ndim if _is_mask(part) else part is not None and part is not ... for part in parts
    )
    if indexed > x.ndim or ellipses > 1:
        raise ValueError(f"index: {indexed} indices for shape {x.shape}")
    i = next((i for i, part in enumerate(parts) if part is ...), len(parts))
    # Where `...` stands for no axis it stays, as it separates arrays nevertheless.
    slices = [ALL] * (x.ndim - indexed) or parts[i : i + 1]
    return [*parts[:i], *slices, *parts[i + 1 :]]


def _is_mask(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.kind == "b"


def _without_masks(x: Tensor, parts: list[Any]) -> list[Any]:
    """Return the parts with the positions of the True elements in the place of bool arrays."""
    result: list[Any] = []
    axis = 0
    for part in parts:
        if _is_mask(part):
            indexed = x.shape[axis : axis + part.ndim]
            if part.shape != indexed:
                raise IndexError(
                    f"index: the mask has shape {part.shape}, the axes that it selects from have"
                    f" {indexed} of {x.shape}"
                )
            result += np.nonzero(part)
            axis += part.ndim
        else:
            result.append(part)
            axis += part is not None and part is not ...
    return result


def _places(parts: list[Any]) -> list[int]:
    """Return the places of the arrays and integers among the parts."""
    kinds = (np.ndarray, Tensor, int, np.integer)
    return [i for i, p in enumerate(parts) if isinstance(p, kinds) and not isinstance(p, bool)]


def _take(x: Tensor, parts: list[Any]) -> Tensor:
    """Return x[parts] for slices and None, by a view, and for arrays and integers, by a gather."""
    places = _places(parts)
    is_separated = places[-1] - places[0] >= len(places)
    parts = [part for part in parts if part is not ...]
    axes = _places(parts)
    arrays = [parts[i] for i in axes]
    slices = tuple(ALL if i in axes else part for i, part in enumerate(parts))
    view = x if all(part == ALL for part in slices) else slice(x, slices)
    first = axes[0]
    if is_separated:
        first = 0
        order = (*axes, *(i for i in range(view.ndim) if i not in axes))
        view = view if order == tuple(range(view.ndim)) else transpose(view, order)
    before, sizes = view.shape[:first], view.shape[first : first + len(axes)]
    after = view.shape[first + len(axes) :]
    positions = _flat_positions(x, arrays, sizes)
    rows = _in_shape(positions, (*(1,) * first, positions.size, *(1,) * len(after)))
    taken = gather(_in_shape(view, (*before, math.prod(sizes), *after)), rows, axis=first)
    return _in_shape(taken, (*before, *positions.shape, *after))


def _in_shape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else reshape(x, shape)


def _flat_positions(x: Tensor, arrays: list[Any], sizes: tuple[int, ...]) -> Tensor:
    """Return the positions in flattened axes of these sizes, for an array of indices of each."""
    for i, size in zip(arrays, sizes, strict=True):
        values = i.array if isinstance(i, Tensor) else np.asarray(i)
        if isinstance(values, np.ndarray):  # not on a GPU, in a captured step
            outside = values[(values < -size) | (values >= size)]
            if outside.size:
                raise IndexError(
                    f"index: {outside[0]} is outside an axis of size {size} of shape {x.shape}"
                )
    shapes = [np.shape(i) if not isinstance(i, Tensor) else i.shape for i in arrays]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(map(str, shapes))
        raise ValueError(f"index: arrays of shapes {listed} do not broadcast") from None
    if not any(isinstance(i, Tensor) for i in arrays):
        numbers: Any = np.int64(0)
        for i, size in zip(arrays, sizes, strict=True):
            numbers = numbers * size + np.where(np.less(i, 0), np.add(i, size), i)
        return Tensor(x.device.from_numpy(np.asarray(numbers)), x.device)
    return _positions_on_device(x, arrays, sizes)


def _positions_on_device(x: Tensor, arrays: list[Any], sizes: tuple[int, ...]) -> Tensor:
    """Return the flat positions as ops compute them, -1 where an index is outside its axis.

    `gather` raises for -1, or returns NaN on a GPU: another axis must not make up for it.
    """
    position: Any = 0
    is_inside: Any = True
    for i, size in zip(arrays, sizes, strict=True):
        if not isinstance(i, Tensor):
            i = Tensor(x.device.from_numpy(np.asarray(i)), x.device)  # noqa: PLW2901
        i = where(less(i, 0), i + size, i)  # noqa: PLW2901
        is_inside = is_inside * (greater_equal(i, 0) * less(i, size))
        position = position * size + i
    return where(is_inside, position, -1)
