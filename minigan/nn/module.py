"""The base class of layers: parameters by name, state dicts, train and eval mode."""

from __future__ import annotations

from collections import UserDict, UserList, deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary, ref

import numpy as np

from ..engine.assign import load_tensors
from ..engine.device import get_device
from ..engine.dtypes import is_dtype
from ..engine.recording import active_step
from ..engine.step_guards import AttributeChanges
from ..engine.tensor import Tensor, check_dtype
from ..utils.pytorch_names import MODULE, missing_attribute
from .foreign import refuse_transposed, without_batch_counts
from .summary import describe


def _undefined(self: Module, *inputs: Any) -> Any:
    raise NotImplementedError(f"{type(self).__name__} does not define forward")


class Module:
    """A function of tensors with parameters, like PyTorch's `nn.Module`.

    Assign tensors and modules as attributes, also in lists, tuples and dicts, and define `forward`.
    A tensor that requires gradients is a parameter, any other a buffer; a tensor with a graph, such
    as a result that `forward` keeps, is neither. State-dict names are PyTorch's ("0.weight",
    "blocks.1.bias").

        class Residual(nn.Module):
            def __init__(self, width):
                self.inner = nn.Dense(width, width)

            def forward(self, x):
                return x + mg.ops.relu(self.inner(x))
    """

    training: bool = True
    forward: Callable[..., Any] = _undefined

    def __call__(self, *inputs: Any) -> Tensor:
        """Return forward(*inputs), which is typed as a tensor; a module may return anything."""
        recording = active_step()
        if recording is not None:
            recording.add_object(self)
            for _, x in self.tensors():  # parameters and buffers, which `to` may move
                recording.add_tensor(x)
        result: Tensor = self.forward(*inputs)
        observer = observers.get()
        if observer is not None:
            observer(self, result)
        return result

    if not TYPE_CHECKING:  # where it would declare attributes of any name

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, with the fix for PyTorch's names, such as `cuda`."""
            return missing_attribute(self, name, MODULE)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute.

        Raises:
            TypeError: the attribute is a parameter, and the value is neither a parameter nor None.
        """
        before = vars(self).get(name)
        if before is not value:
            if _is_parameter(before) and value is not None and not _is_parameter(value):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a parameter, which"
                    f" {_describe(value)} cannot replace; `load_state_dict` and"
                    " `mg.optim.assign(parameter, values)` change the values of a parameter, and"
                    " `requires_grad = False` freezes it"
                )
            # A set of modules, which `_members` refuses, can be replaced.
            for _, member in () if isinstance(before, UNREGISTERED) else _members(name, before):
                for x in _parameters_of(member):
                    x.replaced = self, name
            AttributeChanges.count += 1
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        setattr(self, name, None)
        object.__delattr__(self, name)

    @property
    def mixes_batch(self) -> bool:
        """Whether this layer in its present mode makes a sample's output depend on its batch.

        The children of a module are not considered; see `nn.depends_on_batch`.
        """
        return False

    # --------------------------------------------------------------- children and parameters
    def children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over (name, module) of the attributes, in the order of their first assignment.

        Modules in lists, tuples and dicts are children too.
        """
        for name, value in vars(self).items():
            for path, x in _members(name, value):
                if isinstance(x, Module):
                    yield path, x

    def modules(self) -> Iterator[Module]:
        """Iterate over this module and all its descendants."""
        yield self
        for _, child in self.children():
            yield from child.modules()

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Iterate over (name, tensor) of parameters and buffers, own ones before the children's."""
        self._mark_replaced_elements()
        for name, value in vars(self).items():
            for path, x in _members(name, value):
                if isinstance(x, Tensor) and x.op is None:
                    yield prefix + path, x
        for name, child in self.children():
            yield from child.tensors(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Iterate over (name, parameter); one that has several names appears under the first."""
        known_ids: set[int] = set()
        for name, x in self.tensors():
            if x.requires_grad and id(x) not in known_ids:
                known_ids.add(id(x))
                yield name, x

    def parameters(self) -> list[Tensor]:
        """Return all parameters, each once, in the order of the state dict."""
        return [x for _, x in self.named_parameters()]

    def _mark_replaced_elements(self) -> None:
        """Mark the parameters that have left a list or dict since this was called last.

        A change within a container is no assignment to an attribute, so `__setattr__` does not
        notice it.
        """
        containers = [
            (name, value) for name, value in vars(self).items() if isinstance(value, CONTAINERS)
        ]
        if not containers or type(self).__hash__ is None:  # as in a dataclass
            return
        now = {
            id(x): (ref(x), name)
            for name, value in containers
            for _, member in _members(name, value)
            for x in _parameters_of(member)
        }
        before = _elements_before.get(self, {})
        for key in before.keys() - now.keys():
            reference, name = before[key]
            x = reference()
            if x is not None:
                x.replaced = self, name
        _elements_before[self] = now

    # ---------------------------------------------------------------------------------- state
    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and buffers as numpy arrays, by name."""
        return {name: x.numpy() for name, x in self.tensors_by_name().items()}

    def tensors_by_name(self) -> dict[str, Tensor]:
        """Return all parameters and buffers by name; ValueError if two have the same name."""
        result: dict[str, Tensor] = {}
        for name, x in self.tensors():
            if name in result:
                raise ValueError(f"{type(self).__name__}: two tensors have the name {name!r}")
            result[name] = x
        return result

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy values into the parameters and buffers in place; their versions increase.

        The values are arrays, or what numpy can read, as the tensors in a state dict of PyTorch.
        A `num_batches_tracked` of PyTorch's batch norm, which minigan does not need, is left out
        with a Notice.

        Raises:
            ValueError: names are missing or unknown, or a shape or dtype differs. Nothing is
                changed then.
        """
        tensors, name = self.tensors_by_name(), type(self).__name__
        if isinstance(state, Mapping):
            state = without_batch_counts(state, tensors, name)
            refuse_transposed(state, tensors, name)
        load_tensors(tensors, state, name)

    def to(self, device: Any = None, dtype: Any = None) -> Self:
        """Move all parameters and buffers to a device, and convert floating ones to a dtype.

            net.to("cpu"), net.to(device="cpu"), net.to("float64"), net.to(dtype=np.float64)

        The module is changed in place and returned. Create optimizers afterwards.

        Raises:
            TypeError: the dtype is not float32 or float64.
        """
        if dtype is None and device is not None and is_dtype(device):
            device, dtype = None, device
        if dtype is not None and check_dtype(dtype).kind != "f":
            raise TypeError(f"to: a module has float32 or float64 parameters, not {dtype}")
        for _, x in self.tensors():
            target = x.device if device is None else get_device(device)
            is_converted = dtype is not None and x.dtype.kind == "f"
            values = x.numpy().astype(check_dtype(dtype)) if is_converted else x.numpy()
            x.array, x.device = target.from_numpy(values), target
            x.version_cell[0] += 1
        return self

    def train(self, mode: bool = True) -> Self:
        """Set train mode: dropout is active, running statistics are updated. Return the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set eval mode, for the use of a trained network. Return the module."""
        return self.train(False)

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call a function on this module and all its descendants. Return the module."""
        for module in list(self.modules()):
            function(module)
        return self

    # ------------------------------------------------------------------------------------ repr
    def extra_repr(self) -> str:
        """Return the text between the parentheses of the repr: the settings of the layer."""
        return ""

    def __repr__(self) -> str:
        """Return the settings; with children, a line for each layer (see `summary.describe`)."""
        return describe(self)


# What is called with each module and its output, in this thread or task; see `nn.observing`.
observers: ContextVar[Callable[[Module, Any], Any] | None] = ContextVar("observer", default=None)

CONTAINERS = (list, tuple, dict)
UNREGISTERED = (set, frozenset, deque, UserList, UserDict)
# The parameters in the containers of each module when they were listed last, by id, each with the
# name of the attribute.
_elements_before: WeakKeyDictionary[Module, dict[int, tuple[ref[Tensor], str]]] = (
    WeakKeyDictionary()
)


def _parameters_of(member: Tensor | Module) -> list[Tensor]:
    return [member] if isinstance(member, Tensor) else member.parameters()


def _is_parameter(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad and x.op is None


def _describe(value: Any) -> str:
    """Return text that says what a value is, if it is not a parameter."""
    if not isinstance(value, Tensor):
        return f"a value of type {type(value).__name__}"
    return "a tensor with a graph" if value.op is not None else "a tensor without requires_grad"


def _members(name: str, value: Any) -> Iterator[tuple[str, Tensor | Module]]:
    """Iterate over (name, x) of the tensors and modules in an attribute: itself or its elements.

    Raises:
        TypeError: a set, which has no order, or another container contains one.
    """
    if isinstance(value, (Tensor, Module)):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for i, x in enumerate(value):
            yield from _members(f"{name}.{i}", x)
    elif isinstance(value, dict):
        for key, x in value.items():
            yield from _members(f"{name}.{key}", x)
    elif isinstance(value, UNREGISTERED):
        elements = value.values() if isinstance(value, UserDict) else value
        if any(isinstance(x, (Tensor, Module)) for x in elements):
            raise TypeError(
                f"{name} is a {type(value).__name__} of modules or tensors; use a list or dict"
            )
