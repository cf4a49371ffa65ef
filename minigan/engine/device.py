"""A device holds arrays and runs ops on them. Nothing above it names numba or cupy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..kernels.runtime.recording import active, in_turn
from ..utils.names import choose

if TYPE_CHECKING:
    from .op import Op, Update
    from .recording import StepRecording


class Device:
    """Where tensors live. This class is the `reference` device: numpy, and the ops' own reference.

    Another device overrides what differs; `run` and `update` are all that an op or update needs.
    """

    name = "reference"

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array of undefined contents."""
        return np.empty(shape, dtype)

    def from_numpy(self, array: np.ndarray) -> Any:
        """A new, C-contiguous array of this device with these values."""
        return np.array(array, order="C")

    def to_numpy(self, array: Any) -> np.ndarray:
        """A copy of the values as a numpy array."""
        return np.array(array, order="C")

    def run(self, op: Op, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
        """The new array op(*arrays, **attributes); numbers stand for themselves."""
        with np.errstate(all="ignore"):
            y = np.asarray(op.reference(*arrays, **attributes))
        recording = active()
        if recording is not None and not any(np.may_share_memory(x, y) for x in arrays):
            recording.add(partial(_again, op.reference, arrays, attributes, y))
        return y

    def update(self, update: Update, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        """Change arrays in place."""
        with np.errstate(all="ignore"):
            update.reference(*arrays, **attributes)
        recording = active()
        if recording is not None:
            recording.add(partial(_again, update.reference, arrays, attributes))

    def copy(self, target: Any, source: Any) -> None:
        """target[...] = source, arrays of this device of one shape and dtype."""
        target[...] = source

    def program(self, recording: StepRecording) -> Callable[[], None]:
        """A function that does all that a recording notes again, in order."""
        return partial(in_turn, list(recording.launches))

    def on_compile(self, listener: Callable[[str], None] | None) -> None:
        """Call `listener(name)` whenever a kernel is about to be compiled; here none ever is."""

    def synchronize(self) -> None:
        """Return when everything started before is done; here it is done already."""

    def __deepcopy__(self, known: dict[int, Any]) -> Self:
        return self  # there is one of each

    def __repr__(self) -> str:
        return f"Device({self.name!r})"


def _again(
    reference: Callable[..., Any],
    arrays: tuple[Any, ...],
    attributes: dict[str, Any],
    y: np.ndarray | None = None,
) -> None:
    with np.errstate(all="ignore"):
        found = reference(*arrays, **attributes)
    if y is not None:
        y[...] = found


def _cpu() -> Device:
    from .cpu import CpuDevice

    return CpuDevice()


def _cuda() -> Device:
    from .cuda import gpu

    return gpu()


def _cuda_emulator() -> Device:
    from .cuda import emulator

    return emulator()


# How each device is made, on first use: importing minigan does not import numba.
_makers: dict[str, Callable[[], Device]] = {
    "reference": Device,
    "cpu": _cpu,
    "cuda": _cuda,
    "cuda-emulator": _cuda_emulator,
}
_devices: dict[str, Device] = {}
_lock = threading.Lock()


def device_names() -> list[str]:
    """The names that `get_device` accepts."""
    return list(_makers)


def get_device(device: str | Device) -> Device:
    """The device of that name (one object per name)."""
    if isinstance(device, Device):
        return device
    with _lock:
        if device not in _devices:
            _devices[device] = choose("device", device, _makers)()
        return _devices[device]


class _Current(threading.local):
    name: str | Device = "cpu"


_current = _Current()


def current_device() -> Device:
    """Where `mg.tensor` and the random numbers put new tensors: `cpu` unless told otherwise."""
    return get_device(_current.name)


class use_device:
    """Make a device the current one of this Python thread: a call, or a `with` block."""

    def __init__(self, device: str | Device) -> None:
        target = get_device(device)
        self._before, _current.name = _current.name, target

    def __enter__(self) -> Device:
        return current_device()

    def __exit__(self, *error: object) -> None:
        _current.name = self._before
