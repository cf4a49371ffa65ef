"""The devices `cuda` and `cuda-emulator`, which run the same kernels on a GPU and on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.runtime.cuda.launcher import Launcher
from .device import Device
from .kernel_families import family_modules
from .op import Op
from .own_kernels import own_kernel
from .recording import StepRecording
from .update import Update


class CudaDevice(Device):
    """A device that runs the CUDA kernels of every kernel family through a launcher.

    The launcher is that of a GPU or of the emulator. There is no fallback to numpy: an op or update
    without a kernel raises NotImplementedError.
    """

    def __init__(self, name: str, launcher: Launcher) -> None:
        self.name, self.launcher = name, launcher
        self.kernels: dict[str, Callable[..., Any]] = {}
        for module in family_modules("cuda"):
            self.kernels.update(module.KERNELS)

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
        own = own_kernel(op, "cuda")
        if own is not None:
            return own.run_on_cuda(self.launcher, arrays, attributes)
        return self._kernel(op.name)(self.launcher, *arrays, **attributes)

    def update(self, update: Update, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        self._kernel(update.name)(self.launcher, *arrays, **attributes)

    def _kernel(self, name: str) -> Callable[..., Any]:
        try:
            return self.kernels[name]
        except KeyError:
            raise NotImplementedError(
                f"the {self.name} device has no kernel for {name!r}; `minigan info` lists those it"
                " has, op.kernel('cuda', FILE) gives an op one, and .to('cpu') moves a tensor to a"
                " device that runs the numpy reference"
            ) from None

    def can_write(self, array: Any) -> bool:
        """Return whether an update may change an array in place."""
        return super().can_write(array) if isinstance(array, np.ndarray) else True

    def copy(self, target: Any, source: Any) -> None:
        self.kernels["assign"](self.launcher, target, source)

    def program(self, recording: StepRecording) -> Callable[[], None]:
        return self.launcher.program(list(recording.launches))

    def kernel_kind(self, name: str) -> str:
        """Return the kind of kernel that runs an op or update, for `minigan info`."""
        return "CUDA" if name in self.kernels else "-"


def emulator() -> CudaDevice:
    """Return the `cuda-emulator` device; MINIGAN_EMULATOR=checked makes it check each access.

    Emulator() reads MINIGAN_EMULATOR_BLOCK_ORDER and MINIGAN_EMULATOR_HANG_SECONDS.
    """
    from ..kernels.runtime.emulator.compiler import BUILDS
    from ..kernels.runtime.emulator.emulator import Emulator
    from ..utils.names import choose

    build = os.environ.get("MINIGAN_EMULATOR", "fast")
    choose("MINIGAN_EMULATOR", build, BUILDS)
    checked, debug = build == "checked", build == "debug"
    return CudaDevice("cuda-emulator", Emulator(checked=checked, debug=debug))


def gpu() -> CudaDevice:
    """Return the `cuda` device; KernelError, with instructions, if there is no GPU."""
    from ..kernels.runtime.cuda.gpu import Gpu

    return CudaDevice("cuda", Gpu())
