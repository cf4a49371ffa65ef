"""A tensor: an array on a device, and the op that made it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels.runtime.recording import active
from .device import Device, current_device, get_device

if TYPE_CHECKING:
    from .op import Op


class _State(threading.local):
    recording = True


_state = _State()


def is_recording() -> bool:
    """True where ops leave a graph behind (see `no_grad`)."""
    return _state.recording


@contextlib.contextmanager
def recording(on: bool) -> Iterator[None]:
    """Within: record ops for `grad`, or do not. Each Python thread has its own setting."""
    before, _state.recording = _state.recording, on
    try:
        yield
    finally:
        _state.recording = before


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Within: ops leave no graph behind, and their results need no memory beyond themselves."""
    return recording(False)


class Tensor:
    """An array on a device, and how it was made: `op(*inputs, **attributes)`, None for a leaf.

    The graph hangs on the outputs: a tensor holds its inputs, never the other way round. So there
    are no reference cycles, and memory is freed as soon as the last output is dropped.

    `version` counts the in-place changes (`Update`s) of the memory; views share the count.
    """

    __slots__ = (
        "__weakref__",
        "array",
        "attributes",
        "device",
        "inputs",
        "op",
        "requires_grad",
        "version_cell",
        "versions",
    )
    __array_priority__ = 1000  # numpy_array * tensor asks the tensor, which refuses by name

    def __init__(self, array: Any, device: Device, requires_grad: bool = False) -> None:
        self.array, self.device, self.requires_grad = array, device, requires_grad
        self.op: Op | None = None
        self.inputs: tuple[Any, ...] = ()
        self.attributes: dict[str, Any] = {}
        self.versions: tuple[int, ...] = ()
        self.version_cell = [0]

    def record(self, op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        """Note that this tensor is `op(*inputs, **attributes)`, and the versions it was made of."""
        self.requires_grad = True
        self.op, self.inputs, self.attributes = op, inputs, attributes
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        self.versions = (self.version, *(x.version for x in tensors))

    # --------------------------------------------------------------------------- what it is
    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def size(self) -> int:
        return self.array.size

    @property
    def version(self) -> int:
        return self.version_cell[0]

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a tensor of shape () has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        made = f", op={self.op.name}" if self.op else ", requires_grad=True" * self.requires_grad
        on = f", device={self.device.name!r}{made}"
        values = np.array2string(self.numpy(), prefix="tensor(", separator=", ", threshold=20)
        return f"tensor({values}, dtype={self.dtype}{on})"

    # -------------------------------------------------------------------- to and from numpy
    def numpy(self) -> np.ndarray:
        """A copy of the values."""
        if active() is not None:
            raise RuntimeError(
                "a captured step cannot look at values (.numpy(), .item(), bool(), print): they are"
                " others in each replay; return the tensor, and look at it outside"
            )
        return self.device.to_numpy(self.array)

    def item(self) -> float | int | bool:
        """The one value of a tensor of size 1, as a Python number."""
        if self.size != 1:
            raise ValueError(
                f"item() needs a tensor of one element; this one has shape {self.shape}"
            )
        return self.numpy().item()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a tensor's values cannot be seen without a copy (copy=False)")
        return self.numpy().astype(dtype or self.dtype, copy=False)

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind != "i":
            raise TypeError(f"only an integer tensor can be an index; this one is {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    # -------------------------------------------------------------------- leaving the graph
    def detach(self) -> Tensor:
        """The same memory and version, without its history."""
        y = Tensor(self.array, self.device)
        y.version_cell = self.version_cell
        return y

    def to(self, device: Any = None, dtype: Any = None) -> Tensor:
        """This tensor on another device (detached) or in another dtype (differentiable).

        `x.to("cpu")`, `x.to(device="cpu")`, `x.to("float64")`, `x.to(dtype=np.float64)`.
        """
        if dtype is None and device is not None and _is_dtype(device):
            device, dtype = None, device
        y = self
        if device is not None and get_device(device) is not self.device:
            target = get_device(device)
            y = Tensor(target.from_numpy(self.numpy()), target, self.requires_grad)
        if dtype is not None and check_dtype(dtype) != y.dtype:
            y = ops.cast(y, dtype=check_dtype(dtype))
        return y

    # --------------------------------------------------- shorthands for ops, as numpy has them
    # fmt: off
    def __add__(self, x: Any) -> Tensor: return ops.add(self, x)
    def __radd__(self, x: Any) -> Tensor: return ops.add(x, self)
    def __sub__(self, x: Any) -> Tensor: return ops.subtract(self, x)
    def __rsub__(self, x: Any) -> Tensor: return ops.subtract(x, self)
    def __mul__(self, x: Any) -> Tensor: return ops.multiply(self, x)
    def __rmul__(self, x: Any) -> Tensor: return ops.multiply(x, self)
    def __truediv__(self, x: Any) -> Tensor: return ops.divide(self, x)
    def __rtruediv__(self, x: Any) -> Tensor: return ops.divide(x, self)
    def __pow__(self, x: Any) -> Tensor: return ops.power(self, x)
    def __rpow__(self, x: Any) -> Tensor: return ops.power(x, self)
    def __matmul__(self, x: Any) -> Tensor: return ops.matmul(self, x)
    def __neg__(self) -> Tensor: return ops.negative(self)
    def __abs__(self) -> Tensor: return ops.abs(self)
    def __gt__(self, x: Any) -> Tensor: return ops.greater(self, x)
    def __ge__(self, x: Any) -> Tensor: return ops.greater_equal(self, x)
    def __lt__(self, x: Any) -> Tensor: return ops.less(self, x)
    def __le__(self, x: Any) -> Tensor: return ops.less_equal(self, x)
    def __eq__(self, x: object) -> Tensor:  # type: ignore[override]
        return ops.equal(self, x) if isinstance(x, COMPARED) else NotImplemented
    def __ne__(self, x: object) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, x) if isinstance(x, COMPARED) else NotImplemented
    # As == says nothing about identity, `in`, `.index` and `.remove` do not find a tensor in a
    # list. Dicts and sets look for the hash, and then for the same object, before they ask ==.
    __hash__ = object.__hash__
    def __getitem__(self, index: Any) -> Tensor: return ops.slice(self, index)
    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis=axis, keepdims=keepdims)
    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis=axis, keepdims=keepdims)
    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis=axis, keepdims=keepdims)
    def reshape(self, *shape: Any) -> Tensor: return ops.reshape(self, *shape)
    def transpose(self, *axes: Any) -> Tensor: return ops.transpose(self, *axes)
    @property
    def T(self) -> Tensor: return ops.transpose(self)
    # fmt: on


# What == compares element by element, or refuses by name as > does: an array, a complex number.
# Anything else (None, a string, a list) is unequal as a whole.
COMPARED = (Tensor, int, float, complex, np.ndarray, np.generic)


def tensor(
    values: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor holding a copy of `values` (numbers, nested lists, an array or a tensor).

    Args:
        dtype: float32, float64, int64 or bool (a name or a numpy dtype). Without it, floating
            numpy arrays and tensors keep theirs; Python floats become float32, integers int64.
        device: a name or a Device; without it the current one (see `use_device`).
        requires_grad: whether `grad` may be asked for derivatives with respect to it.
    """
    target = current_device() if device is None else get_device(device)
    if isinstance(values, Tensor):
        values = values.numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:  # numpy's own words for a ragged list
        raise ValueError(f"tensor: the values form no array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"tensor: values of type {array.dtype} are not numbers")
    if dtype is None:
        given = isinstance(values, (np.ndarray, np.generic))
        kind = array.dtype.kind
        keep = given and array.dtype in FLOATS
        dtype = array.dtype if keep else {"f": "float32", "b": "bool"}.get(kind, "int64")
    dtype = check_dtype(dtype)
    if requires_grad and dtype.kind != "f":
        raise TypeError(f"tensor: {dtype} cannot require gradients; float32 and float64 can")
    array = array.astype(dtype, copy=False)
    return Tensor(target.from_numpy(array), target, requires_grad)


FLOATS = (np.dtype("float32"), np.dtype("float64"))
DTYPES = (*FLOATS, np.dtype("int64"), np.dtype("bool"))


def check_dtype(dtype: Any) -> np.dtype:
    """The numpy dtype meant by a name or a dtype; TypeError unless tensors can have it."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found not in DTYPES:  # numpy finds None equal to float64
        raise TypeError(f"unknown dtype {dtype!r}; accepted: {', '.join(map(str, DTYPES))}")
    return found


def _is_dtype(x: Any) -> bool:
    """True for what `to(x)` takes as a dtype: any that numpy knows, for a clear refusal."""
    if isinstance(x, Device):
        return False
    try:
        np.dtype(x)
    except TypeError:
        return False
    return True


def require_tensors(name: str, *values: Any) -> None:
    """TypeError, with the op's name, unless all values are tensors."""
    for i, x in enumerate(values):
        if not isinstance(x, Tensor):
            raise TypeError(
                f"{name}: argument {i} is {type(x).__name__}, not a tensor"
                " (mg.tensor(values) makes one)"
            )


from .. import ops  # noqa: E402  (the shorthands above; ops themselves are made of tensors)
