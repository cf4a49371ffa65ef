"""The recording of a captured step: its launches, and the state that a replay depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..kernels.runtime.recording import Recording, active

if TYPE_CHECKING:
    from .device import Device
    from .tensor import Tensor


class StepRecording(Recording):
    """Record the state that a run of a step uses, so that `capture` knows when a replay is valid.

    Attributes:
        tensors: parameters and updated tensors that the step did not make, by id, each with its
            array. A replay works on these arrays, so it is valid only while they are the tensors'.
        modes: modules that were called, by id, each with its training mode.
        conditions: functions without arguments; a replay is valid while all of them return True.
        written_versions: the version counters of updated tensors; each replay increments them.
        devices: the devices that ops and updates ran on, in order, each once.
        read_only: ids of the version counters of the step's arguments, which no update may change.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[int, tuple[Tensor, Any]] = {}
        self.modes: dict[int, tuple[Any, bool]] = {}
        self.conditions: list[Callable[[], bool]] = []
        self.written_versions: list[list[int]] = []
        self.devices: dict[Device, None] = {}
        self.read_only: set[int] = set()

    def add_tensor(self, x: Tensor) -> None:
        """Add a tensor; a replay is valid only while it stays in its present memory."""
        self.tensors[id(x)] = x, x.array


def active_step() -> StepRecording | None:
    """Return the recording of the step that this thread is capturing, or None."""
    recording = active()
    return recording if isinstance(recording, StepRecording) else None
