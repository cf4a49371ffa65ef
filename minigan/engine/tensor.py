"""The class Tensor: an array on a device, with the op and inputs that it was computed from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels.runtime.recording import active
from .device import Device, current_device, get_device
from .dtypes import DTYPES, check_dtype, check_int64_range, check_not_masked, is_dtype

if TYPE_CHECKING:
    from .op import Op


# A context variable has a value of its own in each Python thread and asyncio task.
_grad_enabled = ContextVar("grad_enabled", default=True)


def is_grad_enabled() -> bool:
    """Return whether ops record the graph in this thread or asyncio task (see `no_grad`)."""
    return _grad_enabled.get()


@contextlib.contextmanager
def set_grad_enabled(enabled: bool) -> Iterator[None]:
    """Switch the recording of the graph on or off in a `with` block, for this thread or task."""
    token = _grad_enabled.set(enabled)
    try:
        yield
    finally:
        _grad_enabled.reset(token)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Switch the recording of the graph off in a `with` block, for this thread or asyncio task.

    with mg.no_grad():
        fake = generator(latent)  # keeps no memory for a backward pass
    """
    return set_grad_enabled(False)


class Tensor:
    """An array on a device that remembers how it was computed: `op(*inputs, **attributes)`.

    A leaf has no op. An output refers to its inputs and never the other way round, so the graph has
    no reference cycles, and its memory is freed as soon as the last output is dropped.

    `version` counts the in-place changes (`Update`s) of the memory. Views share the counter, and
    `grad` refuses a graph whose tensors have changed since it was recorded.

    Make one with `mg.tensor(values)`. Operators and methods are those of a numpy array, except that
    `x += y` binds x to a new tensor, as in JAX, and raises TypeError for a parameter:

        x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        loss = ((x @ x.T) ** 2).mean()
        (gx,) = mg.grad(loss, [x])
    """

    __slots__ = (
        "__weakref__",
        "array",
        "attributes",
        "device",
        "inputs",
        "op",
        "replaced",
        "requires_grad",
        "version_cell",
        "versions",
    )
    # The (module, attribute name) that last held this parameter, or a layer with it, and was then
    # assigned another value; not set before that. Optimizers check it (`optim/replaced.py`).
    replaced: tuple[Any, str]

    # numpy_array * tensor calls the tensor's __rmul__, whose error names the op and the array.
    __array_priority__ = 1000

    def __init__(self, array: Any, device: Device, requires_grad: bool = False) -> None:
        self.array, self.device, self.requires_grad = array, device, requires_grad
        self.op: Op | None = None
        self.inputs: tuple[Any, ...] = ()
        self.attributes: dict[str, Any] = {}
        self.versions: tuple[int, ...] = ()
        self.version_cell = [0]

    def record(self, op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        """Record the op that computed this tensor, and the versions of its inputs and itself."""
        self.requires_grad = True
        self.op, self.inputs, self.attributes = op, inputs, attributes
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        self.versions = (self.version, *(x.version for x in tensors))

    # ----------------------------------------------------------------------------- properties
    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """The numpy dtype of the elements."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.array.size

    @property
    def version(self) -> int:
        """The number of in-place changes of the memory."""
        return self.version_cell[0]

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a tensor of shape () has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("a tensor of shape () cannot be iterated over: it has no axis")
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        graph = f", op={self.op.name}" if self.op else ", requires_grad=True" * self.requires_grad
        values = np.array2string(self.numpy(), prefix="tensor(", separator=", ", threshold=20)
        return f"tensor({values}, dtype={self.dtype}, device={self.device.name!r}{graph})"

    # -------------------------------------------------------------------- to and from numpy
    def numpy(self) -> np.ndarray:
        """Return a copy of the values as a numpy array; RuntimeError inside a captured step."""
        if active() is not None:
            raise RuntimeError(
                "a captured step cannot read values (.numpy(), .item(), bool(), print), which"
                " differ in each replay; return the tensor and read it outside"
            )
        return self.device.to_numpy(self.array)

    def item(self) -> float | int | bool:
        """Return the value of a tensor of size 1 as a Python number."""
        if self.size != 1:
            raise ValueError(
                f"item() needs a tensor of one element; this one has shape {self.shape}"
            )
        return self.numpy().item()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return a copy for numpy; RuntimeError where a gradient would be lost, as in PyTorch."""
        if self.requires_grad:
            raise RuntimeError(
                "numpy cannot use a tensor that requires gradients, as its result would have none:"
                " minigan.ops has functions of tensors (concatenate joins them); x.numpy() returns"
                " a copy without a graph"
            )
        if copy is False:
            raise ValueError("a tensor cannot become a numpy array without a copy (copy=False)")
        return self.numpy().astype(dtype or self.dtype, copy=False)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """Run a numpy function, such as np.sum, on copies of the tensors (see `__array__`)."""

        def convert(x: Any) -> Any:
            if isinstance(x, (list, tuple)):
                return type(x)(map(convert, x))
            return np.asarray(x) if isinstance(x, Tensor) else x

        return function(*convert(arguments), **{key: convert(x) for key, x in options.items()})

    def __dlpack__(self, *, copy: bool | None = None, **options: Any) -> Any:
        """Export a copy: in shared memory, `grad` would not notice what others write."""
        if self.requires_grad:
            raise BufferError("a tensor that requires gradients is not exported; detach() it")
        if copy is False:
            raise BufferError("a tensor is exported as a copy, not in its own memory (copy=False)")
        return self.array.copy().__dlpack__(**options)

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

    # ------------------------------------------------------------- graph, device and dtype
    def detach(self) -> Tensor:
        """Return a tensor of the same memory and version that is not part of the graph."""
        y = Tensor(self.array, self.device)
        y.version_cell = self.version_cell
        return y

    def to(self, device: Any = None, dtype: Any = None) -> Tensor:
        """Return this tensor on another device (detached) or in another dtype (differentiable).

            x.to("cpu"), x.to(device="cpu"), x.to("float64"), x.to(dtype=np.float64)

        It returns the tensor itself where nothing changes.
        """
        if isinstance(device, Tensor):
            raise TypeError("to: a tensor is no device or dtype; write x.to(y.device, y.dtype)")
        if dtype is None and device is not None and is_dtype(device):
            device, dtype = None, device
        y = self
        if device is not None and get_device(device) is not self.device:
            target = get_device(device)
            y = Tensor(target.from_numpy(self.numpy()), target, self.requires_grad)
        if dtype is not None and check_dtype(dtype) != y.dtype:
            y = ops.cast(y, dtype=check_dtype(dtype))
        return y

    # -------------------------------------------- operators and methods, each a call of one op
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
    def __rmatmul__(self, x: Any) -> Tensor: return ops.matmul(x, self)
    def __neg__(self) -> Tensor: return ops.negative(self)
    def __abs__(self) -> Tensor: return ops.abs(self)
    def __gt__(self, x: Any) -> Tensor: return ops.greater(self, x)
    def __ge__(self, x: Any) -> Tensor: return ops.greater_equal(self, x)
    def __lt__(self, x: Any) -> Tensor: return ops.less(self, x)
    def __le__(self, x: Any) -> Tensor: return ops.less_equal(self, x)
    def __eq__(self, x: object) -> Tensor:  # type: ignore[override]
        return ops.equal(self, x) if _is_compared(x) else NotImplemented
    def __ne__(self, x: object) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, x) if _is_compared(x) else NotImplemented
    # As == says nothing about identity, `in`, `.index` and `.remove` do not find a tensor in a
    # list. Dicts and sets look for the hash, and then for the same object, before they ask ==.
    __hash__ = object.__hash__
    def __getitem__(self, index: Any) -> Tensor: return ops.slice(self, index)
    def __iadd__(self, x: Any) -> Tensor: return self._rebound("+=") + x
    def __isub__(self, x: Any) -> Tensor: return self._rebound("-=") - x
    def __imul__(self, x: Any) -> Tensor: return self._rebound("*=") * x
    def __itruediv__(self, x: Any) -> Tensor: return self._rebound("/=") / x
    def __ipow__(self, x: Any) -> Tensor: return self._rebound("**=") ** x
    def __imatmul__(self, x: Any) -> Tensor: return self._rebound("@=") @ x
    # fmt: on

    def _rebound(self, operator: str) -> Tensor:
        """Return this tensor; TypeError if it is a parameter.

        `p -= lr * g` in a loop over parameters would bind p to a new tensor and leave the parameter
        as it was.
        """
        if self.requires_grad and self.op is None:
            raise TypeError(
                f"{operator} does not change a parameter in place: it would make a new tensor;"
                " use an optimizer, or mg.optim.assign(p, values)"
            )
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "elements of a tensor cannot be assigned; `mg.optim.assign(x[index], values)` changes a"
            " slice in place, and mg.ops.where makes a new tensor"
        )

    def abs(self) -> Tensor:
        """Return |x|, as `abs(x)`."""
        return ops.abs(self)

    def exp(self) -> Tensor:
        """Return e to the power of each element."""
        return ops.exp(self)

    def log(self) -> Tensor:
        """Return the natural logarithm of each element."""
        return ops.log(self)

    def sqrt(self) -> Tensor:
        """Return the square root of each element."""
        return ops.sqrt(self)

    def tanh(self) -> Tensor:
        """Return the hyperbolic tangent of each element."""
        return ops.tanh(self)

    def clip(self, low: float, high: float) -> Tensor:
        """Return each element limited to [low, high] (see `ops.clip`)."""
        return ops.clip(self, low, high)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the sum over an axis, several or all (see `ops.sum`)."""
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the mean over an axis, several or all (see `ops.mean`)."""
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Return the largest element over an axis, several or all (see `ops.max`)."""
        return ops.max(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """Return the elements in another shape, a view where it can be (see `ops.reshape`)."""
        return ops.reshape(self, *shape)

    def flatten(self) -> Tensor:
        """Return the elements in one axis, a view where it can be."""
        return ops.reshape(self, -1)

    def transpose(self, *axes: Any) -> Tensor:
        """Return a view with the axes in another order, reversed by default."""
        return ops.transpose(self, *axes)

    @property
    def T(self) -> Tensor:
        """The view with all axes in reverse order."""
        return ops.transpose(self)


def _is_compared(x: object) -> bool:
    """Return whether == compares with x element by element.

    Arrays of any library and all numbers are among them, so that == raises the same error as >.
    Anything else (None, a string, a list) is unequal as a whole.
    """
    return isinstance(x, (Tensor, Number)) or hasattr(x, "__array__")


def tensor(
    values: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Return a new tensor with a copy of `values` (numbers, nested lists, an array or a tensor).

        mg.tensor([1.0, 2.0])                             float32 on the current device
        mg.tensor(numpy_array, device="cuda", requires_grad=True)

    Args:
        dtype: float32, float64, int64 or bool (a name or a numpy dtype). By default, floating
            arrays and tensors keep theirs, or have the nearest; Python floats become float32,
            integers int64.
            As in numpy and PyTorch, floats lose their fraction on the way to integers, and large
            integers are rounded on the way to floats.
        device: a name or a Device; by default the current one (see `use_device`).
        requires_grad: whether `grad` can differentiate with respect to this tensor.

    Raises:
        TypeError: the values are not numbers, or the dtype is not accepted.
        ValueError: the nested lists are ragged, a value is outside the range of int64, or masked.
        RuntimeError: a list holds tensors that require gradients (`ops.concatenate` joins them).
    """
    target = current_device() if device is None else get_device(device)
    if isinstance(values, Tensor):
        values = values.numpy()
    check_not_masked("tensor", values)
    try:
        array = np.asarray(values)
    except ValueError as error:  # numpy's message says where a nested list is ragged
        raise ValueError(f"tensor: the values form no array: {error}") from None
    if not isinstance(values, (np.ndarray, np.generic)):
        _refuse_large_integers(values, array)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"tensor: values of type {array.dtype} are not numbers of {', '.join(map(str, DTYPES))}"
        )
    if dtype is None:
        is_double = hasattr(values, "dtype") and array.dtype.itemsize >= 8
        floats = "float64" if is_double else "float32"
        dtype = {"f": floats, "b": "bool"}.get(array.dtype.kind, "int64")
    dtype = check_dtype(dtype)
    if requires_grad and dtype.kind != "f":
        raise TypeError(f"tensor: {dtype} cannot require gradients; float32 and float64 can")
    if dtype.kind == "i":
        check_int64_range("tensor", array)
    array = array.astype(dtype, copy=False)
    return Tensor(target.from_numpy(array), target, requires_grad)


def _refuse_large_integers(values: Any, array: np.ndarray) -> None:
    """Raise ValueError for integers outside int64, which numpy converts to floats or objects."""
    if array.dtype.kind == "O" or (array.dtype.kind == "f" and (np.abs(array) >= 2.0**63).any()):
        objects = np.asarray(values, object).ravel().tolist()
        if objects and all(isinstance(x, int) for x in objects):
            largest = max(objects, key=abs)
            raise ValueError(f"tensor: the value {largest} does not fit into int64")


def require_tensors(name: str, *values: Any) -> None:
    """Raise TypeError, with the op's name, unless all values are tensors."""
    for i, x in enumerate(values):
        if not isinstance(x, Tensor):
            raise TypeError(
                f"{name}: argument {i} is {type(x).__name__}, not a tensor"
                " (mg.tensor(values) makes one)"
            )


# This is the only import cycle. An op takes and returns tensors, so `ops` imports this module;
# the operators and methods of a tensor are ops, so this module imports `ops`. It does so here at
# the end, after everything that ops need from it is defined.
from .. import ops  # noqa: E402
