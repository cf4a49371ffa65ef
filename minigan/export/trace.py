"""Record the ops that a network applies to its inputs, for batches of any size.

The network runs twice, on batches of 2 and of 3. Its tensors are on a device that passes each op to
their own device and records the ops that depend on the inputs; all else is a constant. A size that
differs between the runs is a function of the batch size n, a + b n. So a network of any modules can
be exported, own ones too, as long as each op has a form in the target.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import nn
from ..engine.device import Device, use_device
from ..engine.op import Op
from ..engine.random import Generator, use_generator
from ..engine.tensor import Tensor, no_grad
from ..engine.update import Update

BATCHES = 2, 3
SINGLE = "layers that treat each sample alone can be exported"


class ExportError(ValueError):
    """A network cannot be exported; the message names the layer or op, and what is accepted."""


@dataclass(frozen=True)
class Size:
    """A size that depends on the batch size n: a + b n."""

    a: int
    b: int

    def __repr__(self) -> str:
        return f"{self.a} + {self.b} n"


@dataclass(frozen=True)
class Value:
    """The result of a call, or an input of the network: its number, shape and dtype."""

    number: int
    shape: tuple[Any, ...]
    dtype: np.dtype


@dataclass(frozen=True, eq=False)
class Constant:
    """An array that does not depend on the inputs, and the parameter that it was made of."""

    array: np.ndarray
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the elements."""
        return self.array.dtype


@dataclass(frozen=True)
class Call:
    """One op that depends on the network's inputs.

    Attributes:
        op: its name.
        inputs: for each a Value, a Constant or a Python number.
        attributes: of the op; sizes in them are integers or of type Size.
        result: what it computes.
    """

    op: str
    inputs: tuple[Any, ...]
    attributes: Mapping[str, Any]
    result: Value


@dataclass(frozen=True)
class Trace:
    """The calls of a network in order, its inputs and its output."""

    inputs: tuple[Value, ...]
    calls: tuple[Call, ...]
    output: Value


class _RecordingDevice(Device):
    """A device that runs ops on another one, and records those that depend on the inputs.

    Args:
        inner: the device that runs the ops.
        accepted: the names of the ops that can be exported.
        names: of the network's tensors, by the id of their array.
    """

    name = "export"

    def __init__(self, inner: Device, accepted: Collection[str], names: dict[int, str]) -> None:
        self.inner, self.accepted, self.names = inner, accepted, names
        self.values: dict[int, Value] = {}  # by the id of the array
        self.calls: list[Call] = []
        self.kept: list[Any] = []  # Arrays stay alive, so that no two have the same id.

    def add_value(self, array: Any) -> Value:
        """Register an array as one that depends on the inputs."""
        value = Value(len(self.values), tuple(array.shape), array.dtype)
        self.values[id(array)] = value
        self.kept.append(array)
        return value

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.inner.empty(shape, dtype)

    def from_numpy(self, array: np.ndarray) -> Any:
        return self.inner.from_numpy(array)

    def to_numpy(self, array: Any) -> np.ndarray:
        if id(array) in self.values:
            raise ExportError(
                "forward reads the values of a tensor (.numpy(), .item(), bool()) that depends on"
                " the latents; an exported network consists of ops alone (mg.where selects)"
            )
        return self.inner.to_numpy(array)

    def run(self, op: Op, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
        if op.name.startswith("random_"):
            raise ExportError(
                f"forward draws random numbers in eval mode ({op.name}); an exported generator"
                " depends on its inputs alone"
            )
        y = self.inner.run(op, arrays, attributes)
        if any(y is x for x in arrays):
            return y
        # A constant that is repeated for each sample is not one: its size depends on the batch.
        is_constant = not any(id(x) in self.values for x in arrays) and op.name != "broadcast_to"
        if is_constant:
            named = [self.names[id(x)] for x in arrays if id(x) in self.names]
            self.kept.append(y)
            self.names[id(y)] = (named or [op.name])[0]
            return y
        if op.name not in self.accepted:
            raise ExportError(
                f"the op {op.name!r} has no form in ONNX here; these have: "
                f"{', '.join(sorted(self.accepted))}; mg.export.OPERATIONS takes others"
            )
        inputs = tuple(map(self._describe, arrays))
        self.calls.append(Call(op.name, inputs, dict(attributes), self.add_value(y)))
        return y

    def _describe(self, x: Any) -> Any:
        """Return an input of an op as a Value, a Constant or a number."""
        if id(x) in self.values:
            return self.values[id(x)]
        if not hasattr(x, "shape"):
            return x
        return Constant(self.inner.to_numpy(x), self.names.get(id(x), "constant"))

    def update(self, update: Update, arrays: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        raise ExportError(
            f"forward changes a tensor in eval mode ({update.name}); an exported generator has no"
            " state"
        )


def trace(net: nn.Module, inputs: Callable[[int], list[np.ndarray]], accepted: Any) -> Trace:
    """Return the ops of a network in eval mode, with sizes that depend on the batch size.

    Args:
        net: the network, which is left as it is.
        inputs: a function of the batch size n that returns the network's inputs, each (n, ...).
        accepted: the names of the ops that can be exported.

    Raises:
        ExportError: an op is not accepted, or what is computed depends on n otherwise than by sizes
            a + b n, as in layers that compare the samples of a batch.
    """
    with nn.evaluating(net):
        mixing = [type(module).__name__ for module in net.modules() if module.mixes_batch]
    if mixing:
        raise ExportError(
            f"the generator has a {mixing[0]}, which makes a sample depend on the others of its"
            f" batch; {SINGLE}"
        )
    first, second = (record(net, inputs(n), accepted) for n in BATCHES)
    if [call.op for call in first.calls] != [call.op for call in second.calls]:
        raise ExportError("forward runs other ops for another batch size, which no export can hold")
    calls = list(map(_merge_calls, first.calls, second.calls))
    values = tuple(map(_merge_values, first.inputs, second.inputs))
    output = _merge_values(first.output, second.output)
    return Trace(values, _used_calls(calls, output), output)


def _used_calls(calls: list[Call], output: Value) -> tuple[Call, ...]:
    """Return the calls on which the output depends, in order."""
    needed = {output.number}
    used = []
    for call in reversed(calls):
        if call.result.number in needed:
            used.append(call)
            needed |= {x.number for x in call.inputs if isinstance(x, Value)}
    return tuple(reversed(used))


def record(net: nn.Module, inputs: list[np.ndarray], accepted: Any) -> Trace:
    """Return the ops of one run of a network."""
    tensors = dict(net.tensors())
    inner = next(iter(tensors.values())).device
    device = _RecordingDevice(inner, accepted, {id(x.array): name for name, x in tensors.items()})
    arguments = [Tensor(inner.from_numpy(x), device) for x in inputs]
    values = tuple(device.add_value(x.array) for x in arguments)
    try:
        # The current generator of random numbers would keep tensors of this device.
        with _on(device, tensors), use_generator(Generator()), nn.evaluating(net), no_grad():
            output = net(*arguments)
    except ExportError as error:
        places = [note.removesuffix(" of Sequential") for note in getattr(error, "__notes__", [])]
        if places:
            raise ExportError(f"{places[0]}: {error}") from None
        raise
    if not isinstance(output, Tensor) or id(output.array) not in device.values:
        raise ExportError("the generator's output does not depend on its latents")
    return Trace(values, tuple(device.calls), device.values[id(output.array)])


@contextmanager
def _on(device: Device, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Use a device in a `with` block, also for these tensors; their arrays stay where they are."""
    before = [(x, x.device) for x in tensors.values()]
    for x, _ in before:
        x.device = device
    try:
        with use_device(device):
            yield
    finally:
        for x, old in before:
            x.device = old


# ------------------------------------------------------------------------------ sizes by batch size
def _merge_calls(first: Call, second: Call) -> Call:
    """Return a call with sizes that depend on n."""
    pairs = zip(first.inputs, second.inputs, strict=True)
    inputs = tuple(_merge_inputs(first.op, x, y) for x, y in pairs)
    attributes = {
        name: _merge_sizes(first.op, x, second.attributes[name])
        for name, x in first.attributes.items()
    }
    result = _merge_values(first.result, second.result)
    return replace(first, inputs=inputs, attributes=attributes, result=result)


def _merge_values(first: Value, second: Value) -> Value:
    return replace(first, shape=_merge_sizes("the network", first.shape, second.shape))


def _merge_inputs(op: str, first: Any, second: Any) -> Any:
    """Return an input of a call; ExportError if it is a constant that depends on n."""
    if isinstance(first, Value) and isinstance(second, Value) and first.number == second.number:
        return _merge_values(first, second)
    if isinstance(first, Constant) and isinstance(second, Constant):
        a, b = first.array, second.array
        if a.shape == b.shape and a.tobytes() == b.tobytes():
            return first
    elif type(first) is type(second) and first == second:
        return first
    raise ExportError(
        f"a number that {op} takes depends on the batch size, so a sample depends on the others of"
        f" its batch; {SINGLE}"
    )


def _merge_sizes(op: str, first: Any, second: Any) -> Any:
    """Return an attribute in which integers that depend on n are of type Size."""
    if isinstance(first, tuple) and isinstance(second, tuple) and len(first) == len(second):
        return tuple(_merge_sizes(op, x, y) for x, y in zip(first, second, strict=True))
    if isinstance(first, slice) and isinstance(second, slice):
        ends = [(x.start, x.stop, x.step) for x in (first, second)]
        return slice(*_merge_sizes(op, *ends))
    if type(first) is int and type(second) is int and first != second:
        slope = (second - first) // (BATCHES[1] - BATCHES[0])
        return Size(first - slope * BATCHES[0], slope)
    if type(first) is type(second) and first == second:
        return first
    raise ExportError(f"an attribute of {op} depends on the batch size: {first!r}, {second!r}")
