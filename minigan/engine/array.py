"""The class DeviceArray: the part of a Tensor that holds values, and how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels.runtime.recording import active
from .device import Device

if TYPE_CHECKING:
    from .op import Op


class DeviceArray:
    """An array on a device, its properties, and its conversion to Python, numpy and text.

    Attributes:
        array: a numpy or cupy array.
        device: the device that the array lies on.
        requires_grad: whether `grad` can differentiate with respect to it.
        op: the op that computed it, or None.
    """

    __slots__ = ("array", "device", "op", "requires_grad")
    array: Any
    device: Device
    requires_grad: bool
    op: Op | None

    # numpy_array * tensor calls the tensor's __rmul__, whose error names the op and the array.
    __array_priority__ = 1000

    # ----------------------------------------------------------------------------- properties
    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """The numpy dtype of the elements."""
        dtype: np.dtype = self.array.dtype
        return dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.array.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self.array.size)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("a tensor of shape () has no length")
        return self.shape[0]

    # ----------------------------------------------------------------------------------- text
    def __repr__(self) -> str:
        graph = f", op={self.op.name}" if self.op else ", requires_grad=True" * self.requires_grad
        values = np.array2string(self.numpy(), prefix="tensor(", separator=", ", threshold=20)
        return f"tensor({values}, dtype={self.dtype}, device={self.device.name!r}{graph})"

    def __format__(self, spec: str) -> str:
        """Return the number of a tensor of one element in a format: f"{loss:.3f}"."""
        if not spec and self.ndim:
            return str(self)
        if self.size != 1:
            raise TypeError(
                f"a tensor of shape {self.shape} has no format {spec!r}: format its numbers, as in"
                f" f'{{x.mean():{spec}}}', or its repr, f'{{x}}'"
            )
        if not spec:
            return str(self.numpy()[()])  # numpy writes the float32 0.1 with the digits 0.1
        return format(self.item(), spec)

    # --------------------------------------------------------------------- to Python and numpy
    def numpy(self) -> np.ndarray:
        """Return a copy of the values as a numpy array; RuntimeError inside a captured step."""
        if active() is not None:
            raise RuntimeError(
                "a captured step cannot read values (.numpy(), .item(), bool(), print), which"
                " differ in each replay; return the tensor and read it outside"
            )
        return self.device.to_numpy(self.array)

    def tolist(self) -> Any:
        """Return the values as nested lists of Python numbers, or as a number for shape ()."""
        return self.numpy().tolist()

    def item(self) -> Any:
        """Return the value of a tensor of size 1 as a Python number: float, int or bool."""
        return self._number("item", "x.tolist() returns all")

    def _number(self, name: str, fix: str) -> Any:
        """Return the value of a tensor of size 1; ValueError, with a fix, for other sizes."""
        if self.size != 1:
            raise ValueError(
                f"{name}() needs a tensor of one element; this one has shape {self.shape} ({fix})"
            )
        return self.numpy().item()

    def __float__(self) -> float:
        return float(self._number("float", "x.mean() and x.sum() have one element"))

    def __int__(self) -> int:
        return int(self._number("int", "x.sum() and x.max() have one element"))

    def __index__(self) -> int:
        if self.dtype.kind != "i":
            raise TypeError(f"only an integer tensor can be an index; this one is {self.dtype}")
        return int(self)

    def __bool__(self) -> bool:
        return bool(self._number("bool", "x.any() or x.all() says whether any or all are true"))

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
            return np.asarray(x) if isinstance(x, DeviceArray) else x

        return function(*convert(arguments), **{key: convert(x) for key, x in options.items()})

    def __dlpack__(self, *, copy: bool | None = None, **options: Any) -> Any:
        """Export a copy: in shared memory, `grad` would not notice what others write."""
        if self.requires_grad:
            raise BufferError("a tensor that requires gradients is not exported; detach() it")
        if copy is False:
            raise BufferError("a tensor is exported as a copy, not in its own memory (copy=False)")
        return self.array.copy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.array.__dlpack_device__()
        return device
