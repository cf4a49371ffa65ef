"""The `cpu` device: numpy arrays, and the numba kernels of every room."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..kernels.runtime.cpu import compiler, replay
from ..kernels.runtime.cpu.thread_pool import threads
from .device import Device
from .op import Op, Update
from .recording import StepRecording

# Their numpy reference is BLAS, or a loop that takes minutes: they have a kernel or they fail.
NEVER_NUMPY = {"matmul", "dense", "conv2d", "conv2d_input_grad", "conv2d_weight_grad"}


class CpuDevice(Device):
    """Ops run their kernel; those without one for these dtypes run their numpy reference."""

    name = "cpu"

    def __init__(self) -> None:
        self.kernels: dict[str, Any] = {}
        self.floats_only: set[str] = set()
        for room in pkgutil.iter_modules(kernels.__path__, kernels.__name__ + "."):
            if room.ispkg and not room.name.endswith(".runtime"):
                module = importlib.import_module(room.name + ".cpu")
                table = getattr(module, "KERNELS", {})  # a metric's kernels are no op's
                self.kernels.update(table)
                if getattr(module, "FLOATS_ONLY", False):
                    self.floats_only.update(table)

    def on_compile(self, listener: Callable[[str], None] | None) -> None:
        """Call `listener(kernel name)` whenever a kernel is about to be compiled."""
        compiler.compile_listener = listener

    def run(self, op: Op, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> np.ndarray:
        kernel = self.kernels.get(op.name)
        if kernel is not None and (
            op.name not in self.floats_only or _floating(arrays, attributes)
        ):
            return kernel(*arrays, **attributes)
        if op.name in NEVER_NUMPY:
            raise NotImplementedError(f"the cpu device has no kernel for op {op.name!r}")
        return super().run(op, arrays, attributes)

    def update(self, update: Update, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        kernel = self.kernels.get(update.name)
        if kernel is None:
            super().update(update, arrays, attributes)
        else:
            kernel(*arrays, **attributes)

    def program(self, recording: StepRecording) -> Callable[[], None]:
        """Neighbouring launches of kernels are called from one compiled loop."""
        count = threads()
        recording.conditions.append(lambda: threads() == count)
        recording.launches[:] = replay.program(recording.launches)
        return super().program(recording)

    def where(self, name: str) -> str:
        """What an op or update of that name runs on, in words."""
        if name not in self.kernels:
            return "numpy"
        return "numba; integers numpy" if name in self.floats_only else "numba"


def _floating(arrays: tuple[Any, ...], attributes: dict[str, Any]) -> bool:
    """True where a float array goes in or comes out: what kernels are written for."""
    for x in arrays:
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            return True
    dtype = attributes.get("dtype")
    return dtype is not None and np.dtype(dtype).kind == "f"
