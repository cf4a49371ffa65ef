"""The class Op: an operation on tensors, its derivatives, and samples to check both on."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from ..utils.names import choose
from ..utils.notices import Notice
from .definitions import caller, check_definition, fitting_expression, source_path
from .grad_mode import is_grad_enabled
from .own_kernels import CudaKernel, ExpressionKernel, NumbaKernel, OwnKernel
from .recording import active_step
from .tensor import Tensor, require_tensors
from .values import type_name

# The tensors that each letter of `Op(dtypes=...)` accepts. Inputs of kinds f, x, n share one dtype.
KINDS = {
    "f": "a float32 or float64 tensor",
    "x": "a tensor",
    "n": "a float or integer tensor",
    "b": "a bool tensor",
    "i": "an integer tensor",
}
NUMBERS = (int, float, np.integer, np.floating, np.bool_)


class Op:
    """A pure function of tensors: its numpy reference, its VJPs, and samples to check them on.

    A VJP (vector-Jacobian product) takes the cotangent of the result to that of one input:

        tanh = Op("tanh", np.tanh, vjps=(lambda g, y, x: tanh_grad(g, y),), samples=[...])

    Args:
        name: unique; devices look their kernels up by it.
        reference: `(*arrays, **attributes) -> array`, in numpy. It is the specification.
        vjps: for each input, `(g, y, *inputs, **attributes) -> cotangent of that input`, made of
            ops, or None where no gradient flows. One function `(i, g, y, *inputs, **attributes)`
            serves an op of any number of inputs.
        samples: inputs to check the op on: tuples of samplers `rng -> array` (see
            `ops/samples.py`) and numbers, with a dict of attributes at the end if there are any.
            Together they reach every branch of every VJP. The first sample also defines the names
            of the attributes that a call must have.
        broadcasts: inputs broadcast as in numpy; `grad` sums cotangents back to their shapes.
            Numbers are accepted beside tensors.
        prepare: `(g, y, *inputs, **attributes)`, run once for each backward pass. Its result takes
            the place of `g` in every VJP, so that work which they share is done once.
        dtypes: a letter for each input, the last one for all further ones (see KINDS).
        view: the result is a view of the first input's memory and shares its version.
        check: `(*inputs, **attributes)`, raises ValueError on shapes and attributes that do not
            fit. Kernels trust it: they compute addresses from shapes and attributes.
        numbers: accept numbers beside tensors even if inputs do not broadcast.
        needs_kernel: never run the reference on the `cpu` device, where it would be a call of
            BLAS, or a loop that takes minutes.

        expression: the kernel of an elementwise op for every device, `inputs -> expression` or
            `inputs ; attributes -> expression` (see `ops.elementwise_op`).

    `kernel` gives an op of your own program kernels for the devices. Another op of the same name,
    as that of a notebook's cell that runs again, replaces it in `registry`, with a warning.

    Raises:
        TypeError: `vjps` is one function of fixed inputs, or a VJP has other parameters.
        ValueError: minigan has an op of this name; a sample or the expression does not fit.
    """

    registry: ClassVar[dict[str, Op]] = {}
    library: ClassVar[frozenset[str]] = frozenset()  # the names of minigan's own ops

    def __init__(
        self,
        name: str,
        reference: Callable[..., Any],
        vjps: Sequence[Callable[..., Tensor] | None] | Callable[..., Tensor],
        samples: Sequence[tuple[Any, ...]] = (),
        *,
        broadcasts: bool = False,
        prepare: Callable[..., Any] | None = None,
        dtypes: str = "f",
        view: bool = False,
        check: Callable[..., object] | None = None,
        numbers: bool = False,
        needs_kernel: bool = False,
        expression: str | None = None,
    ) -> None:
        if name in Op.library:
            raise ValueError(
                f"an op named {name!r} exists already: it is one of minigan's; choose another name"
            )
        self.name, self.reference, self.vjps, self.samples = name, reference, vjps, samples
        self.broadcasts, self.prepare, self.dtypes = broadcasts, prepare, dtypes
        self.view, self.check = view, check
        self.accepts_numbers = broadcasts or numbers
        self.needs_kernel = needs_kernel
        self.arity = None if callable(vjps) else len(vjps)  # None: any number of inputs
        if not all(isinstance(sample, tuple) for sample in samples):
            raise ValueError(f"{name}: a sample is a tuple of inputs, such as (uniform(3),)")
        last = samples[0][-1] if samples else None
        names = frozenset(last if isinstance(last, dict) else ())
        self.attribute_names = names if samples else None  # None: any
        self.kernels: dict[str, OwnKernel] = {}  # by "cpu" and "cuda", those of `kernel`
        self.made_at = caller() if Op.library else ""
        if self.made_at:
            check_definition(self)
        if expression is not None:
            kernel = ExpressionKernel(self, fitting_expression(self, expression))
            self.kernels.update(cpu=kernel, cuda=kernel)
        if name in Op.registry:
            warnings.warn(
                f"Op({name!r}), {self.made_at}, replaces the op of this name that was made at"
                f" {Op.registry[name].made_at}",
                Notice,
                stacklevel=2,
            )
        Op.registry[name] = self

    def __repr__(self) -> str:
        return f"Op({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return registered, (Op, self.name)  # copies and other processes have this op, by its name

    def vjp(self, i: int) -> Callable[..., Tensor] | None:
        """Return the VJP of input `i`, or None if no gradient flows to it."""
        return partial(self.vjps, i) if callable(self.vjps) else self.vjps[i]

    def kernel(
        self,
        device: str,
        source: str | Path | Callable[..., object] | None = None,
        launch: Callable[..., object] | None = None,
    ) -> Any:
        """Give the op a kernel of your own for a device; use it as a function or a decorator.

            @softmax.kernel("cpu")                          # numba compiles it
            def fill(out, x): ...                           # writes the result to `out`

            @softmax.kernel("cuda", "softmax.cu")
            def launch(cuda, out, x):                       # softmax<<<rows, 128>>>(out, x, n)
                cuda.softmax[x.shape[0], 128](out, x, x.shape[1])

        Arrays arrive C-contiguous, and broadcast to one shape if the op `broadcasts`; `out` has the
        shape and dtype that the reference returns. Attributes are passed by name, floats in the
        dtype of the inputs. A numba function whose last parameters are `begin, end` fills
        out[begin:end]; several threads then share a large result. In a `.cu` file, REAL is the
        dtype of the inputs. `mg.check(op)` compares all of them with the reference.

        Args:
            device: "cpu" or "cuda"; the emulator runs the same kernel.
            source: for "cpu" the function; for "cuda" the path of the file, relative to the file
                of the caller, or its text.
            launch: for "cuda": `(cuda, out, *arrays, **attributes)` launches kernels of the file,
                each by `cuda.NAME[grid, block](...)` or `cuda.NAME[grid, block, shared_bytes](...)`
                as CUDA's NAME<<<grid, block, shared_bytes>>>(...). Integers are `long long`.

        Returns:
            The function, or a decorator if it is missing.

        Raises:
            FileNotFoundError: there is no such file.
        """
        choose("device", device, {"cpu": None, "cuda": None}, "cuda-emulator runs that of cuda")
        if device == "cpu":
            return self._add("cpu", NumbaKernel, source)
        if not isinstance(source, (str, Path)):
            raise TypeError(f"{self.name}: a kernel for cuda needs a .cu file, or its text")
        path = source_path(self.name, source, sys._getframe(1).f_globals.get("__file__"))
        return self._add("cuda", partial(CudaKernel, source=path), launch)

    def _add(self, device: str, make: Callable[..., OwnKernel], function: Any) -> Any:
        """Add a kernel of the function; without one, return a decorator that does."""
        if function is None:
            return partial(self._add, device, make)
        if not callable(function):
            raise TypeError(f"{self.name}: {type(function).__name__} is not a kernel function")
        self.kernels[device] = make(self, function)
        return function

    def __call__(self, *inputs: Any, **attributes: Any) -> Tensor:
        names = self.attribute_names
        if self.arity not in (None, len(inputs)) or names not in (None, attributes.keys()):
            self._refuse_call(inputs, attributes)
        device = self._common_device(inputs)
        if self.check is not None:
            self.check(*inputs, **attributes)
        elif self.broadcasts:
            check_broadcast(self.name, inputs)
        arrays = tuple(x.array if isinstance(x, Tensor) else _plain(self.name, x) for x in inputs)
        y = Tensor(device.run(self, arrays, attributes), device)
        recording = active_step()
        if recording is not None:
            recording.devices[device] = None
            for x in inputs:
                if isinstance(x, Tensor):
                    recording.used.add(id(x))
                    if x.op is None and x.requires_grad:
                        recording.add_tensor(x)
        if self.view:
            y.version_cell = inputs[0].version_cell
        if is_grad_enabled() and y.dtype.kind == "f":
            for i, x in enumerate(inputs):
                if isinstance(x, Tensor) and x.requires_grad and self.vjp(i) is not None:
                    y.record(self, inputs, attributes)
                    if recording is not None:
                        recording.add_graph(y, inputs)
                    break
        return y

    def _refuse_call(self, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> NoReturn:
        """Raise TypeError for a wrong number of inputs or wrong attributes."""
        accepted = [f"{name}=..." for name in sorted(self.attribute_names or ())]
        actual = [f"{name}=..." for name in sorted(attributes)]
        counts = ["any" if self.arity is None else self.arity, len(inputs)]
        raise TypeError(
            f"{self.name}: takes {', '.join([f'inputs: {counts[0]}', *accepted])}; not"
            f" {', '.join([f'inputs: {counts[1]}', *actual])}"
        )

    def _common_device(self, inputs: tuple[Any, ...]) -> Any:
        """Check the types, dtypes and devices of the inputs, and return their device."""
        first: Tensor | None = None
        shared: Any = None  # the dtype of the inputs of kinds f, x and n
        for i, x in enumerate(inputs):
            if not isinstance(x, Tensor):
                if not (self.accepts_numbers and isinstance(x, NUMBERS)):
                    accepted = "tensors and numbers" if self.accepts_numbers else "tensors"
                    raise TypeError(
                        f"{self.name}: argument {i} is {type_name(x)}; {accepted} are accepted"
                        f" (mg.tensor(values) makes a tensor{self._numbers_hint(x)})"
                    )
                continue
            if first is None:
                first = x
            elif x.device is not first.device:
                raise ValueError(
                    f"{self.name}: argument {i} is on device {x.device.name!r}, the first on"
                    f" {first.device.name!r}; move one with .to(device)"
                )
            kind = self.dtypes[i] if i < len(self.dtypes) else self.dtypes[-1]
            if kind not in "fxn":
                if x.dtype.kind != kind:
                    raise TypeError(f"{self.name}: argument {i} is {x.dtype}, not {KINDS[kind]}")
                continue
            if kind == "f" and x.dtype.kind != "f":
                raise TypeError(
                    f"{self.name}: argument {i} is {x.dtype}, not {KINDS[kind]}; convert it with"
                    " .to('float32')"
                )
            if shared is None:
                shared = x.dtype
            elif x.dtype != shared:
                raise TypeError(
                    f"{self.name}: argument {i} is {x.dtype}, the others {shared}; nothing is"
                    f" promoted: convert with .to({min(shared, x.dtype, key=_is_not_float).name!r})"
                )
        if first is None:
            raise TypeError(f"{self.name}: no argument is a tensor (mg.tensor(values) makes one)")
        if shared is not None and shared.kind != "f":
            self._check_numbers(shared, inputs)
        return first.device

    def _numbers_hint(self, x: Any) -> str:
        """Return how to make an op of your own accept numbers, for a message."""
        if isinstance(x, NUMBERS) and not self.accepts_numbers and self.name not in Op.library:
            return "; an op made with broadcasts=True or numbers=True accepts numbers"
        return ""

    def _check_numbers(self, dtype: np.dtype, inputs: tuple[Any, ...]) -> None:
        """Raise for a number that does not fit an integer or bool dtype, or for bools of kind n."""
        if any(isinstance(x, (float, np.floating)) for x in inputs):
            raise TypeError(
                f"{self.name}: a tensor of {dtype} does not mix with a float; convert it with"
                " .to('float32')"
            )
        for x in inputs:
            if not isinstance(x, Tensor) and not -(2**63) <= int(x) < 2**63:
                raise ValueError(f"{self.name}: the number {x} does not fit into int64")
        if dtype.kind == "b" and self.dtypes[-1] == "n" and not any(map(_is_integer, inputs)):
            raise TypeError(
                f"{self.name}: bool tensors are not accepted; convert with .to('int64')"
            )


def registered(kind: Any, name: str) -> Any:
    """Return the op or update (kind: Op or Update) of a name, for `pickle`; KeyError if none."""
    if name not in kind.registry:
        raise KeyError(
            f"no {kind.__name__} named {name!r} exists in this process; import the module that"
            " makes it first"
        )
    return kind.registry[name]


def _is_not_float(dtype: np.dtype) -> bool:
    return dtype.kind != "f"


def _is_integer(x: Any) -> bool:
    """Return whether x is an integer, with which a bool tensor is promoted to int64."""
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def _plain(name: str, x: Any) -> Any:
    """Return a numpy number as a Python one, which leaves the dtype of an array as it is.

    An integer outside int64 becomes a float; ValueError if it is outside float64, too.
    """
    if isinstance(x, np.generic):
        x = float(x) if isinstance(x, np.floating) else x.item()
    if isinstance(x, int) and not -(2**63) <= x < 2**63:
        try:
            return float(x)
        except OverflowError:
            raise ValueError(f"{name}: an integer of {x.bit_length()} bits is too large") from None
    return x


def require_floats(name: str, *values: Any) -> None:
    """Raise TypeError, with the function's name, unless all values are tensors of floats."""
    require_tensors(name, *values)
    for i, x in enumerate(values):
        if x.dtype.kind != "f":
            raise TypeError(
                f"{name}: argument {i} is {x.dtype}, not {KINDS['f']}; convert it with"
                " .to('float32')"
            )


def check_broadcast(name: str, inputs: tuple[Any, ...]) -> None:
    """Raise ValueError, with all shapes, unless the tensors broadcast against each other."""
    shapes = [x.shape for x in inputs if isinstance(x, Tensor)]
    if any(shape != shapes[0] for shape in shapes):
        try:
            np.broadcast_shapes(*shapes)
        except ValueError:
            listed = " and ".join(map(str, shapes))
            raise ValueError(f"{name}: shapes {listed} do not broadcast") from None
