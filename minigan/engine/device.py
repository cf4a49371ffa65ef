"""Devices, which hold the arrays of tensors and run ops, and the current device of a thread.

Only devices and kernels use numba and cupy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..kernels.runtime.arrays import overlaps_itself
from ..kernels.runtime.locks import wait_at_fork
from ..kernels.runtime.recording import active, run_launches
from ..utils.names import choose

if TYPE_CHECKING:
    from .op import Op
    from .recording import StepRecording
    from .update import Update


class Device:
    """The `reference` device, and the base of the others: numpy arrays, and each op's reference.

    An op needs `run` of a device and an update `update`. Other devices override what differs.
    """

    name = "reference"

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return a new array, contents undefined."""
        return np.empty(shape, dtype)

    def from_numpy(self, array: np.ndarray) -> Any:
        """Return a new, C-contiguous array of this device with these values."""
        return np.array(array, order="C")

    def to_numpy(self, array: Any) -> np.ndarray:
        """Return a copy of the values as a numpy array."""
        return np.array(array, order="C")

    def run(self, op: Op, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
        """Return op(*arrays, **attributes) as a new array, or as a view if the op is one.

        Numbers among the arrays are passed by value.
        """
        with np.errstate(all="ignore"):
            y = np.asarray(op.reference(*arrays, **attributes))
        recording = active()
        if recording is not None and not any(np.may_share_memory(x, y) for x in arrays):
            recording.add(partial(_run_again, op.reference, arrays, attributes, y))
        return y

    def update(self, update: Update, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        """Run an update, which changes some of the arrays in place."""
        with np.errstate(all="ignore"):
            update.reference(*arrays, **attributes)
        recording = active()
        if recording is not None:
            recording.add(partial(_run_again, update.reference, arrays, attributes))

    def can_write(self, array: Any) -> bool:
        """Return whether an update may change an array in place: each element has its own memory.

        Arrays that a device creates, and their views, can be changed. An array that a user assigns
        (`x.array = ...`) may be read-only or broadcast.
        """
        if array.flags.carray:  # C-contiguous, aligned and writable
            return True
        return array.flags.writeable and array.flags.aligned and not overlaps_itself(array)

    def copy(self, target: Any, source: Any) -> None:
        """Copy the values of an array of this device to another of the same shape and dtype."""
        target[...] = source

    def program(self, recording: StepRecording) -> Callable[[], None]:
        """Return a function that replays all launches of a recording in order."""
        return partial(run_launches, list(recording.launches))

    def on_compile(self, listener: Callable[[str], None] | None) -> None:
        """Call `listener(name)` whenever a kernel is about to be compiled; numpy compiles none."""

    def synchronize(self) -> None:
        """Wait until all launches are done; those of numpy are done when they return."""

    def __deepcopy__(self, known: dict[int, Any]) -> Self:
        return self  # There is one object per device, and ops compare devices by identity.

    def __reduce__(self) -> tuple[Any, ...]:
        return get_device, (self.name,)  # so that a tensor of another process is on this one's

    def __repr__(self) -> str:
        return f"Device({self.name!r})"


def _run_again(
    reference: Callable[..., Any],
    arrays: tuple[Any, ...],
    attributes: dict[str, Any],
    y: np.ndarray | None = None,
) -> None:
    """Run a reference in a replay; write the result of an op to the memory of the first run."""
    with np.errstate(all="ignore"):
        result = reference(*arrays, **attributes)
    if y is not None:
        y[...] = result


def _cpu() -> Device:
    from .cpu import CpuDevice

    return CpuDevice()


def _cuda() -> Device:
    from .cuda import gpu

    return gpu()


def _cuda_emulator() -> Device:
    from .cuda import emulator

    return emulator()


# Devices are made on first use, so that importing minigan does not import numba.
_constructors: dict[str, Callable[[], Device]] = {
    "reference": Device,
    "cpu": _cpu,
    "cuda": _cuda,
    "cuda-emulator": _cuda_emulator,
}
_devices: dict[str, Device] = {}
_lock = threading.RLock()  # held while a device is created, which imports numba
wait_at_fork(_lock)


def device_names() -> list[str]:
    """Return the names that `get_device` accepts."""
    return list(_constructors)


def get_device(device: str | Device) -> Device:
    """Return the device of that name, one object for each name.

    Raises:
        ValueError: the name is unknown.
    """
    if isinstance(device, Device):
        return device
    with _lock:
        if device not in _devices:
            _devices[device] = choose("device", device, _constructors)()
        return _devices[device]


# A context variable has a value of its own in each Python thread and asyncio task. The device is a
# name until its first use, which imports numba.
_current: ContextVar[str | Device] = ContextVar("device", default="cpu")


def current_device() -> Device:
    """Return the device of new tensors and random numbers in this thread or task (`cpu`)."""
    return get_device(_current.get())


class use_device:
    """Make a device the current one of this thread or task, from here on or for a `with` block.

    mg.use_device("cuda")
    with mg.use_device("reference"):
        x = mg.tensor([1.0])
    """

    def __init__(self, device: str | Device) -> None:
        self._before = _current.get()
        _current.set(get_device(device))

    def __enter__(self) -> Device:
        return current_device()

    def __exit__(self, *error: object) -> None:
        _current.set(self._before)
