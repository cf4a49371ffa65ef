"""The class Tensor: an array on a device, with the op and inputs that it was computed from."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Number
from typing import TYPE_CHECKING, Any

from ..utils.pytorch_names import TENSOR, missing_attribute, with_axis
from .array import DeviceArray
from .device import Device, current_device, get_device
from .dtypes import check_dtype, is_dtype
from .grad_mode import is_grad_enabled, no_grad, set_grad_enabled
from .values import to_array, type_name

if TYPE_CHECKING:
    from .op import Op


__all__ = [
    "Axes",
    "Tensor",
    "is_grad_enabled",
    "no_grad",
    "require_tensors",
    "set_grad_enabled",
    "tensor",
]

Axes = int | tuple[int, ...] | None  # the axes of a reduction; None: all


class Tensor(DeviceArray):
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

    __slots__ = ("__weakref__", "attributes", "inputs", "replaced", "version_cell", "versions")
    # The (module, attribute name) that last held this parameter, or a layer with it, and was then
    # assigned another value; not set before that. Optimizers check it (`optim/replaced.py`).
    replaced: tuple[Any, str]

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

    @property
    def version(self) -> int:
        """The number of in-place changes of the memory."""
        return self.version_cell[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("a tensor of shape () cannot be iterated over: it has no axis")
        return (self[i] for i in range(len(self)))

    if not TYPE_CHECKING:  # where it would declare attributes of any name

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, with the fix for PyTorch's names, such as `backward`."""
            return missing_attribute(self, name, TENSOR)

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
    def __invert__(self) -> Tensor: return ops.logical_not(self)
    def __and__(self, x: Any) -> Tensor: return ops.logical_and(self, x)
    def __rand__(self, x: Any) -> Tensor: return ops.logical_and(x, self)
    def __or__(self, x: Any) -> Tensor: return ops.logical_or(self, x)
    def __ror__(self, x: Any) -> Tensor: return ops.logical_or(x, self)
    def __getitem__(self, index: Any) -> Tensor: return ops.index(self, index)
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
            "elements of a tensor cannot be assigned; `mg.optim.assign(x[1:3], values)` changes a"
            " slice in place (not x[[1, 2]], which is a copy), and mg.where makes a new tensor"
        )

    # fmt: off
    def abs(self) -> Tensor: return ops.abs(self)
    def exp(self) -> Tensor: return ops.exp(self)
    def log(self) -> Tensor: return ops.log(self)
    def sqrt(self) -> Tensor: return ops.sqrt(self)
    def tanh(self) -> Tensor: return ops.tanh(self)
    def sigmoid(self) -> Tensor: return ops.sigmoid(self)
    # fmt: on

    def clip(self, min: float | None = None, max: float | None = None) -> Tensor:
        """Return each element limited to [min, max] (see `ops.clip`)."""
        return ops.clip(self, min, max)

    def clone(self) -> Tensor:
        """Return a copy in memory of its own, through which gradients flow."""
        return ops.cast(self, dtype=self.dtype)

    @with_axis
    def sum(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Return the sum over an axis, several or all (see `ops.sum`)."""
        return ops.sum(self, axis, keepdims)

    @with_axis
    def mean(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Return the mean over an axis, several or all (see `ops.mean`)."""
        return ops.mean(self, axis, keepdims)

    @with_axis
    def max(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Return the largest element over an axis, several or all (see `ops.max`)."""
        return ops.max(self, axis, keepdims)

    @with_axis
    def min(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Return the smallest element over an axis, several or all (see `ops.min`)."""
        return ops.min(self, axis, keepdims)

    @with_axis
    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Return the index of the largest element (see `ops.argmax`); it has no gradient."""
        return ops.argmax(self, axis, keepdims)

    @with_axis
    def var(self, axis: Axes = None, keepdims: bool = False, *, correction: float = 0) -> Tensor:
        """Return the variance over an axis, several or all (see `ops.var`)."""
        return ops.var(self, axis, keepdims, correction=correction)

    @with_axis
    def std(self, axis: Axes = None, keepdims: bool = False, *, correction: float = 0) -> Tensor:
        """Return the standard deviation over an axis, several or all (see `ops.std`)."""
        return ops.std(self, axis, keepdims, correction=correction)

    @with_axis
    def norm(self, p: float = 2, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Return the p-norm over an axis, several or all (see `ops.norm`)."""
        return ops.norm(self, p, axis, keepdims)

    @with_axis
    def any(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Return whether any element is not 0, as a bool tensor."""
        return ops.any(self, axis, keepdims)

    @with_axis
    def all(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Return whether all elements are not 0, as a bool tensor."""
        return ops.all(self, axis, keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """Return the elements in another shape, a view where it can be (see `ops.reshape`)."""
        return ops.reshape(self, *shape)

    def flatten(self, start_axis: int = 0, end_axis: int = -1) -> Tensor:
        """Return the elements with these axes, by default all, as one (see `ops.flatten`)."""
        return ops.flatten(self, start_axis, end_axis)

    @with_axis
    def squeeze(self, axis: Axes = None) -> Tensor:
        """Return a view without axes of size 1 (see `ops.squeeze`)."""
        return ops.squeeze(self, axis)

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
    array = to_array(values.numpy() if isinstance(values, Tensor) else values, dtype)
    if requires_grad and array.dtype.kind != "f":
        raise TypeError(f"tensor: {array.dtype} cannot require gradients; float32 and float64 can")
    return Tensor(target.from_numpy(array), target, requires_grad)


def require_tensors(name: str, *values: Any) -> None:
    """Raise TypeError, with the op's name, unless all values are tensors."""
    for i, x in enumerate(values):
        if not isinstance(x, Tensor):
            raise TypeError(
                f"{name}: argument {i} is {type_name(x)}, not a tensor"
                " (mg.tensor(values) makes one)"
            )


# This is the only import cycle. An op takes and returns tensors, so `ops` imports this module;
# the operators and methods of a tensor are ops, so this module imports `ops`. It does so here at
# the end, after everything that ops need from it is defined.
from .. import ops  # noqa: E402
