"""The `cuda` device, and `cuda-emulator`, its twin for machines without a GPU: the same kernels."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import kernels
from ..kernels.runtime.cuda.launcher import Launcher
from .device import Device
from .op import Op, Update
from .recording import StepRecording


class CudaDevice(Device):
    """Ops run the CUDA kernels of every room, through a launcher; nothing falls back to numpy."""

    def __init__(self, name: str, launcher: Launcher) -> None:
        self.name, self.launcher = name, launcher
        self.kernels: dict[str, Callable[..., Any]] = {}
        for room in pkgutil.iter_modules(kernels.__path__, kernels.__name__ + "."):
            module = room.name + ".cuda"
            if (
                room.ispkg
                and not room.name.endswith(".runtime")
                and importlib.util.find_spec(module)
            ):
                self.kernels.update(importlib.import_module(module).KERNELS)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.launcher.empty(shape, np.dtype(dtype))

    def from_numpy(self, array: np.ndarray) -> Any:
        return self.launcher.from_numpy(array)

    def to_numpy(self, array: Any) -> np.ndarray:
        return self.launcher.to_numpy(array)

    def on_compile(self, listener: Callable[[str], None] | None) -> None:
        """Call `listener(file)` whenever a source file is about to be compiled."""
        self.launcher.compile_listener = listener

    def synchronize(self) -> None:
        self.launcher.synchronize()

    def run(self, op: Op, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
        return self._kernel(op.name)(self.launcher, *arrays, **attributes)

    def update(self, update: Update, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        self._kernel(update.name)(self.launcher, *arrays, **attributes)

    def _kernel(self, name: str) -> Callable[..., Any]:
        try:
            return self.kernels[name]
        except KeyError:
            raise NotImplementedError(
                f"the {self.name} device has no kernel for {name!r}; `minigan info` lists what it"
                " has, and .to('cpu') takes a tensor to where its reference runs"
            ) from None

    def copy(self, target: Any, source: Any) -> None:
        self.kernels["assign"](self.launcher, target, source)

    def program(self, recording: StepRecording) -> Callable[[], None]:
        return self.launcher.program(list(recording.launches))

    def where(self, name: str) -> str:
        """What an op or update of that name runs on, in words."""
        return "CUDA" if name in self.kernels else "-"


def emulator() -> CudaDevice:
    """The `cuda-emulator` device; with MINIGAN_EMULATOR=checked one that finds mistakes."""
    from ..kernels.runtime.emulator.compiler import BUILDS
    from ..kernels.runtime.emulator.emulator import Emulator
    from ..utils.names import choose

    build = os.environ.get("MINIGAN_EMULATOR", "fast")
    choose("MINIGAN_EMULATOR", build, BUILDS)
    return CudaDevice("cuda-emulator", Emulator(checked=build == "checked"))


def gpu() -> CudaDevice:
    """The `cuda` device; KernelError, which says what to do, where there is none."""
    from ..kernels.runtime.cuda.gpu import Gpu

    return CudaDevice("cuda", Gpu())
