"""The `cpu` device: numpy arrays, and the numba kernels of every kernel family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ..kernels.runtime import host_memory
from ..kernels.runtime.arrays import memory_of
from ..kernels.runtime.cpu import compiler, replay
from ..kernels.runtime.cpu.thread_pool import threads
from .device import Device
from .kernel_families import family_modules
from .op import Op
from .own_kernels import own_kernel
from .recording import StepRecording
from .update import Update


class CpuDevice(Device):
    """A device that runs numba kernels, and the numpy reference of an op or update that has none.

    A family whose module sets `FLOATS_ONLY = True` has kernels for floating arrays only; its ops
    run their reference for integers and bools. An op with `needs_kernel` never runs its reference.
    """

    name = "cpu"

    def __init__(self) -> None:
        settings: Any = numba.config  # numba sets its attributes at run time.
        if settings.DISABLE_JIT:
            raise RuntimeError(
                "the device cpu compiles its kernels with numba, but NUMBA_DISABLE_JIT is set;"
                " unset it, or use the device reference"
            )
        self.kernels: dict[str, Any] = {}
        self.floats_only: set[str] = set()
        for module in family_modules("cpu"):
            kernels = getattr(module, "KERNELS", {})  # A family for a metric has no ops.
            self.kernels.update(kernels)
            if getattr(module, "FLOATS_ONLY", False):
                self.floats_only.update(kernels)

    def on_compile(self, listener: Callable[[str], None] | None) -> None:
        """Call `listener(kernel name)` whenever a kernel is about to be compiled."""
        compiler.compile_listener = listener

    def from_numpy(self, array: np.ndarray) -> np.ndarray:
        copy = host_memory.empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def run(self, op: Op, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> np.ndarray:
        own = own_kernel(op, "cpu")
        if own is not None:
            return own.run_on_cpu(arrays, attributes)
        kernel = self.kernels.get(op.name)
        if kernel is not None and (
            op.name not in self.floats_only or _has_floats(arrays, attributes)
        ):
            return kernel(*arrays, **attributes)
        if op.needs_kernel:
            raise NotImplementedError(f"the cpu device has no kernel for op {op.name!r}")
        return super().run(op, arrays, attributes)

    def can_write(self, array: np.ndarray) -> bool:
        """Return whether an update may change an array in place; kernels need flat memory."""
        if array.flags.carray:
            return True
        return super().can_write(array) and memory_of(array) is not None

    def update(self, update: Update, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        kernel = self.kernels.get(update.name)
        if kernel is None:
            super().update(update, arrays, attributes)
        else:
            kernel(*arrays, **attributes)

    def program(self, recording: StepRecording) -> Callable[[], None]:
        """Return a function that replays the launches, successive kernels in one compiled loop.

        The split of the work depends on the number of threads, so the replay is valid only while
        that number is the same.
        """
        count = threads()
        recording.conditions.append(lambda: threads() == count)
        recording.launches[:] = replay.program(recording.launches)
        return super().program(recording)

    def kernel_kind(self, name: str) -> str:
        """Return the kind of kernel that runs an op or update, for `minigan info`."""
        if name not in self.kernels:
            return "numpy"
        return "numba; integers numpy" if name in self.floats_only else "numba"


def _has_floats(arrays: tuple[Any, ...], attributes: dict[str, Any]) -> bool:
    """Return whether an input array is floating, or the dtype that the op is to return."""
    for x in arrays:
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            return True
    dtype = attributes.get("dtype")
    return dtype is not None and np.dtype(dtype).kind == "f"
