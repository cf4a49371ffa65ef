"""What several tests of the engine need: ops by kind, arrays in any layout, and spies."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest
from emulator_helpers import EMULATOR, GPU

import minigan as mg
from minigan import kernels
from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.kernels.runtime.cpu import thread_pool as pool

ALL_OPS = pytest.mark.parametrize("name", sorted(Op.registry))
DEVICES = pytest.mark.parametrize("device", ["reference", "cpu", EMULATOR, GPU])
# Those with kernels of their own, beside the reference.
KERNEL_DEVICES = pytest.mark.parametrize("device", ["cpu", EMULATOR, GPU])
FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])


def rooms() -> list[ModuleType]:
    """The `cpu` module of every kernel room."""
    found = pkgutil.iter_modules(kernels.__path__, kernels.__name__ + ".")
    return [
        importlib.import_module(room.name + ".cpu")
        for room in found
        if room.ispkg and not room.name.endswith(".runtime")
    ]


def samples(op: Op) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """(makers and numbers, attributes) of each sample."""
    for sample in op.samples:
        attributes = sample[-1] if isinstance(sample[-1], dict) else {}
        yield sample[: len(sample) - bool(attributes)], attributes


def draw(inputs: tuple[Any, ...], rng: np.random.Generator, dtype: Any = None) -> list[Any]:
    """Makers' arrays, floating ones in `dtype`; numbers as they are."""
    drawn = [np.asarray(x(rng)) if callable(x) else x for x in inputs]
    if dtype is None:
        return drawn
    return [x.astype(dtype) if _floating(x) else x for x in drawn]


def _floating(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def broadcasting_sample(op: Op) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The first sample of an elementwise op that holds no numbers; None for other ops."""
    if not op.broadcasts or op.check is not None:
        return None
    return next((s for s in samples(op) if all(callable(x) and x.smooth for x in s[0])), None)


ELEMENTWISE = [name for name, op in sorted(Op.registry.items()) if broadcasting_sample(op)]


def leaf(*values: float, device: str = "reference", dtype: str = "float64") -> mg.Tensor:
    return mg.tensor(list(values), dtype=dtype, device=device, requires_grad=True)


def values(*tensors: mg.Tensor | None) -> list[list[float]]:
    return [x.numpy().tolist() for x in tensors if x is not None]


# ------------------------------------------------------------------------- layouts of memory
def _strided(x: np.ndarray) -> np.ndarray:
    """Every second element of the last axis of a larger array, but for the first."""
    base = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)
    base[..., 1::2] = x
    return base[..., 1::2]


# Each gives an array of the same values that is a view of fresh memory.
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda x: np.array(x, order="C"),
    "transposed": lambda x: np.array(x.T, order="C").T,
    "reversed": lambda x: np.flip(np.array(np.flip(x), order="C")) if x.ndim else x,
    "strided": lambda x: _strided(x) if x.ndim else x,
}


def run(device: str, op: Op, arrays: Iterable[Any], attributes: dict[str, Any]) -> np.ndarray:
    """op(*arrays) on a device, of arrays that lie there as they lie in numpy's memory."""
    target = get_device(device)
    return target.to_numpy(target.run(op, tuple(place(device, x) for x in arrays), attributes))


def place(device: str, x: Any) -> Any:
    """x, a numpy array with any strides, or a number, in a GPU's memory with the same strides."""
    if device != "cuda" or not isinstance(x, np.ndarray):
        return x
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    base = base if base.flags.c_contiguous else np.array(x)
    view = x if base.size and np.may_share_memory(x, base) else base
    cupy = get_device("cuda").launcher.cupy  # type: ignore[attr-defined]
    there = get_device("cuda").from_numpy(base)
    offset = view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return cupy.ndarray(view.shape, view.dtype, there.data + offset, view.strides)


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
    """The names of the kernels that threads share from here on."""
    calls: list[str] = []
    launch = pool.launch

    def spied(kernel: Any, arguments: tuple[Any, ...], size: int, parts: int) -> None:
        assert parts > 1
        calls.append(kernel.__name__)
        launch(kernel, arguments, size, parts)

    monkeypatch.setattr(pool, "launch", spied)
    return calls


# -------------------------------------------------------------------------------- comparisons
def assert_close(given: Any, wanted: Any, bound: float, what: str = "") -> None:
    """max |given - wanted| <= bound; a NaN or inf in either fails unless in the same place."""
    given, wanted = np.asarray(given), np.asarray(wanted)
    assert given.shape == wanted.shape, f"{what}: shape {given.shape}, not {wanted.shape}"
    if wanted.dtype.kind != "f":
        assert np.array_equal(given, wanted), f"{what}: {given} is not {wanted}"
        return
    finite = np.isfinite(wanted)
    assert np.array_equal(given[~finite], wanted[~finite].astype(given.dtype), equal_nan=True), what
    error = np.abs(given[finite].astype(np.float64) - wanted[finite]).max(initial=0.0)
    assert error <= bound, f"{what}: error {error:.3g} is above {bound:.3g}"
