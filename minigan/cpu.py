"""The `cpu` device: numpy arrays, and the numba kernels of every room."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy as np

from . import kernels
from .device import Device
from .op import Op, Update

# Their numpy meaning is BLAS: they have a kernel or they fail.
NEVER_NUMPY = {"matmul", "dense"}


class CpuDevice(Device):
    """Ops run their kernel; those on integers, and those without one, their numpy meaning."""

    name = "cpu"

    def __init__(self) -> None:
        self.kernels: dict[str, Any] = {}
        for room in pkgutil.iter_modules(kernels.__path__, kernels.__name__ + "."):
            if room.ispkg and not room.name.endswith(".runtime"):
                self.kernels.update(importlib.import_module(room.name + ".cpu").KERNELS)

    def run(self, op: Op, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> np.ndarray:
        kernel = self.kernels.get(op.name)
        if kernel is not None and (op.view or _floating(arrays, attributes)):
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


def _floating(arrays: tuple[Any, ...], attributes: dict[str, Any]) -> bool:
    """True where a float array goes in or comes out: what kernels are written for."""
    for x in arrays:
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            return True
    dtype = attributes.get("dtype")
    return dtype is not None and np.dtype(dtype).kind == "f"
