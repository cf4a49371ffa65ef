"""Kernels that a user's own program gives its ops: numba functions, CUDA files, expressions.

`Op.kernel` and `elementwise_op(..., expression=...)` make them, and the devices run them. Nothing
is compiled, and no compiler imported, before an op runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels.runtime.strides import scalar
from .recording import active_step

if TYPE_CHECKING:
    from ..kernels.elementwise.expressions import Expression
    from ..kernels.runtime.cuda.launcher import Launcher
    from .op import Op

MAX_RESULT_TYPES = 256  # combinations of shapes, dtypes and attributes that an op remembers
# A launch with a smaller result uses one thread.
MIN_PARALLEL_ELEMENTS = 32768


def own_kernel(op: Op, device: str) -> OwnKernel | None:
    """Return the kernel that a program gave an op for "cpu" or "cuda", or None.

    A captured step is captured again when an op of a program gets another one.
    """
    kernel = op.kernels.get(device)
    recording = active_step()
    if recording is not None and op.name not in op.library:
        recording.conditions.append(lambda: op.kernels.get(device) is kernel)
    return kernel


class OwnKernel:
    """A kernel of one op, for the `cpu` device, for CUDA, or for both."""

    def __init__(self, op: Op) -> None:
        self.op = op
        self._results: dict[Any, tuple[tuple[int, ...], np.dtype]] = {}

    def run_on_cpu(self, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> np.ndarray:
        """Return the op's result, computed by numba."""
        raise NotImplementedError

    def run_on_cuda(
        self, gpu: Launcher, arrays: tuple[Any, ...], attributes: dict[str, Any]
    ) -> Any:
        """Return the op's result, computed by launches of CUDA kernels."""
        raise NotImplementedError

    def result_type(
        self,
        arrays: tuple[Any, ...],
        attributes: dict[str, Any],
        to_numpy: Callable[[Any], np.ndarray] = np.asarray,
    ) -> tuple[tuple[int, ...], np.dtype]:
        """Return the shape and dtype of the result: those that the numpy reference returns.

        It runs once for each combination of shapes, dtypes and attributes.
        """
        described = [(x.shape, x.dtype) if hasattr(x, "dtype") else type(x) for x in arrays]
        key = (*described, *((name, _key(x)) for name, x in sorted(attributes.items())))
        if key not in self._results:
            if len(self._results) >= MAX_RESULT_TYPES:
                self._results.clear()
            values = [to_numpy(x) if hasattr(x, "dtype") else x for x in arrays]
            with np.errstate(all="ignore"):
                y = np.asarray(self.op.reference(*values, **attributes))
            self._results[key] = y.shape, y.dtype
        return self._results[key]


def _key(attribute: Any) -> Any:
    """Return what identifies an attribute: of an array its bytes, as its repr leaves some out."""
    if isinstance(attribute, np.ndarray):
        return attribute.shape, attribute.dtype, attribute.tobytes()
    return type(attribute), repr(attribute)


def main_dtype(arrays: tuple[Any, ...], kinds: str, default: np.dtype) -> np.dtype:
    """Return the dtype that the inputs of kinds f, x and n share; `default` if there are none."""
    for i, x in enumerate(arrays):
        if hasattr(x, "dtype") and kinds[min(i, len(kinds) - 1)] in "fxn":
            return x.dtype
    return default


class NumbaKernel(OwnKernel):
    """A function `(out, *arrays, attributes by name)` that numba compiles, and that fills `out`.

    If its last two parameters are `begin, end`, it fills out[begin:end], and several threads share
    the rows of a large `out`.
    """

    def __init__(self, op: Op, function: Callable[..., None]) -> None:
        super().__init__(op)
        self.function: Any = getattr(function, "py_func", function)
        self._compiled: dict[tuple[Any, ...], Any] = {}
        names = list(inspect.signature(self.function).parameters)
        self.is_divided = names[-2:] == ["begin", "end"]
        self.names = names[:-2] if self.is_divided else names
        if op.arity is not None:
            attributes = set(self.names[1 + op.arity :])
            known = attributes if op.attribute_names is None else op.attribute_names
            if len(self.names) < 1 + op.arity or attributes != known:
                listed = f" and the attributes {', '.join(sorted(known))}" if known else ""
                raise TypeError(
                    f"{op.name}: the cpu kernel {self.function.__name__}({', '.join(names)}) takes"
                    f" the result first, then the {op.arity} inputs{listed}"
                )

    def compiled(self, arguments: Sequence[Any], checked: bool = False) -> Any:
        """Return the function for numba to compile for arguments of these dtypes.

        It is cached by its source and the global variables that it reads, which may be others when
        arguments of another dtype come; so each dtype has a compiled function of its own.

        Args:
            arguments: of the function.
            checked: whether each index is checked, which raises IndexError.
        """
        from ..kernels.runtime.cpu.compiler import jit_own

        key = checked, *(str(getattr(x, "dtype", type(x))) for x in arguments)
        if key not in self._compiled:
            options = {"boundscheck": True} if checked else {}
            self._compiled[key] = jit_own(self.function, **options)
        return self._compiled[key]

    @property
    def place(self) -> str:
        """The kernel's name, file and first line."""
        return self.place_at(self.function.__code__.co_firstlineno)

    def place_at(self, line: int) -> str:
        """Return the kernel's name, file and this line."""
        code = self.function.__code__
        return f"{code.co_name} ({Path(code.co_filename).name}:{line})"

    def arguments(self, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> list[Any]:
        """Return an empty result and all other arguments; arrays are C-contiguous."""
        from ..kernels.runtime.cpu.launch import empty
        from ..kernels.shape.cpu import contiguous

        shape, dtype = self.result_type(arrays, attributes)
        real = main_dtype(arrays, self.op.dtypes, dtype)
        inputs = []
        for x in arrays:
            array = x if isinstance(x, np.ndarray) else scalar(x, real)
            if self.op.broadcasts:
                array = np.broadcast_to(array, shape)
            inputs.append(contiguous(array) if isinstance(array, np.ndarray) else array)
        numbers = [attributes[name] for name in self.names[1 + len(arrays) :]]
        numbers = [scalar(x, real) if isinstance(x, float) else x for x in numbers]
        return [empty(shape, dtype), *inputs, *numbers]

    def run_on_cpu(self, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> np.ndarray:
        from ..kernels.runtime.cpu.launch import launch, parts

        arguments = self.arguments(arrays, attributes)
        out = arguments[0]
        if self.is_divided and not out.ndim:
            raise TypeError(
                f"{self.op.name}: {self.place} has begin and end, but one number to fill"
            )
        try:
            if not self.is_divided:
                launch(self.compiled(arguments), *arguments)
            elif out.size:
                count = min(len(out), parts(out.size, MIN_PARALLEL_ELEMENTS))
                launch(self.compiled(arguments), *arguments, over=len(out), parts=count)
        except Exception as error:
            raise self._explained(error) from None
        return out

    def _explained(self, error: Exception) -> Exception:
        """Return an error of numba as one line that names the kernel's line; any other as it is."""
        from ..kernels.runtime.cpu.compiler import compile_error

        found = compile_error(error)
        if found is None:
            return error
        line, reason = found
        place = self.place_at(line) if line else self.place
        return TypeError(f"{self.op.name}: numba cannot compile the cpu kernel {place}: {reason}")


class CudaKernel(OwnKernel):
    """A `.cu` file, and a function `launch(cuda, out, *arrays, **attributes)` that launches it.

    `cuda` is a `Module`, which has the kernels of the file as attributes:

        cuda.softmax[rows, 128](out, x, columns)  # softmax<<<rows, 128>>>(out, x, columns)
    """

    def __init__(self, op: Op, launch: Callable[..., object], source: Path) -> None:
        super().__init__(op)
        self.source, self.launch = source, launch

    def run_on_cuda(
        self, gpu: Launcher, arrays: tuple[Any, ...], attributes: dict[str, Any]
    ) -> Any:
        from ..kernels.runtime.cuda.module import Module
        from ..kernels.shape.cuda import contiguous

        shape, dtype = self.result_type(arrays, attributes, gpu.to_numpy)
        real = main_dtype(arrays, self.op.dtypes, dtype)
        inputs = []
        for x in arrays:
            is_array = isinstance(x, gpu.array_type)
            array = x if is_array else scalar(x, real)
            if self.op.broadcasts:
                array = gpu.from_numpy(np.array(array)) if not is_array else array
                array = gpu.broadcast_to(array, shape) if array.shape != shape else array
                is_array = True
            inputs.append(contiguous(gpu, array) if is_array else array)
        out = gpu.empty(shape, dtype)
        self.launch(Module(gpu, self.source, real), out, *inputs, **attributes)
        return out


class ExpressionKernel(OwnKernel):
    """An expression of elements, as `x ; slope -> x if x > 0 else x * slope`, for all devices."""

    def __init__(self, op: Op, expression: Expression) -> None:
        super().__init__(op)
        self.expression = expression

    @cached_property
    def _cpu_name(self) -> str:
        from ..kernels.elementwise import cpu

        return cpu.define(self.expression)

    def run_on_cpu(self, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> np.ndarray:
        from ..kernels.elementwise import cpu

        return cpu.elementwise(self._cpu_name, *arrays, **attributes)

    def run_on_cuda(
        self, gpu: Launcher, arrays: tuple[Any, ...], attributes: dict[str, Any]
    ) -> Any:
        from ..kernels.elementwise import cuda

        return cuda.compute(gpu, self.expression, *arrays, **attributes)
