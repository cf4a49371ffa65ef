"""The recording of a captured step: its launches, and the state that a replay depends on."""

from __future__ import annotations

import weakref
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
            array and `requires_grad`. A replay works on these arrays, so it is valid only while
            they are the tensors'.
        written: ids of the tensors that updates change.
        objects: modules and optimizers that were called, by id, each with its attributes before the
            first call.
        used: ids of the tensors that were inputs of ops.
        conditions: functions without arguments; a replay is valid while all of them return True.
        written_versions: the version counters of updated tensors; each replay increments them.
        devices: the devices that ops and updates ran on, in order, each once.
        read_only: ids of the version counters of the step's arguments, which no update may change.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tensors: dict[int, tuple[Tensor, Any, bool]] = {}
        self.written: set[int] = set()
        self.objects: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.used: set[int] = set()
        self.conditions: list[Callable[[], bool]] = []
        self.written_versions: list[list[int]] = []
        self.devices: dict[Device, None] = {}
        self.read_only: set[int] = set()
        self._graph: dict[int, weakref.ref[Tensor]] = {}  # tensors with a graph, made by the step

    def add_tensor(self, x: Tensor, written: bool = False) -> None:
        """Add a tensor; a replay is valid only while it stays in its present memory."""
        self.tensors[id(x)] = x, x.array, x.requires_grad
        if written:
            self.written.add(id(x))

    def written_tensors(self) -> list[Tensor]:
        """Return the tensors that updates of the step change."""
        return [x for key, (x, _, _) in self.tensors.items() if key in self.written]

    def add_object(self, x: Any) -> None:
        """Add a module or optimizer; a replay is valid only while its attributes are the same."""
        from .guards import freeze  # An import at the top would be a cycle.

        if id(x) not in self.objects:
            self.objects[id(x)] = x, {key: freeze(value) for key, value in vars(x).items()}

    # ------------------------------------------------------------------------ graphs from outside
    def add_graph(self, y: Tensor, inputs: tuple[Any, ...]) -> None:
        """Add a tensor that an op of the step computed with a graph.

        Raises:
            ValueError: an input has a graph that was recorded before the step. A replay would use
                its old values.
        """
        for x in inputs:
            op = getattr(x, "op", None)
            if op is not None and x.requires_grad:
                reference = self._graph.get(id(x))
                if reference is None or reference() is not x:
                    raise ValueError(
                        f"capture: the step uses a tensor {x.shape} with a graph that was recorded"
                        f" outside (op {op.name!r}), which a replay does not compute again;"
                        " compute it in the step, or detach() it"
                    )
        self._graph[id(y)] = weakref.ref(y)


def active_step() -> StepRecording | None:
    """Return the recording of the step that this thread is capturing, or None."""
    recording = active()
    return recording if isinstance(recording, StepRecording) else None
