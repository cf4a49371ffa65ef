"""Check an op: its kernels against its numpy reference, and its VJPs against finite differences.

Each kernel runs on the op's samples and on the same samples with other sizes, in float32 and
float64, from views with other strides, with a NaN and infinities among the inputs, and in a
captured step. The emulator checks each memory access of a CUDA kernel, numba each index of a CPU
kernel. A result begins as NaN, so that an element that is never written shows.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from ..utils.notices import Notice
from .capture import capture
from .check import CheckError, check_gradients, op_samples, require_dtype, require_samples
from .check_cases import LAYOUTS, Case, cases_of, cast
from .device import Device, get_device
from .op import Op
from .own_kernels import NumbaKernel
from .tensor import Tensor

FLOATS = ("float32", "float64")
SPECIAL = (np.nan, np.inf, -np.inf)
# The error that a kernel may have: REFERENCE_ERRORS times that of numpy's reference in the same
# dtype, plus some roundings of the largest element: ROUNDINGS, and for long sums the square root of
# the number of inputs.
REFERENCE_ERRORS, ROUNDINGS = 4, 16


@dataclass(frozen=True)
class Report:
    """The result of `check` for an op that passes; its text says what was checked, and where."""

    op: str
    samples: int
    sizes: int  # the number of samples of other sizes
    refused: int  # those of other sizes that the op or its reference refused
    devices: tuple[str, ...]  # whose kernels were checked
    order: int  # of the derivatives; 0 if the op has none

    def __repr__(self) -> str:
        gradients = f"gradients up to order {self.order}" if self.order else "no gradient"
        refused = f" ({self.refused} refused)" if self.refused else ""
        where = f"kernels on {', '.join(self.devices)}" if self.devices else "no kernel"
        return (
            f"{self.op} passes: {self.samples} sample{'s' * (self.samples > 1)} and {self.sizes}"
            f" other sizes{refused}; {where}; {gradients}"
        )


# ------------------------------------------------------------------------------------ the check
def check(op: Op, devices: Sequence[str] | None = None, *, order: int = 2, seed: int = 0) -> Report:
    """Check the kernels of an op against its reference, and its VJPs against finite differences.

        mg.check(softmax)

    Args:
        op: an op with samples.
        devices: the devices whose kernels are checked; None: `cpu` and `cuda-emulator`, as far as
            the op has a kernel there. The emulator's is its checked build.
        order: the highest order of the derivatives.
        seed: of the samples.

    Raises:
        TypeError: this is no op.
        CheckError: a result has a wrong value, dtype or shape, differs in a captured step, or
            depends on strides; a kernel accesses memory that it may not, or has a race; a VJP is
            wrong (GradientError). The message names the device, the shapes, and the kernel's line.
    """
    if not isinstance(op, Op):
        raise TypeError(f"check takes an mg.Op, not {type(op).__name__}")
    require_samples(op)
    names = _devices(op) if devices is None else list(devices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of means of nothing
        cases, refused = cases_of(op)
        _check_kernels(op, names, cases, seed)
        has_gradient = _check_vjps(op, order, seed)
    count = len(op.samples)
    return Report(op.name, count, len(cases) - count, refused, tuple(names), order * has_gradient)


def _check_kernels(op: Op, names: Sequence[str], cases: Sequence[Case], seed: int) -> None:
    """Check the kernels of the devices of these names; the samples are the first of the cases."""
    for name in names:
        device = _checked_emulator() if name == "cuda-emulator" else get_device(name)
        for number, case in enumerate(cases):
            is_sample = number < len(op.samples)
            for dtype in FLOATS:
                for layout in LAYOUTS if is_sample else ("contiguous",):
                    _check_values(op, device, case, dtype, layout, seed)
                if is_sample:
                    _check_special(op, device, case, dtype, seed)
            if is_sample:
                _check_capture(op, device, case, seed)


def _check_vjps(op: Op, order: int, seed: int) -> bool:
    """Check the VJPs on the reference device; return whether there was one to check."""
    has_gradient = False
    for f, arrays, smooth in op_samples(op, seed):
        y = f(*(Tensor(x, get_device("reference")) for x in arrays))
        if smooth and y.dtype.kind == "f" and any(op.vjp(i) for i in range(len(arrays))):
            check_gradients(f, arrays, order=order, name=op.name, seed=seed)
            has_gradient = True
    return has_gradient


def _devices(op: Op) -> list[str]:
    """Return the names of the devices that have a kernel of the op and can run here."""
    from ..kernels.runtime.cuda.launcher import KernelError
    from ..kernels.runtime.emulator.compiler import find_compiler

    names = []
    for name, kind in (("cpu", "cpu"), ("cuda-emulator", "cuda")):
        kernels: Any = get_device(name)
        if kind not in op.kernels and op.name not in kernels.kernels:
            continue
        try:
            if kind == "cuda":
                find_compiler()
            names.append(name)
        except KernelError as error:
            warnings.warn(f"{op.name}: the cuda kernel is not checked: {error}", Notice, 3)
    return names


@cache
def _checked_emulator() -> Device:
    """Return a device that runs CUDA kernels in the checked emulator; results begin as NaN."""
    from ..kernels.runtime.emulator.emulator import Emulator
    from .cuda import CudaDevice

    class PoisonedEmulator(Emulator):
        def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
            return poison(super().empty(shape, dtype))

    return CudaDevice("cuda-emulator", PoisonedEmulator(checked=True))


def poison(x: np.ndarray) -> np.ndarray:
    """Fill an array with bytes 0xFF: NaN as floats, -1 as integers, no valid bool; return it."""
    x.reshape(-1).view(np.uint8)[...] = 0xFF
    return x


# -------------------------------------------------------------------------------------- results
def _check_values(op: Op, device: Device, case: Case, dtype: str, layout: str, seed: int) -> None:
    """Compare the kernel's result with the reference's; the inputs must stay as they were."""
    arrays = case.draw(dtype, seed)
    what = _what(op, device, arrays, dtype, "" if layout == "contiguous" else f", {layout}")
    _compare(op, device, arrays, case.attributes, dtype, what, layout)


def _check_special(op: Op, device: Device, case: Case, dtype: str, seed: int) -> None:
    """Compare the results where one element of an input is NaN or infinite."""
    arrays = case.draw(dtype, seed)
    for (i, x), value in product(enumerate(arrays), SPECIAL):
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.size:
            changed = x.copy()
            changed.reshape(-1)[x.size // 2] = value
            others = [changed if k == i else y for k, y in enumerate(arrays)]
            what = _what(op, device, arrays, dtype, f", {value} in input {i}")
            _compare(op, device, others, case.attributes, dtype, what)


def _what(op: Op, device: Device, arrays: Sequence[Any], dtype: str, more: str) -> str:
    shapes = ", ".join(str(getattr(x, "shape", x)) for x in arrays)
    return f"{op.name} on {device.name}, {dtype}, inputs {shapes}{more}"


def _compare(
    op: Op,
    device: Device,
    arrays: list[Any],
    attributes: dict[str, Any],
    dtype: str,
    what: str,
    layout: str = "contiguous",
) -> None:
    """Run the op on a device; raise CheckError unless the result is the reference's."""
    with np.errstate(all="ignore"):
        own = np.asarray(op.reference(*arrays, **attributes))
        expected = np.asarray(op.reference(*(cast(x, "float64") for x in arrays), **attributes))
        rough = np.asarray(op.reference(*(cast(x, "float32") for x in arrays), **attributes))
    require_dtype(own.dtype, arrays, attributes, f"{what}: the reference's result")
    kernel = op.kernels.get("cpu")
    if device.name == "cpu" and isinstance(kernel, NumbaKernel) and layout == "contiguous":
        _check_indices(kernel, arrays, attributes, what)
    inputs = [_place(device, x, layout) for x in arrays]
    before = [device.to_numpy(x.array).tobytes() for x in inputs if isinstance(x, Tensor)]
    y = _run(op, inputs, attributes, what).numpy()
    after = [device.to_numpy(x.array).tobytes() for x in inputs if isinstance(x, Tensor)]
    if before != after:
        raise CheckError(f"{what}: the kernel has changed its inputs")
    if (y.shape, y.dtype) != (own.shape, own.dtype):
        raise CheckError(
            f"{what}: the result is {y.dtype}{y.shape}, the reference's {own.dtype}{own.shape}"
        )
    require_close(y, expected, rough, max((np.size(x) for x in arrays), default=1), what)


def _place(device: Device, x: Any, layout: str) -> Any:
    return Tensor(LAYOUTS[layout](device, x), device) if isinstance(x, np.ndarray) else x


def _run(op: Op, inputs: Sequence[Any], attributes: dict[str, Any], what: str) -> Tensor:
    """Return the op's result; CheckError where its kernel fails."""
    from ..kernels.runtime.cuda.launcher import KernelError

    try:
        return op(*inputs, **attributes)
    except KernelError as error:
        raise CheckError(f"{what}: {error}") from None
    except Exception as error:  # whatever the kernel, or its launch, raises
        raise CheckError(f"{what}: {error}") from error


def require_close(
    y: np.ndarray, expected: np.ndarray, rough: np.ndarray, inputs: int, what: str
) -> None:
    """Raise CheckError unless y is `expected`, computed in float64, but for rounding errors.

    `rough` is the same in float32: its error measures how far rounding moves the result.
    """
    if expected.dtype.kind != "f":
        wrong = y != expected
    else:
        eps = {kind: float(np.finfo(kind).eps) for kind in (y.dtype, rough.dtype)}
        finite = np.isfinite(expected)
        with np.errstate(all="ignore"):
            far = np.abs(np.where(finite & np.isfinite(rough), rough - expected, 0)).max(initial=0)
            far *= eps[y.dtype] / eps[rough.dtype]
            largest = np.abs(expected[finite]).max(initial=0)
            roundings = ROUNDINGS + np.sqrt(inputs)
            bound = REFERENCE_ERRORS * far + roundings * eps[y.dtype] * largest
            same = np.equal(y, expected.astype(y.dtype)) | (np.isnan(y) & np.isnan(expected))
            wrong = ~np.where(finite, np.abs(y - expected) <= bound, same)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        count = f"{np.count_nonzero(wrong)} of {y.size} elements are wrong"
        raise CheckError(
            f"{what}: {count}; element {first} is {y[first]!s}, by the reference"
            f" {expected[first]!s}"
        )


# ------------------------------------------------------------------------------ indices, capture
def _check_indices(
    kernel: NumbaKernel, arrays: list[Any], attributes: dict[str, Any], what: str
) -> None:
    """Run a numba kernel with a check of each index; then divided, where it has begin and end."""
    arguments = kernel.arguments(tuple(arrays), attributes)
    out = poison(arguments[0])
    ends = [0, len(out)] if kernel.is_divided else []
    try:
        kernel.compiled(arguments, checked=True)(*arguments, *ends)
    except IndexError as error:
        place = _place_of_error(kernel, arguments, ends)
        raise CheckError(f"{what}: the kernel {place or f'{kernel.place}: {error}'}") from None
    if kernel.is_divided and len(out) > 1:
        middle, whole = len(out) // 2, out.copy()
        poison(out)
        for begin, end in ((middle, len(out)), (0, middle)):
            kernel.compiled(arguments)(*arguments, begin, end)
        kernel.compiled(arguments)(poison(whole), *arguments[1:], 0, len(out))
        if whole.tobytes() != out.tobytes():
            raise CheckError(
                f"{what}: the kernel {kernel.place} gives another result in two parts, rows 0 to"
                f" {middle} and the rest, than in one"
            )


def _place_of_error(kernel: NumbaKernel, arguments: list[Any], ends: list[int]) -> str:
    """Run the kernel in Python; return the line of its IndexError and its variables, or ""."""
    try:
        kernel.function(*arguments, *ends)
    except IndexError as error:
        frame = error.__traceback__
        while frame is not None and frame.tb_frame.f_code is not kernel.function.__code__:
            frame = frame.tb_next
        if frame is not None:
            items = frame.tb_frame.f_locals.items()
            values = [f"{k} = {x}" for k, x in items if isinstance(x, (int, np.integer))]
            return f"{kernel.place_at(frame.tb_lineno)}: {error}, at {', '.join(values)}"
    except Exception:  # what only numba can run
        pass
    return ""


def _check_capture(op: Op, device: Device, case: Case, seed: int) -> None:
    """Compare the bits of a replay with those of a run."""
    first, second = (case.draw("float32", seed + k) for k in range(2))
    what = _what(op, device, second, "float32", "")
    step = capture(lambda *xs: _run(op, xs, case.attributes, what))
    step(*(_place(device, x, "contiguous") for x in first))
    inputs = [_place(device, x, "contiguous") for x in second]
    replayed = step(*inputs).numpy()
    if replayed.tobytes() != _run(op, inputs, case.attributes, what).numpy().tobytes():
        raise CheckError(f"{what}: a replay of a captured step differs from a run")
