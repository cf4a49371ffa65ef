"""Helpers that several test folders use: ops by kind, arrays in any layout, threads and spies."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest
from emulator_helpers import EMULATOR, GPU

import minigan as mg
from minigan.engine.device import get_device
from minigan.engine.kernel_families import family_modules
from minigan.engine.op import Op
from minigan.kernels.runtime.cpu import thread_pool

ALL_OPS = pytest.mark.parametrize("name", sorted(Op.registry))
DEVICES = pytest.mark.parametrize("device", ["reference", "cpu", EMULATOR, GPU])
# The devices that have kernels: all but the reference.
KERNEL_DEVICES = pytest.mark.parametrize("device", ["cpu", EMULATOR, GPU])
FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])


def cpu_modules() -> list[ModuleType]:
    """Return the `cpu` module of every kernel family."""
    return list(family_modules("cpu"))


def samples(op: Op) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Yield (functions that draw arrays and plain numbers, attributes) of each sample."""
    for sample in op.samples:
        attributes = sample[-1] if isinstance(sample[-1], dict) else {}
        yield sample[: len(sample) - bool(attributes)], attributes


def draw(inputs: tuple[Any, ...], rng: np.random.Generator, dtype: Any = None) -> list[Any]:
    """Draw the arrays of a sample, floating ones in `dtype`; numbers stay as they are."""
    arrays = [np.asarray(x(rng)) if callable(x) else x for x in inputs]
    if dtype is None:
        return arrays
    return [x.astype(dtype) if _is_floating(x) else x for x in arrays]


def _is_floating(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def broadcasting_sample(op: Op) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the first sample of an elementwise op without plain numbers; None for other ops."""
    if not op.broadcasts or op.needs_kernel:
        return None
    return next((s for s in samples(op) if all(callable(x) and x.smooth for x in s[0])), None)


ELEMENTWISE = [name for name, op in sorted(Op.registry.items()) if broadcasting_sample(op)]


def leaf(*values: float, device: str = "reference", dtype: str = "float64") -> mg.Tensor:
    """Return a vector that requires gradients."""
    return mg.tensor(list(values), dtype=dtype, device=device, requires_grad=True)


def values(*tensors: mg.Tensor | None) -> list[list[float]]:
    """Return the tensors as lists, without those that are None."""
    return [x.numpy().tolist() for x in tensors if x is not None]


# ------------------------------------------------------------------------- layouts of memory
def _strided(x: np.ndarray) -> np.ndarray:
    """Return a view of stride 2 along the last axis, with x's values."""
    base = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)
    base[..., 1::2] = x
    return base[..., 1::2]


# Each returns an array with the same values, in new memory, with these strides.
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda x: np.array(x, order="C"),
    "transposed": lambda x: np.array(x.T, order="C").T,
    "reversed": lambda x: np.flip(np.array(np.flip(x), order="C")) if x.ndim else x,
    "strided": lambda x: _strided(x) if x.ndim else x,
}


def run(device: str, op: Op, arrays: Iterable[Any], attributes: dict[str, Any]) -> np.ndarray:
    """Return op(*arrays) of a device, for arrays with the strides that they have in numpy."""
    target = get_device(device)
    return target.to_numpy(target.run(op, tuple(place(device, x) for x in arrays), attributes))


def place(device: str, x: Any) -> Any:
    """Return x, an array with any strides or a number, in the device's memory, strides kept."""
    if device != "cuda" or not isinstance(x, np.ndarray):
        return x
    if not x.size:
        return get_device("cuda").from_numpy(x)
    low, high = np.lib.array_utils.byte_bounds(x)
    shift = low % 256  # An array that is not aligned here is not aligned on the GPU.
    content = np.zeros(shift + high - low, np.uint8)
    content[shift:] = np.frombuffer((ctypes.c_uint8 * (high - low)).from_address(low), np.uint8)
    cupy = get_device("cuda").launcher.cupy  # type: ignore[attr-defined]
    memory = get_device("cuda").from_numpy(content)
    offset = shift + x.__array_interface__["data"][0] - low
    return cupy.ndarray(x.shape, x.dtype, memory.data + offset, x.strides)


# ------------------------------------------------------------------------- threads and spies
@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Within: parallel kernels may use so many. The test is skipped where numba has fewer."""
    if count > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"NUMBA_NUM_THREADS = {numba.config.NUMBA_NUM_THREADS}")
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def spy_parallel(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the name of each multithreaded kernel is added from here on."""
    calls: list[str] = []
    launch = thread_pool.launch

    def spy(kernel: Any, arguments: tuple[Any, ...], size: int, parts: int) -> None:
        assert parts > 1
        calls.append(kernel.__name__)
        launch(kernel, arguments, size, parts)

    monkeypatch.setattr(thread_pool, "launch", spy)
    return calls


# -------------------------------------------------------------------------------- comparisons
def poison(shape: tuple[int, ...], dtype: object) -> np.ndarray:
    """Return memory full of bytes 0xFF, so that an element never written shows.

    They are NaN as floats, -1 as integers, and no valid bool.
    """
    y = np.empty(shape, dtype)  # type: ignore[call-overload]
    y.reshape(-1).view(np.uint8)[...] = 0xFF
    return y


def assert_close(y: Any, expected: Any, bound: float, what: str = "") -> None:
    """Assert max |y - expected| <= bound, and NaN and infinity at the same positions."""
    y, expected = np.asarray(y), np.asarray(expected)
    assert y.shape == expected.shape, f"{what}: shape {y.shape}, not {expected.shape}"
    if expected.dtype.kind != "f":
        assert np.array_equal(y, expected), f"{what}: {y} is not {expected}"
        return
    finite = np.isfinite(expected)
    assert np.array_equal(y[~finite], expected[~finite].astype(y.dtype), equal_nan=True), what
    error = np.abs(y[finite].astype(np.float64) - expected[finite]).max(initial=0.0)
    assert error <= bound, f"{what}: error {error:.3g} is above {bound:.3g}"
